"""How strong the noise is, found over the whole volume, the same however it is cut into blocks.

The response to a mask that takes out everything that varies linearly along rows and columns (Immerkær) is noise almost
everywhere; its median magnitude ignores edges (Donoho & Johnstone). The median comes from a histogram whose bins are the
leading bits of the magnitudes: counts add up to the same total in any order, and a bin is 0.4 % wide at any scale.

References
----------
.. [1] J. Immerkær, "Fast noise variance estimation", Comput. Vis. Image Underst. 64 (1996) 300-302.
.. [2] D. L. Donoho, I. M. Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81 (1994) 425-455.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Array, Block, Reduction
from emstore.processors.denoise.anscombe import Anscombe, Detector
from emstore.processors.denoise.values import Floats, ResultParams, to_floats
from emstore.volume import Volume

Counts = npt.NDArray[np.int64]

MASK_NORM: Final = 6.0
"""Root of the sum of squares of the mask ``[[1, -2, 1], [-2, 4, -2], [1, -2, 1]]``."""
NORMAL_MEDIAN: Final = 0.6744897501960817
"""Median magnitude of a standard normal value."""
SHIFT: Final = 44
"""Bits of a float64 dropped: 8 of the 52 bits of its fraction stay."""
BINS: Final = 1 << (63 - SHIFT)
ESTIMATE_BYTES: Final = 40.0
"""Working memory of the estimate, bytes per voxel of a single slice."""


class NoiseParams(ResultParams):
    """Parameters of every method that must know the noise."""

    sigma: float | None = Field(
        None, gt=0, description="standard deviation of the noise, in values; estimated over the whole volume when left out"
    )
    stabilise: Detector | None = Field(
        None,
        description="detector whose noise is made even, to a standard deviation of 1, first (generalised Anscombe transform)",
    )


@dataclass(frozen=True)
class UnitNoise:
    """Maps values to such whose noise has a standard deviation of 1, and back."""

    sigma: float | None
    """Standard deviation of the noise in stored values; ``None`` when `stabilise` or an estimate says it."""
    stabilise: Anscombe | None
    plane: tuple[int, int]
    """Array axes of the slices the noise is estimated in."""

    @classmethod
    def of(cls, params: NoiseParams, volume: Volume, axes: Sequence[int]) -> "UnitNoise":
        """Return the map for a volume filtered along `axes`.

        Raises
        ------
        InvalidInput
            Two statements about the noise, or none and slices too small to estimate it in.
        """
        if params.stabilise is not None:
            if params.sigma is not None:
                raise InvalidInput(
                    "sigma and stabilise both say how strong the noise is",
                    fix="leave sigma out: stabilised noise has a standard deviation of 1",
                )
            return cls(None, Anscombe.of(params.stabilise, volume), (-2, -1))
        if params.sigma is not None:
            return cls(params.sigma, None, (-2, -1))
        plane = tuple(axes[-2:])
        if len(plane) < 2 or any(volume.shape[axis] < 3 for axis in plane):
            raise InvalidInput(
                "the noise is estimated in slices of at least 3 by 3 voxels", where=volume.name, fix="give sigma or stabilise"
            )
        return cls(None, None, (plane[0], plane[1]))

    @property
    def reduction(self) -> Reduction | None:
        """The pass that estimates the noise, where one is needed."""
        if self.sigma is not None or self.stabilise is not None:
            return None
        return Reduction(_Responses(self.plane), start, add, finish)

    @property
    def work_bytes(self) -> float:
        """Working memory of the estimate, bytes per voxel of a single slice."""
        return ESTIMATE_BYTES if self.reduction is not None else 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the Record should know."""
        if self.reduction is None:
            return ()
        return ("Standard deviation of the noise estimated over the whole volume: median response to Immerkær's mask.",)

    def level(self, found: Any) -> float:
        """Return the noise's standard deviation in the values `forward` divides; 0 for values without any noise."""
        if self.stabilise is not None:
            return 1.0
        return float(found if self.sigma is None else self.sigma)

    def forward(self, values: Floats, level: float) -> Floats:
        """Return values with a noise of 1; `values` are overwritten."""
        if self.stabilise is not None:
            return self.stabilise.forward(values)
        values /= level
        return values

    def back(self, values: Floats, level: float) -> Floats:
        """Return denoised values in stored values."""
        return self.stabilise.inverse(values) if self.stabilise is not None else values * values.dtype.type(level)


@dataclass(frozen=True)
class _Responses:
    """Finds the bins a block's responses fall into, and how many in each. Voxels at the volume's border have none.

    Responses of exactly 0 are left out: they are background that an instrument or a reader filled in, not measured.
    """

    plane: tuple[int, int]

    def __call__(self, block: Block, arrays: Sequence[Array]) -> tuple[Counts, Counts]:
        own, read = block.output, block.inputs[0]
        # The voxels of this block, along other axes than the slice's without any halo.
        part = [slice(o.start - r.start, o.stop - r.start) for o, r in zip(own, read, strict=True)]
        for axis in self.plane:
            first = max(own[axis].start, read[axis].start + 1) - 1
            last = min(own[axis].stop, read[axis].stop - 1) + 1
            part[axis] = slice(first - read[axis].start, max(first, last) - read[axis].start)
        slices = np.moveaxis(arrays[0][tuple(part)], self.plane, (-2, -1))
        met, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        if min(slices.shape[-2:]) < 3:
            return met[0], counts[0]
        for index in np.ndindex(slices.shape[:-2]):
            values = to_floats(slices[index], np.dtype(np.float64), finite=True)
            values = values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2]
            values = np.abs(values[2:] - 2 * values[1:-1] + values[:-2])
            bins = values.view(np.int64)[values > 0] >> SHIFT
            least = int(bins.min(initial=BINS))
            counted = np.bincount(bins - least)
            met.append(np.flatnonzero(counted) + least)
            counts.append(counted[met[-1] - least])
        bins, place = np.unique(np.concatenate(met), return_inverse=True)
        return bins, np.bincount(place, np.concatenate(counts), len(bins)).astype(np.int64)


def start() -> Counts:
    """Return no counts."""
    return np.zeros(BINS, np.int64)


def add(state: Counts, block: Block, met: tuple[Counts, Counts]) -> Counts:
    """Return the state with a block's counts."""
    bins, counts = met
    state[bins] += counts
    return state


def finish(state: Counts) -> float:
    """Return the standard deviation of the noise; 0 where every response is 0."""
    met = np.flatnonzero(state)
    if met.size == 0:
        return 0.0
    counts = state[met]
    centres = ((met << SHIFT) + (1 << (SHIFT - 1))).view(np.float64)
    # Half of a bin lies below its centre: between the few values that integers leave, the median is interpolated.
    below = np.cumsum(counts) - counts / 2
    return float(np.interp(counts.sum() / 2, below, centres)) / NORMAL_MEDIAN / MASK_NORM
