"""Finding series: reading every file's header once, then grouping planes that belong together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from emstore.errors import EmstoreError, SourceIncomplete, SourceUnreadable
from emstore.source import Source
from emstore_adapters.dicom import values
from emstore_adapters.dicom.enhanced import enhanced_planes, is_enhanced
from emstore_adapters.dicom.frames import FrameReader
from emstore_adapters.dicom.header import differing, raw_values
from emstore_adapters.dicom.layout import pixel_layout
from emstore_adapters.dicom.mosaic import is_mosaic, mosaic_planes
from emstore_adapters.dicom.planes import DicomFile, Plane, classic_planes
from emstore_adapters.dicom.quiet import quiet
from emstore_adapters.dicom.reader import FileBytes, ParsedFile, guarded, parse
from emstore_adapters.dicom.segments import Segments, find_segments, is_segmentation
from emstore_adapters.dicom.stacks import Stack, find_stacks

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NO_IMAGE: Final = {
    "1.2.840.10008.1.3.10": "a DICOMDIR index",
    "1.2.840.10008.5.1.4.1.1.11": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.88": "a structured report",
    "1.2.840.10008.5.1.4.1.1.481.3": "an RT structure set",
    "1.2.840.10008.5.1.4.1.1.481.5": "an RT plan",
    "1.2.840.10008.5.1.4.1.1.481.8": "an RT ion plan",
    "1.2.840.10008.5.1.4.1.1.104": "an encapsulated document",
    "1.2.840.10008.5.1.4.1.1.66": "raw data or a registration",
}
_TILED: Final = "1.2.840.10008.5.1.4.1.1.77.1.6"
_SAME_DIRECTION: Final = 1e-3
_SAME_SPACING: Final = 1e-4


@dataclass
class Series:
    """Files of one series as they are found."""

    base: dict[str, Any] = field(default_factory=dict)
    """Values, by keyword, of the first file that later ones may differ from."""
    files: list[DicomFile] = field(default_factory=list)
    first: dict[Any, Any] = field(default_factory=dict)
    """Undecoded values of the first file, by tag."""
    dataset: "Dataset | None" = None


@dataclass(frozen=True)
class Found:
    """One volume to be: a stack of planes, or one file whose frames have no place in space."""

    series: Series
    files: tuple[DicomFile, ...]
    stack: Stack | None
    labels: dict[str, str]
    notes: tuple[str, ...] = ()
    segments: Segments | None = None
    """What the frames mean, for a segmentation."""


def read_series(source: Source) -> list[Series]:
    """Read the header of every item and sort the files by series.

    Items without an image go to `source.ignore`, damaged and truncated ones to `source.skip`.
    """
    found: dict[str, Series] = {}
    instances: dict[str, DicomFile] = {}
    for item in source.items:
        try:
            parsed = parse(item)
            # Taken before any value is looked at: looking decodes it in place.
            mine = raw_values(parsed.dataset)
            file = guarded(partial(_read, parsed, source), item.name)
        except EmstoreError as error:
            source.skip(item.name, error.what, error)
            continue
        if file is None:
            continue
        twin = instances.get(file.instance or "")
        if twin is not None and _is_copy(file, twin):
            source.ignore(item.name, f"a copy of {twin.item.name} (same SOPInstanceUID, size and place)")
            continue
        if file.instance:
            instances.setdefault(file.instance, file)
        series = found.setdefault(file.series, Series())
        series.files.append(_compared(file, parsed.dataset, mine, series))
    for series in found.values():
        _finish(series)
    return list(found.values())


def find_volumes(source: Source, series: Series) -> list[Found]:
    """Group one series' planes into volumes.

    Raises
    ------
    SourceUnreadable
        Its slices contradict each other, and partial reads are not allowed.
    """
    volumes: list[Found] = []
    groups: dict[tuple[Any, ...], list[Plane]] = {}
    segmented: list[Found] = []
    for file in series.files:
        if is_segmentation(file):
            segmented += guarded(partial(_segmented, series, file), file.item.name)
            continue
        if not file.planes:
            volumes.append(Found(series, (file,), None, {}))
        for plane in file.planes:
            groups.setdefault(_group_key(plane), []).append(plane)
    for planes in (part for group in groups.values() for part in _by_direction(group)):
        for stack in _stacks(source, planes):
            files = tuple(dict.fromkeys(plane.file for time in stack.times for plane in time))
            volumes.append(Found(series, files, stack, _labels(stack)))
    return [*_with_split_notes(volumes), *segmented]


def _segmented(series: Series, file: DicomFile) -> list[Found]:
    with quiet():
        parts = find_segments(file, parse(file.item).dataset)
    labels = [{"segment": f"segment{part.number}"} if len(parts) > 1 else {} for part in parts]
    return [Found(series, (file,), part.stack, label, part.notes, part) for part, label in zip(parts, labels, strict=True)]


def _read(parsed: ParsedFile, source: Source) -> DicomFile | None:
    name = parsed.item.name
    with quiet():
        reason = _not_an_image(parsed)
        if reason is None:
            return _image(parsed, source)
    if len(source.items) == 1:
        raise SourceUnreadable(f"holds no image: {reason}", where=name)
    source.ignore(name, reason)
    return None


def _not_an_image(parsed: ParsedFile) -> str | None:
    from pydicom.uid import UID

    dataset = parsed.dataset
    sop = values.text(dataset, "SOPClassUID") or values.text(dataset.file_meta, "MediaStorageSOPClassUID") or ""
    known = next((word for uid, word in _NO_IMAGE.items() if sop == uid or sop.startswith(uid + ".")), None)
    if "DirectoryRecordSequence" in dataset:
        known = "a DICOMDIR index"
    if known is not None and parsed.pixels is None:
        return known
    if parsed.pixels is None:
        if "BitsAllocated" in dataset or "Image" in UID(sop).name:  # an image class, cut before its pixels
            raise SourceIncomplete(
                "ends before its pixel data; 0 frames are good",
                where=parsed.item.name,
                fix="fetch the file again from its origin",
            )
        if not len(dataset) or ("SOPClassUID" not in dataset and "SOPInstanceUID" not in dataset and not parsed.stated):
            raise SourceUnreadable("is damaged or not DICOM: no image and no identifiable object in it", where=parsed.item.name)
        return f"{known or 'a DICOM object'} without pixel data"
    if sop == _TILED:
        raise SourceUnreadable(
            "is a tiled whole-slide image, which this reader does not assemble",
            where=parsed.item.name,
            fix="convert it with a whole-slide tool",
        )
    return None


def _image(parsed: ParsedFile, source: Source) -> DicomFile:
    dataset, item = parsed.dataset, parsed.item
    layout = pixel_layout(parsed)
    data = FileBytes(item.path, item.name, parsed.deflated_at)
    reader = FrameReader.of(data, layout, parsed.size, dataset)
    notes: list[str] = []
    good = reader.good_frames
    if good < layout.frames:
        reason = f"ends inside its pixel data: {good} of {layout.frames} frames are good"
        error = SourceIncomplete(reason, where=item.name, fix="fetch the file again, or pass --allow-partial for the good ones")
        if not good:
            raise error
        source.skip(item.name, reason, error)
        reader = replace(reader, layout=replace(layout, frames=good))
        notes.append(f"The file promises {layout.frames} frames and holds {good}; the rest is left out.")
    elif reader.map is not None and not reader.map.whole:
        notes.append("The pixel data lack their closing mark, but every frame is there.")
    if not parsed.stated:
        notes.append("The file does not name its transfer syntax; the one its bytes show was used.")
    modality = values.text(dataset, "Modality")
    file = DicomFile(
        item=item,
        reader=reader,
        series=values.text(dataset, "SeriesInstanceUID") or f"file {item.name}",
        instance=values.text(dataset, "SOPInstanceUID"),
        sop_class=values.text(dataset, "SOPClassUID"),
        modality=None if modality is None else modality.lower(),
        number=values.integer(dataset, "SeriesNumber"),
        instance_number=values.integer(dataset, "InstanceNumber"),
        varying={},
        notes=notes,
    )
    if is_enhanced(dataset):
        planes = enhanced_planes(file, dataset)
    elif is_mosaic(dataset):
        planes = mosaic_planes(file, dataset)
    else:
        planes = classic_planes(file, dataset)
    file.planes.extend(planes)
    return file


def _is_copy(file: DicomFile, twin: DicomFile) -> bool:
    """Whether two files with one SOPInstanceUID are the same object; broken software gives one to different images."""
    one, two = file.reader.layout, twin.reader.layout
    same_size = (one.rows, one.columns, one.frames, one.samples) == (two.rows, two.columns, two.frames, two.samples)
    places = [[plane.place for plane in f.planes] for f in (file, twin)]
    return same_size and places[0] == places[1] and file.instance_number == twin.instance_number


def _compared(file: DicomFile, dataset: "Dataset", mine: dict[Any, Any], series: Series) -> DicomFile:
    """Keep the values that differ from the series' first file, so 10 000 headers need not stay in memory."""
    if series.dataset is None:
        series.first, series.dataset = mine, dataset
        return file
    varying = differing(dataset, mine, series.first)
    compared = replace(file, varying=varying)
    compared.planes[:] = [replace(plane, file=compared) for plane in file.planes]
    return compared


