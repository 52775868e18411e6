"""Non-local means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Operation, Result
from emstore.processor import Params
from emstore.processors.denoise.noise import ESTIMATE_BYTES, NoiseParams, UnitNoise
from emstore.processors.denoise.selection import Axes, filtered, only, over_all
from emstore.processors.denoise.unitwise import Unitwise
from emstore.processors.denoise.values import Floats, notes, result_type
from emstore.volume import Volume

SPAN: Final = 64
"""Voxels of a block along an axis, at least, where the volume has as many: what the memory for padding is reckoned with."""


class NonLocalMeansParams(NoiseParams):
    """Parameters of `NonLocalMeans`."""

    axes: Axes = Field(
        "slice", description="axes a patch spans: slice (the last two of space), volume (all of space), or a list of names"
    )
    patch: int = Field(5, ge=1, description="width of the patches compared, voxels, odd")
    distance: int = Field(6, ge=1, description="how far away patches are looked for, voxels along every axis")
    strength: float = Field(
        0.8, gt=0, description="how different patches may be, in standard deviations of the noise; about 0.8 if fast, 0.6 if not"
    )
    fast: bool = Field(
        True, description="compare patches by running sums, without weights for the distance from the patch's centre"
    )


class NonLocalMeans:
    """Average every voxel with those around it whose patches look alike: `skimage.restoration.denoise_nl_means`.

    The noise's variance is taken off the distances between patches. The volume's border is met by mirroring (d c b | a b c d);
    a voxel needs `patch` // 2 + `distance` others on every side. Without `fast` a cut into blocks changes nothing. With it the
    running sums begin where a block does: their last bits may tip a patch over the weight below which patches do not count,
    exp(-5).

    References
    ----------
    .. [1] A. Buades, B. Coll, J.-M. Morel, "A non-local algorithm for image denoising", CVPR 2 (2005) 60-65.
    .. [2] J. Darbon et al., "Fast nonlocal filtering applied to electron cryomicroscopy", ISBI (2008) 1331-1334 (`fast`).
    """

    name: ClassVar[str] = "denoise.nlm"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Average voxels whose surroundings look alike (non-local means, Buades et al. 2005)"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = NonLocalMeansParams

    def plan(self, volumes: Sequence[Volume], params: NonLocalMeansParams) -> Operation:
        """Say what to do; see `emstore.processor.Processor.plan`."""
        volume = only(volumes)
        axes = filtered(volume, params.axes)
        if len(axes) not in (2, 3):
            raise InvalidInput(
                f"non-local means works along 2 or 3 axes, not {len(axes)}", where=volume.name, fix="name 2 or 3 axes"
            )
        if params.patch % 2 == 0:
            raise InvalidInput(f"patch is {params.patch}; a patch has an odd width, so that it has a centre")
        noise = UnitNoise.of(params, volume, axes)
        dtype = result_type(volume, params.dtype)
        reach = params.patch // 2 + params.distance + int(params.fast)
        return Operation(
            Result.like(volume, dtype=dtype, notes=(*notes(volume, params.dtype), *noise.notes)),
            Unitwise(
                _Compare(params.patch, params.distance, params.strength, params.fast), axes, noise, np.dtype(np.float64), dtype
            ),
            noise.reduction,
            halo=over_all(volume, axes, [reach] * len(axes)),
            work_bytes=_work_bytes([volume.shape[axis] for axis in axes], reach, params.fast),
            tolerance=0.01 if params.fast else 0.0,
        )


@dataclass(frozen=True)
class _Compare:
    patch: int
    distance: int
    strength: float
    fast: bool

    def __call__(self, values: Floats) -> Floats:
        from skimage.restoration import denoise_nl_means

        smooth = denoise_nl_means(
            values, self.patch, self.distance, self.strength, self.fast, sigma=1.0, preserve_range=True, channel_axis=None
        )
        return np.asarray(smooth).reshape(values.shape)  # axes of one voxel are squeezed out


def _work_bytes(shape: Sequence[int], reach: int, fast: bool) -> float:
    """Return the memory per voxel: copies as large as what is read, and more that are padded by the reach on every side."""
    padded = 1.0
    for size in shape:
        read = min(size, SPAN + 2 * reach)
        padded *= (read + 2 * reach) / read
    return max(ESTIMATE_BYTES, 24.0 + (40.0 if fast else 8.0) * padded)
