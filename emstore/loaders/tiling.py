"""Where the patches of one array start, and which of them lie near each other. Arithmetic along axes; no list of patches."""

from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Numbers = npt.NDArray[np.int64]
Edge = Literal["shift", "drop"]
"""What becomes of the rest of an axis that a whole step no longer fits: one more patch that ends where the axis ends
(``shift``; it overlaps the one before), or nothing (``drop``)."""


def starts(size: int, patch: int, stride: int, edge: Edge) -> Numbers:
    """Return where the patches along one axis start, rising; `patch` is at most `size`."""
    found = np.arange(0, size - patch + 1, stride, dtype=np.int64)
    if edge == "shift" and found[-1] != size - patch:
        found = np.append(found, size - patch)
    return found


@dataclass(frozen=True, eq=False)
class Tiling:
    """All patches of one array, numbered in array order, and sorted into cells: boxes of the array in which patches start."""

    starts: tuple[Numbers, ...]
    """First voxel of the patches along every axis."""
    first: tuple[Numbers, ...]
    """For every axis and every row of cells along it in which patches start: number of its first start."""
    counts: tuple[Numbers, ...]
    """... and how many starts it has."""

    @classmethod
    def of(cls, shape: Shape, patch: Shape, stride: Shape, edge: Edge, cell: Shape) -> "Tiling":
        """Lay patches over an array and sort them into cells of a shape."""
        lines = tuple(starts(*each, edge) for each in zip(shape, patch, stride, strict=True))
        rows = [np.unique(line // side, return_index=True, return_counts=True) for line, side in zip(lines, cell, strict=True)]
        return cls(lines, tuple(first.astype(np.int64) for _, first, _ in rows), tuple(n.astype(np.int64) for *_, n in rows))

    def __len__(self) -> int:
        return prod(len(line) for line in self.starts)

    @property
    def cells(self) -> int:
        """Number of cells in which patches start."""
        return prod(len(row) for row in self.counts)

    def patches_per_cell(self) -> Numbers:
        """Return how many patches start in every cell, shape (cells,), at least one each."""
        return np.asarray(reduce(np.multiply.outer, self.counts)).ravel()

    def most_chunks(self, axis: int, patch: int, chunk: int) -> int:
        """Return the most chunks along an axis that the patches of one cell reach over."""
        line, first, counts = self.starts[axis], self.first[axis], self.counts[axis]
        reach = (line[first + counts - 1] + patch - 1) // chunk - line[first] // chunk + 1
        return int(reach.max())

    def in_cell(self, cell: int, some: slice = slice(None)) -> Numbers:
        """Return the numbers of (some of) the patches of a cell, in array order."""
        row = np.unravel_index(cell, [len(n) for n in self.counts])
        sides = [int(n[i]) for n, i in zip(self.counts, row, strict=True)]
        within: Any = np.unravel_index(np.arange(*some.indices(prod(sides)), dtype=np.int64), sides)
        at = tuple(low[i] + w for low, i, w in zip(self.first, row, within, strict=True))
        return np.asarray(np.ravel_multi_index(at, [len(line) for line in self.starts]), dtype=np.int64)

    def begin(self, numbers: Numbers) -> tuple[Numbers, ...]:
        """Return the first voxels of some patches: per axis an array of shape (patches,)."""
        at: Any = np.unravel_index(numbers, [len(line) for line in self.starts])
        return tuple(line[i] for line, i in zip(self.starts, at, strict=True))
