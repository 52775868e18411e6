"""Gaussian smoothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput, Kind
from emstore.geometry import units
from emstore.operation import Array, Block, Operation, Result
from emstore.processor import Params
from emstore.processors.denoise.anscombe import Anscombe, Detector
from emstore.processors.denoise.selection import filtered, only, over_all, per_axis
from emstore.processors.denoise.values import ResultParams, notes, result_type, to_floats, to_stored, working_type
from emstore.volume import Volume

FARTHEST: Final = 10_000
"""Voxels a kernel may reach."""


class GaussianParams(ResultParams):
    """Parameters of `Gaussian`."""

    sigma: float | tuple[float, ...] = Field(
        1.0,
        description="standard deviation of the kernel, in `unit`; one, or one per filtered axis in order; 0 leaves an axis alone",
    )
    unit: str | None = Field(None, description="unit of sigma, a length such as nm; voxels when left out")
    truncate: float = Field(4.0, gt=0, le=20, description="where the kernel ends, in standard deviations")
    stabilise: Detector | None = Field(
        None, description="detector whose noise is made even first (generalised Anscombe transform)"
    )


class Gaussian:
    """Convolve with a Gaussian, axis by axis: `scipy.ndimage.gaussian_filter1d`, border rule ``reflect`` (d c b a | a b c d)."""

    name: ClassVar[str] = "denoise.gaussian"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Smooth with a Gaussian kernel"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = GaussianParams

    def plan(self, volumes: Sequence[Volume], params: GaussianParams) -> Operation:
        """Say what to do; see `emstore.processor.Processor.plan`."""
        volume = only(volumes)
        axes = filtered(volume, params.axes)
        sigmas = _in_voxels(volume, axes, params)
        radii = [int(min(params.truncate * sigma, 1e18) + 0.5) for sigma in sigmas]  # as scipy.ndimage counts it
        if max(radii) > FARTHEST:
            raise InvalidInput(
                f"sigma is {params.sigma}; the kernel would reach {max(radii)} voxels, at most {FARTHEST} make sense",
                fix="check the unit of sigma, or shrink the image first",
            )
        dtype = result_type(volume, params.dtype)
        work = working_type(volume, dtype)
        stabilise = None if params.stabilise is None else Anscombe.of(params.stabilise, volume)
        uneven = [
            volume.grid.dims[axis] for axis, s in zip(axes, sigmas, strict=True) if s and not volume.grid.axes[axis].uniform
        ]
        return Operation(
            Result.like(
                volume,
                dtype=dtype,
                notes=(
                    *notes(volume, params.dtype),
                    *(f"Samples along {name} are not evenly spaced; sigma counts samples there." for name in uneven),
                ),
            ),
            _Smooth(axes, sigmas, params.truncate, dtype, work, stabilise),
            halo=over_all(volume, axes, radii),
            work_bytes=work.itemsize + 1.0 if stabilise is None else work.itemsize + 20.0,
        )


@dataclass(frozen=True)
class _Smooth:
    axes: tuple[int, ...]
    sigmas: tuple[float, ...]
    truncate: float
    dtype: np.dtype[Any]
    work: np.dtype[Any]
    stabilise: Anscombe | None

    def __call__(self, block: Block, arrays: Sequence[Array], found: Any) -> Array:
        from scipy.ndimage import gaussian_filter1d

        values = to_floats(arrays[0], self.work)
        if self.stabilise is not None:
            values = self.stabilise.forward(values)
        # Once an axis is done its halo is of no more use: cut, so that the axes after it have less to do.
        for axis, (own, read) in enumerate(zip(block.output, block.inputs[0], strict=True)):
            sigma = dict(zip(self.axes, self.sigmas, strict=True)).get(axis, 0.0)
            if sigma:
                gaussian_filter1d(values, sigma, axis, output=values, mode="reflect", truncate=self.truncate)
            cut = [slice(None)] * values.ndim
            cut[axis] = slice(own.start - read.start, own.stop - read.start)
            values = values[tuple(cut)]
        if self.stabilise is not None:
            values = self.stabilise.inverse(values)
        return to_stored(values, self.dtype)


def _in_voxels(volume: Volume, axes: Sequence[int], params: GaussianParams) -> tuple[float, ...]:
    sigmas = per_axis(params.sigma, len(axes), "sigma")
    if any(sigma < 0 for sigma in sigmas):
        raise InvalidInput(f"sigma is {params.sigma}; a width cannot be negative")
    if params.unit is None:
        return tuple(float(sigma) for sigma in sigmas)
    unit = units.parse(params.unit)
    found = []
    for index, sigma in zip(axes, sigmas, strict=True):
        axis = volume.grid.axes[index]
        if axis.spacing is None or axis.unit is None:
            raise InvalidInput(
                f"axis {axis.name!r} has no even spacing with a unit, so a sigma in {unit} means nothing there",
                where=volume.name,
                fix="give sigma in voxels, without a unit",
                kind=Kind.BAD_SPACING,
            )
        found.append(units.convert(float(sigma), unit, axis.unit) / axis.spacing)
    return tuple(found)
