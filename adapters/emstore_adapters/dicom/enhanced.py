"""Planes of an enhanced multi-frame file, from its functional groups (PS3.3 C.7.6.16)."""

from typing import TYPE_CHECKING, Any, Final

from emstore_adapters.dicom import values
from emstore_adapters.dicom.planes import DicomFile, Place, Plane, Rescale, direction, positive, rescale_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEYS: Final = (
    # functional group, element, key it is known by
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("FrameContentSequence", "StackID", "StackID"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "TriggerTime"),
    ("FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
    ("FrameContentSequence", "FrameAcquisitionDateTime", "AcquisitionDateTime"),
    ("FrameContentSequence", "FrameReferenceDateTime", "FrameReferenceDateTime"),
    ("SegmentIdentificationSequence", "ReferencedSegmentNumber", "SegmentNumber"),
)
_TYPES: Final = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XAXRFFrameCharacteristicsSequence",
)


def is_enhanced(dataset: "Dataset") -> bool:
    """Whether a data set describes its frames by functional groups."""
    return "PerFrameFunctionalGroupsSequence" in dataset or "SharedFunctionalGroupsSequence" in dataset


def enhanced_planes(file: DicomFile, dataset: "Dataset") -> list[Plane]:
    """Return one plane per frame; empty when not every frame states its place."""
    shared = values.first(dataset, "SharedFunctionalGroupsSequence")
    per_frame = values.items(dataset, "PerFrameFunctionalGroupsSequence")
    frames = file.reader.layout.frames
    if len(per_frame) < frames:
        file.notes.append(f"The header describes {len(per_frame)} of its {frames} frames, so their places are not used.")
        return []
    planes = []
    for index in range(frames):
        plane = _plane(file, index, per_frame[index], shared)
        if plane is None:
            file.notes.append(f"Frame {index + 1} does not state its place, so frames are kept in file order.")
            return []
        planes.append(plane)
    return planes


def _plane(file: DicomFile, index: int, own: "Dataset", shared: "Dataset | None") -> Plane | None:
    def group(keyword: str) -> "Dataset | None":
        found = values.first(own, keyword)
        return found if found is not None or shared is None else values.first(shared, keyword)

    def of(group_keyword: str, keyword: str, count: int) -> tuple[float, ...] | None:
        holder = group(group_keyword)
        return None if holder is None else values.numbers(holder, keyword, count)

    position = of("PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = direction(of("PlaneOrientationSequence", "ImageOrientationPatient", 6))
    measures = group("PixelMeasuresSequence")
    spacing = None if measures is None else values.numbers(measures, "PixelSpacing", 2)
    if position is None or orientation is None or measures is None or spacing is None or min(spacing) <= 0:
        return None
    keys: dict[str, Any] = {"FrameNumber": index}
    for holder_keyword, keyword, key in _KEYS:
        holder = group(holder_keyword)
        value = None if holder is None else values.get(holder, keyword)
        if value is not None:
            number = values.number(holder, keyword) if holder is not None else None
            keys[key] = number if number is not None else str(value)
    gradient = _gradient(group("MRDiffusionSequence"))
    if gradient is not None:
        keys["DiffusionGradient"] = gradient
    for keyword in _TYPES:
        holder = group(keyword)
        if holder is not None:
            keys["ImageType"] = "/".join((*values.texts(holder, "FrameType"), values.text(holder, "ComplexImageComponent") or ""))
    return Plane(
        file,
        index,
        Place(position, orientation, spacing),
        _rescale(group("PixelValueTransformationSequence"), file.modality),
        keys=keys,
        thickness=positive(values.number(measures, "SliceThickness")),
        gap=positive(values.number(measures, "SpacingBetweenSlices")),
    )


def _gradient(diffusion: "Dataset | None") -> str | None:
    holder = None if diffusion is None else values.first(diffusion, "DiffusionGradientDirectionSequence")
    found = None if holder is None else values.numbers(holder, "DiffusionGradientOrientation", 3)
    return None if found is None else ",".join(f"{v:.6g}" for v in found)


def _rescale(holder: "Dataset | None", modality: str | None) -> Rescale | None:
    return None if holder is None else rescale_of(holder, modality)
