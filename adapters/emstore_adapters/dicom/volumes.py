"""From what was found to Volumes: names, grids, values and headers."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from emstore.geometry import Axis, Grid
from emstore.header import json_safe
from emstore.volume import LazyArray, ValueScale, Volume, VolumeKind
from emstore_adapters.dicom import values
from emstore_adapters.dicom.geometry import MILLIMETER, colour_axis, stack_grid
from emstore_adapters.dicom.header import build_header
from emstore_adapters.dicom.planes import DicomFile, Plane, Rescale, rescale_of
from emstore_adapters.dicom.quiet import quiet
from emstore_adapters.dicom.reader import guarded, parse
from emstore_adapters.dicom.segments import SegmentArray, Segments
from emstore_adapters.dicom.series import Found
from emstore_adapters.dicom.spacing import pixel_spacing
from emstore_adapters.dicom.stackarray import PlaneArray, PlaneSource
from emstore_adapters.dicom.stacks import Stack, says_when
from emstore_adapters.dicom.times import cine_axis, repeat_axis

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SCANNERS: Final = frozenset({"ct", "mr", "pt"})
_LABEL_ORDER: Final = ("echo", "stack", "view", "size", "segment")


def build_volumes(found: Sequence[Found]) -> list[Volume]:
    """Return the volumes of a source, by series number, each with a unique name without patient data."""
    ordered = sorted(found, key=_order)
    volumes = []
    taken: set[str] = set()
    for one in ordered:
        name = _unique_name(one, taken)
        volumes.append(guarded(partial(_volume_of, name, one), one.files[0].item.name))
    return volumes


def _volume_of(name: str, found: Found) -> Volume:
    with quiet():
        dataset = parse(found.files[0].item).dataset
        if found.segments is not None:
            return _segmentation(name, found, dataset, found.segments)
        return _cine(name, found, dataset) if found.stack is None else _stack(name, found, dataset, found.stack)


def _order(found: Found) -> tuple[Any, ...]:
    file = found.files[0]
    number = file.number if file.number is not None else 1 << 31
    size = 0 if found.stack is None else len(found.stack.times) * len(found.stack.planes)
    return number, file.modality or "", file.series, *_echo(found), -size, file.instance_number or 0


def _echo(found: Found) -> tuple[float]:
    echo = None if found.stack is None else found.stack.planes[0].keys.get("EchoTime")
    return (0.0 if echo is None else float(echo),)


def _unique_name(found: Found, taken: set[str]) -> str:
    """Build a name from the modality, the series number and what tells the volume apart; never from text people typed."""
    file = found.files[0]
    parts = [re.sub(r"[^a-z0-9]", "", file.modality or "")[:4] or "image"]
    if file.number is not None:
        parts.append(f"s{file.number:03d}")
    labels = sorted(found.labels.items(), key=lambda pair: _LABEL_ORDER.index(pair[0]) if pair[0] in _LABEL_ORDER else 9)
    parts += [label for key, value in labels if key in _LABEL_ORDER and (label := re.sub(r"[^a-z0-9.]", "", value.lower())[:16])]
    base = name = "-".join(parts)[:56]
    count = 1
    while name in taken:
        count += 1
        name = f"{base}-{count}"
    taken.add(name)
    return name


def _stack(name: str, found: Found, dataset: "Dataset", stack: Stack) -> Volume:
    planes = [plane for time in stack.times for plane in time]
    first = planes[0]
    layout = first.file.reader.layout
    rows, columns = first.tile[2:] if first.tile is not None else (layout.rows, layout.columns)
    tiled_time = values.number(dataset, "RepetitionTime") if first.tile is not None else None
    time, time_notes = repeat_axis(stack, tiled_time)
    grid, notes = stack_grid(stack, rows, columns, layout.samples, time)
    data = PlaneArray(
        [PlaneSource(plane.file.reader, plane.frame, plane.tile) for plane in planes], grid.dims, grid.shape, layout.dtype
    )
    scale, scale_attributes, scale_notes = _scale([plane.rescale for plane in planes])
    attributes = _attributes(dataset, first.file) | scale_attributes | _frame_order(planes)
    if stack.repeat_key:
        attributes["repeats"] = {
            key: json_safe([time[0].keys.get(key) for time in stack.times]) for key in stack.repeat_key if not says_when(key)
        }
    all_notes = (*notes, *stack.notes, *time_notes, *found.notes, *scale_notes)
    return _volume(name, found, dataset, data, grid, scale, attributes, all_notes)


def _cine(name: str, found: Found, dataset: "Dataset") -> Volume:
    """Build the volume of one file whose frames have no place in space."""
    file = found.files[0]
    layout = file.reader.layout
    spacing = pixel_spacing(dataset, file.modality)
    notes = list(spacing.notes)
    if file.modality in _SCANNERS and layout.frames == 1:
        notes.append("The header does not place this image in space, so it is a volume of its own.")
    time, time_notes = _frame_axis(dataset, file)
    slices = time is not None and time.name == "z"
    axes = [*([] if time is None or slices else [time]), *colour_axis(layout.samples), *([time] if time and slices else [])]
    notes += time_notes
    for axis, size, step in (("y", layout.rows, spacing.rows), ("x", layout.columns, spacing.columns)):
        axes.append(Axis.measured(axis, size, step, None if step is None else MILLIMETER))
    grid = Grid(tuple(axes))
    sources = [PlaneSource(file.reader, frame) for frame in range(layout.frames)]
    data = PlaneArray(sources, grid.dims, grid.shape, layout.dtype)
    scale, scale_attributes, scale_notes = _scale([rescale_of(dataset, file.modality)])
    attributes = _attributes(dataset, file) | spacing.attributes | scale_attributes
    return _volume(name, found, dataset, data, grid, scale, attributes, (*notes, *found.notes, *scale_notes))


def _segmentation(name: str, found: Found, dataset: "Dataset", segments: Segments) -> Volume:
    """Build the volume of a segmentation: labels, or the fractions of one segment."""
    file = found.files[0]
    layout = file.reader.layout
    grid, notes = stack_grid(segments.stack, layout.rows, layout.columns, 1, None)
    attributes = _attributes(dataset, file) | {"segmentation_type": segments.type, "segments": list(segments.table)}
    data = SegmentArray(file.reader, segments)
    if segments.fraction is None:
        volume = _volume(name, found, dataset, data, grid, None, attributes, (*notes, *found.notes))
        return replace(volume, kind=VolumeKind.LABELS, window=None)
    largest, quantity = segments.fraction
    scale = ValueScale(1 / largest, 0.0, quantity)
    return replace(_volume(name, found, dataset, data, grid, scale, attributes, (*notes, *found.notes)), window=(0.0, largest))


def _frame_axis(dataset: "Dataset", file: DicomFile) -> tuple[Axis | None, tuple[str, ...]]:
    """Return what the frames of a file run over: time, or slices where a scanner only states their distance."""
    frames = file.reader.layout.frames
    if frames == 1:
        return None, ()
    time, notes = cine_axis(dataset, frames)
    step = values.number(dataset, "SpacingBetweenSlices")
    if not time.known and step and step > 0 and file.modality in _SCANNERS:
        note = (
            "The header does not place the frames; they are taken as slices in file order, SpacingBetweenSlices apart. "
            "Their orientation is not known."
        )
        return Axis("z", frames, spacing=step, unit=MILLIMETER), (note,)
    return time, notes


def _volume(
    name: str,
    found: Found,
    dataset: "Dataset",
    data: LazyArray,
    grid: Grid,
    scale: ValueScale | None,
    attributes: dict[str, Any],
    notes: tuple[str, ...],
) -> Volume:
    file_notes = dict.fromkeys(note for file in found.files for note in file.notes)
    photometric = found.files[0].reader.layout.photometric
    if photometric == "MONOCHROME1":
        file_notes["MONOCHROME1: low values are meant to be shown bright; the values are kept as stored."] = None
    elif photometric == "PALETTE COLOR":
        file_notes["PALETTE COLOR: values are palette indices; the palette is in the attributes."] = None
    elif photometric in ("YBR_FULL", "YBR_FULL_422"):
        file_notes[f"{photometric} was converted to RGB (PS3.3 C.7.6.3.1.2), as colour viewers expect."] = None
    return Volume(
        name=name,
        data=data,
        grid=grid,
        header=build_header(dataset, found.files, found.series.base),
        modality=found.files[0].modality,
        scale=scale,
        window=_window(dataset, scale),
        files=tuple(file.item.path for file in found.files),
        attributes=attributes,
        notes=(*notes, *file_notes),
    )


def _scale(rescales: Sequence[Rescale | None]) -> tuple[ValueScale | None, dict[str, Any], tuple[str, ...]]:
    """Return the one scale of all planes, or, where they differ, each plane's own as an attribute and a note."""
    distinct = set(rescales)
    if len(distinct) == 1:
        rescale = distinct.pop()
        return (None if rescale is None else ValueScale(rescale.slope, rescale.intercept, rescale.unit)), {}, ()
    kept = {
        "slope": [None if r is None else r.slope for r in rescales],
        "intercept": [None if r is None else r.intercept for r in rescales],
        "unit": next((r.unit for r in rescales if r is not None), None),
    }
    note = "Rescale slope and intercept differ between slices: each slice's own are in the attributes, time slowest, then z."
    return None, {"rescale_per_slice": kept}, (note,)


