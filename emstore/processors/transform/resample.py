"""transform.resample and transform.regularise: the same volume on a grid of another step, or on an even one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Axis, AxisKind, units
from emstore.operation import Block, Operation, Result
from emstore.processor import Params
from emstore.processors.interpolate.along_axis import even_positions, sampled
from emstore.processors.interpolate.sampling import Between, Method, Rescaled, check_method, span, weigh
from emstore.volume import Region, Volume

_LARGEST: Final = 1 << 24
_WITHIN: Final = 1e-6
"""Part of a sample that rounding may take from the number of samples that fit."""


class ResampleParams(Params):
    """The new step of every axis to change."""

    spacing: Mapping[str, float] = Field(
        min_length=1, description='distance between samples per axis, e.g. {"z": 5, "y": 5, "x": 5}, > 0'
    )
    unit: str | None = Field(None, description="unit of the spacing; each axis's own when left out")
    method: Method = Field(description="linear, cubic or nearest (for labels)")


@dataclass(frozen=True)
class Separable:
    """Makes blocks of a volume sampled anew along several axes, one after the other."""

    steps: tuple[tuple[int, Rescaled], ...]
    """Axis number and sampling, in the order to do them: those that shrink first."""
    dtype: np.dtype[Any]

    def needs(self, region: Region) -> tuple[Region, ...]:
        """Return what a region of the result is made from."""
        needed = list(region)
        for axis, taps in self.steps:
            needed[axis] = span(taps, region[axis])
        return (tuple(needed),)

    def apply(self, block: Block, arrays: Sequence[npt.NDArray[Any]], found: Any) -> npt.NDArray[Any]:
        """Return a block; between two axes values are doubles, rounded once at the end."""
        values = arrays[0]
        for number, (axis, taps) in enumerate(self.steps, 1):
            last = number == len(self.steps) or taps.method == "nearest"
            dtype = self.dtype if last else np.dtype(np.complex128 if self.dtype.kind == "c" else np.float64)
            values = weigh(values, axis, taps, block.output[axis], start=block.inputs[0][axis].start, dtype=dtype)
        return values


class Resample:
    """Changes the step of some axes over the same field of view."""

    name: ClassVar[str] = "transform.resample"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Give another spacing to the same field of view, smoothed against aliasing where it grows coarser"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = ResampleParams

    def plan(self, volumes: Sequence[Volume], params: ResampleParams) -> Operation:
        """Say how to resample; see `Rescaled` for the kernels.

        The outer edge of the first voxel stays where it is, and as many voxels are made as have their centre inside the old
        field of view; so the last one may end up to half a step short of the old edge, or beyond it.

        Raises
        ------
        InvalidInput
            Kind ``bad_spacing``: an axis of unknown or unequal steps, or more samples than an axis may have; a method that
            would mix labels; a unit that does not fit.
        """
        [volume] = volumes
        check_method(volume, params.method, instead="use method=nearest")
        grid = volume.grid
        steps = []
        for name, wanted in params.spacing.items():
            axis = volume.grid.axis(name)
            step = _step(volume, axis, wanted, params.unit)
            fits = axis.size / step
            if not 0.5 < fits < _LARGEST:
                raise InvalidInput(
                    f"a spacing of {wanted:g} would give axis {name!r} {fits:.3g} samples",
                    where=volume.name,
                    fix="transform.project makes one sample of all" if fits < 1 else "check its unit",
                    kind=Kind.BAD_SPACING,
                )
            size = max(1, int(np.ceil(fits - 0.5 - _WITHIN)))
            grid = grid.resampled(name, size, first=(step - 1) / 2, step=step)
            steps.append((grid.dims.index(name), Rescaled(params.method, axis.size, step)))
        steps.sort(key=lambda pair: (-pair[1].step, pair[0]))
        notes = tuple(
            f"{volume.grid.dims[at]} was smoothed against aliasing: the {params.method} kernel was widened {taps.step:.4g} times"
            for at, taps in sorted(steps)
            if taps.step > 1 and params.method != "nearest"
        )
        result = Result.like(volume, grid=grid, notes=notes)
        work = Separable(tuple(steps), result.dtype)
        return Operation(
            result,
            work.apply,
            needs=work.needs,
            # Doubles between two axes: those of the axis before and those of this one.
            work_bytes=result.dtype.itemsize + 4 if len(steps) == 1 else 20 if result.dtype.kind != "c" else 36,
            nan=params.method != "nearest" and result.dtype.kind in "fc",  # between two infinities of opposite sign
        )


def _step(volume: Volume, axis: Axis, wanted: float, unit: str | None) -> float:
    """Return the new step in old ones."""
    if axis.kind is AxisKind.CHANNEL:
        raise InvalidInput(f"there is nothing between two channels of axis {axis.name!r}", where=volume.name)
    if axis.spacing is None:
        raise InvalidInput(
            f"the spacing along axis {axis.name!r} is " + ("not known" if axis.uniform else "unequal"),
            where=volume.name,
            fix="state it with transform.calibrate" if axis.uniform else "put it onto an even grid with transform.regularise",
            kind=Kind.BAD_SPACING,
        )
    if wanted <= 0:
        raise InvalidInput(
            f"a spacing of {wanted:g} along {axis.name!r} is not above 0", where=volume.name, kind=Kind.BAD_SPACING
        )
    if unit is not None:
        if axis.unit is None:
            raise InvalidInput(f"axis {axis.name!r} has no unit to convert {unit} to", where=volume.name, kind=Kind.BAD_UNIT)
        wanted *= units.factor(unit, axis.unit)
    step = wanted / axis.spacing
    return 1.0 if abs(step - 1) < 1e-9 else step


class RegulariseParams(Params):
    """The even grid."""

    axis: str = Field("z", description="axis whose samples have unequal steps")
    spacing: float | None = Field(None, gt=0, description="new step in the axis's unit; the median of its steps when left out")
    method: Method = Field(description="linear, cubic or nearest (for labels)")


class Regularise:
    """Puts slices of unequal steps onto an even grid."""

    name: ClassVar[str] = "transform.regularise"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Put slices of unequal steps onto an even grid, interpolated at their true positions"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = RegulariseParams

    def plan(self, volumes: Sequence[Volume], params: RegulariseParams) -> Operation:
        """Say how to make it even; see `Between` for the methods.

        The grid begins at the first sample and ends at or before the last. Nothing is smoothed: where the new step is larger
        than the old ones, what lies between is left out.

        Raises
        ------
        InvalidInput
            The axis is even already, has a single sample, or its positions do not increase.
        """
        [volume] = volumes
        check_method(volume, params.method, instead="use method=nearest")
        axis = volume.grid.axis(params.axis)
        if axis.uniform:
            raise InvalidInput(
                f"axis {axis.name!r} is even already",
                where=volume.name,
                fix="use transform.resample for another step" if axis.known else "state its spacing with transform.calibrate",
            )
        step = params.spacing or axis.median_step()
        if not step:
            raise InvalidInput(f"axis {axis.name!r} has no step to take as the new one", where=volume.name, kind=Kind.BAD_SPACING)
        at, positions, new = even_positions(volume, axis, step)
        grid = volume.grid.with_axis(new)
        # The grid may overshoot the last sample by less than rounding tells.
        return sampled(volume, axis.name, Between.at(params.method, at, np.minimum(positions, at[-1])), grid, ())
