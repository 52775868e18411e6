"""What the properties of a Nion Swift data item mean: axes, values, and the instrument's settings.

The array's axes are an optional sequence axis, then ``collection_dimension_count`` scan axes, then ``datum_dimension_count``
axes of each datum; calibrations are ``position = offset + scale * index`` per axis.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from emstore.geometry import Axis, AxisKind, Grid
from emstore.geometry import units as unit_names
from emstore.header import Header, RawHeader, json_safe, quantity
from emstore.source import SourceItem
from emstore.volume import LazyArray, ValueScale, Volume
from emstore_adapters.calibrated import calibrated, unique, unit_of


def item_volume(
    item: SourceItem, label: str, data: LazyArray, properties: dict[str, Any], raw: RawHeader | None, notes: tuple[str, ...]
) -> Volume:
    """Return a data item as a Volume.

    Parameters
    ----------
    item : SourceItem
        The file.
    label : str
        Name of the volume.
    data : LazyArray
        The values, axes as stored; trailing colours become a ``c`` axis in front of y, x.
    properties : dict
        The item's JSON properties, empty where they are lost.
    raw : RawHeader or None
        The same, byte for byte.
    notes : tuple of str
        Notes on how it was read.
    """
    described = _description(properties)
    axes, colour = _axes(data.shape, data.dtype, described)
    if colour:
        from emstore_adapters.hdf5.file import PermutedArray

        front = len(data.shape) - 3
        order = (*range(front), front + 2, front, front + 1)
        data, axes = PermutedArray(data, order), tuple(axes[i] for i in order)
    return Volume(
        name=label,
        data=data,
        grid=Grid(axes),
        header=Header("Nion Swift", json_safe(properties), _terms(described), () if raw is None else (raw,)),
        modality="stem" if described.get("collection_dimension_count") or _scanned(described) else None,
        scale=_value_scale(described.get("intensity_calibration")),
        files=(item.path,),
        attributes={key: described[key] for key in ("title", "created", "uuid") if isinstance(described.get(key), str)},
        notes=notes,
    )


def _description(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the properties with those of older libraries (version 11 and before: nested in a data source) at the top."""
    nested = properties.get("data_source")
    if nested is None and isinstance(properties.get("data_sources"), list) and properties["data_sources"]:
        nested = properties["data_sources"][0]
    return {**properties, **nested} if isinstance(nested, dict) else properties


def _axes(shape: tuple[int, ...], dtype: np.dtype[Any], described: dict[str, Any]) -> tuple[tuple[Axis, ...], bool]:
    """Return one axis per array dimension in array order, and whether the last one is colours."""
    steps = described.get("dimensional_calibrations") or described.get("spatial_calibrations") or []
    steps = [step if isinstance(step, dict) else {} for step in steps] if isinstance(steps, list) else []
    colour = len(shape) >= 3 and shape[-1] in (3, 4) and dtype == np.uint8 and _dimensions(described) in (None, len(shape) - 1)
    ndim = len(shape) - colour
    units = [unit_of(_word(step.get("units"))) for step in steps[:ndim]] + [None] * (ndim - len(steps))
    sequence = bool(described.get("is_sequence"))
    scan = _count(described.get("collection_dimension_count"))
    datum = _count(described.get("datum_dimension_count"))
    names: list[str | None] = [None] * ndim
    if datum is not None and scan is not None and int(sequence) + scan + datum == ndim:
        names = [*(["t"] if sequence else []), *_scan_names(scan), *_datum_names(datum, scan, units[ndim - datum :])]
    axes = []
    for i, (name, size) in enumerate(zip(unique(names), shape, strict=False)):
        step = steps[i] if i < len(steps) else {}
        axes.append(
            calibrated(
                name, size, scale=_number(step.get("scale")), unit=_word(step.get("units")), origin=_number(step.get("offset"))
            )
        )
    if colour:
        labels = ("blue", "green", "red", "alpha")[: shape[-1]]  # Swift keeps colours in this order
        axes.append(Axis("c", shape[-1], AxisKind.CHANNEL, labels=labels))
    return tuple(axes), colour


def _scan_names(count: int) -> list[str | None]:
    return {0: [], 1: ["x"], 2: ["y", "x"]}.get(count, [None] * count)  # type: ignore[return-value]


