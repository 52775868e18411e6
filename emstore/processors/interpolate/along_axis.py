"""interpolate.nearest, .linear and .cubic: more slices (or rows, columns, frames) between those that were measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Axis, AxisKind, Grid, units
from emstore.operation import Block, Operation, Result
from emstore.processor import Params
from emstore.processors.interpolate.sampling import Between, Floats, Method, check_method, runs, span, weigh
from emstore.volume import Region, Volume

_LARGEST: Final = 1 << 24
"""Most samples one axis may get: more is a slip of the keyboard."""


class InterpolateParams(Params):
    """Where new samples go. Give either `factor` or `isotropic`."""

    axis: str = Field("z", description="axis to interpolate along")
    factor: int | None = Field(None, ge=2, le=1024, description="parts that each gap between two samples is divided into")
    isotropic: bool = Field(False, description="step as far as the finest other axis of space, from the first sample on")

    @model_validator(mode="after")
    def _one(self) -> "InterpolateParams":
        if (self.factor is None) != self.isotropic:
            raise ValueError("give either factor (a whole number from 2) or isotropic=true")
        return self


@dataclass(frozen=True, eq=False)
class AlongAxis:
    """Makes blocks of a volume sampled anew along one axis."""

    axis: int
    taps: Between
    dtype: np.dtype[Any]

    def needs(self, region: Region) -> tuple[Region, ...]:
        """Return what a region of the result is made from."""
        return ((*region[: self.axis], span(self.taps, region[self.axis]), *region[self.axis + 1 :]),)

    def apply(self, block: Block, arrays: Sequence[npt.NDArray[Any]], found: Any) -> npt.NDArray[Any]:
        """Return a block."""
        start = block.inputs[0][self.axis].start
        return weigh(arrays[0], self.axis, self.taps, block.output[self.axis], start=start, dtype=self.dtype)


def sampled(volume: Volume, name: str, taps: Between, grid: Grid, notes: tuple[str, ...]) -> Operation:
    """Return the operation that samples a volume along one axis onto a grid, and says which samples no instrument measured.

    That is the attribute ``synthetic``: every sample of its ``axis`` but those in the ranges ``measured``, which are copies.
    """
    result = Result.like(
        volume, grid=grid, attributes={"synthetic": {"axis": name, "measured": runs(~taps.synthetic)}}, notes=notes
    )
    work = AlongAxis(grid.dims.index(name), taps, result.dtype)
    return Operation(
        result,
        work.apply,
        needs=work.needs,
        work_bytes=result.dtype.itemsize + 4,  # a copy where a view cannot be reshaped; sums are a few rows long
        nan=taps.method != "nearest" and result.dtype.kind in "fc",  # between two infinities of opposite sign
    )


def knots(volume: Volume, axis: Axis) -> Floats:
    """Return the positions of an axis's samples to interpolate between.

    Raises
    ------
    InvalidInput
        There is only one sample, the axis is one of channels, or its positions do not increase.
    """
    if axis.kind is AxisKind.CHANNEL:
        raise InvalidInput(f"there is nothing between two channels of axis {axis.name!r}", where=volume.name)
    if axis.size < 2:
        raise InvalidInput(f"axis {axis.name!r} has a single sample: nothing to interpolate between", where=volume.name)
    # On even steps only the indices matter, and they are exact.
    at = np.arange(axis.size, dtype=np.float64) if axis.uniform else axis.coordinates()
    if (np.diff(at) <= 0).any():
        k = int(np.argmax(np.diff(at) <= 0))
        raise InvalidInput(
            f"positions along {axis.name!r} do not increase: sample {k + 1} at {at[k + 1]:g} follows one at {at[k]:g}",
            where=volume.name,
            fix="cut the slices in question off with transform.crop, or correct them at the source",
            kind=Kind.BAD_SPACING,
        )
    return at


def even_positions(volume: Volume, axis: Axis, step: float) -> tuple[Floats, Floats, Axis]:
    """Return the knots of an axis, the even positions from its first sample to its last (on the same scale), and the new axis.

    Raises
    ------
    InvalidInput
        Kind ``bad_spacing``: more samples than an axis may have.
    """
    at = knots(volume, axis)
    scale = 1.0 if axis.spacing is None else axis.spacing
    stride = step / scale if axis.uniform else step
    count = (at[-1] - at[0]) / stride
    if count >= _LARGEST:
        raise InvalidInput(
            f"a step of {step:g} {axis.unit} would give axis {axis.name!r} {count:.3g} samples",
            where=volume.name,
            fix="check the spacing of the axes; transform.calibrate corrects it",
            kind=Kind.BAD_SPACING,
        )
    size = int(np.floor(count + 1e-6)) + 1
    origin = axis.origin if axis.uniform else float(at[0])
    return (
        at,
        at[0] + stride * np.arange(size),
        replace(axis, size=size, spacing=step, origin=origin, positions=None, labels=None),
    )


def plan(volume: Volume, method: Method, params: InterpolateParams) -> Operation:
    """Say how to interpolate a volume."""
    axis = volume.grid.axis(params.axis)
    check_method(volume, method, instead="use interpolate.nearest")
    if params.factor is not None:
        return _divided(volume, axis, method, params.factor)
    step = _finest(volume, axis)
    own = axis.median_step()
    if own is not None and step > own * (1 + 1e-6):
        raise InvalidInput(
            f"axis {axis.name!r} already steps {own:g} {axis.unit}, finer than {step:g}: isotropic would leave samples out",
            where=volume.name,
            fix="use transform.resample, which smooths before it shrinks",
        )
    at, positions, new = even_positions(volume, axis, step)
    taps = Between.at(method, at, np.minimum(positions, at[-1]))
    return sampled(volume, axis.name, taps, volume.grid.with_axis(new), ())


def _divided(volume: Volume, axis: Axis, method: Method, factor: int) -> Operation:
    at = knots(volume, axis)
    if (axis.size - 1) * factor >= _LARGEST:
        raise InvalidInput(f"axis {axis.name!r} would get {(axis.size - 1) * factor + 1} samples", where=volume.name)
    taps = Between.divided(method, at, factor)
    if axis.uniform:
        grid = volume.grid.resampled(axis.name, len(taps.cells), first=0, step=1 / factor)
        notes = (
            () if axis.known else (f"the spacing along {axis.name} is unknown; each gap was divided into {factor} equal parts",)
        )
        return sampled(volume, axis.name, taps, grid, notes)
    new = replace(axis, size=len(taps.cells), positions=tuple(taps.positions.tolist()), labels=None)
    return sampled(volume, axis.name, taps, volume.grid.with_axis(new), ())


def _finest(volume: Volume, axis: Axis) -> float:
    """Return the finest step of the other axes of space, in the unit of `axis`."""
    steps = []
    for other in volume.grid.space_axes:
        step = other.median_step()
        if other.name == axis.name or step is None:
            continue
        if other.unit != axis.unit:
            if not (units.is_length(other.unit) and units.is_length(axis.unit)):
                continue
            step = units.convert(step, str(other.unit), str(axis.unit))
        steps.append(step)
    if not steps or not axis.known or axis.kind is not AxisKind.SPACE:
        raise InvalidInput(
            f"isotropic needs known spacings, in lengths: of axis {axis.name!r} and of another axis of space",
            where=volume.name,
            fix="state them with transform.calibrate, or give a factor",
            kind=Kind.BAD_SPACING,
        )
    return min(steps)


class Nearest:
    """Repeats the nearer sample, the first one halfway; the one for labels."""

    name: ClassVar[str] = "interpolate.nearest"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Put more samples along an axis, each a copy of its nearest neighbour; for labels"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = InterpolateParams

    def plan(self, volumes: Sequence[Volume], params: InterpolateParams) -> Operation:
        """Say how to interpolate; see `Between` for the method and what is refused."""
        return plan(volumes[0], "nearest", params)


class Linear:
    """Weighs the two neighbours by their distance."""

    name: ClassVar[str] = "interpolate.linear"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Put more samples along an axis, on straight lines between two neighbours"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = InterpolateParams

    def plan(self, volumes: Sequence[Volume], params: InterpolateParams) -> Operation:
        """Say how to interpolate; see `Between` for the method and what is refused."""
        return plan(volumes[0], "linear", params)


class Cubic:
    """Fits smooth curves through four neighbours."""

    name: ClassVar[str] = "interpolate.cubic"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = (
        "Put more samples along an axis, on cubic curves through four neighbours (Catmull and Rom 1974; Keys 1981)"
    )
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = InterpolateParams

    def plan(self, volumes: Sequence[Volume], params: InterpolateParams) -> Operation:
        """Say how to interpolate; see `Between` for the method and what is refused."""
        return plan(volumes[0], "cubic", params)
