"""A plane: one 2-D image of a file with everything that decides where it belongs.

A classic file holds one plane, an enhanced multi-frame one a plane per frame, a Siemens mosaic a plane per tile. After
this module all three are the same thing, so finding series, sorting and geometry are written once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from emstore.source import SourceItem
from emstore_adapters.dicom import values
from emstore_adapters.dicom.frames import FrameReader

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Rescale:
    """How stored values turn into physical ones (PS3.3 C.11.1)."""

    slope: float
    intercept: float
    unit: str | None


@dataclass(frozen=True)
class Place:
    """Where a plane lies in the patient (PS3.3 C.7.6.2.1.1), in millimetres, LPS."""

    position: Vector
    """Centre of the first voxel, shape (3,), order x, y, z."""
    orientation: Vector
    """Direction of a row, then of a column, shape (6,)."""
    spacing: Vector
    """Distance between rows, then between columns, shape (2,)."""


@dataclass(frozen=True)
class Plane:
    """One 2-D image."""

    file: "DicomFile"
    frame: int
    """Frame of the file, from 0."""
    place: Place
    rescale: Rescale | None = None
    tile: tuple[int, int, int, int] | None = None
    """First row, first column, rows, columns of a mosaic's tile; ``None`` for the whole frame."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """What may tell planes at the same position apart: echo, time, acquisition, diffusion weighting ..."""
    thickness: float | None = None
    gap: float | None = None
    """Spacing between slice centres as stated, millimetres."""

    @property
    def name(self) -> str:
        """The file it comes from, and the frame where that file has several."""
        layout = self.file.reader.layout
        return self.file.item.name if layout.frames == 1 else f"{self.file.item.name} frame {self.frame + 1}"


@dataclass(frozen=True, eq=False)
class DicomFile:
    """One file with an image: how to read its frames, and the few facts that series are found by."""

    item: SourceItem
    reader: FrameReader
    series: str
    """SeriesInstanceUID, or the file's own name where it has none."""
    instance: str | None
    """SOPInstanceUID."""
    sop_class: str | None
    modality: str | None
    """Lower case."""
    number: int | None
    """SeriesNumber."""
    instance_number: int | None
    varying: Mapping[str, Any]
    """Header values that differ from the first file of the series, by keyword."""
    planes: list[Plane] = field(default_factory=list)
    """Planes with a place in space; empty when the file states none."""
    notes: list[str] = field(default_factory=list)


_DISCRIMINATORS = (
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "TriggerTime",
    "AcquisitionNumber",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)


def classic_planes(file: DicomFile, dataset: "Dataset") -> list[Plane]:
    """Return the planes of a file whose place is stated once for the whole file; empty when it states none."""
    holder = dataset
    if "ImagePositionPatient" not in dataset and file.modality == "nm":
        holder = values.first(dataset, "DetectorInformationSequence") or dataset
    position = values.numbers(holder, "ImagePositionPatient", 3)
    orientation = direction(values.numbers(holder, "ImageOrientationPatient", 6))
    spacing = values.numbers(dataset, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None or min(spacing) <= 0:
        return []
    keys: dict[str, Any] = {
        "EchoTime": values.number(dataset, "EchoTime"),
        "ImageType": "/".join(values.texts(dataset, "ImageType")[:5]) or None,
        "InstanceNumber": file.instance_number,
    }
    for keyword in _DISCRIMINATORS:
        number = values.number(dataset, keyword)
        keys[keyword] = number if number is not None else values.text(dataset, keyword)
    offsets = frame_offsets(file, dataset)
    if offsets is None:
        return []
    row, column = orientation[:3], orientation[3:]
    normal = cross(row, column)
    rescale = dose_scale(dataset) or rescale_of(dataset, file.modality)
    return [
        Plane(
            file,
            frame,
            Place(tuple(p + offset * n for p, n in zip(position, normal, strict=True)), orientation, spacing),
            rescale,
            keys=keys,
            thickness=positive(values.number(dataset, "SliceThickness")),
            gap=positive(values.number(dataset, "SpacingBetweenSlices")),
        )
        for frame, offset in enumerate(offsets)
    ]


def frame_offsets(file: DicomFile, dataset: "Dataset") -> tuple[float, ...] | None:
    """Return the distance of every frame from the first along the normal, millimetres; ``None`` when frames are not slices.

    Frames are slices in RT dose (PS3.3 C.8.8.3, Grid Frame Offset Vector) and in reconstructed NM (C.8.4.9).
    """
    frames = file.reader.layout.frames
    if frames == 1:
        return (0.0,)
    offsets = values.numbers(dataset, "GridFrameOffsetVector", frames)
    if offsets is not None:
        return tuple(offset - offsets[0] for offset in offsets)
    step = values.number(dataset, "SpacingBetweenSlices")
    if file.modality == "nm" and step and "RECON TOMO" in values.texts(dataset, "ImageType"):
        return tuple(step * frame for frame in range(frames))
    return None


def dose_scale(dataset: "Dataset") -> Rescale | None:
    """Return the scale of an RT dose grid, if it is one."""
    slope = values.number(dataset, "DoseGridScaling")
    return None if slope is None else Rescale(slope, 0.0, values.text(dataset, "DoseUnits"))


def rescale_of(dataset: "Dataset", modality: str | None) -> Rescale | None:
    """Return a data set's rescale; its unit as stated (``US``, unspecified, is none; CT's default is HU, C.11.1.1.2)."""
    slope, intercept = values.number(dataset, "RescaleSlope"), values.number(dataset, "RescaleIntercept")
    if slope is None and intercept is None:
        return None
    unit = values.text(dataset, "RescaleType") or values.text(dataset, "Units")
    if unit is None and modality == "ct":
        unit = "HU"
    return Rescale(1.0 if slope is None else slope, intercept or 0.0, None if unit in ("US", "normalized") else unit)


def direction(cosines: Vector | None) -> Vector | None:
    """Return six direction cosines made exactly unit length; ``None`` unless they are two directions that are not parallel."""
    if cosines is None:
        return None
    row, column = unit(cosines[:3]), unit(cosines[3:])
    if row is None or column is None or abs(sum(a * b for a, b in zip(row, column, strict=True))) > 1e-2:
        return None
    return row + column


def unit(vector: Vector) -> Vector | None:
    """Return a vector scaled to length 1; ``None`` unless it is within 1 % of that already."""
    length = float(sum(v * v for v in vector)) ** 0.5
    return tuple(v / length for v in vector) if abs(length - 1) < 1e-2 else None


def cross(a: Vector, b: Vector) -> Vector:
    """Return the vector product."""
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def positive(value: float | None) -> float | None:
    """Return a distance, or ``None`` for zero and placeholders below it."""
    return value if value is not None and value > 0 else None