def _datum_names(count: int, scan: int, units: Sequence[str | None]) -> list[str | None]:
    """Name the axes of one datum by their units: a spectrum, an image, or a diffraction pattern."""
    kinds = [None if unit is None else unit_names.dimension(unit) for unit in units]
    if count == 1:
        return ["energy" if kinds[0] == "energy" or scan else ("x" if kinds[0] == "length" else None)]
    if count == 2:
        if kinds[1] == "energy":
            return ["ky" if kinds[0] in ("angle", "1/length") else "y", "energy"]
        pattern = kinds[1] in ("angle", "1/length") or (scan == 2 and kinds[1] != "length")
        return ["ky", "kx"] if pattern or scan == 2 else ["y", "x"]
    return [None] * count


def _value_scale(step: Any) -> ValueScale | None:
    if not isinstance(step, dict):
        return None
    slope, offset, unit = _number(step.get("scale")), _number(step.get("offset")), _word(step.get("units"))
    slope, offset = 1.0 if slope is None else slope, offset or 0.0
    return None if slope == 0 or (slope == 1 and offset == 0 and not unit) else ValueScale(slope, offset, unit or None)


_TERMS: Final = (
    # (where in `metadata`, NXem term, unit)
    (("instrument", "high_tension"), "instrument/ebeam_column/electron_source/voltage", "volt"),
    (("hardware_source", "autostem", "high_tension"), "instrument/ebeam_column/electron_source/voltage", "volt"),
    (("hardware_source", "autostem", "high_tension_v"), "instrument/ebeam_column/electron_source/voltage", "volt"),
    (("instrument", "EHT"), "instrument/ebeam_column/electron_source/voltage", "volt"),
    (("hardware_source", "autostem", "EHT"), "instrument/ebeam_column/electron_source/voltage", "volt"),
    (("instrument", "defocus"), "instrument/optics/defocus", "meter"),
    (("instrument", "ImageScanned", "C10"), "instrument/optics/defocus", "meter"),
    (("hardware_source", "autostem", "ImageScanned:C10"), "instrument/optics/defocus", "meter"),
    (("instrument", "ImageScanned", "EHT"), "instrument/ebeam_column/electron_source/voltage", "volt"),
    (("instrument", "ImageScanned", "StageOutX"), "instrument/stage/position/x", "meter"),
    (("instrument", "ImageScanned", "StageOutY"), "instrument/stage/position/y", "meter"),
    (("instrument", "ImageScanned", "StageOutZ"), "instrument/stage/position/z", "meter"),
    (("instrument", "ImageScanned", "StageOutA"), "instrument/stage/tilt1", "radian"),
    (("instrument", "ImageScanned", "StageOutB"), "instrument/stage/tilt2", "radian"),
    (("hardware_source", "autostem", "ImageScanned:StageOutX"), "instrument/stage/position/x", "meter"),
    (("hardware_source", "autostem", "ImageScanned:StageOutY"), "instrument/stage/position/y", "meter"),
    (("hardware_source", "autostem", "ImageScanned:StageOutZ"), "instrument/stage/position/z", "meter"),
    (("hardware_source", "autostem", "ImageScanned:StageOutA"), "instrument/stage/tilt1", "radian"),
    (("hardware_source", "autostem", "ImageScanned:StageOutB"), "instrument/stage/tilt2", "radian"),
    (("hardware_source", "pixel_time_us"), "instrument/scan_controller/dwell_time", "microsecond"),
    (("scan", "pixel_time_us"), "instrument/scan_controller/dwell_time", "microsecond"),
    (("hardware_source", "exposure"), "instrument/detector/exposure_time", "second"),
)


def _terms(described: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keys, term, unit in _TERMS:
        at: Any = described.get("metadata")
        for key in keys:
            at = at.get(key) if isinstance(at, dict) else None
        value = _number(at)
        if value is not None and term not in found:
            found[term] = quantity(value, unit)
    return found


def _scanned(described: dict[str, Any]) -> bool:
    metadata = described.get("metadata")
    return isinstance(metadata, dict) and isinstance(metadata.get("scan"), dict)


def _dimensions(described: dict[str, Any]) -> int | None:
    scan = _count(described.get("collection_dimension_count"))
    datum = _count(described.get("datum_dimension_count"))
    return None if scan is None or datum is None else int(bool(described.get("is_sequence"))) + scan + datum


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 8 else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value) else None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None
