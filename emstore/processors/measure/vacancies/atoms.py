"""How many atoms each column has, how sure that is, and how many are missing in all.

Every column acts like one counter: around its estimated height ``t`` the likelihood of a height ``a`` is that of a Poisson count
``s (t + c)`` with the expectation ``s (a + c)``, s and c chosen so that its information is the column's at a full height and at
that of one atom. What makes equal columns differ by more than counting (thermal shifts, a wrong gain, blurred noise) is an
overdispersion phi by which the logarithm is divided (quasi-likelihood, R. W. M. Wedderburn, Biometrika 61, 439, 1974).

A full column is a number times the metal columns around it (`beside`), which are many, bright and all there. That number, the
shares of columns with fewer atoms, and the known parts that these have of a full one are unknown together: where columns drown
in noise a slightly lower full height and fewer vacancies explain an image about as well. So all frames of a specimen say it
together (`fit_mixture`), and what it leaves open is drawn (`count_atoms`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.processors.measure.vacancies.lattice import Matrix

Flags = npt.NDArray[np.bool_]
_ROUNDS: Final = 60
_SETTLED: Final = 1e-5
_BURN: Final = 450
"""Steps in which the sampler finds its stride."""
DRAWS: Final = 400
_EVERY: Final = 4
"""Steps from one draw to the next."""
_ACCEPTED: Final = 0.25
"""Share of steps that is best taken, about (G. O. Roberts, A. Gelman & W. R. Gilks, Ann. Appl. Probab. 7, 110, 1997)."""
_JEFFREYS: Final = 0.5
_LEAST: Final = 1e-9
_MOST_DEVIATION: Final = 0.9
"""Share of columns that may be anything but full, at most."""
_PLANE: Final = 100
"""Columns it takes to tell how heights change across the image."""


@dataclass(frozen=True)
class Counters:
    """Columns as counters."""

    height: Matrix
    """t, shape (N,)."""
    rate: Matrix
    """s > 0: expected counts per height."""
    offset: Matrix
    """c: height of what it stands on."""

    def of(self, which: npt.NDArray[Any]) -> "Counters":
        """Return some of them."""
        return Counters(self.height[which], self.rate[which], self.offset[which])

    def spread(self, phi: float) -> "Counters":
        """Return the same, less sure by an overdispersion."""
        return Counters(self.height, self.rate / phi, self.offset)

    def precision(self, height: Matrix) -> Matrix:
        """Return the information about the height at heights (N, ...)."""
        s, c = (v.reshape((-1,) + (1,) * (height.ndim - 1)) for v in (self.rate, self.offset))
        return np.asarray(s / np.maximum(height + c, _LEAST))

    def logs(self, height: Matrix) -> Matrix:
        """Return the log likelihood of heights (N, K), up to what does not depend on them."""
        t, s, c = (v[:, None] for v in (self.height, self.rate, self.offset))
        return np.asarray(s * (np.maximum(t + c, 0.0) * np.log(np.maximum(height + c, _LEAST)) - height))


@dataclass(frozen=True)
class Steps:
    """Heights of columns with 0, 1, ... atoms, in parts of a full one, ascending."""

    parts: tuple[float, ...]
    errors: tuple[float, ...]
    """Standard errors of the calibration; the last, of the full column, is 0."""


@dataclass(frozen=True)
class Mixture:
    """What the image itself says about its columns."""

    level: float
    """Height of a full column, in parts of the metals beside it."""
    shares: Matrix
    """Of columns with 0, 1, ... atoms."""
    phi: float
    """Overdispersion."""
    probabilities: Matrix
    """Of every number of atoms, shape (N, K)."""
    total: float
    """Log likelihood."""


def beside(places: Matrix, heights: Matrix, at: Matrix, shape: tuple[int, int]) -> Matrix:
    """Return the height of metal columns around other places (N, 2): a plane through theirs, or where they are few their median.

    Columns that differ from it by more than three standard deviations are no measure.
    """
    typical = float(np.median(heights))
    if len(heights) < _PLANE:
        return np.full(len(at), typical)

    def terms(p: Matrix) -> Matrix:
        return np.concatenate([np.ones((len(p), 1)), p / (np.array(shape) / 2) - 1], axis=1)

    basis = terms(places)
    away = heights - typical
    for _ in range(3):
        good = np.abs(away) <= 3 * 1.4826 * float(np.median(np.abs(away)))
        theta = np.asarray(np.linalg.lstsq(basis[good], heights[good], rcond=None)[0], np.float64)
        away = heights - basis @ theta
    return np.asarray(np.clip(terms(at) @ theta, 0.2 * typical, 5 * typical))


def fit_mixture(counters: Counters, steps: Steps, metal: Matrix, *, phi: float | None = None) -> Mixture:
    """Find the full height, the share of every number of atoms and the overdispersion by expectation-maximisation.

    Begun from several heights, since it is not known how many columns are full; the likeliest end is taken.

    Parameters
    ----------
    metal : ndarray, float64, shape (N,)
        Height of the metals beside every column.
    phi : float, optional
        Overdispersion, if it is known.
    """
    starts = np.quantile(counters.height / metal, [0.5, 0.75, 0.9])
    found = [_climb(counters, steps, metal, float(a), phi) for a in dict.fromkeys(starts.tolist()) if a > 0]
    if not found:
        kinds = len(steps.parts)
        flat = np.full((len(counters.height), kinds), 1 / kinds)
        return Mixture(max(float(starts[-1]), _LEAST), _start(kinds), 1.0, flat, -np.inf)
    # Ends in which hardly a column is full are the same picture with another name.
    likely = [m for m in found if 1 - m.shares[-1] < _MOST_DEVIATION] or found
    return max(likely, key=lambda m: m.total)


def odds(counters: Counters, steps: Steps, full: Matrix, mixture: Mixture) -> Matrix:
    """Return the probabilities of every number of atoms (N, K), the mixture being as it is."""
    logs = counters.logs(full[:, None] * np.array(steps.parts)) / mixture.phi + np.log(np.maximum(mixture.shares, 1e-300))
    weights = np.exp(logs - logs.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True))


def _start(kinds: int) -> Matrix:
    shares = np.full(kinds, 0.05)
    shares[-1] = 1 - 0.05 * (kinds - 1)
    return shares


def _climb(counters: Counters, steps: Steps, metal: Matrix, start: float, known_phi: float | None) -> Mixture:
    parts = np.array(steps.parts)
    level, shares, phi = start, _start(len(parts)), known_phi or 1.0
    count = len(counters.height)
    probabilities, total = np.zeros((count, len(parts))), -np.inf
    for _ in range(_ROUNDS):
        heights = level * metal[:, None] * parts
        logs = counters.logs(heights) / phi + np.log(np.maximum(shares, 1e-300))
        top = logs.max(1, keepdims=True)
        weights = np.exp(logs - top)
        # Relative to the counters' own maximum, so that ends with other heights compare.
        now = float((top[:, 0] + np.log(weights.sum(1))).sum() - (counters.logs(counters.height[:, None]) / phi).sum())
        now -= 0.5 * count * np.log(phi)
        probabilities = weights / weights.sum(1, keepdims=True)
        shares = (probabilities.sum(0) + 0.1) / (count + 0.1 * len(parts))
        precision = probabilities * counters.precision(heights)
        right = float(((precision * parts).sum(1) * metal * counters.height).sum())
        level = max(right / max(float(((precision * parts**2).sum(1) * metal**2).sum()), 1e-300), _LEAST)
        phi = known_phi or max(1.0, _spread(counters, level * metal))
        if abs(now - total) < _SETTLED * count:
            total = now
            break
        total = now
    return Mixture(level, shares, phi, probabilities, total)


def _spread(counters: Counters, full: Matrix) -> float:
    """Return by how much columns above the full height scatter more than counts would: vacancies are all below.

    Scatter is deviance, which counts have alike above and below their mean. Two standard errors less than found: mere chance
    makes no overdispersion.
    """
    high = counters.height > full
    if high.sum() < 5:
        return 1.0
    logs = counters.of(high).logs(np.stack([counters.height[high], full[high]], axis=1))
    above = 2 * (logs[:, 0] - logs[:, 1])
    most = 6.25 * float(np.median(above)) / 0.455  # 2.5 standard deviations; the median of a square is 0.455
    found = float(np.minimum(above, most).mean()) / 0.957
    return float(found / (1 + 2 * np.sqrt(2 / len(above))))


@dataclass(frozen=True)
class Counted:
    """What the columns of one frame say about all of them."""

    probabilities: Matrix
    """Of 0, 1, ... atoms, shape (N, K), over all that is uncertain."""
    lacking: Matrix
    """Columns by number of atoms among those that count, shape (draws, K)."""

    @property
    def missing(self) -> Matrix:
        """Atoms missing among those that count, one per draw, shape (draws,)."""
        return np.asarray(self.lacking @ np.arange(self.lacking.shape[1] - 1, -1, -1.0))


def count_atoms(
    counters: Counters, steps: Steps, metal: Matrix, mixture: Mixture, says: Flags, counts: Flags, ends: Sequence[int], seed: int
) -> list[Counted]:
    """Draw the full height, the shares and the calibration together, and the atoms of all columns for each.

    Parameters
    ----------
    says, counts : ndarray, bool, shape (N,)
        Columns from which the unknowns are found, and those that are counted.
    ends : sequence of int
        Where the columns of every frame end; draws of equal number share all unknowns, whatever the frame.

    Notes
    -----
    A random walk that learns its steps while it settles (H. Haario et al., Bernoulli 7, 223, 2001), the atoms summed out. Shares
    have Jeffreys' prior, the logarithm of the full height a flat one, calibrated parts the normal one of their errors.
    """
    chance = np.random.Generator(np.random.Philox(key=[seed, len(metal)]))
    kinds = len(steps.parts)
    walk = _walk(counters.of(says), steps, metal[says], mixture, chance)
    total = np.zeros((len(metal), kinds))
    frames = np.repeat(np.arange(len(ends)), np.diff([0, *ends]))[counts] * kinds
    lacking = np.zeros((DRAWS, len(ends) * kinds))
    for number, (level, shares, parts) in enumerate(walk):
        weights = odds(counters, Steps(tuple(parts), steps.errors), level * metal, replace(mixture, shares=shares))
        total += weights
        drawn = (chance.random((len(metal), 1)) > np.cumsum(weights, axis=1)[:, :-1]).sum(1)
        lacking[number] = np.bincount(frames + drawn[counts], minlength=lacking.shape[1])
    each = lacking.reshape(DRAWS, len(ends), kinds)
    return [Counted(part, each[:, n]) for n, part in enumerate(np.split(total / DRAWS, ends[:-1]))]


def _walk(
    counters: Counters, steps: Steps, metal: Matrix, mixture: Mixture, chance: np.random.Generator
) -> Iterator[tuple[float, Matrix, Matrix]]:
    """Yield draws of level, shares and parts."""
    kinds = len(steps.parts)
    centre, errors = np.array(steps.parts[:-1]), np.maximum(steps.errors[:-1], 1e-6)

    def split(x: Matrix) -> tuple[float, Matrix, Matrix]:
        logits = np.append(x[1:kinds], 0.0)
        shares = np.exp(logits - logits.max())
        return float(np.exp(x[0])), shares / shares.sum(), np.append(x[kinds:], 1.0)

    rate, offset = counters.rate, counters.offset
    count = rate * np.maximum(counters.height + offset, 0.0)

    def likely(x: Matrix) -> float:
        level, shares, parts = split(x)
        if shares[-1] < 1 - _MOST_DEVIATION:
            return -np.inf
        heights = (level * parts)[:, None] * metal
        logs = count * np.log(np.maximum(heights + offset, _LEAST)) - rate * heights
        top = logs.max(0)
        data = float(top.sum() + np.log(shares @ np.exp(logs - top)).sum())
        prior = _JEFFREYS * np.log(np.maximum(shares, 1e-300)).sum() - 0.5 * (((parts[:-1] - centre) / errors) ** 2).sum()
        return data + float(prior)

    # About the spread that each would have if all atoms were known: the least there can be.
    precision = mixture.probabilities * counters.precision(mixture.level * metal[:, None] * np.array(steps.parts))
    known = (precision * (mixture.level * metal[:, None]) ** 2).sum(0)
    scale = np.concatenate([
        [1 / np.sqrt(known[-1] + 1.0)],
        1 / np.sqrt(len(metal) * mixture.shares[:-1] + 1.0),
        1 / np.sqrt(1 / errors**2 + known[:-1]),
    ])  # fmt: skip
    shares = np.maximum(mixture.shares, 1e-6)
    x = np.concatenate([[np.log(mixture.level)], np.log(shares[:-1] / shares[-1]), centre])
    stride, root = 2.4 / np.sqrt(len(x)), np.diag(scale)
    now, visited = likely(x), []
    for number in range(_BURN + DRAWS * _EVERY):
        other = x + stride * root @ chance.standard_normal(len(x))
        then = likely(other)
        taken = float(np.exp(min(0.0, then - now)))
        if chance.random() < taken:
            x, now = other, then
        if number < _BURN:
            visited.append(x)
            stride *= float(np.exp((taken - _ACCEPTED) / np.sqrt(1 + number / 10)))
            if number in (_BURN // 3, 2 * _BURN // 3):
                spread = np.cov(np.array(visited[number // 2 :]).T)
                root = np.linalg.cholesky(spread + np.diag((0.1 * scale) ** 2))
                stride = 2.4 / np.sqrt(len(x))
        elif (number - _BURN) % _EVERY == 0:
            yield split(x)


def best_calls(vacant: Matrix) -> npt.NDArray[np.bool_]:
    """Return which columns to call vacant so that the expected F1 is highest: the most probable ones.

    For k calls it is about ``2 sum of their probabilities / (k + sum of all)`` (D. D. Lewis, SIGIR 1995, 246).
    """
    if not len(vacant):
        return np.zeros(0, bool)
    order = np.argsort(-vacant, kind="stable")
    expected = 2 * np.cumsum(vacant[order]) / (np.arange(1, len(vacant) + 1) + vacant.sum())
    best = int(np.argmax(expected)) + 1
    called = np.zeros(len(vacant), bool)
    called[order[:best]] = True
    # Where nothing is likely, the least unlikely is no vacancy.
    return called & (vacant > min(0.5, float(expected[best - 1]) / 2) * (1 - 1e-9)) & (vacant > 0.05)
