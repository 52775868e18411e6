"""Segmentation objects: which frames are which segment, and labels made of them (PS3.3 A.51, C.8.20).

Frames of empty slices are left out of such files, so positions whose distances are whole steps are put on one even grid; where
no frame is, no segment is. Segments that nowhere overlap become one volume of labels; overlapping ones, and fractional ones,
each become a volume of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Kind, SourceUnreadable
from emstore.header import json_safe
from emstore.volume import Region
from emstore_adapters.dicom import values
from emstore_adapters.dicom.frames import FrameReader
from emstore_adapters.dicom.geometry import UNIFORM
from emstore_adapters.dicom.planes import DicomFile, Plane
from emstore_adapters.dicom.reader import unsupported
from emstore_adapters.dicom.stacks import SAME_PLACE, Stack, find_stacks, normal_of, positions_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CLASSES: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage."""
_SAME_DIRECTION: Final = 1e-3
_MOST_SLICES: Final = 1 << 16
_MOST_SEGMENTS: Final = 65535

_CODES: Final = {
    "category": "SegmentedPropertyCategoryCodeSequence",
    "type": "SegmentedPropertyTypeCodeSequence",
    "anatomic_region": "AnatomicRegionSequence",
}

Frames = tuple[tuple[int, int], ...]
"""Frames at one position, from 0, each with the number of its segment."""


