"""Which axes of which volumes are filtered."""

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from emstore.errors import InvalidInput
from emstore.geometry import AxisKind
from emstore.processor import Params
from emstore.volume import Volume, VolumeKind

Axes = Literal["volume", "slice"] | tuple[str, ...]


class AxesParams(Params):
    """Parameter of every method that filters along axes."""

    axes: Axes = Field(
        "volume",
        description="axes to filter along: volume (all axes of space), slice (the last two of them, every slice on its own), "
        "or a list of names",
    )


def filtered(volume: Volume, axes: Axes) -> tuple[int, ...]:
    """Return the array axes to filter along, in array order.

    Parameters
    ----------
    volume : Volume
    axes : "volume", "slice", or tuple of str
        As `AxesParams.axes`.

    Raises
    ------
    InvalidInput
        Unknown or repeated names, or no axes of space (for "slice": fewer than two).
    """
    dims = volume.grid.dims
    if not isinstance(axes, str):
        for name in axes:
            volume.grid.axis(name)
        if not axes or len(set(axes)) != len(axes):
            raise InvalidInput(f"axes are {list(axes)}; name every axis to filter along once", where=volume.name)
        return tuple(sorted(dims.index(name) for name in axes))
    space = tuple(i for i, axis in enumerate(volume.grid.axes) if axis.kind is AxisKind.SPACE)
    if not space or (axes == "slice" and len(space) < 2):
        raise InvalidInput(
            f"{axes!r} needs {'two axes' if axes == 'slice' else 'an axis'} of space; the axes are {', '.join(dims)}",
            where=volume.name,
            fix=f"name the axes to filter along, e.g. axes={json.dumps(dims[-2:])}",
        )
    return space if axes == "volume" else space[-2:]


def per_axis(value: float | int | Sequence[Any], count: int, what: str) -> tuple[Any, ...]:
    """Return one value per filtered axis: the same for all, or those given.

    Raises
    ------
    InvalidInput
        Another number of values than axes.
    """
    if not isinstance(value, Sequence):
        return (value,) * count
    if len(value) != count:
        raise InvalidInput(f"{what} has {len(value)} values for {count} filtered axes", fix=f"give one {what}, or {count}")
    return tuple(value)


def over_all(volume: Volume, filtered_axes: Sequence[int], values: Sequence[int]) -> tuple[int, ...]:
    """Return `values` of the filtered axes and 0 for all others: a halo."""
    by_axis = dict(zip(filtered_axes, values, strict=True))
    return tuple(by_axis.get(i, 0) for i in range(len(volume.shape)))


def only(volumes: Sequence[Volume], *, masks: bool = False) -> Volume:
    """Return the one volume a method filters, if that makes sense.

    Raises
    ------
    InvalidInput
        Not one volume; complex values; labels or a table; booleans, unless `masks`.
    """
    if len(volumes) != 1:
        raise InvalidInput(f"one image is filtered at a time; got {len(volumes)}")
    (volume,) = volumes
    if masks and volume.dtype.kind == "b":
        return volume
    if volume.kind is not VolumeKind.IMAGE:
        raise InvalidInput(
            f"holds {volume.kind}; numbers that are names cannot be averaged", where=volume.name, fix="filter the image instead"
        )
    if volume.dtype.kind not in "iuf":
        raise InvalidInput(f"holds values of type {volume.dtype}; real numbers can be filtered", where=volume.name)
    return volume
