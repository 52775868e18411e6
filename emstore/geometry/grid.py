"""Where every voxel of an array is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emstore.errors import InvalidInput, Kind
from emstore.geometry import units
from emstore.geometry.axes import Axis, AxisKind
from emstore.geometry.orientation import Affine, Space


@dataclass(frozen=True)
class Grid:
    """The axes of an array in order, and, for medical and oblique data, its place in the world.

    The axes alone give distances along the array. The affine, when there is one, is the whole truth about the last
    three axes ``z, y, x``. Along an irregular ``z`` the affine's z column holds the median step, and slice ``k`` sits at
    the fractional index ``(positions[k] - positions[0]) / median step``.
    """

    axes: tuple[Axis, ...]
    """One per array dimension, in array order."""
    affine: Affine | None = None
    """Index-to-world transform of ``z, y, x``; ``None`` when only distances are known."""

    def __post_init__(self) -> None:
        names = [axis.name for axis in self.axes]
        if not names:
            raise InvalidInput("a grid needs at least one axis")
        if len(set(names)) != len(names):
            raise InvalidInput(f"axis names must be unique, got {names}")
        if self.affine is not None and names[-3:] != ["z", "y", "x"]:
            raise InvalidInput(f"an affine needs the last three axes to be z, y, x; got {names}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def dims(self) -> tuple[str, ...]:
        """Name of every axis."""
        return tuple(axis.name for axis in self.axes)

    def axis(self, name: str) -> Axis:
        """Return the axis called `name`."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        raise InvalidInput(f"there is no axis {name!r}; the axes are {', '.join(self.dims)}")

    @property
    def space_axes(self) -> tuple[Axis, ...]:
        """The axes that run over space."""
        return tuple(axis for axis in self.axes if axis.kind is AxisKind.SPACE)

    def with_spacing(self, spacing: Mapping[str, float], unit: str) -> "Grid":
        """Return the grid with the spacing of some spatial axes set by hand, e.g. ``{"z": 10, "y": 5, "x": 5}``.

        Parameters
        ----------
        spacing : mapping of str to float
            New distance between samples per axis name, in `unit`, > 0.
        unit : str
            Any known spelling of a length.

        Raises
        ------
        InvalidInput
            Unknown axis, unit that is not a length, or a grid whose affine it would contradict.
        """
        name = units.parse(unit)
        if not units.is_length(name):
            raise InvalidInput(f"{unit!r} is not a length", kind=Kind.BAD_UNIT)
        if self.affine is not None:
            raise InvalidInput(
                "this source states its own position in space; a spacing by hand would contradict it",
                fix="leave --spacing out",
                kind=Kind.BAD_SPACING,
            )
        for key in spacing:
            self.axis(key)
        return replace(
            self,
            axes=tuple(
                replace(axis, spacing=float(spacing[axis.name]), unit=name, positions=None, origin=0.0)
                if axis.name in spacing
                else axis
                for axis in self.axes
            ),
        )

    def coarsened(self, factors: tuple[int, ...]) -> "Grid":
        """Return the grid after block-wise reduction by `factors` (one per axis), centres shifted by half a block.

        Sizes are rounded up: the last, partial block keeps its nominal centre.
        """
        axes = tuple(_coarsen(axis, factor) for axis, factor in zip(self.axes, factors, strict=True))
        affine = self.affine
        if affine is not None:
            z, y, x = factors[-3:]
            affine = affine.scaled((z, y, x), ((z - 1) / 2, (y - 1) / 2, (x - 1) / 2))
        return Grid(axes, affine)

    def cropped(self, region: Sequence[slice]) -> "Grid":
        """Return the grid of a part of the array: every voxel stays where it is.

        Parameters
        ----------
        region : sequence of slice
            One per axis, step 1, not empty, inside the array.

        Raises
        ------
        InvalidInput
            A slice is empty or reaches beyond the array.
        """
        grid = self
        for axis, part in zip(self.axes, region, strict=True):
            if not 0 <= part.start < part.stop <= axis.size:
                raise InvalidInput(
                    f"axis {axis.name!r} has {axis.size} samples; none can be cut from {part.start} to {part.stop}"
                )
            grid = grid._cropped(axis, part)
        return grid

    def resampled(self, name: str, size: int, *, first: float, step: float) -> "Grid":
        """Return the grid with one axis sampled elsewhere: sample ``j`` sits at index ``first + step * j`` of the axis.

        An axis whose spacing is unknown stays so: only the affine, if there is one, tells of the change.

        Parameters
        ----------
        name : str
            The axis; its samples must be equally spaced.
        size : int
            New number of samples.
        first, step : float
            In samples of the axis as it is, `step` > 0.

        Raises
        ------
        InvalidInput
            No such axis, or kind ``bad_spacing``: its samples are not equally spaced.
        """
        axis = self.axis(name)
        if not axis.uniform:
            raise InvalidInput(
                f"axis {name!r} has unequal steps",
                fix="put it onto an even grid with transform.regularise",
                kind=Kind.BAD_SPACING,
            )
        if axis.spacing is None:
            new = replace(axis, size=size, labels=None)
        else:
            new = replace(axis, size=size, spacing=axis.spacing * step, origin=axis.origin + axis.spacing * first, labels=None)
        return self._replaced(new, first, step)

    def with_axis(self, axis: Axis) -> "Grid":
        """Return the grid with the axis of the same name sampled at other known positions, in the same unit.

        The affine follows: its column holds the new (median) step, its origin is the new sample 0.

        Raises
        ------
        InvalidInput
            No such axis, another unit, or kind ``bad_spacing``: positions are not known.
        """
        old = self.axis(axis.name)
        if not (old.known and axis.known):
            raise InvalidInput(f"the positions along axis {axis.name!r} are not known", kind=Kind.BAD_SPACING)
        if old.unit != axis.unit:
            raise InvalidInput(f"axis {axis.name!r} is in {old.unit}, not in {axis.unit}", kind=Kind.BAD_UNIT)
        return self._moved(old, axis)

    def _cropped(self, axis: Axis, part: slice) -> "Grid":
        size = part.stop - part.start
        labels = None if axis.labels is None else axis.labels[part]
        if axis.positions is not None:
            return self._moved(axis, replace(axis, size=size, positions=axis.positions[part], labels=labels))
        # Where spacing is unknown, positions are plain indices and keep counting from the array's old start.
        shift = part.start * (1.0 if axis.spacing is None else axis.spacing)
        return self._replaced(replace(axis, size=size, origin=axis.origin + shift, labels=labels), part.start, 1)

    def _moved(self, old: Axis, new: Axis) -> "Grid":
        one, two = old.median_step(), new.median_step()
        first = float(new.coordinates()[0] - old.coordinates()[0]) / (one or 1.0)
        return self._replaced(new, first, 1.0 if one is None or two is None else two / one)

    def _replaced(self, new: Axis, first: float, step: float) -> "Grid":
        axes = tuple(new if axis.name == new.name else axis for axis in self.axes)
        affine = self.affine
        if affine is not None and new.name in ("z", "y", "x"):
            at = ("z", "y", "x").index(new.name)
            factors, shift = [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]
            factors[at], shift[at] = step, first
            affine = affine.scaled((factors[0], factors[1], factors[2]), (shift[0], shift[1], shift[2]))
        return Grid(axes, affine)

    def to_json(self) -> dict[str, Any]:
        """Return the grid as the ``emstore.voxel`` record (see ``schemas/``)."""
        return {
            "axes": [
                {
                    "name": axis.name,
                    "kind": str(axis.kind),
                    "size": axis.size,
                    "spacing": axis.spacing,
                    "unit": axis.unit,
                    "origin": axis.origin,
                    **({} if axis.labels is None else {"labels": list(axis.labels)}),
                }
                for axis in self.axes
            ],
            "spacing": None if not any(a.known for a in self.axes) else {a.name: a.median_step() for a in self.axes},
            "uniform": {axis.name: axis.uniform for axis in self.axes},
            "max_deviation": {axis.name: _deviation(axis) for axis in self.axes if not axis.uniform},
            "positions": {axis.name: list(axis.positions) for axis in self.axes if axis.positions is not None},
            "affine": None
            if self.affine is None
            else {
                "matrix": [list(row) for row in self.affine.matrix],
                "space": str(self.affine.space),
                "unit": self.affine.unit,
            },
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Grid":
        """Rebuild the grid that `to_json` wrote."""
        positions = record.get("positions", {})
        axes = tuple(
            Axis(
                item["name"],
                item["size"],
                AxisKind(item["kind"]),
                spacing=item["spacing"],
                unit=item["unit"],
                origin=item["origin"],
                positions=tuple(positions[item["name"]]) if item["name"] in positions else None,
                labels=tuple(item["labels"]) if item.get("labels") is not None else None,
            )
            for item in record["axes"]
        )
        affine = record.get("affine")
        return cls(axes, None if affine is None else Affine.of(affine["matrix"], Space(affine["space"]), affine["unit"]))


def _coarsen(axis: Axis, factor: int) -> Axis:
    if factor == 1:
        return axis
    size = -(-axis.size // factor)
    if axis.positions is None:
        step = None if axis.spacing is None else axis.spacing * factor
        shift = (axis.spacing or 1.0) * (factor - 1) / 2
        if axis.spacing is None:
            # Positions are plain indices: level n keeps counting level-0 indices, so its own step must be stated.
            return replace(
                axis, size=size, positions=tuple((axis.origin + shift + factor * np.arange(size)).tolist()), labels=None
            )
        return replace(axis, size=size, spacing=step, origin=axis.origin + shift, labels=None)
    padded = np.full(size * factor, np.nan)
    padded[: axis.size] = axis.positions
    centres = np.nanmean(padded.reshape(size, factor), axis=1)
    return replace(axis, size=size, positions=tuple(float(v) for v in centres), labels=None)


def _deviation(axis: Axis) -> float:
    """Return the largest distance of a sample from the straight line through the first and last one, in the axis's unit."""
    at = axis.coordinates()
    if at.size < 2:
        return 0.0
    line = at[0] + (at[-1] - at[0]) * np.arange(at.size) / (at.size - 1)
    return float(np.max(np.abs(at - line)))