@dataclass(frozen=True)
class Segments:
    """One volume to be."""

    stack: Stack
    """One plane per slice, made up where no frame is."""
    frames: tuple[Frames, ...]
    """For every slice."""
    type: str
    """``BINARY``, ``FRACTIONAL`` or ``LABELMAP``."""
    table: tuple[Mapping[str, Any], ...]
    """Number, name and codes of every segment in it."""
    fraction: tuple[float, str | None] | None = None
    """Largest value of fractional segments, and what they are a fraction of."""
    notes: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """Number of the first segment in it."""
        return min((number for frames in self.frames for _, number in frames), default=0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest type that holds the values."""
        layout = self.stack.planes[0].file.reader.layout
        if self.type != "BINARY":
            return layout.dtype
        return np.dtype(np.min_scalar_type(max(number for frames in self.frames for _, number in frames)))


@dataclass(frozen=True, eq=False)
class SegmentArray:
    """Labels or fractions, axes ``z, y, x``, decoded when asked for. Keeps the rules of `emstore.volume.LazyArray`."""

    reader: FrameReader
    segments: Segments

    @property
    def shape(self) -> tuple[int, ...]:
        """Slices, rows, columns."""
        return len(self.segments.frames), self.reader.layout.rows, self.reader.layout.columns

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the labels or fractions."""
        return self.segments.dtype

    @property
    def block(self) -> tuple[int, ...]:
        """One slice."""
        return (1, *self.shape[1:])

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region, frame by frame; 0 where no frame is."""
        (first, last), rows, columns = (s.indices(n)[:2] for s, n in zip(region, self.shape, strict=True))
        out = np.zeros((last - first, rows[1] - rows[0], columns[1] - columns[0]), self.dtype)
        for slice_, frames in zip(out, self.segments.frames[first:last], strict=True):
            for frame, number in frames:
                found = self.reader.frame(frame, slice(*rows))[:, slice(*columns)]
                if self.segments.type != "BINARY":
                    slice_[...] = found
                    continue
                if (slice_[found != 0] != 0).any():
                    raise SourceUnreadable(
                        "its segments overlap, though its header says they do not",
                        where=f"{self.reader.data.name} frame {frame + 1}",
                        kind=Kind.SOURCE_INCONSISTENT,
                    )
                slice_[found != 0] = number
        return out


def is_segmentation(file: DicomFile) -> bool:
    """Whether a file is a segmentation object."""
    return file.sop_class in _CLASSES


def find_segments(file: DicomFile, dataset: "Dataset") -> list[Segments]:
    """Return the volumes that a segmentation object holds.

    Raises
    ------
    SourceUnreadable
        Its frames do not state their place or segment, contradict each other, or do not form one stack.
    """
    name = file.item.name
    if not file.planes or "TotalPixelMatrixRows" in dataset:
        raise unsupported(
            "is a segmentation whose frames are not placed in the patient", name, "convert it to NIfTI with its own software"
        )
    kind = (values.text(dataset, "SegmentationType") or "BINARY").upper()
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP") or (kind == "BINARY") != (file.reader.layout.bits_allocated == 1):
        bits = file.reader.layout.bits_allocated
        raise SourceUnreadable(f"is a segmentation of type {kind} in {bits} bits", where=name, kind=Kind.SOURCE_UNSUPPORTED)
    table = {number: entry for number, entry in map(_entry, values.items(dataset, "SegmentSequence")) if number is not None}
    stack, slices, notes = _slices(file)
    at: list[dict[int, int]] = [{} for _ in stack.planes]
    for plane, place in zip(file.planes, slices, strict=True):
        number = 0 if kind == "LABELMAP" else _number(plane)
        if number in at[place]:
            what = "two frames at one position" if kind == "LABELMAP" else f"two frames of segment {number} at one position"
            raise SourceUnreadable(what, where=plane.name, kind=Kind.SOURCE_INCONSISTENT)
        at[place][number] = plane.frame
    if kind == "LABELMAP":
        frames = tuple(tuple((frame, 0) for frame in here.values()) for here in at)
        return [Segments(stack, frames, kind, tuple(table.values()), notes=notes)]
    numbers = sorted({number for here in at for number in here})
    overlap = None if kind == "FRACTIONAL" else _overlap(file.reader, at, values.text(dataset, "SegmentsOverlap"))
    if kind == "BINARY" and overlap is None:
        frames = tuple(tuple((frame, number) for number, frame in sorted(here.items())) for here in at)
        unused = [str(number) for number in table if number not in numbers]
        if unused:
            notes = (*notes, f"Segments without a frame: {', '.join(unused)}.")
        return [Segments(stack, frames, kind, tuple(table.values()), notes=notes)]
    fraction = None
    if kind == "FRACTIONAL":
        largest = values.number(dataset, "MaximumFractionalValue")
        if not largest or largest < 0:
            raise SourceUnreadable("is fractional and does not state its MaximumFractionalValue", where=name)
        quantity = values.text(dataset, "SegmentationFractionalType")
        fraction = (largest, None if quantity is None else quantity.lower())
    if overlap is not None:
        notes = (*notes, f"Segments {overlap[0]} and {overlap[1]} overlap, so every segment is a volume of its own.")
    return [
        Segments(
            stack,
            tuple(((here[number], number),) if number in here else () for here in at),
            kind,
            tuple(entry for n, entry in table.items() if n == number),
            fraction,
            notes,
        )
        for number in numbers
    ]


def _slices(file: DicomFile) -> tuple[Stack, list[int], tuple[str, ...]]:
    """Return a stack of all slices, evenly filled up where they are whole steps apart, and the slice of every plane."""
    normal = normal_of(file.planes[0])
    if any(np.abs(normal_of(plane) - normal).max() > _SAME_DIRECTION for plane in file.planes):
        raise SourceUnreadable("its frames lie in several directions", where=file.item.name, kind=Kind.SOURCE_UNSUPPORTED)
    depths = positions_of(file.planes) @ normal
    same = SAME_PLACE * min(file.planes[0].place.spacing)
    order = np.argsort(depths, kind="stable")
    fresh = np.concatenate([[True], np.diff(depths[order]) > same])
    slices = np.empty(len(order), np.intp)
    slices[order] = np.cumsum(fresh) - 1
    distinct = [replace(file.planes[i], keys={}) for i in order[fresh]]
    stacks = find_stacks(distinct)
    if len(stacks) != 1 or len(stacks[0].times) != 1:
        raise SourceUnreadable("its frames do not form one stack of slices", where=file.item.name, kind=Kind.SOURCE_INCONSISTENT)
    [stack] = stacks
    filled = _filled(stack.planes)
    if filled is None:
        return stack, slices.tolist(), stack.notes
    planes, places = filled
    notes = stack.notes
    if len(planes) > len(distinct):
        empty = len(planes) - len(distinct)
        notes = (*notes, f"{empty} slice{'s' * (empty > 1)} in between without a frame: nothing is segmented there.")
    return replace(stack, times=(planes,)), [places[i] for i in slices], notes


def _filled(planes: Sequence[Plane]) -> tuple[tuple[Plane, ...], list[int]] | None:
    """Put planes that are whole steps apart on an even grid: all its planes, and where each given one is; ``None`` otherwise."""
    if len(planes) < 2:
        return None
    positions = positions_of(planes)
    along = positions[-1] - positions[0]
    distances = (positions - positions[0]) @ along / np.linalg.norm(along)
    stated = planes[0].gap
    for step in ([] if stated is None else [stated]) + [float(np.diff(distances).min())]:
        places = np.rint(distances / step)
        if places[-1] >= _MOST_SLICES:
            continue
        step = float(distances[-1] / places[-1]) if places[-1] else 0.0  # as exact as the ends are
        if step and len(np.unique(places)) == len(planes) and np.abs(distances - places * step).max() <= UNIFORM * step:
            break
    else:
        return None
    given = {int(place): plane for place, plane in zip(places, planes, strict=True)}
    made = []
    for place in range(int(places[-1]) + 1):
        position = tuple(float(v) for v in positions[0] + along * (place / places[-1]))
        made.append(given.get(place) or replace(planes[0], place=replace(planes[0].place, position=position)))
    return tuple(made), [int(place) for place in places]


def _number(plane: Plane) -> int:
    number = plane.keys.get("SegmentNumber")
    if not isinstance(number, float) or number != int(number) or not 1 <= number <= _MOST_SEGMENTS:
        raise SourceUnreadable("does not state which segment it shows", where=plane.name)
    return int(number)


def _overlap(reader: FrameReader, at: Sequence[Mapping[int, int]], stated: str | None) -> tuple[int, int] | None:
    """Return two segments that overlap somewhere; looks at the frames of shared positions unless the header denies it."""
    if stated == "NO":
        return None
    rows = slice(0, reader.layout.rows)
    for here in at:
        if len(here) < 2:
            continue
        owner = np.zeros((reader.layout.rows, reader.layout.columns), np.uint16)
        for number, frame in here.items():
            mask = reader.frame(frame, rows) != 0
            if (both := owner[mask]).any():
                return int(both[both > 0][0]), number
            owner[mask] = number
    return None


def _entry(segment: "Dataset") -> tuple[int | None, dict[str, Any]]:
    """Return a segment's number and what the header says about it."""
    number = values.integer(segment, "SegmentNumber")
    entry: dict[str, Any] = {"number": number, "name": values.text(segment, "SegmentLabel")}
    for key, keyword in _CODES.items():
        code = values.first(segment, keyword)
        if code is not None:
            entry[key] = {
                "value": values.text(code, "CodeValue") or values.text(code, "LongCodeValue"),
                "scheme": values.text(code, "CodingSchemeDesignator"),
                "meaning": values.text(code, "CodeMeaning"),
            }
    for key, keyword in (("algorithm_type", "SegmentAlgorithmType"), ("algorithm", "SegmentAlgorithmName")):
        found = values.text(segment, keyword)
        if found is not None:
            entry[key] = found
    colour = values.numbers(segment, "RecommendedDisplayCIELabValue", 3)
    if colour is not None:
        entry["cielab"] = [int(v) for v in colour]
    safe: dict[str, Any] = json_safe(entry)
    return number, safe
