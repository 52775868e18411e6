"""Total variation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from emstore.operation import Operation, Result
from emstore.processor import Params
from emstore.processors.denoise.noise import NoiseParams, UnitNoise
from emstore.processors.denoise.selection import Axes, filtered, only
from emstore.processors.denoise.unitwise import Unitwise
from emstore.processors.denoise.values import Floats, notes, result_type, working_type
from emstore.volume import Volume


class TotalVariationParams(NoiseParams):
    """Parameters of `TotalVariation`."""

    axes: Axes = Field(
        "slice",
        description="axes differences are taken along: slice (the last two of space), volume (all of space; must fit in memory), "
        "or a list of names",
    )
    strength: float = Field(0.7, gt=0, description="weight of the total variation, in standard deviations of the noise")
    eps: float = Field(2e-4, gt=0, lt=1, description="stop when the energy changes by less than this part of its first value")
    iterations: int = Field(200, ge=1, description="stop after so many steps in any case")


class TotalVariation:
    """Find the image close to the given one that varies least: `skimage.restoration.denoise_tv_chambolle`.

    Minimises ``|u - f|^2 / 2 + strength * sigma * TV(u)``. Every voxel depends on every other, and the end of the search on all:
    what the filtered axes span is never cut. No values are assumed beyond the border: differences across it are zero.

    References
    ----------
    .. [1] L. Rudin, S. Osher, E. Fatemi, "Nonlinear total variation based noise removal algorithms", Physica D 60 (1992) 259-268.
    .. [2] A. Chambolle, "An algorithm for total variation minimization and applications", J. Math. Imaging Vis. 20 (2004) 89-97.
    """

    name: ClassVar[str] = "denoise.tv"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Minimise the total variation (Rudin, Osher and Fatemi 1992, by Chambolle's algorithm)"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = TotalVariationParams

    def plan(self, volumes: Sequence[Volume], params: TotalVariationParams) -> Operation:
        """Say what to do; see `emstore.processor.Processor.plan`."""
        volume = only(volumes)
        axes = filtered(volume, params.axes)
        noise = UnitNoise.of(params, volume, axes)
        dtype = result_type(volume, params.dtype)
        work = working_type(volume, dtype)
        return Operation(
            Result.like(volume, dtype=dtype, notes=(*notes(volume, params.dtype), *noise.notes)),
            Unitwise(_Chambolle(params.strength, params.eps, params.iterations), axes, noise, work, dtype),
            noise.reduction,
            whole=tuple(volume.grid.dims[axis] for axis in axes),
            work_bytes=max(noise.work_bytes, work.itemsize * (3.0 * len(axes) + 7)),
        )


@dataclass(frozen=True)
class _Chambolle:
    strength: float
    eps: float
    iterations: int

    def __call__(self, values: Floats) -> Floats:
        from skimage.restoration import denoise_tv_chambolle

        smooth = denoise_tv_chambolle(values, self.strength, self.eps, self.iterations)  # type: ignore[no-untyped-call]
        return np.asarray(smooth)
