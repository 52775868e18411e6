"""FEI TIA: SER files of pixels, and EMI files that list and describe them.

SER layout (as published by C. Boothroyd): a header with the navigation dimensions, arrays of offsets, and one element
(spectrum or image) after the other. An EMI is a proprietary container of which only its ``<ObjectInfo>`` XML is read;
its pixels lie in companions ``<name>_<n>.ser``, n from 1 to 9.

Raw header: of a SER every byte outside the elements' values; of an EMI its ObjectInfo blocks, byte for byte and in order.
"""

import math
import mmap
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity, SourceIncomplete, SourceUnreadable
from emstore.header import RawHeader
from emstore.source import Source, SourceItem
from emstore_adapters.em import terms
from emstore_adapters.em.arrays import FramesArray
from emstore_adapters.em.axes import RawAxis
from emstore_adapters.em.formats import Format
from emstore_adapters.em.raw import outside
from emstore_adapters.em.signals import Signal, checked_shape

_DTYPES: Final = ("<u1", "<u2", "<u4", "<i1", "<i2", "<i4", "<f4", "<f8", "<c8", "<c16")
_SPECTRUM: Final = 0x4120
_IMAGE: Final = 0x4122
_TAG_WITH_POSITION: Final = 0x4142
_LAST_32_BIT: Final = 0x0210
"""Series versions after this one have 64-bit offsets."""
MAX_XML: Final = 64 << 20


@dataclass(frozen=True)
class _Dimension:
    size: int
    offset: float
    delta: float
    element: int
    description: str
    unit: str


@dataclass(frozen=True)
class _Series:
    """The header of a SER file."""

    kind: int
    total: int
    valid: int
    dimensions: tuple[_Dimension, ...]
    offsets: npt.NDArray[np.int64]
    x_first: bool
    """Whether the first dimension runs fastest."""
    calibration: tuple[float, ...]
    """Offset, delta and element of the x (or energy) axis, then of y, as the first element states them."""
    element: tuple[int, ...]
    """Shape of one element: (y, x) or (energy,)."""
    dtype: np.dtype[Any]
    values_at: int
    """Where the values begin inside an element, bytes."""
    tags: Mapping[str, Any]


def read_emi(item: SourceItem, source: Source) -> Sequence[Signal]:
    """Return the signals of every companion SER, with the EMI's description of them."""
    blocks = _object_infos(item)
    described = [_xml(item, block) for block in blocks]
    signals: list[Signal] = []
    raw = RawHeader(f"{item.path.name}.xml", lambda: b"".join(blocks))
    found = ser_companions(item.path)
    if not found:
        raise SourceUnreadable(
            "none of its .ser files is there, and they hold the pixels",
            where=item.name,
            fix=f"put {item.path.stem}_1.ser beside it",
        )
    folder = item.name.rpartition("/")[0]
    for path in found:
        number = int(path.stem.rpartition("_")[2])
        companion = SourceItem(path, f"{folder}/{path.name}" if folder else path.name)
        info = described[number - 1] if number <= len(described) else None
        notes = () if info is not None else (f"the EMI does not describe {path.name}; only its own header was read",)
        unit = _image_unit(described[0] if described else None)
        signals += _read(companion, source, info or {}, unit, (raw,), (item.path,), notes)
    return signals


def read_ser(item: SourceItem, source: Source) -> Sequence[Signal]:
    """Return the one signal of a SER file."""
    return _read(item, source, {}, lambda _: "meters", (), (), ())


def ser_companions(emi: Path) -> list[Path]:
    """Return the SER files that belong to an EMI, in order."""
    return [path for n in range(1, 10) if (path := emi.with_name(f"{emi.stem}_{n}.ser")).is_file()]


def _read(
    item: SourceItem,
    source: Source,
    info: Mapping[str, Any],
    image_unit: Any,
    raw: tuple[RawHeader, ...],
    files: tuple[Path, ...],
    notes: tuple[str, ...],
) -> Sequence[Signal]:
    try:
        series = _header(item)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise SourceIncomplete(
            "ends inside its header, so none of it is good", where=item.name, fix="copy it again from the instrument"
        ) from error
    scan = _scan(item, series)
    shape = checked_shape((*(axis.size for axis in scan), *series.element), series.dtype, item.name)
    frames = math.prod(shape[: len(scan)])
    nbytes = math.prod(series.element) * series.dtype.itemsize
    offsets = series.offsets
    good = min(series.valid, len(offsets), frames)
    fits = (offsets >= 0) & (offsets + series.values_at + nbytes <= item.size)
    good = int(np.argmin(fits[:good])) if not fits[:good].all() else good
    if good < frames:
        planes = good // max(1, frames // shape[0]) if scan else 0
        reason = f"{good} of its {frames} elements are whole"
        fix = "pass --allow-partial to keep the good ones" if planes else "copy it again from the instrument"
        source.skip(item.name, reason, SourceIncomplete(reason, where=item.name, fix=fix))
        if not planes:
            return ()
        notes = (*notes, f"{reason}; the first {planes} of {shape[0]} along the first axis were kept")
        scan = [RawAxis(scan[0].name, planes, scan[0].scale, scan[0].offset, scan[0].unit, True), *scan[1:]]
        shape = (planes, *shape[1:])
    elif series.valid < series.total:
        notes = (*notes, f"the acquisition stopped after {series.valid} of {series.total} elements")
    located = tuple(int(at) + series.values_at for at in offsets[: math.prod(shape[: len(scan)])])
    data = FramesArray(
        item.name, shape, series.dtype, len(series.element), lambda i: (item.path, located[i]), len(series.element) == 2
    )
    tree = {"ser_header_parameters": dict(series.tags), **({"ObjectInfo": info} if info else {})}
    facts = terms.collect(terms.TIA, tree)
    if terms.DETECTOR not in facts:
        terms.add(facts, terms.DETECTOR, terms.at(info, ("DetectorPath",)))
    return [
        Signal(
            "",
            data,
            (*scan, *_inner_axes(series, image_unit(series) if len(series.element) == 2 else "eV")),
            Format.SER,
            tree,
            facts,
            (outside(item.path, f"{item.path.name}.header", [(at, nbytes) for at in located]), *raw),
            (item.path, *files),
            _modality(series, info),
            notes=notes,
        )
    ]


