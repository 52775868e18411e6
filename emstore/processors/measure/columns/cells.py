"""Which pixels a fit of many columns uses, and which columns share some of them.

Every column has a *cell*: the pixels nearest to it, no further than a radius. Cells do not overlap; together they are the
pixels of the fit, each counted once, and a column's background is that of its cell. Every column has a *window* too, a square
in which its Gaussian is evaluated: large enough for the Gaussian to have died away, so windows overlap, and a pixel's expected
value is the sum over all windows it lies in.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.operation import Array
from emstore.processors.measure.columns.arrays import double, like, namespace, true, window_pixels

_MOST_NEIGHBOURS: Final = 13
WIDTHS: Final = 4.5
"""Half a window in standard deviations: a Gaussian is 4e-5 of its amplitude there."""
_COUPLED: Final = 8.0
"""Columns further apart than this many standard deviations share no information about each other worth telling: what is known
of a place is correlated by 2e-3 then, which changes a variance by the square of that."""


@dataclass(frozen=True)
class Cells:
    """Cells, windows and neighbours of N columns in one image, as arrays of NumPy or torch.

    The pixels of a fit are numbered: those of the whole image in array order, or fewer of them (`take`).
    """

    shape: tuple[int, int]
    """Of the image, (rows, columns)."""
    half: int
    """Half a window: it has ``2 half + 1`` pixels along each side, or as many as the image has."""
    cell_half: int
    """Half the square that holds any cell."""
    rows: Array
    """Row of every column's middle, int64, shape (N,)."""
    columns: Array
    """Column of every column's middle, int64, shape (N,)."""
    owner: Array
    """The column whose cell a pixel is in, N for none, int64, shape (pixels,)."""
    neighbours: Array
    """Columns that share pixels with each, itself first, int64, shape (N, k); rows with fewer are filled up with itself."""
    present: Array
    """1 where `neighbours` names one, 0 where it is filled up, float64, shape (N, k)."""
    reverse: Array
    """For neighbour m of n, where n stands in the row of m, as an index into the flattened (N, k), int64, shape (N, k)."""
    number: Array | None = None
    """Number of every pixel of the image, int64; ``None`` where that is its place in array order."""

    @property
    def count(self) -> int:
        """Number of columns, N."""
        return int(self.rows.shape[0])

    def parts(self, half: int, count: int | None = None, *, pairs: int = 1) -> Iterator[slice]:
        """Yield slices of the columns, or of `count` others, whose squares are few enough to be worked on at once."""
        count = self.count if count is None else count
        step = max(8, window_pixels(self.rows) // (2 * half + 1) ** 2 // pairs)
        for start in range(0, count, step):
            yield slice(start, min(start + step, count))

    def window(self, rows: Array, columns: Array, half: int) -> tuple[Array, Array, Array]:
        """Return the pixels of squares about some middles, moved where the image would not hold them.

        Returns
        -------
        rows, columns : array, int64, shapes (n, S), (n, T)
        index : array, int64, shape (n, S, T)
            Numbers of the pixels; any where they are not among those of the fit.
        """
        height, width = self.shape
        down, across = (like(np.arange(min(2 * half + 1, size)), rows) for size in self.shape)
        rows = (rows - half).clip(0, height - len(down))[:, None] + down
        columns = (columns - half).clip(0, width - len(across))[:, None] + across
        index = (rows[:, :1, None] * width + columns[:, :1, None]) + (down[:, None] * width + across)
        return rows, columns, index if self.number is None else self.number[index]

    def windows(self, part: slice) -> tuple[Array, Array, Array]:
        """Return the pixels of some columns' windows, as `window` does."""
        return self.window(self.rows[part], self.columns[part], self.half)

    def near(self, chosen: Array) -> Array:
        """Return which columns are some of those chosen or neighbours of them, bool, shape (N,)."""
        return (chosen[self.neighbours] & (self.present > 0)).any(1)

    def take(self, chosen: Array) -> tuple["Cells", Array]:
        """Return some columns of a whole image alone, with the pixels of their windows; the others' cells are nobody's.

        Parameters
        ----------
        chosen : array, bool, shape (N,)

        Returns
        -------
        cells : Cells
        kept : array, int64, or slice
            Which pixels those are.
        """
        if bool(chosen.all()):
            return self, slice(None)
        xp = namespace(self.rows)
        some = true(chosen)
        count, size = int(some.shape[0]), self.neighbours.shape[1]
        order = like(np.arange(count), self.rows)
        among = like(np.full(self.count + 1, count), self.rows)
        among[some] = order
        neighbours = among[self.neighbours[some]]
        there = (self.present[some] > 0) & (neighbours < count)
        neighbours = xp.where(there, neighbours, order[:, None])
        alone = replace(
            self,
            rows=self.rows[some],
            columns=self.columns[some],
            neighbours=neighbours,
            present=double(there),
            reverse=size * neighbours + xp.where(there, self.reverse[some] % size, 0),
        )
        number = like(np.zeros(self.owner.shape[0], np.int64), self.rows)
        for part in alone.parts(self.half):
            number[alone.windows(part)[2]] = 1
        kept = true(number)
        number[kept] = like(np.arange(kept.shape[0]), self.rows)
        return replace(alone, number=number, owner=among[self.owner[kept]]), kept


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
    return Cells((height, width), half, int(radius), **{name: like(values, on) for name, values in arrays.items()})


def _owners(known: npt.NDArray[np.bool_], middle: npt.NDArray[np.int64], radius: float) -> npt.NDArray[np.int64]:
    """Return the nearest column of every pixel that is known and no further from one than the radius; N for the others."""
    from scipy import ndimage

    count = len(middle)
    numbers = np.full(known.shape, count, np.int64)
    numbers[middle[:, 0], middle[:, 1]] = np.arange(count)
    distance, nearest = ndimage.distance_transform_edt(numbers == count, return_indices=True)
    return np.where(known & (distance <= radius), numbers[nearest[0], nearest[1]], count).ravel()


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
