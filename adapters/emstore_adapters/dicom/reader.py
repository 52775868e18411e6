"""Reading one file's header: everything before the pixel data, and where the pixel data lies. Never the pixels.

The parser is pydicom's. Two things are done here because it would take the whole file into memory for them: finding the
pixel data's place in the file, and inflating a deflated data set (PS3.5 A.5) under a cap.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

from emstore.errors import Capacity, EmstoreError, Kind, SourceUnreadable
from emstore.source import SourceItem
from emstore_adapters.dicom.quiet import quiet

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Result = TypeVar("Result")

DEFLATED: Final = "1.2.840.10008.1.2.1.99"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
UNDEFINED: Final = 0xFFFFFFFF

MAX_INFLATED: Final = 128 << 20
"""Most that a deflated data set may inflate to, bytes."""
LARGE_ELEMENT: Final = 16 << 20
"""Header elements above this stay on disk, bytes."""

_META: Final = 4096
"""Where a deflated file's meta group must end to be recognised, bytes."""
_PIXEL_TAGS: Final = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}


@dataclass(frozen=True)
class PixelElement:
    """Where the pixel data element lies in the (inflated) file."""

    keyword: str
    """``PixelData``, ``FloatPixelData`` or ``DoubleFloatPixelData``."""
    start: int
    """Offset of the element's tag, bytes."""
    value: int
    """Offset of its value, bytes."""
    length: int
    """Declared length, bytes; `UNDEFINED` for encapsulated data."""
    vr: str = "OW"
    """``OB`` or ``OW``: whether big-endian bytes come in swapped pairs."""


@dataclass(frozen=True)
class ParsedFile:
    """One file's header."""

    item: SourceItem
    dataset: "Dataset"
    syntax: str
    """Transfer syntax UID; the one that the bytes show where the file names none."""
    stated: bool
    """Whether the file itself names its transfer syntax."""
    pixels: PixelElement | None
    deflated_at: int | None
    """Offset where the deflated data set begins; ``None`` for every other syntax."""
    size: int
    """Size of the file once inflated, bytes."""


@dataclass(frozen=True)
class FileBytes:
    """Random access to a file's bytes, inflated where the data set is deflated. Holds no open handle, so it is thread-safe."""

    path: Path
    name: str
    deflated_at: int | None = None

    def open(self) -> BinaryIO:
        """Open for one request.

        Raises
        ------
        SourceUnreadable
            The file is gone or cannot be read.
        """
        try:
            if self.deflated_at is None:
                return self.path.open("rb")
            return io.BytesIO(inflate(self.path.read_bytes(), self.deflated_at, self.name))
        except SourceUnreadable:
            raise
        except OSError as error:
            raise SourceUnreadable(f"cannot be read: {error.strerror}", where=self.name) from error


def parse(item: SourceItem) -> ParsedFile:
    """Read the header of one file, up to its pixel data.

    Raises
    ------
    SourceUnreadable
        Not DICOM, or damaged beyond parsing. The message never repeats header values, which may name a patient.
    Capacity
        A deflated data set that inflates beyond `MAX_INFLATED`.
    """
    with FileBytes(item.path, item.name).open() as file:
        deflated_at = _deflated_offset(file.read(_META))
    found: list[tuple[str, int, str]] = []

    def at_pixels(tag: Any, vr: str | None, length: int) -> bool:
        if int(tag) in _PIXEL_TAGS:
            found.append((_PIXEL_TAGS[int(tag)], length, vr or "OW"))
            return True
        return False

    with quiet(), FileBytes(item.path, item.name, deflated_at).open() as file:
        dataset, syntax = guarded(lambda: _read(file, deflated_at is not None, at_pixels), item.name)
        start = file.tell()
        header = guarded(lambda: _element_header(file, start), item.name) if found else 0
        size = file.seek(0, io.SEEK_END)
    stated = syntax is not None
    if syntax is None:
        implicit, little = dataset.original_encoding
        syntax = IMPLICIT if implicit else EXPLICIT if little else BIG_ENDIAN
    pixels = None
    if found:
        keyword, length, vr = found[0]
        pixels = PixelElement(keyword, start, start + header, length, vr)
    return ParsedFile(item, dataset, syntax, stated, pixels, deflated_at, size)