def _header(item: SourceItem) -> _Series:
    with item.path.open("rb") as file:
        version, kind, tag_kind, total, valid = struct.unpack("<HIIII", file.read(22)[4:])
        wide = version > _LAST_32_BIT
        array_at, count = struct.unpack("<QI" if wide else "<II", file.read(12 if wide else 8))
        if count > 16 or max(total, valid) > item.size:
            raise SourceUnreadable(f"declares {count} dimensions and {total} elements in {item.size} bytes", where=item.name)
        dimensions = tuple(_dimension(file, item.size) for _ in range(count))
        if valid == 0:
            raise SourceIncomplete(
                "holds no element: the acquisition was stopped, or the data are in the EMI alone", where=item.name
            )
        file.seek(min(array_at, item.size))
        word = "<u8" if wide else "<u4"
        everything = np.frombuffer(file.read(2 * total * (8 if wide else 4)), word).astype(np.int64)
        offsets, tag_offsets = everything[: min(valid, total)], everything[total : 2 * total]
        if len(offsets) < min(valid, total):
            raise SourceIncomplete("ends before its table of elements, so none of it is good", where=item.name)
        file.seek(int(offsets[0]) if 0 <= offsets[0] < item.size else item.size)
        calibration, element, dtype, values_at = _element(file.read(50), kind, item.name)
        tags, x_first = _tags(file, tag_kind, tag_offsets[: len(offsets)], item.size)
    parameters = {
        "SeriesVersion": version,
        "DataTypeID": kind,
        "TagTypeID": tag_kind,
        "TotalNumberElements": total,
        "ValidNumberElements": valid,
        "Dimensions": [vars(dimension) for dimension in dimensions],
        "Calibration": list(calibration),
        **tags,
    }
    return _Series(kind, total, valid, dimensions, offsets, x_first, calibration, element, dtype, values_at, parameters)


def _dimension(file: Any, size: int) -> _Dimension:
    count, offset, delta, element, length = struct.unpack("<IddII", file.read(28))
    description = file.read(min(length, size)).decode("utf-8", "replace")
    (length,) = struct.unpack("<I", file.read(4))
    return _Dimension(count, offset, delta, element, description, file.read(min(length, size)).decode("utf-8", "replace"))


def _element(head: bytes, kind: int, where: str) -> tuple[tuple[float, ...], tuple[int, ...], np.dtype[Any], int]:
    if kind == _SPECTRUM:
        *calibration, code, length = struct.unpack("<ddIHI", head[:26])
        element: tuple[int, ...] = (length,)
        values_at = 26
    elif kind == _IMAGE:
        *calibration, code, width, height = struct.unpack("<ddIddIHII", head[:50])
        element = (height, width)
        values_at = 50
    else:
        raise SourceUnreadable(f"holds elements of unknown kind {kind:#06x}", where=where)
    if not 1 <= code <= len(_DTYPES):
        raise SourceUnreadable(f"holds values of unknown type {code}", where=where)
    return tuple(calibration), element, np.dtype(_DTYPES[code - 1]), values_at


def _tags(file: Any, kind: int, offsets: npt.NDArray[np.int64], size: int) -> tuple[dict[str, Any], bool]:
    """Return times and positions of the elements, and whether the scan runs along x first."""
    with_position = kind & 0xFFFF == _TAG_WITH_POSITION
    times, positions = [], []
    for at in offsets[:4096].tolist():
        if not 0 <= at <= size - (24 if with_position else 8):
            break
        file.seek(at)
        record = file.read(24 if with_position else 8)
        times.append(struct.unpack("<I", record[4:8])[0])
        if with_position:
            positions.append(struct.unpack("<dd", record[8:24]))
    tags: dict[str, Any] = {"Time": times}
    if with_position:
        tags |= {"PositionX": [p[0] for p in positions], "PositionY": [p[1] for p in positions]}
    return tags, len(positions) > 1 and positions[0][1] == positions[1][1]


