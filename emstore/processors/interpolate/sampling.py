"""Sampling an array along one axis: which samples make a new one, with which weights, and the sum itself.

Every new sample has few taps, found from its place on the axis alone, and is summed in the order of its taps, in double
precision, value by value. So a block of the result has the same bytes however the array was cut. A sample that falls on an
old one has one tap of weight 1 and is copied bit for bit. (A global B-spline, scipy's `order=3`, has no such kernel: each
of its samples depends on the whole axis.)
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.volume import Volume, VolumeKind

Method = Literal["nearest", "linear", "cubic"]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_SEGMENT: Final = 1 << 16
"""Values summed at once: small enough for a processor's cache, so that working memory does not grow with the block."""


class Taps(Protocol):
    """What makes the samples of a resampled axis."""

    def taps(self, start: int, stop: int) -> tuple[Indices, Floats]:
        """Return old indices and weights of new samples ``start`` to ``stop``, each of shape (stop - start, taps).

        Taps of weight 0 do not count; every index is inside the old axis.
        """
        ...


@dataclass(frozen=True, eq=False)
class Between:
    """Interpolation: new samples between old ones, at their true positions.

    ``linear`` weighs the two neighbours. ``cubic`` is the cubic Hermite polynomial of the cell with the slopes of the
    parabola through each neighbour and the samples beside it (at the ends, through the last three): four samples, exact for
    parabolas at any spacing, and on even steps the kernel of Catmull and Rom (1974), which is Keys's (1981) with a = -1/2.
    ``nearest`` takes the nearer neighbour, the first one halfway.
    """

    method: Method
    knots: Floats
    """Positions of the old samples, shape (old,), increasing."""
    cells: Indices
    """Index of the old sample at or before each new one, shape (new,), never the last."""
    parts: Floats
    """Where in its cell each new sample lies, shape (new,), 0 at the old sample before it and 1 at the one after."""

    @classmethod
    def at(cls, method: Method, knots: Floats, positions: Floats) -> "Between":
        """Return the sampling at positions inside the range of `knots` (both increasing, at least two knots).

        A position closer to a knot than a millionth of its cell is taken for the knot itself.
        """
        cells = np.clip(np.searchsorted(knots, positions, side="right") - 1, 0, len(knots) - 2)
        parts = (positions - knots[cells]) / (knots[cells + 1] - knots[cells])
        whole = np.rint(parts)
        return cls(method, knots, cells, np.where(np.abs(parts - whole) < 1e-6, whole, parts))

    @classmethod
    def divided(cls, method: Method, knots: Floats, factor: int) -> "Between":
        """Return the sampling that parts every cell into `factor` equal ones: ``(old - 1) * factor + 1`` samples."""
        cells, parts = np.divmod(np.arange((len(knots) - 1) * factor + 1), factor)
        last = cells == len(knots) - 1
        return cls(method, knots, np.where(last, cells - 1, cells), np.where(last, 1.0, parts / factor))

    @property
    def positions(self) -> Floats:
        """Position of every new sample; those of old samples exactly."""
        left, right = self.knots[self.cells], self.knots[self.cells + 1]
        return np.where(self.parts == 1, right, left + (right - left) * self.parts)

    @property
    def synthetic(self) -> npt.NDArray[np.bool_]:
        """Which new samples are no old one, shape (new,)."""
        return np.asarray((self.parts != 0) & (self.parts != 1))

    def taps(self, start: int, stop: int) -> tuple[Indices, Floats]:
        """Return old indices and weights of new samples."""
        cell, part = self.cells[start:stop], self.parts[start:stop]
        if self.method == "nearest":
            return (cell + (part > 0.5))[:, None], np.ones((stop - start, 1))
        if self.method == "linear" or len(self.knots) == 2:
            return np.stack([cell, cell + 1], axis=1), np.stack([1 - part, part], axis=1)
        count = min(4, len(self.knots))
        first = np.clip(cell - 1, 0, len(self.knots) - count)
        weights = np.zeros((stop - start, count))
        rows = np.arange(stop - start)
        width = self.knots[cell + 1] - self.knots[cell]
        weights[rows, cell - first] += (1 + 2 * part) * (1 - part) ** 2
        weights[rows, cell + 1 - first] += part**2 * (3 - 2 * part)
        for node, slope in ((cell, width * part * (1 - part) ** 2), (cell + 1, width * part**2 * (part - 1))):
            three = np.clip(node - 1, 0, len(self.knots) - 3)
            for k, weight in enumerate(_slope_weights(self.knots, three, node)):
                weights[rows, three + k - first] += weight * slope
        return first[:, None] + np.arange(count), weights


