"""Is a packed chunk whole, and how large would it become? Answered from its own frame, before any codec sees it.

zstd (RFC 8878, section 3.1) and Blosc 1 (README_CHUNK_FORMAT) frames state their sizes; through numcodecs a cut zstd frame
unpacks without an error and a cut Blosc chunk is read past its end. Streams that state no size are unpacked once for counting,
only where they could exceed the limit at all.
"""

from collections.abc import Callable
from typing import Any, Final

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_BLOCK: Final = 128 << 10
_RATIO: Final = {"gzip": 1032, "zlib": 1032, "bz2": 50_000, "lzma": 10_000}
"""Most that a stream can grow when it is unpacked."""


def unpacked_size(codec: str, data: memoryview, limit: int) -> int | None:
    """Return how many bytes a chunk unpacks to at most, ``None`` where the codec is not one that is looked into.

    Parameters
    ----------
    codec : str
        Name of the codec applied last, e.g. ``zstd``.
    data : memoryview of bytes
        The whole stored chunk.
    limit : int
        Counting stops beyond this, bytes.

    Raises
    ------
    ValueError
        The frame is cut off or damaged; says how.
    """
    codec = codec.removeprefix("numcodecs.")
    if codec == "zstd":
        return _zstd(data)
    if codec == "blosc":
        return _blosc(data)
    if codec in _RATIO:
        return None if len(data) * _RATIO[codec] <= limit else _counted(codec, data, limit)
    return None


def _zstd(data: memoryview) -> int:
    at = total = 0
    while at < len(data):
        magic = bytes(data[at : at + 4])
        if len(magic) == 4 and magic[1:] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50:  # a skippable frame
            at += 8 + _number(data, at + 4, 4)
            continue
        if magic != _ZSTD:
            raise ValueError("no zstd frame")
        at, size = _zstd_frame(data, at + 4)
        total += size
    if at != len(data) or not len(data):
        raise ValueError("the zstd frame is cut off")
    return total


def _zstd_frame(data: memoryview, at: int) -> tuple[int, int]:
    descriptor = _number(data, at, 1)
    single = bool(descriptor & 0x20)
    at += 1 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    width = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    stated = _number(data, at, width) + (256 if width == 2 else 0) if width else None
    at += width
    bound = 0
    last = False
    while not last:
        head = _number(data, at, 3)
        last, kind, size = bool(head & 1), (head >> 1) & 3, head >> 3
        if kind == 3:
            raise ValueError("the zstd frame is damaged")
        at += 3 + (1 if kind == 1 else size)
        bound += _BLOCK if kind == 2 else size
        if at > len(data):
            raise ValueError("the zstd frame is cut off")
    at += 4 if descriptor & 4 else 0
    return at, bound if stated is None else stated


def _blosc(data: memoryview) -> int:
    packed = _number(data, 12, 4)
    if packed != len(data):
        raise ValueError(f"the Blosc chunk holds {len(data)} of {packed} bytes")
    return _number(data, 4, 4)


def _number(data: memoryview, at: int, width: int) -> int:
    if at + width > len(data):
        raise ValueError("the frame is cut off")
    return int.from_bytes(data[at : at + width], "little")


def _counted(codec: str, data: memoryview, limit: int) -> int:
    import bz2
    import lzma
    import zlib

    makers: dict[str, Callable[[], Any]] = {"bz2": bz2.BZ2Decompressor, "lzma": lzma.LZMADecompressor}
    total = 0
    if codec in makers:
        unpack = makers[codec]()
        pending: Any = data
        while not unpack.eof and total <= limit:
            got = len(unpack.decompress(pending, 1 << 20))
            pending = b""
            if not got and unpack.needs_input:
                raise ValueError(f"the {codec} stream is cut off")
            total += got
        return total
    inflate = zlib.decompressobj(47)  # zlib or gzip, whichever it is
    pending = data
    while not inflate.eof and total <= limit:
        got = len(inflate.decompress(pending, 1 << 20))
        pending = inflate.unconsumed_tail
        if not got and not pending and not inflate.eof:
            raise ValueError(f"the {codec} stream is cut off")
        total += got
    return total
