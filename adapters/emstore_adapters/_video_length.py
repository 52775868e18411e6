"""What the outermost boxes of a container say: its headers, byte for byte, and whether the file is all there.

Only lengths are looked at: ISO 14496-12 boxes (MP4, QuickTime), RIFF chunks (AVI), EBML elements (RFC 8794: Matroska), and the
trailer of GIF89a. FFmpeg reads what there is of a cut file without a word, so this is how a cut is noticed.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from emstore.errors import SourceIncomplete, SourceUnreadable
from emstore.source import SourceItem

_MAX_BOXES: Final = 100_000
_MAX_RAW: Final = 256 << 20
_BULK: Final = frozenset({b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp", b"uuid"})
"""Boxes that are not headers."""


@dataclass(frozen=True)
class ContainerFacts:
    """What the container's outermost structure says."""

    cut: bool
    """Whether the file is shorter than it says."""
    raw: tuple[tuple[str, Callable[[], bytes]], ...]
    """Name and reader of every header, for containers that keep them in boxes of their own."""


def container_facts(item: SourceItem, form: str) -> ContainerFacts:
    """Return what the outermost structure of a file says.

    Raises
    ------
    SourceIncomplete
        The part without which no frame can be read is not there.
    """
    try:
        with item.path.open("rb") as file:
            match form:
                case "mov":
                    return _boxes(file, item)
                case "avi":
                    return ContainerFacts(8 + struct.unpack_from("<I", item.head.ljust(8, b"\0"), 4)[0] > item.size, ())
                case "matroska":
                    return ContainerFacts(_segment_cut(item), ())
                case "gif":
                    file.seek(max(0, item.size - 16))
                    return ContainerFacts(not file.read().rstrip(b"\0").endswith(b";"), ())
                case _:
                    return ContainerFacts(False, ())
    except OSError as error:
        if isinstance(error, SourceUnreadable):
            raise
        raise SourceUnreadable(f"cannot be read: {error.strerror}", where=item.name) from error


def _boxes(file: BinaryIO, item: SourceItem) -> ContainerFacts:
    at, cut, found = 0, False, []
    for _ in range(_MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        size, kind, start = struct.unpack_from(">I", head)[0], head[4:8], at
        if size == 1 and len(head) == 16:
            size = struct.unpack_from(">Q", head, 8)[0]
        elif size == 0:
            size = item.size - at
        if size < 8:
            break
        cut |= at + size > item.size
        found.append((kind, start, min(size, item.size - start)))
        at += size
    kinds = {kind for kind, _, _ in found}
    if b"moov" not in kinds:
        raise SourceIncomplete(
            "the index of the frames (moov) is not there, so none of the frames can be found",
            where=item.name,
            fix="copy the file again; a recording that was cut off can often be repaired with untrunc",
        )
    headers = [(kind, start, size) for kind, start, size in found if kind not in _BULK and size <= _MAX_RAW]
    raw = []
    for number, (kind, start, size) in enumerate(headers[:16]):
        label = kind.decode("ascii", "replace") if kind.isalnum() else f"box{number}"
        taken = sum(k == kind for k, _, _ in headers[:number])
        suffix = f".{taken}" if taken else ""
        raw.append((f"{item.path.name}.{label}{suffix}", partial(piece, item.path, start, size)))
    return ContainerFacts(cut, tuple(raw))


def _segment_cut(item: SourceItem) -> bool:
    """Say whether a Matroska file ends before its Segment does."""
    head = item.head
    body = _vint(head, 4)
    if body is None or body[1] is None:
        return False
    segment = body[0] + body[1]
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return len(head) < segment + 4 or item.size <= segment + 4
    length = _vint(head, segment + 4)
    return length is None or (length[1] is not None and length[0] + length[1] > item.size)


def _vint(data: bytes, at: int) -> tuple[int, int | None] | None:
    """Return where a variable-length integer ends and its value (``None``: unknown, as live streams write)."""
    if at >= len(data) or data[at] == 0:
        return None
    width = 9 - data[at].bit_length()
    raw = data[at : at + width]
    if len(raw) < width:
        return None
    ones = (1 << (7 * width)) - 1
    value = int.from_bytes(raw, "big") & ones
    return at + width, None if value == ones else value


def piece(path: Path, start: int, size: int) -> bytes:
    """Return some bytes of a file."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)
