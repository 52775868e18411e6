"""The header of a volume: the parsed tree, the few common terms, and the raw bytes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from emstore.header import Header, RawHeader, json_safe, quantity
from emstore_adapters.dicom import values
from emstore_adapters.dicom.planes import DicomFile
from emstore_adapters.dicom.quiet import quiet
from emstore_adapters.dicom.reader import read_span

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_BINARY: Final = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN"})
_LONGEST_TEXT: Final = 4096
_DEEPEST: Final = 24

_TEXT_TERMS: Final = {
    "instrument/manufacturer": "Manufacturer",
    "instrument/model": "ManufacturerModelName",
    "instrument/modality": "Modality",
    "acquisition/convolution_kernel": "ConvolutionKernel",
    "acquisition/scanning_sequence": "ScanningSequence",
    "acquisition/sequence_variant": "SequenceVariant",
    "acquisition/sequence_type": "MRAcquisitionType",
    "acquisition/body_part": "BodyPartExamined",
}
_NUMBER_TERMS: Final = {
    "instrument/source/voltage": ("KVP", "kilovolt"),
    "instrument/source/current": ("XRayTubeCurrent", "milliampere"),
    "instrument/magnet/field_strength": ("MagneticFieldStrength", "tesla"),
    "instrument/gantry/tilt": ("GantryDetectorTilt", "degree"),
    "acquisition/exposure_time": ("ExposureTime", "millisecond"),
    "acquisition/slice_thickness": ("SliceThickness", "millimeter"),
    "acquisition/spacing_between_slices": ("SpacingBetweenSlices", "millimeter"),
    "acquisition/repetition_time": ("RepetitionTime", "millisecond"),
    "acquisition/echo_time": ("EchoTime", "millisecond"),
    "acquisition/inversion_time": ("InversionTime", "millisecond"),
    "acquisition/flip_angle": ("FlipAngle", "degree"),
    "acquisition/frame_time": ("FrameTime", "millisecond"),
    "acquisition/frame_rate": ("CineRate", "hertz"),
    "instrument/detector/distance_source_to_detector": ("DistanceSourceToDetector", "millimeter"),
    "instrument/detector/distance_source_to_patient": ("DistanceSourceToPatient", "millimeter"),
}


def build_header(dataset: "Dataset", files: Sequence[DicomFile], base: Mapping[str, Any]) -> Header:
    """Return the header of a volume.

    Parameters
    ----------
    dataset : Dataset
        Header of the volume's first file, whole.
    files : sequence of DicomFile
        Its files, in order.
    base : mapping of str to any
        Values, by keyword, that each file's `varying` differs from.

    Returns
    -------
    Header
        ``tree`` holds the first file's header by keyword and, under ``PerFile``, one list per keyword that varies over
        the files. ``raw`` holds every file's bytes without its pixel data element (see `reader.raw_header`).
    """
    tree = tree_of(dataset)
    meta = getattr(dataset, "file_meta", None)
    if meta:
        tree["FileMeta"] = tree_of(meta)
    varying = sorted({keyword for file in files for keyword in file.varying})
    if len(files) > 1 and varying:
        tree["PerFile"] = {keyword: [file.varying.get(keyword, base.get(keyword)) for file in files] for keyword in varying}
    raw: list[RawHeader] = []
    for name, file in zip(_unique([file.item.path.name for file in files]), files, strict=True):
        reader = file.reader
        raw.append(RawHeader(name, partial(read_span, reader.data, 0, reader.layout.element.start)))
        if reader.end < reader.size:
            raw.append(RawHeader(f"{name}.after", partial(read_span, reader.data, reader.end, reader.size)))
    return Header("DICOM", tree, terms_of(dataset), tuple(raw))


def tree_of(dataset: "Dataset", depth: int = 0) -> dict[str, Any]:
    """Return a data set as nested JSON-safe data by keyword; private elements by tag and creator, binary values by size."""
    tree: dict[str, Any] = {}
    with quiet():
        for tag, raw in sorted(dataset.items()):
            left_on_disk = getattr(raw, "length", 0) if raw.value is None else 0
            if left_on_disk:
                tree[_key(dataset, tag)] = f"<{left_on_disk} bytes>"
            else:
                tree[_key(dataset, tag)] = element_value(dataset, tag, depth)
    return tree


def element_value(dataset: "Dataset", tag: Any, depth: int = 0) -> Any:
    """Return one element's value as JSON-safe data; a note in angle brackets where it is binary, huge or malformed."""
    try:
        element = dataset[tag]
        if element.VR == "SQ":
            if depth >= _DEEPEST:
                return "<nested too deep>"
            return json_safe([tree_of(item, depth + 1) for item in element.value])
        if element.VR in _BINARY and isinstance(element.value, (bytes, bytearray)):
            return f"<{len(element.value)} bytes>"
        return _plain(element.value)
    except values.BAD_VALUE as error:
        return f"<malformed: {type(error).__name__}>"


