"""Walking a volume in file order within bounded memory.

Files are written front to back, so an exporter asks for slabs that are contiguous in C order: the last axes whole, one
axis in steps, the axes before it one index at a time. Steps follow the array's own blocks, so that nothing is decoded twice
unless one row of blocks alone is over the budget.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.geometry import Grid
from emstore.volume import LazyArray, Region, Volume

BUDGET: Final = 128 << 20
"""Most bytes of voxels held at once."""


def slabs(volume: Volume, *, whole: int = 2, budget: int = BUDGET) -> Iterator[Region]:
    """Yield regions that tile the volume exactly once, each contiguous in C order, in C order.

    Parameters
    ----------
    volume : Volume
        What to walk.
    whole : int
        Number of last axes that are never cut, e.g. 2 where a file is written page by page.
    budget : int
        Most bytes per region, unless the `whole` axes alone are larger.

    Yields
    ------
    tuple of slice
        One step-1 slice per axis.
    """
    shape = volume.shape
    free = len(shape) - whole
    if free <= 0:
        yield tuple(slice(0, n) for n in shape)
        return
    below = [math.prod(shape[axis + 1 :]) * volume.dtype.itemsize for axis in range(len(shape))]
    cut = next((axis for axis in range(free) if below[axis] <= budget), free - 1)
    step, block = max(1, budget // below[cut]), volume.data.block[cut]
    if step > block:
        step -= step % block
    for outer in itertools.product(*map(range, shape[:cut])):
        for start in range(0, shape[cut], step):
            yield (
                *(slice(i, i + 1) for i in outer),
                slice(start, min(start + step, shape[cut])),
                *(slice(0, n) for n in shape[cut + 1 :]),
            )


@dataclass(frozen=True)
class _Permuted:
    """A `LazyArray` with its axes in another order."""

    data: LazyArray
    order: tuple[int, ...]
    """For each axis of this array, the axis of `data` it is."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape[i] for i in self.order)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def block(self) -> tuple[int, ...]:
        return tuple(self.data.block[i] for i in self.order)

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        inner = [slice(None)] * len(self.order)
        for part, axis in zip(region, self.order, strict=True):
            inner[axis] = part
        return self.data[tuple(inner)].transpose(self.order)


def reordered(volume: Volume, dims: Sequence[str]) -> Volume:
    """Return the volume with its axes in the order `dims`; ``z, y, x`` must stay last where there is an affine."""
    order = tuple(volume.grid.dims.index(name) for name in dims)
    if order == tuple(range(len(order))):
        return volume
    grid = Grid(tuple(volume.grid.axes[i] for i in order), volume.grid.affine)
    return replace(volume, data=_Permuted(volume.data, order), grid=grid)
