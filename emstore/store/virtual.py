"""The virtual image of a scan: what a detector that adds everything up would have seen.

4D-STEM data and spectrum cubes hold an array (a diffraction pattern, a spectrum) at every point of a scan. OME-Zarr has no
such axes, so viewers get the sum over all of them as an ordinary image under ``virtual/``. It is summed while the data
streams through, in 64-bit integers for integers and in doubles for everything else; a NaN stays a NaN. Complex data has no
such sum and gets no virtual image.
"""

import threading
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.geometry import AxisKind, Grid
from emstore.store.ome import ome_axes
from emstore.volume import Volume, VolumeKind

Shape = tuple[int, ...]


@dataclass(frozen=True)
class VirtualPlan:
    """Which axes are kept, and the type of the sum."""

    kept: tuple[int, ...]
    """Scan axes of the full array."""
    grid: Grid
    """Axes of the virtual image."""
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, volume: Volume) -> "VirtualPlan | None":
        """Return the plan for a volume, or ``None`` when it needs or has no virtual image."""
        grid, dtype = volume.grid, volume.dtype
        if volume.kind is not VolumeKind.IMAGE or dtype.kind == "c" or ome_axes(grid):
            return None
        kept = tuple(i for i, axis in enumerate(grid.axes) if axis.kind is AxisKind.SPACE)
        scan = Grid(tuple(grid.axes[i] for i in kept)) if kept else None
        if scan is None or not ome_axes(scan) or len(kept) == len(grid.axes):
            return None
        if dtype.kind == "f" or dtype.itemsize == 8:
            total: np.dtype[Any] = np.dtype(np.float64)
        else:
            total = np.dtype(np.int64 if dtype.kind == "i" else np.uint64)
        return cls(kept, scan, total)

    @property
    def nbytes(self) -> int:
        """Size of the virtual image, bytes."""
        return prod(self.grid.shape) * self.dtype.itemsize

    def to_json(self) -> dict[str, Any]:
        """Return what decides the bytes of the image, for the settings hash."""
        return {"axes": list(self.kept), "data_type": self.dtype.name}


@dataclass
class VirtualSum:
    """The sum so far. Chunks arrive in any order; each one's own sum is kept until those before it are there.

    Adding in the order of the chunks, not of their arrival, makes the result of floating-point sums the same every time.
    """

    plan: VirtualPlan
    chunks: Shape
    """Number of level-0 chunks along every axis of the full array."""
    image: npt.NDArray[Any] = field(init=False)
    _waiting: dict[Shape, dict[int, npt.NDArray[Any]]] = field(default_factory=dict)
    _next: dict[Shape, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.image = np.zeros(self.plan.grid.shape, self.plan.dtype)

    def add(self, index: Shape, region: tuple[slice, ...], block: npt.NDArray[Any]) -> None:
        """Add one level-0 chunk.

        Parameters
        ----------
        index : tuple of int
            Chunk index in the full array.
        region : tuple of slice
            Where it lies in the full array.
        block : ndarray
            Its values.
        """
        kept = self.plan.kept
        summed = [i for i in range(block.ndim) if i not in kept]
        part = block.sum(axis=tuple(summed), dtype=self.plan.dtype)
        place = tuple(index[i] for i in kept)
        order = 0
        for i in summed:
            order = order * self.chunks[i] + index[i]
        target = self.image[tuple(region[i] for i in kept)]
        with self._lock:
            waiting = self._waiting.setdefault(place, {})
            waiting[order] = part
            at = self._next.get(place, 0)
            while at in waiting:
                target += waiting.pop(at)
                at += 1
            self._next[place] = at
