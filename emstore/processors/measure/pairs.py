"""Two volumes compared voxel by voxel: they must be on one grid, in one scale, and their data range must be said."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.geometry import Axis, Grid, units
from emstore.processors.measure.slices import real
from emstore.volume import Volume

ROLES = ("image", "reference")

_STEPS = 1e-3
"""Positions that differ by less than this part of a step are the same: formats keep spacings as decimals or single floats."""

DataRange = Annotated[float, Field(gt=0)] | Literal["dtype"]
FoundRange = Annotated[float, Field(gt=0)] | Literal["dtype", "measured"]
RANGE_HELP = "Difference between the largest and smallest possible value: a number, or 'dtype' for that of an integer type"


def same_grid(volumes: Sequence[Volume]) -> tuple[Volume, Volume]:
    """Return image and reference once it is certain that their voxels are the same places.

    Raises
    ------
    InvalidInput
        Naming the first thing in which their grids differ; what only one of them states is a difference too.
    """
    image, reference = volumes
    if (what := _difference(image.grid, reference.grid)) is not None:
        raise InvalidInput(
            f"image and reference are not on the same grid: {what}",
            where=f"{image.name}, {reference.name}",
            fix="bring one to the other's grid with transform.resample, transform.crop or transform.calibrate",
        )
    return image, reference


def same_values(volumes: Sequence[Volume]) -> tuple[Volume, Volume]:
    """Return image and reference once it is certain that their stored values mean the same.

    Raises
    ------
    InvalidInput
        Other grids, complex values, or other maps from stored to physical values.
    """
    image, reference = same_grid(volumes)
    for one in (image, reference):
        real(one)
    maps = [(1.0, 0.0) if one.scale is None else (one.scale.slope, one.scale.intercept) for one in (image, reference)]
    if maps[0] != maps[1]:
        told = " and ".join(f"{slope:g} x stored {intercept:+g}" for slope, intercept in maps)
        raise InvalidInput(
            f"image and reference store their values in different scales: {told}",
            where=f"{image.name}, {reference.name}",
            fix="bring both to one scale with transform.rescale",
        )
    return image, reference


def type_range(image: Volume, reference: Volume) -> float:
    """Return the range of the integer type that both volumes have.

    Raises
    ------
    InvalidInput
        Their types differ, or are no integers: such a type says nothing about the range of its values.
    """
    types = {one.dtype.newbyteorder("=") for one in (image, reference)}
    [first, *others] = types
    if others or first.kind not in "biu":
        names = " and ".join(sorted(one.name for one in types))
        raise InvalidInput(f"values of type {names} have no range of their own", fix="give data_range as a number")
    return 1.0 if first.kind == "b" else float(int(np.iinfo(first).max) - int(np.iinfo(first).min))


def _difference(a: Grid, b: Grid) -> str | None:
    if a.dims != b.dims or a.shape != b.shape:
        return f"{_shape(a)} and {_shape(b)}"
    for one, other in zip(a.axes, b.axes, strict=True):
        if (what := _axis_difference(one, other)) is not None:
            return what
    if (a.affine is None) != (b.affine is None):
        return "only one of them says where it lies in space"
    if a.affine is None or b.affine is None:
        return None
    if a.affine.space != b.affine.space or a.affine.unit != b.affine.unit:
        return f"they lie in {a.affine.space} ({a.affine.unit}) and {b.affine.space} ({b.affine.unit})"
    corners = np.array(np.meshgrid(*((0, n - 1) for n in a.shape[-3:]))).reshape(3, -1).T
    apart = np.abs(a.affine.world(corners) - b.affine.world(corners)).max()
    if apart > _STEPS * min(a.affine.voxel_sizes()):
        return f"their corners lie up to {apart:g} {a.affine.unit or ''} apart in space".replace("  ", " ")
    return None


def _axis_difference(a: Axis, b: Axis) -> str | None:
    if a.known != b.known:
        return f"only one of them knows its spacing along {a.name}"
    if not a.known:
        return None
    if a.unit != b.unit and (None in (a.unit, b.unit) or units.dimension(str(a.unit)) != units.dimension(str(b.unit))):
        return f"along {a.name} they are in {a.unit} and {b.unit}"
    factor = 1.0 if a.unit == b.unit else units.convert(1.0, str(b.unit), str(a.unit))
    apart = float(np.abs(a.coordinates() - b.coordinates() * factor).max())
    if apart > _STEPS * (a.median_step() or 1.0):
        return f"along {a.name} their voxels lie up to {apart:g} {a.unit or 'steps'} apart"
    return None


def _shape(grid: Grid) -> str:
    return " ".join(f"{name}:{size}" for name, size in zip(grid.dims, grid.shape, strict=True))
