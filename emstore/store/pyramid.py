"""Coarser copies of an image: which axes are halved at each level, and the reduction itself.

Every level halves some axes of the one before, so a block has 2, 4 or 8 values; at an odd edge it has fewer, always a power
of two, and what is there is reduced. Images are averaged: integers round half up (towards positive infinity, the same for
both signs, exact for 64 bits), floats are averaged in double precision and a NaN makes its block NaN: a gap stays visible
instead of being filled with its neighbours. Labels and booleans take the most frequent value, the smallest one when several
are equally frequent, so no value appears that was not there.
"""

from collections.abc import Sequence
from math import prod, sqrt
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.geometry import AxisKind, Grid
from emstore.volume import VolumeKind

Factors = tuple[int, ...]
"""1 or 2 for every axis."""

COARSEST: Final = 128
"""The pyramid ends at the first level whose spatial axes are all this size or smaller."""


def reduction(kind: VolumeKind, dtype: np.dtype[Any]) -> str:
    """Return how values are reduced: ``mean`` or ``mode``."""
    return "mode" if kind is VolumeKind.LABELS or dtype.kind == "b" else "mean"


def level_factors(grid: Grid) -> tuple[Factors, ...]:
    """Return the factors from each level to the next; empty when level 0 is small enough.

    Only spatial axes are halved: all that are within a factor sqrt(2) of the finest one, so that voxels grow towards
    cubes. Where any spacing is unknown, or units differ, all spatial axes count as equal.
    """
    space = [axis.kind is AxisKind.SPACE for axis in grid.axes]
    sizes = list(grid.shape)
    steps = [axis.median_step() for axis in grid.axes]
    spatial = [i for i, is_space in enumerate(space) if is_space]
    comparable = len({grid.axes[i].unit for i in spatial}) == 1 and all(steps[i] for i in spatial)
    spacing = [(step or 1.0) if comparable else 1.0 for step in steps]
    levels: list[Factors] = []
    while spatial and max(sizes[i] for i in spatial) > COARSEST:
        live = [i for i in spatial if sizes[i] > 1]
        finest = min(spacing[i] for i in live)
        halved = {i for i in live if spacing[i] < finest * sqrt(2)}
        factors = tuple(2 if i in halved else 1 for i in range(len(sizes)))
        sizes = [-(-n // f) for n, f in zip(sizes, factors, strict=True)]
        spacing = [d * f for d, f in zip(spacing, factors, strict=True)]
        levels.append(factors)
    return tuple(levels)


def reduce(block: npt.NDArray[Any], factors: Factors, how: str) -> npt.NDArray[Any]:
    """Halve a block along the axes whose factor is 2; sizes round up.

    Parameters
    ----------
    block : ndarray
        C-contiguous, native byte order.
    factors : tuple of int
        1 or 2 for every axis.
    how : str
        ``mean`` or ``mode``.

    Returns
    -------
    ndarray
        Of the same type, C-contiguous.
    """
    # A voxel at an odd edge counts twice: means, also rounded ones, and majorities of 1, 2 or 4 values stay what they are.
    for axis, (size, factor) in enumerate(zip(block.shape, factors, strict=True)):
        if size % factor:
            block = np.concatenate([block, block.take([-1], axis)], axis)
    if how == "mode":
        return _mode(block, factors)
    match block.dtype.kind, block.itemsize:
        case "c", _:
            out = np.empty([n // f for n, f in zip(block.shape, factors, strict=True)], block.dtype)
            out.real = _mean_float(block.real, factors)
            out.imag = _mean_float(block.imag, factors)
            return out
        case "f", _:
            return _mean_float(block, factors)
        case _, 8:
            return _mean_of_64_bits(block, factors)
        case _:
            return _mean_integer(block, factors)


def _mean_integer(block: npt.NDArray[Any], factors: Factors) -> npt.NDArray[Any]:
    """Mean of integers of at most 32 bits; the sum of eight fits in twice the bits."""
    twice = np.dtype(f"{block.dtype.kind}{2 * block.itemsize}")
    if factors[-1] == 2:
        # Two neighbours are one number of twice the bits: adding its halves adds them, without strided access.
        pairs = block.view(twice)
        bits = 8 * block.itemsize
        total = (pairs & twice.type((1 << bits) - 1)) if block.dtype.kind == "u" else (pairs << bits) >> bits
        total += pairs >> bits
    else:
        total = block.astype(twice)
    total = _summed(total, (*factors[:-1], 1))
    halvings = sum(f == 2 for f in factors)
    if halvings:
        total += twice.type(1 << (halvings - 1))
        total >>= twice.type(halvings)
    return total.astype(block.dtype)


def _mean_of_64_bits(block: npt.NDArray[Any], factors: Factors) -> npt.NDArray[Any]:
    """Mean of integers whose sum would overflow: high and low parts are averaged apart, exactly."""
    number = block.dtype.type
    halvings = sum(f == 2 for f in factors)
    if not halvings:
        return block.copy()
    high = _summed(block >> number(halvings), factors)
    low = _summed(block & number((1 << halvings) - 1), factors)
    mean: npt.NDArray[Any] = high + ((low + number(1 << (halvings - 1))) >> number(halvings))
    return mean


def _mean_float(block: npt.NDArray[Any], factors: Factors) -> npt.NDArray[Any]:
    """Mean of floats; one NaN makes the voxel NaN."""
    # Dividing first (by a power of two, so exactly) keeps sums of the largest doubles finite.
    share = np.multiply(block, 1 / prod(factors), dtype=np.float64)
    with np.errstate(invalid="ignore"):  # opposite infinities
        return _summed(share, factors).astype(block.dtype)


def _summed(values: npt.NDArray[Any], factors: Factors) -> npt.NDArray[Any]:
    """Add neighbours along the axes whose factor is 2."""
    for axis in reversed([axis for axis, factor in enumerate(factors) if factor == 2]):
        before = (slice(None),) * axis
        values = values[(*before, slice(0, None, 2))] + values[(*before, slice(1, None, 2))]
    return values


def _mode(block: npt.NDArray[Any], factors: Factors) -> npt.NDArray[Any]:
    """Most frequent value; the smallest of equally frequent ones."""
    corners = [block[tuple(slice(i, None, f) for i, f in zip(at, factors, strict=True))] for at in np.ndindex(*factors)]
    out = corners[0].copy()
    mixed = np.zeros(out.shape, bool)
    for corner in corners[1:]:
        mixed |= corner != out
    votes = np.sort([corner[mixed] for corner in corners], axis=0)
    counts = np.array([(votes == one).sum(axis=0, dtype=np.uint8) for one in votes])
    out[mixed] = np.take_along_axis(votes, counts.argmax(axis=0)[np.newaxis], axis=0)[0]
    return out


def cumulative(factors: Sequence[Factors], ndim: int) -> tuple[tuple[int, ...], ...]:
    """Return the size of each level's voxels in level-0 voxels, level 0 (all ones) included."""
    sizes = [(1,) * ndim]
    for step in factors:
        sizes.append(tuple(a * b for a, b in zip(sizes[-1], step, strict=True)))
    return tuple(sizes)
