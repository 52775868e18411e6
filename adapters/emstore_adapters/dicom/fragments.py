"""Where each compressed frame lies in the file (PS3.5 A.4, encapsulated pixel data).

Only item headers are read, eight bytes each, so that one frame of a large file costs one frame. The offset tables are
checked against the fragments that are really there before they are believed.
"""

import itertools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from emstore_adapters.dicom import values

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_ITEM: Final = 0xE000FFFE
_END: Final = 0xE0DDFFFE
_CODESTREAM_STARTS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")

Span = tuple[int, int]
"""Offset in the file and length, bytes."""


@dataclass(frozen=True)
class FrameMap:
    """The fragments of every frame found."""

    frames: tuple[tuple[Span, ...], ...]
    """For every frame its fragments, in order."""
    end: int
    """Offset just after the pixel data, bytes."""
    whole: bool
    """Whether the closing delimiter was there."""


def map_frames(file: BinaryIO, value: int, size: int, frames: int, dataset: "Dataset") -> FrameMap:
    """Find the fragments of each frame.

    Parameters
    ----------
    file : binary file
        The file.
    value : int
        Offset of the pixel data's value, bytes.
    size : int
        Size of the file, bytes.
    frames : int
        Number of frames that the header promises.
    dataset : Dataset
        Header, for the extended offset table.

    Returns
    -------
    FrameMap
        At most `frames` frames; fewer when the file holds fewer.
    """
    table, spans, end, whole = _walk(file, value, size)
    if frames == 1:
        return FrameMap((tuple(spans),) if spans and whole else (), end, whole)
    starts = _extended(dataset, frames) or table
    groups = _by_offsets(spans, starts, frames) if starts else None
    if groups is None and len(spans) <= frames:
        groups = [(span,) for span in spans]
    if groups is None:
        groups = _by_codestream(file, spans)
    if not whole and groups and len(groups) <= frames and len(spans) > len(groups):
        groups = groups[:-1]  # the last of several fragments may be missing
    return FrameMap(tuple(groups[:frames]), end, whole)


def _walk(file: BinaryIO, value: int, size: int) -> tuple[list[int], list[Span], int, bool]:
    """Return the basic offset table, every whole fragment, the end of the data, and whether its delimiter is there."""
    table: list[int] = []
    spans: list[Span] = []
    at, base = value, 0
    while at + 8 <= size:
        file.seek(at)
        tag, length = struct.unpack("<II", file.read(8))
        if tag == _END:
            return [base + offset for offset in table], spans, at + 8, True
        if tag != _ITEM or at + 8 + length > size:
            break
        if at == value:
            raw = file.read(length) if length % 4 == 0 else b""
            table = list(struct.unpack(f"<{len(raw) // 4}I", raw))
            base = at + 8 + length
        else:
            spans.append((at + 8, length))
        at += 8 + length
    return [base + offset for offset in table], spans, at, False


def _extended(dataset: "Dataset", frames: int) -> list[int]:
    """Return the extended offset table, relative offsets as stored; empty when there is none that fits."""
    raw = values.get(dataset, "ExtendedOffsetTable")
    if not isinstance(raw, bytes) or len(raw) != 8 * frames:
        return []
    return list(struct.unpack(f"<{frames}Q", raw))


def _by_offsets(spans: list[Span], starts: list[int], frames: int) -> list[tuple[Span, ...]] | None:
    """Group fragments by an offset table; ``None`` unless every entry is the start of a fragment and they rise."""
    if len(starts) != frames or not spans:
        return None
    heads = {offset - 8: index for index, (offset, _) in enumerate(spans)}
    if starts[0] == 0:  # extended offsets count from the first fragment
        starts = [spans[0][0] - 8 + offset for offset in starts]
    found = [heads.get(offset) for offset in starts]
    known = [index for index in found if index is not None]
    if len(known) < len(found) and found[len(known) :] != [None] * (len(found) - len(known)):
        return None
    if not known or known[0] != 0 or any(b <= a for a, b in itertools.pairwise(known)):
        return None
    ends = [*known[1:], len(spans)]
    return [tuple(spans[a:b]) for a, b in zip(known, ends, strict=True)]


def _by_codestream(file: BinaryIO, spans: list[Span]) -> list[tuple[Span, ...]]:
    """Group fragments without a table: a frame starts where a JPEG or JPEG 2000 codestream starts."""
    groups: list[list[Span]] = []
    for offset, length in spans:
        file.seek(offset)
        head = file.read(min(4, length))
        if not groups or head.startswith(_CODESTREAM_STARTS):
            groups.append([])
        groups[-1].append((offset, length))
    return [tuple(group) for group in groups]
