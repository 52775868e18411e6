"""Non-local means."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Final

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Operation, Result
from emstore.processor import Params
from emstore.processors.denoise.noise import NoiseParams, UnitNoise
from emstore.processors.denoise.selection import Axes, filtered, only, over_all
from emstore.processors.denoise.unitwise import Unitwise
from emstore.processors.denoise.values import Floats, notes, result_type, working_type
from emstore.volume import Volume

SPAN: Final = 64
"""Voxels of a block along an axis, at least, where the volume has as many: what the memory for padding is reckoned with."""

MOST: Final = 100_000
"""Voxels a voxel may be compared with."""


class NonLocalMeansParams(NoiseParams):
    """Parameters of `NonLocalMeans`."""

    axes: Axes = Field(
        "slice", description="axes a patch spans: slice (the last two of space), volume (all of space), or a list of names"
    )
    patch: int = Field(5, ge=1, le=99, description="width of the patches compared, voxels, odd")
    distance: int = Field(6, ge=1, le=99, description="how far away patches are looked for, voxels along every axis")
    strength: float = Field(0.8, gt=0, description="how different patches may be, in standard deviations of the noise")


class NonLocalMeans:
    """Average every voxel with those around it whose patches look alike.

    Voxel ``j`` counts with the weight ``exp(-max(0, d(i, j)^2 - 2 sigma^2) / (strength sigma)^2)``, where ``d^2`` is the mean
    squared difference of the patches around ``i`` and ``j`` ([1]_, section 2, with patches of even weight). Beyond the border the
    volume is mirrored (c b a | a b c).

    `skimage.restoration.denoise_nl_means` computes nearly the same, but its quick way sums along the whole array, so the last
    bits depend on where the array begins and tip patches over its cut-off, and its other way gives NaN where neighbours differ
    by some hundred times `strength` sigma (its approximate ``exp`` overflows; seen in 0.26). Here every distance is summed on
    its own: a cut into blocks changes nothing.

    References
    ----------
    .. [1] A. Buades, B. Coll, J.-M. Morel, "Non-local means denoising", Image Processing On Line 1 (2011) 208-212.
    .. [2] A. Buades, B. Coll, J.-M. Morel, "A non-local algorithm for image denoising", CVPR 2 (2005) 60-65.
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
        if params.patch % 2 == 0:
            raise InvalidInput(f"patch is {params.patch}; a patch has an odd width, so that it has a centre")
        if (compared := (2 * params.distance + 1) ** len(axes)) > MOST:
            raise InvalidInput(
                f"distance is {params.distance}, which compares a voxel with {compared}; at most {MOST} make sense",
                fix="look less far, or along fewer axes",
            )
        noise = UnitNoise.of(params, volume, axes)
        dtype = result_type(volume, params.dtype)
        work = working_type(volume, dtype)
        reach = params.patch // 2 + params.distance
        return Operation(
            Result.like(volume, dtype=dtype, notes=(*notes(volume, params.dtype), *noise.notes)),
            Unitwise(_Compare(params.patch // 2, params.distance, params.strength), axes, noise, work, dtype),
            noise.reduction,
            halo=over_all(volume, axes, [reach] * len(axes)),
            work_bytes=max(noise.work_bytes, _work_bytes([volume.shape[axis] for axis in axes], reach, work.itemsize)),
        )


@dataclass(frozen=True)
class _Compare:
    radius: int
    """Of a patch."""
    distance: int
    strength: float

    def __call__(self, values: Floats) -> Floats:
        mirrored = np.pad(values, self.radius + self.distance, mode="symmetric")
        total, weights = values.copy(), np.ones_like(values)
        for shift in _half(self.distance, values.ndim):
            weight = self._weight(mirrored, values.shape, shift)
            # Each pair of voxels is compared once, and counts for both: as seen from here, and from the other end.
            for sign in (1, -1):
                first = [max(sign * s, 0) for s in shift]
                own = tuple(slice(f, f + n) for f, n in zip(first, values.shape, strict=True))
                first = [self.radius + self.distance + sign * s for s in shift]
                other = tuple(slice(f, f + n) for f, n in zip(first, values.shape, strict=True))
                weights += weight[own]
                total += weight[own] * mirrored[other]
        total /= weights
        return total

    def _weight(self, mirrored: Floats, shape: Sequence[int], shift: Sequence[int]) -> Floats:
        """Return the weight of every voxel for the one at `shift` from it.

        Covers the voxels themselves and those at ``-shift`` from them: along every axis ``n + |shift|``, from ``-max(shift, 0)``.
        """
        from scipy.ndimage import correlate1d

        here = tuple(
            slice(self.distance - max(s, 0), self.distance + n + 2 * self.radius + max(-s, 0))
            for s, n in zip(shift, shape, strict=True)
        )
        there = tuple(slice(part.start + s, part.stop + s) for part, s in zip(here, shift, strict=True))
        weight = mirrored[here] - mirrored[there]
        with np.errstate(over="ignore"):  # infinitely different is different
            np.square(weight, out=weight)
        for axis in range(weight.ndim):
            # Not a running sum: each voxel's depends on its own patch alone.
            correlate1d(weight, np.full(2 * self.radius + 1, 1 / (2 * self.radius + 1)), axis, output=weight, mode="nearest")
        weight = np.ascontiguousarray(weight[tuple(slice(self.radius, n - self.radius) for n in weight.shape)])
        weight -= 2
        np.maximum(weight, 0, out=weight)
        weight /= -(self.strength**2)
        return np.exp(weight, out=weight)


def _half(distance: int, ndim: int) -> Iterator[tuple[int, ...]]:
    """Yield one of every two opposite shifts."""
    for shift in product(range(-distance, distance + 1), repeat=ndim):
        if shift > (0,) * ndim:
            yield shift


def _work_bytes(shape: Sequence[int], reach: int, itemsize: int) -> float:
    """Return the memory per voxel: copies as large as what is read, and some that reach further on every side."""
    padded = 1.0
    for size in shape:
        read = min(size, SPAN + 2 * reach)
        padded *= (read + 2 * reach) / read
    return itemsize * (4 + 4 * padded)
