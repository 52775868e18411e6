"""transform.calibrate: spacing, units, origin or facts about the sample corrected; the values stay."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, JsonValue

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Affine, Axis, AxisKind, Grid, units
from emstore.header import json_safe
from emstore.operation import Operation, Result
from emstore.processor import Params
from emstore.processors.transform.crop import Cut
from emstore.volume import Volume

_WORLD = ("z", "y", "x")


class CalibrateParams(Params):
    """What is wrong, and right. What is left out stays as it is."""

    spacing: Mapping[str, float] = Field(
        default_factory=dict, description='true distance between samples per axis, e.g. {"z": 15, "y": 5, "x": 5}, > 0'
    )
    origin: Mapping[str, float] = Field(default_factory=dict, description="true position of sample 0 per axis")
    unit: str | None = Field(
        None,
        description="unit of spacing and origin; alone: the true unit of all axes of space, their numbers kept. "
        "The axis's own when left out",
    )
    terms: Mapping[str, JsonValue] = Field(
        default_factory=dict,
        description='facts about instrument and sample to set, by NXem path, e.g. {"sample/identifier_sample": "A7"}; '
        "null takes one out",
    )


class Calibrate:
    """Corrects what is said about a volume; a new version with the same values."""

    name: ClassVar[str] = "transform.calibrate"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Correct spacing, units, origin or facts about the sample; the values stay"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = CalibrateParams

    def plan(self, volumes: Sequence[Volume], params: CalibrateParams) -> Operation:
        """Say what is corrected.

        A volume with a place in the world keeps it: the centre of its first voxel and the directions of its axes stay, and its
        spacing is kept in the unit of that world. Unequal steps along an axis whose spacing is given become even ones.

        Raises
        ------
        InvalidInput
            Nothing to correct, an unknown axis, a unit that is not known or does not fit, a spacing that is not above 0, or an
            origin for a volume with a place in the world.
        """
        [volume] = volumes
        if not (params.spacing or params.origin or params.unit or params.terms):
            raise InvalidInput("nothing to correct", where=volume.name, fix="give spacing, origin, unit or terms")
        notes = []
        grid = volume.grid
        if params.unit is not None and not (params.spacing or params.origin):
            grid = _renamed(volume, units.parse(params.unit))
        for name in dict.fromkeys([*params.spacing, *params.origin]):
            axis = grid.axis(name)
            if not axis.uniform and name in params.spacing:
                notes.append(f"the unequal positions along {name} were replaced by even steps of {params.spacing[name]:g}")
            grid = _corrected(volume, grid, axis, params)
        terms = {**volume.header.terms, **{key: json_safe(value) for key, value in params.terms.items()}}
        for key, value in params.terms.items():
            if value is None:
                if key not in volume.header.terms:
                    raise InvalidInput(f"there is no term {key!r} to take out", where=volume.name)
                del terms[key]
        result = Result.like(volume, grid=grid, terms=terms, attributes=dict(volume.attributes), notes=tuple(notes))
        work = Cut((0,) * len(grid.axes), result.dtype)
        return Operation(result, work.apply, needs=work.needs, work_bytes=0)


def _renamed(volume: Volume, unit: str) -> Grid:
    """Return the grid with the unit of every axis of space replaced, their numbers kept."""
    if not units.is_length(unit):
        raise InvalidInput(f"{unit} is not a length", where=volume.name, fix="name axes by spacing or origin", kind=Kind.BAD_UNIT)
    if not any(axis.known for axis in volume.grid.space_axes):
        raise InvalidInput(
            "no spacing is known that a unit could belong to", where=volume.name, fix="give spacing too", kind=Kind.BAD_SPACING
        )
    axes = tuple(replace(a, unit=unit) if a.kind is AxisKind.SPACE and a.known else a for a in volume.grid.axes)
    affine = volume.grid.affine
    return Grid(axes, None if affine is None else replace(affine, unit=unit))


def _corrected(volume: Volume, grid: Grid, axis: Axis, params: CalibrateParams) -> Grid:
    name = axis.name
    if axis.kind is AxisKind.CHANNEL:
        raise InvalidInput(f"axis {name!r} counts channels: it has no spacing", where=volume.name)
    placed = grid.affine is not None and name in _WORLD
    unit, scale = _unit(volume, grid, axis, params, placed)
    if placed and name in params.origin:
        raise InvalidInput(
            f"this volume has its own position in space: an origin along {name!r} would contradict it",
            where=volume.name,
            fix="leave origin out",
        )
    spacing = params.spacing.get(name)
    if spacing is not None and spacing <= 0:
        raise InvalidInput(f"a spacing of {spacing:g} along {name!r} is not above 0", where=volume.name, kind=Kind.BAD_SPACING)
    moved = params.origin.get(name)
    if spacing is None:
        assert moved is not None
        if not axis.known:
            raise InvalidInput(
                f"the spacing along {name!r} is not known", where=volume.name, fix="give it too", kind=Kind.BAD_SPACING
            )
        if params.unit is not None and axis.unit is None:
            raise InvalidInput(
                f"axis {name!r} has no unit yet", where=volume.name, fix="give its spacing too", kind=Kind.BAD_UNIT
            )
        if axis.positions is None:
            new = replace(axis, origin=moved * scale)
        else:
            shift = moved * scale - axis.positions[0]
            new = replace(axis, positions=tuple(p + shift for p in axis.positions))
    else:
        origin = moved * scale if moved is not None else _start(axis, unit)
        new = replace(axis, spacing=spacing * scale, positions=None, origin=origin, unit=unit)
    axes = tuple(new if a.name == name else a for a in grid.axes)
    affine = grid.affine
    if placed and affine is not None and spacing is not None:
        affine = replace(_stretched(volume, affine, name, spacing * scale), unit=unit)
    return Grid(axes, affine)


def _unit(volume: Volume, grid: Grid, axis: Axis, params: CalibrateParams, placed: bool) -> tuple[str | None, float]:
    """Return the unit the axis will have, and the factor to it from the unit of what was given."""
    own = grid.affine.unit if placed and grid.affine is not None else axis.unit if axis.known else None
    if params.unit is None:
        if own is None and axis.kind in (AxisKind.SPACE, AxisKind.TIME):
            raise InvalidInput(f"axis {axis.name!r} has no unit yet", where=volume.name, fix="give unit too", kind=Kind.BAD_UNIT)
        return own, 1.0
    name = units.parse(params.unit)
    if axis.kind is AxisKind.SPACE and not units.is_length(name):
        raise InvalidInput(f"{name} is not a length, as axis {axis.name!r} needs", where=volume.name, kind=Kind.BAD_UNIT)
    if own is not None and (placed or axis.name not in params.spacing):
        return own, units.factor(name, own)
    return name, 1.0


def _start(axis: Axis, unit: str | None) -> float:
    """Return where the first sample stays, in the axis's new unit."""
    if not axis.known:
        return 0.0
    start = float(axis.coordinates()[0])
    if axis.unit is None or unit is None or axis.unit == unit:
        return start
    return units.convert(start, axis.unit, unit)


def _stretched(volume: Volume, affine: Affine, name: str, step: float) -> Affine:
    at = _WORLD.index(name)
    size = affine.voxel_sizes()[at]
    if size == 0:
        raise InvalidInput(f"axis {name!r} has no direction in the world", where=volume.name, kind=Kind.BAD_SPACING)
    factors = [1.0, 1.0, 1.0]
    factors[at] = step / size
    return affine.scaled((factors[0], factors[1], factors[2]), (0.0, 0.0, 0.0))