def _frame_order(planes: Sequence[Plane]) -> dict[str, Any]:
    """Return, for a single multi-frame file, which of its frames (from 1) each plane is."""
    one_file = all(plane.file is planes[0].file for plane in planes)
    if not one_file or planes[0].tile is not None or len(planes) == 1:
        return {}
    return {"frame_numbers": [plane.frame + 1 for plane in planes]}


def _attributes(dataset: "Dataset", file: DicomFile) -> dict[str, Any]:
    layout = file.reader.layout
    attributes: dict[str, Any] = {
        "photometric": layout.photometric,
        "bits_stored": layout.bits_stored,
        "transfer_syntax": layout.syntax,
        "sop_class": file.sop_class,
    }
    padding = values.integer(dataset, "PixelPaddingValue")
    if padding is not None:
        attributes["padding_value"] = padding
    aspect = values.numbers(dataset, "PixelAspectRatio", 2)
    if aspect is not None:
        attributes["pixel_aspect_ratio"] = list(aspect)
    if values.text(dataset, "LossyImageCompression") == "01":
        attributes["lossy"] = True
    if layout.photometric == "PALETTE COLOR":
        attributes["palette"] = _palette(dataset)
    return attributes


def _palette(dataset: "Dataset") -> dict[str, Any]:
    """Return the colour tables (PS3.3 C.7.6.3.1.5): entries, first index mapped, bits, and each colour's values."""
    import numpy as np

    palette: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        described = values.numbers(dataset, f"{colour}PaletteColorLookupTableDescriptor", 3)
        table = values.get(dataset, f"{colour}PaletteColorLookupTableData")
        if described is None or not isinstance(table, bytes):
            continue
        bits = 8 if len(table) == int(described[0]) else 16
        entries = np.frombuffer(table[: len(table) // 2 * 2] if bits == 16 else table, np.uint8 if bits == 8 else "<u2")
        palette["first_index"], palette["bits"] = int(described[1]), int(described[2])
        palette[colour.lower()] = json_safe(entries.tolist(), longest=65536)
    return palette


def _window(dataset: "Dataset", scale: ValueScale | None) -> tuple[float, float] | None:
    """Return the first display window in stored values (PS3.3 C.11.2.1.2: centre and width are in rescaled values)."""
    centre, width = values.number(dataset, "WindowCenter"), values.number(dataset, "WindowWidth")
    if centre is None or width is None or width < 1:
        return None
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    slope, intercept = (1.0, 0.0) if scale is None else (scale.slope, scale.intercept)
    if slope == 0:
        return None
    low, high = (low - intercept) / slope, (high - intercept) / slope
    return (low, high) if low < high else (high, low) if high < low else None
