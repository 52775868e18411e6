"""Plain Zarr arrays and xarray datasets: named dimensions, coordinate arrays and CF attributes where there are any."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from emstore.errors import EmstoreError
from emstore.geometry import Axis
from emstore.geometry import units as unit_names
from emstore.volume import ValueScale
from emstore_adapters.calibrated import axis_name, calibrated, from_coordinates, unique
from emstore_adapters.zarr.array import ZarrArray
from emstore_adapters.zarr.nodes import Node

MAX_COORDINATES: Final = 1 << 24


def dimension_names(node: Node) -> tuple[str | None, ...]:
    """Return the dimension names of an array: ``dimension_names`` (v3), ``_ARRAY_DIMENSIONS`` (xarray on v2)."""
    names = node.metadata.get("dimension_names") if node.format == 3 else None
    if not isinstance(names, list):
        names = node.attributes.get("_ARRAY_DIMENSIONS")
    return tuple(name if isinstance(name, str) else None for name in names) if isinstance(names, list) else ()


def is_coordinate(node: Node, arrays: Mapping[str, Node]) -> bool:
    """Say whether an array is the coordinate of a dimension: one axis, named like itself, used by another array beside it."""
    if dimension_names(node) != (node.name,):
        return False
    above = node.path.rpartition("/")[0]
    return any(
        node.name in dimension_names(other) and other is not node and other.path.rpartition("/")[0] == above
        for other in arrays.values()
    )


def plain_axes(node: Node, shape: tuple[int, ...], arrays: Mapping[str, Node]) -> tuple[tuple[Axis, ...], tuple[Node, ...]]:
    """Return the axes of an array and the coordinate arrays they were read from."""
    names = dimension_names(node)
    if len(names) != len(shape):
        return tuple(calibrated(name, size, scale=None, unit=None) for name, size in _unnamed(shape)), ()
    above = node.path.rpartition("/")[0]
    axes, used = [], []
    for name, label, size in zip(names, unique([axis_name(name) for name in names]), shape, strict=True):
        axis = None
        other = arrays.get(f"{above}/{name}" if above else f"{name}")
        if other is not None and other is not node:
            axis = _from_array(label, size, other)
            if axis is not None:
                used.append(other)
        axes.append(axis or calibrated(label, size, scale=None, unit=None))
    return tuple(axes), tuple(used)


def value_scale(attributes: Mapping[str, Any]) -> ValueScale | None:
    """Return the linear map of the CF conventions (section 8.1) and the values' unit, ``None`` when neither is stated."""
    slope, offset = _number(attributes.get("scale_factor")), _number(attributes.get("add_offset"))
    word = attributes.get("units")
    unit = unit_names.canonical(word) if isinstance(word, str) else None
    if slope is None and offset is None and unit is None:
        return None
    return ValueScale(1.0 if slope is None else slope, 0.0 if offset is None else offset, unit)


def _from_array(label: str, size: int, node: Node) -> Axis | None:
    try:
        array = ZarrArray.of(node)
        if len(array.shape) != 1 or array.shape[0] > MAX_COORDINATES or array.dtype.kind not in "iuf":
            return None
        values = array[(slice(0, array.shape[0]),)]
    except EmstoreError:
        return None  # no coordinate of numbers: dates and words leave the spacing unknown
    packed = value_scale({k: v for k, v in node.attributes.items() if k != "units"})
    unit = node.attributes.get("units")
    if packed is not None:
        values = values * packed.slope + packed.intercept
    return from_coordinates(label, size, values, unit=unit if isinstance(unit, str) else None)


def _unnamed(shape: tuple[int, ...]) -> list[tuple[str, int]]:
    return list(zip(unique([None] * len(shape)), shape, strict=True))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return float(value)
