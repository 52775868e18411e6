"""Exact counts of values of small integer types: what statistics, histograms and ROC curves are made of."""

from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
"""How often every value of a type occurs, lowest value first: shape (values,)."""


def countable(dtype: np.dtype[Any]) -> bool:
    """Say whether a type has at most 65536 values, so that all of them can be counted."""
    return dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize <= 2)


def values_of(dtype: np.dtype[Any]) -> npt.NDArray[np.int64]:
    """Return every value of a countable type, ascending."""
    if dtype.kind == "b":
        return np.arange(2, dtype=np.int64)
    info = np.iinfo(dtype)
    return np.arange(info.min, int(info.max) + 1, dtype=np.int64)


def count(values: npt.NDArray[Any]) -> Counts:
    """Return the counts of an array of a countable type."""
    every = values_of(values.dtype)
    flat = np.ravel(values)
    if values.dtype.kind == "i":
        # Without its sign bit turned over, a value is its distance from the lowest one.
        unsigned = np.dtype(f"u{values.dtype.itemsize}")
        flat = flat.astype(values.dtype.newbyteorder("="), copy=False).view(unsigned) ^ unsigned.type(
            1 << (8 * unsigned.itemsize - 1)
        )
    return np.bincount(flat, minlength=every.size)


def percentiles(counts: Counts, values: npt.NDArray[np.int64], percents: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Return exact percentiles, linear between neighbours in rank (Hyndman & Fan 1996, type 7), NaN of nothing.

    Parameters
    ----------
    counts, values : ndarray of int64
        How often each value occurs, values ascending; shape (n,) each.
    percents : tuple of float
        Which to find.
    """
    ends = np.cumsum(counts)
    total = int(ends[-1])
    if not total:
        return np.full(len(percents), np.nan)
    found = []
    for percent in percents:
        rank = percent / 100 * (total - 1)
        below = int(rank)
        low, high = values[np.searchsorted(ends, [below, min(below + 1, total - 1)], side="right")]
        found.append(low + (high - low) * (rank - below))
    return np.array(found, dtype=np.float64)
