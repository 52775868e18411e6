"""The part of a volume that is being encoded, in memory with every chunk of it apart.

Readers put in what the source gives, in any pieces, in one copy each; encoders take whole chunks out, with none.
"""

import threading
from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Region = tuple[slice, ...]


class Tile:
    """Room for a whole number of chunks, used for one part of the volume after the other.

    Parameters
    ----------
    shape : tuple of int
        The largest part it will hold, in voxels.
    chunk : tuple of int
        Shape of a chunk.
    dtype : numpy.dtype
        Native-order type of the values.
    """

    def __init__(self, shape: Shape, chunk: Shape, dtype: np.dtype[Any]) -> None:
        self._chunk = chunk
        grid = tuple(-(-n // c) for n, c in zip(shape, chunk, strict=True))
        self._values = np.empty(grid + chunk, dtype)
        self.region: Region = ()
        """The part of the volume it is used for."""
        self._free = threading.Event()
        self._closed = False

    @staticmethod
    def nbytes(shape: Shape, chunk: Shape, itemsize: int) -> int:
        """Return the size of a tile, bytes."""
        return itemsize * prod(-(-n // c) * c for n, c in zip(shape, chunk, strict=True))

    def take(self, region: Region) -> None:
        """Begin with another part of the volume: what is put from now on belongs to it. Starts on a chunk's border."""
        self.region = region
        self._free.set()

    def hold(self) -> None:
        """Keep what is there: whoever wants to put something waits until the next `take`."""
        self._free.clear()

    def close(self) -> None:
        """Let nobody wait any more; what is put is dropped."""
        self._closed = True
        self._free.set()

    def put(self, region: Region, values: npt.NDArray[Any]) -> None:
        """Copy in a piece, of any byte order, once the tile is free; `region` is where it lies in the volume."""
        self._free.wait()
        if self._closed:
            return
        rank = len(region)
        starts = [part.start - whole.start for part, whole in zip(region, self.region, strict=True)]
        cuts = [_cuts(a, a + n, c) for a, n, c in zip(starts, values.shape, self._chunk, strict=True)]
        for runs in product(*cuts):
            outer, inner, of, split = [], [], [], []
            for (first, count, skip, length), start, c in zip(runs, starts, self._chunk, strict=True):
                outer.append(slice(first, first + count))
                inner.append(slice(skip, skip + length))
                begin = first * c + skip - start
                of.append(slice(begin, begin + count * length))
                split += [count, length]
            order = [*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)]
            self._values[(*outer, *inner)] = values[tuple(of)].reshape(split).transpose(order)

    def chunk(self, index: Shape, extent: Region) -> npt.NDArray[Any]:
        """Return a chunk, zeros beyond the array's end; it is the tile's own memory, to be used before the next `take`.

        Parameters
        ----------
        index : tuple of int
            Which chunk of the volume.
        extent : tuple of slice
            The part of the volume it covers, cut at the array's end.
        """
        at = tuple(i - s.start // c for i, s, c in zip(index, self.region, self._chunk, strict=True))
        chunk: npt.NDArray[Any] = self._values[at]
        for axis, (part, size) in enumerate(zip(extent, self._chunk, strict=True)):
            if part.stop - part.start < size:
                chunk[(slice(None),) * axis + (slice(part.stop - part.start, None),)] = 0
        return chunk


def _cuts(start: int, stop: int, chunk: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut a range at the chunks' borders into a broken first chunk, whole ones, and a broken last one.

    Yields number of the first chunk, number of chunks, and in each of them where the range begins and how long it is.
    """
    first, skip = divmod(start, chunk)
    if skip or stop - start < chunk:
        length = min(stop - start, chunk - skip)
        yield first, 1, skip, length
        start += length
    whole = (stop - start) // chunk
    if whole:
        yield start // chunk, whole, 0, chunk
        start += whole * chunk
    if start < stop:
        yield start // chunk, 1, 0, stop - start