def _slope_weights(knots: Floats, three: Indices, node: Indices) -> tuple[Floats, Floats, Floats]:
    """Return the weights of samples three, three + 1, three + 2 in the slope at `node` of the parabola through them."""
    a, b, c = knots[three], knots[three + 1], knots[three + 2]
    x = knots[node]
    # The derivative of Lagrange's parabola.
    return (2 * x - b - c) / ((a - b) * (a - c)), (2 * x - a - c) / ((b - a) * (b - c)), (2 * x - a - b) / ((c - a) * (c - b))


@dataclass(frozen=True)
class Rescaled:
    """Resampling of an even axis to another step over the same field of view, smoothed against aliasing where it shrinks.

    New sample ``j`` is centred at ``(j + 1/2) * step`` old steps from the outer edge of the first voxel. The kernel (``linear``:
    a triangle, ``cubic``: Keys's with a = -1/2) is widened by `step` where that is above 1, cut at the array's ends and its
    weights made to sum to 1, as Pillow's resizing does (Turkowski, Filters for common resampling
    tasks, 1990). ``nearest`` takes the voxel that the centre lies in.
    """

    method: Method
    old: int
    """Number of old samples."""
    step: float
    """Distance of new samples in old steps."""

    def taps(self, start: int, stop: int) -> tuple[Indices, Floats]:
        """Return old indices and weights of new samples."""
        centre = (np.arange(start, stop) + 0.5) * self.step
        if self.method == "nearest":
            return np.clip(np.floor(centre), 0, self.old - 1).astype(np.int64)[:, None], np.ones((stop - start, 1))
        scale = max(self.step, 1.0)
        half = (1 if self.method == "linear" else 2) * scale
        indices = np.floor(centre - half + 0.5).astype(np.int64)[:, None] + np.arange(int(np.ceil(2 * half)) + 1)
        weights = _kernel(self.method, np.abs(indices + 0.5 - centre[:, None]) / scale)
        weights[(indices < 0) | (indices >= self.old)] = 0
        # An edge whose only tap is left weighs exactly 1, and a sum that is 1 but for rounding leaves a copy a copy.
        weights /= weights.sum(axis=1, keepdims=True)
        return np.clip(indices, 0, self.old - 1), weights


def _kernel(method: Method, distance: Floats) -> Floats:
    if method == "linear":
        return np.maximum(1 - distance, 0)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def span(taps: Taps, part: slice) -> slice:
    """Return the old samples that a part of the new ones is made from."""
    indices, weights = taps.taps(part.start, part.stop)
    used = indices[weights != 0]
    return slice(int(used.min()), int(used.max()) + 1)


