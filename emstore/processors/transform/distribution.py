"""How values are spread over a whole volume, in bounded memory: exact while they are few, finely binned beyond.

Every value becomes a whole number that sorts as the values do; equal numbers are counted together. Where there would be more
than `LARGEST` different ones, the lowest bits are dropped until there are not, one at a time. How many bits go depends on the
values alone and not on the order they come in, so neither do the percentiles.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput

LARGEST: Final = 1 << 16
"""Different numbers kept; 16 bytes each."""
_AT_ONCE: Final = 1 << 16
_SIGN: Final = np.uint64(1 << 63)


@dataclass(frozen=True)
class Distribution:
    """Counts of values, NaN left out.

    Integers of up to 16 bits are counted exactly, as is anything with at most `LARGEST` different values. Others fall into
    bins of 2**dropped neighbouring doubles, and count as the bin's middle: that is off by at most one part in 32 for doubles
    that fill their whole range, and by one part in 8,000 where values spread over 16 powers of two.
    """

    keys: npt.NDArray[np.uint64]
    """Different numbers, ascending, `dropped` bits shifted away."""
    counts: npt.NDArray[np.int64]
    """How often each occurs."""
    dropped: int = 0

    @classmethod
    def empty(cls) -> "Distribution":
        """Return the distribution of nothing."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.int64))

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> "Distribution":
        """Count an array's values, a part at a time."""
        if values.dtype.kind in "biu" and values.dtype.itemsize <= 2:
            return cls._of_small(values)
        total = cls.empty()
        for part in _parts(values):
            known = part[~np.isnan(part)] if part.dtype.kind == "f" else part
            if known.size:
                total = total.plus(cls._of_keys(_sortable(known) >> np.uint64(total.dropped), total.dropped))
        return total

    @classmethod
    def _of_keys(cls, keys: npt.NDArray[np.uint64], dropped: int) -> "Distribution":
        low, high = int(keys.min()), int(keys.max())
        if high - low >= 8 * keys.size:
            found, counts = np.unique(keys, return_counts=True)
            return cls(found, counts.astype(np.int64), dropped)
        counts = np.bincount((keys - np.uint64(low)).astype(np.int64))
        there = np.flatnonzero(counts)
        return cls(there.astype(np.uint64) + np.uint64(low), counts[there], dropped)

    @classmethod
    def _of_small(cls, values: npt.NDArray[Any]) -> "Distribution":
        low = 0 if values.dtype.kind == "b" else int(np.iinfo(values.dtype).min)
        counts = np.zeros(2 if values.dtype.kind == "b" else 1 << (8 * values.dtype.itemsize), np.int64)
        for part in _parts(values):
            counts += np.bincount(part.astype(np.int32).ravel() - low, minlength=counts.size)
        there = np.flatnonzero(counts)
        return cls(_sortable(there + low), counts[there])

    def plus(self, other: "Distribution") -> "Distribution":
        """Return both together."""
        one, two = self._coarsened(other.dropped), other._coarsened(self.dropped)
        place = np.searchsorted(one.keys, two.keys)
        there = place < one.keys.size
        there[there] = one.keys[place[there]] == two.keys[there]
        counts = one.counts.copy()
        counts[place[there]] += two.counts[there]
        keys = np.concatenate([one.keys, two.keys[~there]])
        order = np.argsort(keys, kind="stable")
        both = Distribution(keys[order], np.concatenate([counts, two.counts[~there]])[order], one.dropped)
        while both.keys.size > LARGEST:
            both = both._coarsened(both.dropped + 1)
        return both

    def percentiles(self, percents: tuple[float, ...]) -> tuple[float, ...]:
        """Return percentiles, interpolated between the two values beside them as `numpy.percentile` does.

        Raises
        ------
        InvalidInput
            There is no value but NaN.
        """
        total = int(self.counts.sum())
        if total == 0:
            raise InvalidInput("every value is NaN: there are no percentiles")
        last = np.cumsum(self.counts) - 1  # rank of each number's last occurrence
        found = []
        for percent in percents:
            rank = percent / 100 * (total - 1)
            below = int(np.floor(rank))
            a, b = (self._value(int(np.searchsorted(last, k))) for k in (below, min(below + 1, total - 1)))
            found.append(a if a == b or rank == below else a + (b - a) * (rank - below))
        return tuple(found)

    def _value(self, place: int) -> float:
        key = int(self.keys[place]) << self.dropped
        middle = key + ((1 << self.dropped) >> 1)
        bits = middle - (1 << 63) if middle >= 1 << 63 else (1 << 64) - 1 - middle
        return float(np.array(bits, np.uint64).view(np.float64))

    def _coarsened(self, dropped: int) -> "Distribution":
        if dropped <= self.dropped:
            return self
        keys = self.keys >> np.uint64(dropped - self.dropped)
        first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if keys.size else np.empty(0, np.int64)
        counts = np.add.reduceat(self.counts, first) if keys.size else self.counts
        return Distribution(keys[first], counts, dropped)


def _parts(values: npt.NDArray[Any]) -> Any:
    """Yield an array's values in pieces of about a million."""
    if values.size <= _AT_ONCE or values.shape[0] == 0:
        yield values
    elif values.shape[0] == 1:
        yield from _parts(values[0])
    else:
        rows = max(1, _AT_ONCE * values.shape[0] // values.size)
        for first in range(0, values.shape[0], rows):
            yield from _parts(values[first : first + rows])


def _sortable(values: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return whole numbers that sort like the values, as doubles, do: both zeros are one, larger bits mean larger values."""
    bits = (values.astype(np.float64).ravel() + 0.0).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)
