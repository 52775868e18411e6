"""Which pixels a fit of many columns uses, and which columns share some of them.

Every column has a *cell*: the pixels nearest to it, no further than a radius. Cells do not overlap; together they are the
pixels of the fit, each counted once, and a column's background is that of its cell. Every column has a *window* too, a square
in which its Gaussian is evaluated: large enough for the Gaussian to have died away, so windows overlap, and a pixel's expected
value is the sum over all windows it lies in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.operation import Array
from emstore.processors.measure.columns.arrays import like, namespace, window_pixels

_MOST_NEIGHBOURS: Final = 13
WIDTHS: Final = 4.5
"""Half a window in standard deviations: a Gaussian is 4e-5 of its amplitude there."""
_COUPLED: Final = 8.0
"""Columns further apart than this many standard deviations share no information about each other worth telling: the product of
their Gaussians is 1e-7 of its value for one column."""


@dataclass(frozen=True)
class Cells:
    """Cells, windows and neighbours of N columns in one image, as arrays of NumPy or torch."""

    shape: tuple[int, int]
    """Of the image, (rows, columns)."""
    half: int
    """Half a window: it has ``2 half + 1`` pixels along each side."""
    rows: Array
    """Row of every window's middle, int64, shape (N,)."""
    columns: Array
    """Column of every window's middle, int64, shape (N,)."""
    owner: Array
    """The column whose cell a pixel is in, N for none, int64, shape (pixels + 1,): the last stands for all outside the image."""
    neighbours: Array
    """Columns that share pixels with each, itself first, int64, shape (N, k); rows with fewer are filled up with itself."""
    present: Array
    """1 where `neighbours` names one, 0 where it is filled up, float64, shape (N, k)."""
    reverse: Array
    """For neighbour m of n, where n stands in the row of m, as an index into the flattened (N, k), int64, shape (N, k)."""

    @property
    def count(self) -> int:
        """Number of columns, N."""
        return int(self.rows.shape[0])

    def parts(self, pairs: int = 1) -> Iterator[slice]:
        """Yield columns in groups small enough for their windows, or some arrays per pair, to be worked on at once."""
        step = max(8, window_pixels(self.rows) // (2 * self.half + 1) ** 2 // pairs)
        for start in range(0, self.count, step):
            yield slice(start, min(start + step, self.count))

    def pixels(self, part: slice) -> tuple[Array, Array, Array]:
        """Return where the windows of some columns lie.

        Returns
        -------
        rows, columns : array, int64, shape (n, S)
        index : array, int64, shape (n, S, S)
            Into the flattened image; pixels outside it have the index of the one after its last.
        """
        xp = namespace(self.rows)
        height, width = self.shape
        offsets = like(np.arange(-self.half, self.half + 1), self.rows)
        rows = self.rows[part, None] + offsets
        columns = self.columns[part, None] + offsets
        down = xp.where((rows >= 0) & (rows < height), rows * width, height * width)
        across = xp.where((columns >= 0) & (columns < width), columns, height * width)
        index = down[:, :, None] + across[:, None, :]
        return rows, columns, index.clip(0, height * width)


def lay_cells(
    known: npt.NDArray[np.bool_], positions: npt.NDArray[np.float64], *, radius: float, sigma: float, on: Array
) -> Cells:
    """Give every column its cell, its window and its neighbours.

    Parameters
    ----------
    known : ndarray, bool, shape (rows, columns)
        Pixels that have a value.
    positions : ndarray, float64, shape (N, 2)
        Row and column of every column, pixels; no two in the same pixel, N >= 1.
    radius : float, pixels
        Size of a cell that no other is near to.
    sigma : float, pixels
        Typical standard deviation of the columns.
    on : array
        Of the kind and on the device that the fit is to be done with.
    """
    height, width = known.shape
    middle = np.rint(positions).astype(np.int64)
    middle[:, 0] = middle[:, 0].clip(0, height - 1)
    middle[:, 1] = middle[:, 1].clip(0, width - 1)
    neighbours, present, reverse = _neighbours(positions, _COUPLED * sigma)
    arrays: dict[str, npt.NDArray[Any]] = {
        "rows": middle[:, 0],
        "columns": middle[:, 1],
        "owner": _owners(known, middle, radius),
        "neighbours": neighbours,
        "present": present.astype(np.float64),
        "reverse": reverse,
    }
    half = int(np.ceil(max(WIDTHS * sigma, radius))) + 1
    return Cells((height, width), half, **{name: like(values, on) for name, values in arrays.items()})


def _owners(known: npt.NDArray[np.bool_], middle: npt.NDArray[np.int64], radius: float) -> npt.NDArray[np.int64]:
    """Return the nearest column of every pixel that is known and no further from one than the radius; N for the others."""
    from scipy import ndimage

    count = len(middle)
    numbers = np.full(known.shape, count, np.int64)
    numbers[middle[:, 0], middle[:, 1]] = np.arange(count)
    distance, nearest = ndimage.distance_transform_edt(numbers == count, return_indices=True)
    owner = np.where(known & (distance <= radius), numbers[nearest[0], nearest[1]], count)
    return np.append(owner.ravel(), count)


def _neighbours(
    positions: npt.NDArray[np.float64], reach: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Return the columns within reach of each, itself first, where it stands in their rows, and which entries are real.

    Of more than `_MOST_NEIGHBOURS`, only those are kept that both count among their nearest.
    """
    from scipy.spatial import cKDTree

    count = len(positions)
    most = min(_MOST_NEIGHBOURS, count)
    distance, index = cKDTree(positions).query(positions, k=np.arange(1, most + 1), distance_upper_bound=reach)
    one, slot = np.nonzero(np.isfinite(distance) & (index != np.arange(count)[:, None]))
    other = index[one, slot]
    mutual = np.isin(one * count + other, other * count + one)
    one, other = one[mutual], other[mutual]
    order = np.lexsort((other, one))
    one, other = one[order], other[order]
    first = np.searchsorted(one, np.arange(count))
    place = np.arange(len(one)) - first[one] + 1
    size = int(place.max(initial=0)) + 1
    neighbours = np.repeat(np.arange(count)[:, None], size, axis=1)
    present = np.zeros((count, size), bool)
    present[:, 0] = True
    neighbours[one, place], present[one, place] = other, True
    # Sorted by (one, other), the pair (other, one) is found by bisection.
    key = one * count + other
    back = place[np.searchsorted(key, other * count + one)]
    reverse = np.repeat(np.arange(count)[:, None] * size, size, axis=1)
    reverse[one, place] = other * size + back
    return neighbours, present, reverse
