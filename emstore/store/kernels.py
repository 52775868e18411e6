"""Compiled inner loops of the pyramid. Imported only when something is reduced."""

from typing import Any

import numba
import numpy as np

WIDEST = 8
"""Voxels in the largest block that is reduced to one: 2 x 2 x 2."""


# Rows are added first (the compiler turns that into vector code), then neighbours within the sum.
@numba.njit(nogil=True, cache=True)
def mean_narrow(a: Any, out: Any, fz: int, fy: int, fx: int) -> None:  # pragma: no cover - compiled
    """Mean of integers of at most 16 bits, rounded half up; shapes (planes, z, y, x)."""
    planes, depth, height, width = a.shape
    total = np.empty(width + 1, np.int32)
    half_width = width // 2
    for p in range(planes):
        for z in range(out.shape[1]):
            z1 = min((z + 1) * fz, depth)
            for y in range(out.shape[2]):
                y1 = min((y + 1) * fy, height)
                rows = 0
                for k in range(z * fz, z1):
                    for j in range(y * fy, y1):
                        row = a[p, k, j]
                        if rows == 0:
                            for i in range(width):
                                total[i] = row[i]
                        else:
                            for i in range(width):
                                total[i] += row[i]
                        rows += 1
                shift = np.int32(rows // 2)  # 1, 2 or 4 rows: log2 of it is 0, 1 or 2
                target = out[p, z, y]
                if fx == 1:
                    for i in range(width):
                        target[i] = (total[i] + shift) >> shift
                else:
                    half = np.int32(rows)
                    for i in range(half_width):
                        target[i] = (total[2 * i] + total[2 * i + 1] + half) >> (shift + np.int32(1))
                    if width % 2:
                        target[half_width] = (total[width - 1] + shift) >> shift


# Sums of eight 64-bit values overflow, so high and low parts are averaged apart; exact for every integer type.
@numba.njit(nogil=True, cache=True)
def mean_wide(a: Any, out: Any, fz: int, fy: int, fx: int) -> None:  # pragma: no cover - compiled
    """Mean of wider integers, rounded half up, without overflow."""
    planes, depth, height, width = a.shape
    zero = a[0, 0, 0, 0] ^ a[0, 0, 0, 0]
    seven = zero + a.dtype.type(7)
    three = zero + a.dtype.type(3)
    for p in range(planes):
        for z in range(out.shape[1]):
            z1 = min((z + 1) * fz, depth)
            for y in range(out.shape[2]):
                y1 = min((y + 1) * fy, height)
                for x in range(out.shape[3]):
                    x1 = min((x + 1) * fx, width)
                    high = zero
                    low = zero
                    n = 0
                    for k in range(z * fz, z1):
                        for j in range(y * fy, y1):
                            for i in range(x * fx, x1):
                                value = a[p, k, j, i]
                                high += value >> three
                                low += value & seven
                                n += 1
                    # The value is (8 high + low) / n with n in 1, 2, 4, 8; high * (8 / n) stays in range by construction.
                    times = a.dtype.type(8 // n)
                    bits = a.dtype.type(n // 2 if n < 8 else 3)
                    out[p, z, y, x] = high * times + ((low + a.dtype.type(n // 2)) >> bits)


@numba.njit(nogil=True, cache=True)
def mean_float(a: Any, out: Any, fz: int, fy: int, fx: int) -> None:  # pragma: no cover - compiled
    """Mean of floats; one NaN makes the voxel NaN."""
    planes, depth, height, width = a.shape
    total = np.empty(width + 1, np.float64)
    for p in range(planes):
        for z in range(out.shape[1]):
            z1 = min((z + 1) * fz, depth)
            for y in range(out.shape[2]):
                y1 = min((y + 1) * fy, height)
                # Dividing first (by a power of two, so exactly) keeps sums of the largest doubles finite.
                share = 1.0 / ((z1 - z * fz) * (y1 - y * fy))
                total[:] = 0.0
                for k in range(z * fz, z1):
                    for j in range(y * fy, y1):
                        row = a[p, k, j]
                        for i in range(width):
                            total[i] += row[i] * share
                target = out[p, z, y]
                if fx == 1:
                    for i in range(width):
                        target[i] = total[i]
                else:
                    for i in range(width // 2):
                        target[i] = 0.5 * total[2 * i] + 0.5 * total[2 * i + 1]
                    if width % 2:
                        target[width // 2] = total[width - 1]


@numba.njit(nogil=True, cache=True)
def mode(a: Any, out: Any, fz: int, fy: int, fx: int) -> None:  # pragma: no cover - compiled
    """Most frequent value of a block; the smallest of equally frequent ones."""
    planes, depth, height, width = a.shape
    seen = np.empty(WIDEST, a.dtype)
    for p in range(planes):
        for z in range(out.shape[1]):
            z1 = min((z + 1) * fz, depth)
            for y in range(out.shape[2]):
                y1 = min((y + 1) * fy, height)
                for x in range(out.shape[3]):
                    x1 = min((x + 1) * fx, width)
                    n = 0
                    same = True
                    first = a[p, z * fz, y * fy, x * fx]
                    for k in range(z * fz, z1):
                        for j in range(y * fy, y1):
                            for i in range(x * fx, x1):
                                seen[n] = a[p, k, j, i]
                                same = same and seen[n] == first
                                n += 1
                    best = first
                    if not same:
                        most = 0
                        for i in range(n):
                            votes = 0
                            for j in range(n):
                                votes += seen[i] == seen[j]
                            if votes > most or (votes == most and seen[i] < best):
                                most = votes
                                best = seen[i]
                    out[p, z, y, x] = best
