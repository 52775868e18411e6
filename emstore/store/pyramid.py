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

_NARROW: Final = 2


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
        C-contiguous, native byte order. Only the last three axes may be halved.
    factors : tuple of int
        1 or 2 for every axis.
    how : str
        ``mean`` or ``mode``.

    Returns
    -------
    ndarray
        Of the same type, C-contiguous.
    """
    from emstore.store import kernels  # the compiler is slow to import, and readers never need it

    if how == "mean" and block.dtype.kind == "c":
        out = np.empty([-(-n // f) for n, f in zip(block.shape, factors, strict=True)], block.dtype)
        out.real = reduce(np.ascontiguousarray(block.real), factors, how)
        out.imag = reduce(np.ascontiguousarray(block.imag), factors, how)
        return out
    if block.dtype == np.float16:
        return reduce(block.astype(np.float32), factors, how).astype(np.float16)
    lead = max(0, block.ndim - 3)
    if any(f != 1 for f in factors[:lead]):
        raise ValueError(f"only the last three axes can be halved, not {factors}")
    last = (1,) * (3 - block.ndim) + block.shape[lead:]
    z, y, x = (1,) * (3 - block.ndim) + factors[lead:]
    source = block.reshape(prod(block.shape[:lead]), *last)
    out = np.empty((len(source), -(-last[0] // z), -(-last[1] // y), -(-last[2] // x)), block.dtype)
    if how == "mode":
        as_int = np.dtype(f"u{block.itemsize}") if block.dtype.kind == "b" else block.dtype
        kernels.mode(source.view(as_int), out.view(as_int), z, y, x)
    elif block.dtype.kind == "f":
        kernels.mean_float(source, out, z, y, x)
    elif block.itemsize <= _NARROW:
        kernels.mean_narrow(source, out, z, y, x)
    else:
        kernels.mean_wide(source, out, z, y, x)
    return out.reshape([-(-n // f) for n, f in zip(block.shape, factors, strict=True)])


def warm(dtype: np.dtype[Any], how: str) -> None:
    """Compile the kernel for one type, so that neither time nor memory is spent on it later."""
    reduce(np.zeros((2, 2, 2), dtype.newbyteorder("=")), (2, 2, 2), how)


def cumulative(factors: Sequence[Factors], ndim: int) -> tuple[tuple[int, ...], ...]:
    """Return the size of each level's voxels in level-0 voxels, level 0 (all ones) included."""
    sizes = [(1,) * ndim]
    for step in factors:
        sizes.append(tuple(a * b for a, b in zip(sizes[-1], step, strict=True)))
    return tuple(sizes)
