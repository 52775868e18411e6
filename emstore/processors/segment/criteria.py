"""Thresholds from a histogram: Otsu's, for any number of classes, and ISODATA's. Levels are numbered from 0."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Spread = Callable[[npt.NDArray[np.intp], Any], Values]
Counts = npt.NDArray[np.int64]


def otsu(counts: Counts, classes: int) -> tuple[int, ...] | None:
    """Return the levels that part classes so that the variance between them is largest; the lowest ones of equals.

    N. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979) 62-66; for more than two classes P.-S. Liao et al., J. Inf. Sci. Eng. 17
    (2001) 713-727, found here by dynamic programming over the levels in use, n log n steps per class.

    Parameters
    ----------
    counts : ndarray of int64, shape (levels,)
        Number of values at every level.
    classes : int
        At least 2.

    Returns
    -------
    tuple of int, length `classes` - 1, or None
        Last level of every class but the highest; ``None`` when fewer levels than classes are in use.
    """
    used = np.flatnonzero(counts)
    if len(used) < classes:
        return None
    # Only differences of levels count. Whole numbers around 0 keep the sums exact.
    weight = np.concatenate([[0], np.cumsum(counts[used])])
    middle = round(float((counts[used] / weight[-1]) @ used))
    total = np.concatenate([[0], np.cumsum(counts[used] * (used - middle))])

    def spread(first: npt.NDArray[np.intp], end: Any) -> Values:
        """Return what classes of the used levels `first` to `end` - 1 add to the variance between classes."""
        share: Values = (total[end] - total[first]).astype(np.float64) ** 2 / (weight[end] - weight[first])
        return share

    m = len(used)
    best = np.full(m + 1, -np.inf)
    best[1:] = total[1:].astype(np.float64) ** 2 / weight[1:]
    starts = []
    for k in range(2, classes):
        best, start = _one_more(best, spread, k, m)
        starts.append(start)
    inner = np.arange(classes - 1, m)
    cut = int(inner[np.argmax(best[inner] + spread(inner, m))])
    cuts = [cut]
    for start in reversed(starts):
        cuts.append(cut := int(start[cut]))
    return tuple(int(used[c - 1]) for c in reversed(cuts))


def isodata(counts: Counts) -> int | None:
    """Return the lowest level t with ``t <= (mean up to t + mean above t) / 2 < t + 1``.

    T. W. Ridler and S. Calvard, IEEE Trans. Syst. Man Cybern. 8 (1978) 630-632. There always is one.

    Parameters
    ----------
    counts : ndarray of int64, shape (levels,)
        Number of values at every level; the first and the last are in use.

    Returns
    -------
    int or None
        ``None`` when only one level is in use.
    """
    if len(counts) < 2:
        return None
    levels = np.arange(len(counts) - 1)
    low, high = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[::-1][1:]
    weighted = counts * np.arange(len(counts))
    low_sum, high_sum = np.cumsum(weighted)[:-1], np.cumsum(weighted[::-1])[::-1][1:]
    above = (low_sum / low + high_sum / high) / 2 - levels
    for level in levels[(above > -0.5) & (above < 1.5)].tolist():
        # Near the limits rounding would decide: compare in whole numbers.
        n, m = int(low[level]), int(high[level])
        means = int(low_sum[level]) * m + int(high_sum[level]) * n
        if 2 * level * n * m <= means < 2 * (level + 1) * n * m:
            return int(level)
    raise AssertionError("the mean of the means rises with the level, so it meets it somewhere")


def _one_more(best: Values, spread: Spread, k: int, m: int) -> tuple[Values, npt.NDArray[np.intp]]:
    """Return the best value, and the start of its last class, for every end of the levels parted into one class more.

    Where the last class starts never moves back as the end moves on, so an end halfway bounds the starts of those before and
    after it: all ends of one halving are looked at together.
    """
    more = np.full(m + 1, -np.inf)
    start = np.zeros(m + 1, np.intp)
    # Rows: first and last end wanted, first and last start possible.
    spans = np.array([[k], [m], [k - 1], [m - 1]], np.intp)
    while spans.size:
        low, high, first, last = spans
        end = (low + high) // 2
        lengths = np.minimum(last, end - 1) - first + 1
        begins = np.cumsum(lengths) - lengths
        candidates = np.arange(lengths.sum()) + np.repeat(first - begins, lengths)
        values = best[candidates] + spread(candidates, np.repeat(end, lengths))
        highest = np.maximum.reduceat(values, begins)
        hits = np.flatnonzero(values == np.repeat(highest, lengths))
        chosen = candidates[hits[np.searchsorted(hits, begins)]]
        more[end], start[end] = highest, chosen
        spans = np.concatenate([[low, end - 1, first, chosen], [end + 1, high, chosen, last]], axis=1)
        spans = spans[:, spans[0] <= spans[1]]
    return more, start