def _finish(series: Series) -> None:
    """Note the first file's value of everything that varies, then let its header go."""
    from pydicom.datadict import tag_for_keyword

    from emstore_adapters.dicom.header import element_value

    if series.dataset is not None:
        with quiet():
            for keyword in {key for file in series.files for key in file.varying}:
                tag = tag_for_keyword(keyword)
                if tag is not None and tag in series.dataset:
                    series.base[keyword] = element_value(series.dataset, tag)
    series.first, series.dataset = {}, None


def _group_key(plane: Plane) -> tuple[Any, ...]:
    layout = plane.file.reader.layout
    size = plane.tile[2:] if plane.tile is not None else (layout.rows, layout.columns)
    echo = plane.keys.get("EchoTime")
    return (
        *size,
        layout.samples,
        layout.dtype.str,
        layout.photometric,
        None if echo is None else round(float(echo), 3),
        plane.keys.get("StackID"),
    )


def _by_direction(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Part planes by orientation and pixel spacing, with room for rounding in the header."""
    parts: list[list[Plane]] = []
    for plane in planes:
        for part in parts:
            mine, other = plane.place, part[0].place
            if np.allclose(mine.orientation, other.orientation, rtol=0, atol=_SAME_DIRECTION) and np.allclose(
                mine.spacing, other.spacing, rtol=_SAME_SPACING, atol=0
            ):
                part.append(plane)
                break
        else:
            parts.append([plane])
    return parts


def _stacks(source: Source, planes: list[Plane]) -> list[Stack]:
    """Sort planes into stacks, leaving out what contradicts the others when partial reads are allowed."""
    while True:
        try:
            return find_stacks(planes)
        except SourceUnreadable as error:
            source.skip(error.where or planes[0].name, error.what, error)
            planes = [plane for plane in planes if plane.name != error.where]
            if not planes:
                return []


def _labels(stack: Stack) -> dict[str, str]:
    plane = stack.planes[0]
    layout = plane.file.reader.layout
    rows, columns = plane.tile[2:] if plane.tile is not None else (layout.rows, layout.columns)
    labels = {"size": f"{rows}x{columns}", "view": _view(plane)}
    echo = plane.keys.get("EchoTime")
    if echo is not None:
        labels["echo"] = f"te{float(echo):.6g}"
    if plane.keys.get("StackID") is not None:
        labels["stack"] = f"stack{plane.keys['StackID']}"
    return labels | {key: value for key, value in stack.labels.items()}


def _view(plane: Plane) -> str:
    """Name the nearest anatomical plane by the slice normal (LPS: x left, y posterior, z superior)."""
    from emstore_adapters.dicom.stacks import normal_of

    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(normal_of(plane))))]


def _with_split_notes(volumes: Iterable[Found]) -> list[Found]:
    """Keep only the labels that tell volumes of the series apart, and say so in their notes."""
    found = list(volumes)
    stacks = [volume for volume in found if volume.stack is not None]
    if len(stacks) < 2:
        return [replace(volume, labels={}) for volume in found]
    telling = [
        key
        for key in dict.fromkeys(key for volume in stacks for key in volume.labels)
        if len({volume.labels.get(key) for volume in stacks}) > 1
    ]
    words = ", ".join(telling) or "position"
    note = f"The series holds {len(stacks)} volumes, told apart by {words}."
    return [
        volume
        if volume.stack is None
        else replace(volume, labels={k: v for k, v in volume.labels.items() if k in telling}, notes=(*volume.notes, note))
        for volume in found
    ]