def weigh(values: npt.NDArray[Any], axis: int, taps: Taps, part: slice, *, start: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return new samples of an array.

    Parameters
    ----------
    values : ndarray
        Old samples `start` onwards along `axis`, at least those of `span`.
    axis : int
        The axis to sample.
    taps : Taps
        What new samples are made of.
    part : slice
        Which new samples.
    start : int
        Index of the first of `values` along the old axis.
    dtype : dtype
        Of the result. Integers are rounded half to even and end at their type's limits; above 2**53 a sum is no more exact
        than a double, a copy is.

    Returns
    -------
    ndarray of dtype, the shape of `values` but for `axis`
    """
    indices, weights = taps.taps(part.start, part.stop)
    counted = weights != 0
    # What does not count must not be read: it may lie outside `values`, and 0 * NaN is NaN.
    indices = np.where(counted, indices - start, -1)
    before, after = values.shape[:axis], values.shape[axis + 1 :]
    old = values.reshape(int(np.prod(before)), values.shape[axis], int(np.prod(after)))
    new = np.empty((old.shape[0], len(indices), old.shape[2]), dtype)
    result = new.reshape(*before, len(indices), *after)
    if dtype.kind == "c":  # as pairs of real numbers: a product of complex ones may round differently from place to place
        old, new = np.ascontiguousarray(old).view(old.real.dtype), new.view(new.real.dtype)
    if old.shape[2] >= 512:
        _rows(old, new, indices, weights)
    else:
        _gather(old, new, indices, weights)
    return result


def _rows(old: npt.NDArray[Any], new: npt.NDArray[Any], indices: Indices, weights: Floats) -> None:
    """Sum long rows one after the other."""
    for row, (at, weight) in enumerate(zip(indices, weights, strict=True)):
        used = [(int(k), float(w)) for k, w in zip(at, weight, strict=True) if k >= 0]
        if len(used) == 1 and used[0][1] == 1 and _alike(old, new):
            new[:, row] = old[:, used[0][0]]
            continue
        for lead in range(old.shape[0]):
            for a in range(0, old.shape[2], _SEGMENT):
                columns = slice(a, min(a + _SEGMENT, old.shape[2]))
                total = np.zeros(columns.stop - columns.start)
                with np.errstate(over="ignore", invalid="ignore"):
                    for k, w in used:
                        total += old[lead, k, columns].astype(np.float64) * w
                new[lead, row, columns] = settle(total, new.dtype)


def _gather(old: npt.NDArray[Any], new: npt.NDArray[Any], indices: Indices, weights: Floats) -> None:
    """Sum short rows many at a time."""
    counted = indices >= 0
    copied = (counted.sum(axis=1) == 1) & (weights.max(axis=1) == 1)
    source = indices.max(axis=1)[copied]
    rows = max(1, _SEGMENT // old.shape[2])
    for first in range(0, len(indices), rows):
        part = slice(first, min(first + rows, len(indices)))
        step = max(1, _SEGMENT // ((part.stop - part.start) * old.shape[2]))
        for a in range(0, old.shape[0], step):
            slab = old[a : a + step]
            total = np.zeros((slab.shape[0], part.stop - part.start, old.shape[2]))
            with np.errstate(over="ignore", invalid="ignore"):
                for at, weight, on in zip(indices[part].T, weights[part].T, counted[part].T, strict=True):
                    if on.all():
                        total += slab[:, at].astype(np.float64) * weight[:, None]
                    else:
                        total[:, on] += slab[:, at[on]].astype(np.float64) * weight[on, None]
            new[a : a + step, part] = settle(total, new.dtype)
    if source.size and _alike(old, new):
        new[:, copied] = old[:, source]


def _alike(old: npt.NDArray[Any], new: npt.NDArray[Any]) -> bool:
    """Say whether values can be copied as they are; others, e.g. the sums along an axis before, are rounded."""
    return old.dtype.newbyteorder("=") == new.dtype


def settle(total: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return double-precision values, spent by this, in another type: integers rounded half to even, cut at the type's limits."""
    if dtype.kind in "fc":
        with np.errstate(over="ignore"):
            return total.astype(dtype)
    np.rint(total, out=total)
    if dtype.kind == "b":
        return total > 0
    limits = np.iinfo(dtype)
    high = float(limits.max)
    if int(high) > limits.max:  # a double cannot say 2**63 - 1
        high = float(np.nextafter(high, 0))
    return np.clip(total, float(limits.min), high, out=total).astype(dtype)


def runs(flags: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Return where flags are set as few ``[start, stop, step]``, as of Python's `range`."""
    found: list[list[int]] = []
    at = np.flatnonzero(flags).tolist()
    steps = np.diff(at)
    first = 0
    while first < len(at):
        other = np.flatnonzero(steps[first:] != steps[first]) if first < len(steps) else np.empty(0, np.int64)
        last = first + int(other[0]) if other.size else len(at) - 1
        found.append([at[first], at[last] + 1, int(steps[first]) if last > first else 1])
        first = last + 1
    return found


def check_method(volume: Volume, method: Method, *, instead: str) -> None:
    """Refuse to mix labels.

    Raises
    ------
    InvalidInput
        The volume holds labels and `method` is not ``nearest``.
    """
    if volume.kind is VolumeKind.LABELS and method != "nearest":
        raise InvalidInput(
            f"labels are names, not amounts: {method} values between them mean nothing", where=volume.name, fix=instead
        )
