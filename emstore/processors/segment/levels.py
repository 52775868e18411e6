"""Histograms that do not depend on how a volume was cut, whatever its type.

A value x is counted at level ceil(x / 2**shift), for the smallest shift at which all values of the volume lie on at most
65536 neighbouring levels (for integers no shift below 0: 8- and 16-bit values, and any others of that range, are counted one
by one). Since ceil(ceil(x / 2) / 2) = ceil(x / 4), histograms of parts at finer shifts are brought to a coarser one exactly,
and the end is the same for any parts in any order. A level stands for values up to ``level * 2**shift``.
"""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

LEVELS: Final = 1 << 16
"""Most levels of a histogram."""

Histogram = tuple[int, int, npt.NDArray[np.int64]]
"""Shift, first level, and how many values are at it and at each one after, shape (levels,)."""

_PIECE: Final = 1 << 18
_FINEST: Final = -1074
_WHOLE_BITS: Final = 52
_FURTHEST: Final = 60


def histogram(values: npt.NDArray[Any]) -> Histogram | None:
    """Count integers or floats; NaN and infinities are left out. ``None`` when nothing is left.

    Works through small pieces, so that memory beyond the values is a few megabytes.
    """
    total: Histogram | None = None
    if values.size:
        flags = ("external_loop", "buffered")
        for piece in np.nditer(values, flags=flags, order="K", buffersize=_PIECE):  # type: ignore[call-overload]
            total = merged(total, _of_piece(np.asarray(piece)))
    return total


def merged(one: Histogram | None, other: Histogram | None) -> Histogram | None:
    """Return the histogram of two parts together."""
    if one is None or other is None:
        return one or other
    shift = max(one[0], other[0])
    while True:
        one, other = _coarser(one, shift), _coarser(other, shift)
        first = min(one[1], other[1])
        size = max(h[1] + len(h[2]) for h in (one, other)) - first
        if size <= LEVELS:
            break
        shift += 1
    counts = np.zeros(size, np.int64)
    for _, start, part in (one, other):
        counts[start - first : start - first + len(part)] += part
    return shift, first, counts


def value_at(histogram: Histogram, index: int, kind: str) -> int | float:
    """Return the largest value that a level but the last one stands for; `kind` is the dtype's."""
    shift, first, _ = histogram
    return math.ldexp(float(first + index), shift) if kind == "f" else (first + index) << shift


def _of_piece(piece: npt.NDArray[Any]) -> Histogram | None:
    if piece.dtype.kind == "f":
        return _of_floats(piece.astype(np.float64))
    low, high = int(piece.min()), int(piece.max())
    shift = max(0, (high - low).bit_length() - LEVELS.bit_length())
    while _up(high, shift) - _up(low, shift) >= LEVELS:
        shift += 1
    first = _up(low, shift)
    if shift:
        piece = (piece >> shift) + ((piece & ((1 << shift) - 1)) != 0)
    unsigned = piece.dtype.str.replace("i", "u")
    # The difference wraps around in a signed type, and is right again when read as unsigned.
    with np.errstate(over="ignore"):
        above = (piece - piece.dtype.type(first)).view(unsigned)
    return shift, first, np.bincount(above.astype(np.intp))


def _of_floats(values: npt.NDArray[np.float64]) -> Histogram | None:
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    shift = max(_FINEST, _exponent(high / 2 - low / 2) - LEVELS.bit_length(), _exponent(largest) - _WHOLE_BITS - 2)
    # Levels beyond 2**52 would not be whole in a 64-bit float.
    while math.ldexp(largest, -shift) > 1 << _WHOLE_BITS or _level(high, shift) - _level(low, shift) >= LEVELS:
        shift += 1
    levels = np.ceil(np.ldexp(values, -shift))
    levels[(levels == 0) & (values > 0)] = 1  # too small to divide: what is left is still above 0
    first = _level(low, shift)
    return shift, first, np.bincount((levels - first).astype(np.intp))


def _level(value: float, shift: int) -> int:
    level = math.ceil(math.ldexp(value, -shift))
    return max(level, 1) if value > 0 else level


def _exponent(value: float) -> int:
    return math.frexp(value)[1] if value else _FINEST


def _up(value: int, shift: int) -> int:
    return -((-value) >> shift)


def _coarser(histogram: Histogram, shift: int) -> Histogram:
    """Return a histogram at a shift not below its own."""
    by, first, counts = shift - histogram[0], histogram[1], histogram[2]
    if by == 0:
        return histogram
    by = min(by, _FURTHEST)  # further than any level is from 0 already
    below, rest = (first - 1) >> by, (first - 1) & ((1 << by) - 1)
    place = (rest + np.arange(len(counts))) >> by
    coarse = np.zeros(int(place[-1]) + 1, np.int64)
    np.add.at(coarse, place, counts)
    return shift, below + 1, coarse