def _plain(value: Any) -> Any:
    from pydicom.multival import MultiValue

    if isinstance(value, MultiValue) or isinstance(value, (list, tuple)):
        return json_safe([_plain(v) for v in value])
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return json_safe(float(value))
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    text = str(value)
    return text if len(text) <= _LONGEST_TEXT else f"<{len(text)} characters>"


def _key(dataset: "Dataset", tag: Any) -> str:
    from pydicom.datadict import keyword_for_tag

    keyword = keyword_for_tag(tag)
    if keyword:
        return keyword
    name = f"({tag.group:04x},{tag.element:04x})"
    if tag.is_private and not tag.is_private_creator:
        try:
            creator = dataset.get_item((tag.group, tag.element >> 8)).value
        except values.BAD_VALUE:
            return name
        label = creator.decode("latin-1") if isinstance(creator, bytes) else str(creator)
        return f"{name} {label.strip()}"
    return name


def terms_of(dataset: "Dataset") -> dict[str, Any]:
    """Return the facts that mean the same on every instrument."""
    terms: dict[str, Any] = {}
    for term, keyword in _TEXT_TERMS.items():
        found = values.texts(dataset, keyword)
        if found and any(v.strip() for v in found):
            terms[term] = "/".join(v.strip() for v in found)
    for term, (keyword, unit) in _NUMBER_TERMS.items():
        number = values.number(dataset, keyword)
        if number is not None:
            terms[term] = quantity(number, unit)
    for axis, index in (("y", 0), ("x", 1)):
        imager = values.numbers(dataset, "ImagerPixelSpacing", 2)
        if imager is not None:
            terms[f"instrument/detector/{axis}_pixel_size"] = quantity(imager[index], "millimeter")
    return terms


def raw_values(dataset: "Dataset") -> dict[Any, Any]:
    """Return every short top-level element's undecoded value by tag, cheap to compare between files of a series."""
    found = {}
    for tag, raw in dataset.items():
        if tag.element and getattr(raw, "is_raw", False) and isinstance(raw.value, bytes) and len(raw.value) <= 256:
            found[tag] = raw.value
    return found


def differing(dataset: "Dataset", mine: Mapping[Any, Any], base: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the decoded values, by keyword, of elements whose bytes differ from the first file's; ``None`` where missing."""
    found: dict[str, Any] = {}
    with quiet():
        for tag, value in mine.items():
            if base.get(tag) != value:
                found[_key(dataset, tag)] = element_value(dataset, tag)
        for tag in base.keys() - mine.keys():
            if tag not in dataset:
                found[_key(dataset, tag)] = None
    return found


def _unique(names: Sequence[str]) -> list[str]:
    if len(set(names)) == len(names):
        return list(names)
    width = len(str(len(names)))
    return [f"{index:0{width}d}-{name}" for index, name in enumerate(names, 1)]