def _scan(item: SourceItem, series: _Series) -> list[RawAxis]:
    """Return the navigation axes, slowest first. Dimensions of one sample are dropped from images, as readers do."""
    dimensions = list(series.dimensions)
    if series.x_first:
        dimensions.reverse()
    if len(dimensions) == 1 and series.total != series.valid:
        # A series that was stopped declares its plan; the elements that are there are the series.
        if series.valid == 1:
            return []
        dimensions = [_Dimension(series.valid, *list(vars(dimensions[0]).values())[1:])]
    letters = ["x", "y"][: len(dimensions)]
    axes = []
    for dimension in dimensions:
        if series.kind == _IMAGE and dimension.size == 1:
            continue
        metres = dimension.unit == "meters"
        step = 1e9 if metres else 1.0
        name = letters.pop() if metres and letters else None
        unit = "nm" if metres else dimension.unit or None
        axes.append(RawAxis(name, dimension.size, dimension.delta * step, dimension.offset * step, unit, True))
    if not series.dimensions and series.valid > 1:
        axes.append(RawAxis(None, series.valid, navigate=True))
    if math.prod(axis.size for axis in axes) < 1:
        raise SourceUnreadable("declares an empty series", where=item.name)
    return axes


def _inner_axes(series: _Series, unit: str) -> tuple[RawAxis, ...]:
    step, spelled = {"meters": (1e9, "nm"), "1/meters": (1e-9, "1/nm")}.get(unit, (1.0, unit))
    offset, delta, element = series.calibration[:3]
    if len(series.element) == 1:
        return (RawAxis("Energy", series.element[0], delta, offset, spelled, False),)
    offset_y, delta_y, element_y = series.calibration[3:]
    height, width = series.element
    return (
        RawAxis("y", height, delta_y * step, (offset_y - element_y * delta_y) * step, spelled, False),
        RawAxis("x", width, delta * step, (offset - element * delta) * step, spelled, False),
    )


def _image_unit(info: Mapping[str, Any] | None) -> Any:
    """Return the rule for the unit of images, which the SER does not state: diffraction patterns are calibrated in 1/m."""
    mode = str(terms.at(info, ("ExperimentalDescription", "Mode")) or "")
    acquisition = info.get("AcquireInfo") if info else None

    def unit(series: _Series) -> str:
        if acquisition is None or not series.dimensions:
            return "meters"
        first = series.dimensions[0]
        # A camera in STEM mode, or an image at every point of a scan, records diffraction patterns.
        camera = isinstance(acquisition, Mapping) and "CameraNamePath" in acquisition
        if "STEM" in mode:
            return "1/meters" if camera or (first.size > 1 and first.unit) else "meters"
        return "1/meters" if "Diffraction" in mode else "meters"

    return unit


def _modality(series: _Series, info: Mapping[str, Any]) -> str | None:
    if series.kind == _SPECTRUM:
        return "eds" if "EDX" in str(info.get("AcquireInfo", "")) or series.calibration[1] >= 1 else "eels"
    mode = str(terms.at(info, ("ExperimentalDescription", "Mode")) or "")
    return ("stem" if "STEM" in mode else "tem") if mode else None


def _object_infos(item: SourceItem) -> list[bytes]:
    blocks: list[bytes] = []
    try:
        with item.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            start = text.find(b"<ObjectInfo>")
            while start >= 0:
                end = text.find(b"</ObjectInfo>", start)
                if end < 0:
                    raise SourceIncomplete(
                        "ends inside its description, so none of it is good",
                        where=item.name,
                        fix="copy it again from the instrument",
                    )
                end += len(b"</ObjectInfo>")
                blocks.append(text[start:end])
                if sum(map(len, blocks)) > MAX_XML:
                    raise Capacity(f"holds more than {MAX_XML} bytes of description", where=item.name)
                start = text.find(b"<ObjectInfo>", end)
    except (SourceUnreadable, Capacity):
        raise
    except (OSError, ValueError) as error:
        raise SourceUnreadable(f"cannot be read: {error}", where=item.name) from error
    return blocks


def _xml(item: SourceItem, block: bytes) -> dict[str, Any]:
    try:
        root = ElementTree.fromstring(block)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise SourceUnreadable(f"its description is damaged: {error}", where=item.name) from error
    return {child.tag: _node(child) for child in root}


def _node(node: ElementTree.Element) -> Any:
    if node.tag == "ExperimentalDescription":
        return _experiment(node)
    if len(node) == 0:
        return (node.text or "").strip()
    return {child.tag: _node(child) for child in node}


def _experiment(node: ElementTree.Element) -> dict[str, Any]:
    """Return the microscope's settings as ``label_unit: value``, numbers where a unit says they are."""
    found: dict[str, Any] = {}
    for data in node.iterfind("Root/Data"):
        label, value, unit = (data.findtext(tag) or "" for tag in ("Label", "Value", "Unit"))
        number = re.fullmatch(r"\s*[-+]?\d+(\.\d*)?([eE][-+]?\d+)?\s*", value)
        found[f"{label}_{unit}" if unit else label] = float(value) if unit and number else value.strip()
    return found