def read_span(data: FileBytes, start: int, stop: int) -> bytes:
    """Return the bytes from `start` up to `stop`."""
    with data.open() as file:
        file.seek(start)
        return file.read(stop - start)


def inflate(data: bytes, start: int, name: str) -> bytes:
    """Return `data` with everything from `start` on inflated, at most `MAX_INFLATED` bytes.

    Raises
    ------
    SourceUnreadable
        The stream is broken.
    Capacity
        It inflates beyond the cap.
    """
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = engine.decompress(data[start:], MAX_INFLATED)
    except zlib.error as error:
        raise SourceUnreadable("the deflated data set is damaged", where=name, fix="fetch the file again") from error
    if engine.unconsumed_tail:
        raise Capacity(
            f"the deflated data set inflates beyond {MAX_INFLATED >> 20} MiB", where=name, fix="store it uncompressed first"
        )
    return data[:start] + body


def _read(file: BinaryIO, deflated: bool, stop: Callable[[Any, str | None, int], bool]) -> tuple["Dataset", str | None]:
    from pydicom.filereader import read_partial

    if deflated:
        # The stream below is already inflated, so it is plain explicit little endian.
        inflated = io.BytesIO(file.read().replace(DEFLATED.encode(), EXPLICIT.encode() + b"\0\0\0", 1))
        dataset = read_partial(inflated, stop, defer_size=LARGE_ELEMENT, force=True)
        file.seek(inflated.tell())
        return dataset, DEFLATED
    dataset = read_partial(file, stop, defer_size=LARGE_ELEMENT, force=True)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    return dataset, None if not syntax else str(syntax)


def guarded(call: Callable[[], Result], name: str) -> Result:
    """Run a call into the parser, which raises whatever a damaged header happens to break.

    Raises
    ------
    SourceUnreadable
        In place of any other exception; its message repeats no header values.
    """
    try:
        return call()
    except EmstoreError:
        raise
    except Exception as error:
        raise SourceUnreadable(
            f"its DICOM header cannot be parsed ({type(error).__name__})", where=name, fix="fetch the file again from its origin"
        ) from error


def _element_header(file: BinaryIO, start: int) -> int:
    """Return the size of the pixel data element's header: tag and length, or tag, VR and length (PS3.5 7.1.2)."""
    file.seek(start)
    head = file.read(8)
    file.seek(start)
    return 12 if head[4:6] in (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN") else 8


def _deflated_offset(head: bytes) -> int | None:
    """Return where a deflated data set begins, from the meta group's own length element (PS3.10 7.1)."""
    if head[128:132] != b"DICM" or head[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
        return None
    end: int = 144 + struct.unpack("<I", head[140:144])[0] if len(head) >= 144 else 0
    meta = head[144:end]
    at = meta.find(b"\x02\x00\x10\x00UI")
    if end > len(head) or at < 0:
        return None
    length = struct.unpack("<H", meta[at + 6 : at + 8])[0] if len(meta) >= at + 8 else 0
    return end if meta[at + 8 : at + 8 + length].strip(b"\0 ").decode("ascii", "replace") == DEFLATED else None


def looks_like_dicom(head: bytes) -> int:
    """Score a file's first bytes: 100 with the ``DICM`` mark, less for a bare data set, 0 for anything else."""
    if head[128:132] == b"DICM":
        return 100
    if len(head) < 16:
        return 0
    for order, score in (("<", 60), (">", 50)):
        group, element, vr, length = struct.unpack(f"{order}HH2sH", head[:8])
        known = vr in (b"UI", b"UL", b"CS", b"OB", b"SH", b"LO", b"DA", b"TM")
        if known and length < 256 and group in (0x0002, 0x0008) and element <= 0x0100:
            return score
    group, element = struct.unpack("<HH", head[:4])
    (long_length,) = struct.unpack("<I", head[4:8])
    if group == 0x0008 and element in (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0016, 0x0018) and long_length <= 128:
        return 50
    return 0


def unsupported(what: str, name: str, fix: str) -> SourceUnreadable:
    """Return the error for a file that is DICOM but that nothing here can read."""
    return SourceUnreadable(what, where=name, fix=fix, kind=Kind.SOURCE_UNSUPPORTED)
