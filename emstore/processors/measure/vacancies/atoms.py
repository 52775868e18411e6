"""How many atoms each column has, how sure that is, and how many are missing in all.

Every column acts like one counter: around its estimated height ``t`` the likelihood of a height ``a`` is that of a Poisson count
``s (t + c)`` with the expectation ``s (a + c)``, s and c chosen so that its information is the column's at a full height and at
that of one atom. What makes equal columns differ by more than counting (thermal shifts, a wrong gain, blurred noise) is an
overdispersion phi by which the logarithm is divided (quasi-likelihood, R. W. M. Wedderburn, Biometrika 61, 439, 1974).

The height of a full column comes from the image itself, as a plane across it; that of one atom is a known part of it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from emstore.processors.measure.vacancies.lattice import Matrix

_ROUNDS: Final = 60
_SETTLED: Final = 1e-5
_BURN: Final = 60
DRAWS: Final = 400
_JEFFREYS: Final = 0.5
_LEAST: Final = 1e-9
_MOST_DEVIATION: Final = 0.9
"""Share of columns that may be anything but full, at most."""
_PLANE: Final = 100
"""Columns it takes to tell how the full height changes across the image."""


@dataclass(frozen=True)
class Counters:
    """Columns as counters."""

    height: Matrix
    """t, shape (N,)."""
    rate: Matrix
    """s > 0: expected counts per height."""
    offset: Matrix
    """c: height of what it stands on."""

    def of(self, which: npt.NDArray[np.bool_]) -> "Counters":
        """Return some of them."""
        return Counters(self.height[which], self.rate[which], self.offset[which])

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

    full: Matrix
    """Height of a full column at every place, shape (N,)."""
    shares: Matrix
    """Of columns with 0, 1, ... atoms."""
    phi: float
    """Overdispersion."""
    probabilities: Matrix
    """Of every number of atoms, shape (N, K)."""
    total: float
    """Log likelihood."""


def plane(places: Matrix, shape: tuple[int, int], count: int) -> Matrix:
    """Return what the full height may depend on at places (N, 2): a constant, and with enough columns the position."""
    if count < _PLANE:
        return np.ones((len(places), 1))
    scaled = places / (np.array(shape) / 2) - 1
    return np.concatenate([np.ones((len(places), 1)), scaled], axis=1)


def fit_mixture(counters: Counters, steps: Steps, basis: Matrix, *, phi: float | None = None) -> Mixture:
    """Find the full height, the share of every number of atoms and the overdispersion by expectation-maximisation.

    Begun from several heights, since it is not known how many columns are full; the likeliest end is taken.

    Parameters
    ----------
    phi : float, optional
        Overdispersion, if it is known.
    """
    starts = np.quantile(counters.height, [0.5, 0.75, 0.9])
    found = [_climb(counters, steps, basis, float(a), phi) for a in dict.fromkeys(starts.tolist()) if a > 0]
    if not found:
        flat = np.full(len(counters.height), max(float(starts[-1]), _LEAST))
        return Mixture(flat, _start(len(steps.parts)), 1.0, np.full((len(flat), len(steps.parts)), 1 / len(steps.parts)), -np.inf)
    # Ends in which hardly a column is full are the same picture with another name.
    likely = [m for m in found if 1 - m.shares[-1] < _MOST_DEVIATION] or found
    return max(likely, key=lambda m: m.total)


def _start(kinds: int) -> Matrix:
    shares = np.full(kinds, 0.05)
    shares[-1] = 1 - 0.05 * (kinds - 1)
    return shares


def _climb(counters: Counters, steps: Steps, basis: Matrix, start: float, known_phi: float | None) -> Mixture:
    parts = np.array(steps.parts)
    theta = np.zeros(basis.shape[1])
    theta[0] = start
    shares, phi = _start(len(parts)), known_phi or 1.0
    count = len(counters.height)
    probabilities, total = np.zeros((count, len(parts))), -np.inf
    for _ in range(_ROUNDS):
        full = np.maximum(basis @ theta, _LEAST)
        heights = full[:, None] * parts
        logs = counters.logs(heights) / phi + np.log(np.maximum(shares, 1e-300))
        top = logs.max(1, keepdims=True)
        weights = np.exp(logs - top)
        # Relative to the counters' own maximum, so that ends with other heights compare.
        now = float((top[:, 0] + np.log(weights.sum(1))).sum() - (counters.logs(counters.height[:, None]) / phi).sum())
        now -= 0.5 * count * np.log(phi)
        probabilities = weights / weights.sum(1, keepdims=True)
        shares = (probabilities.sum(0) + 0.1) / (count + 0.1 * len(parts))
        precision = probabilities * counters.precision(heights)
        each = (precision * parts**2).sum(1)
        right = basis.T @ ((precision * parts).sum(1) * counters.height)
        theta = np.linalg.solve((basis * each[:, None]).T @ basis + 1e-12 * np.eye(len(theta)) * each.sum(), right)
        phi = known_phi or max(1.0, _spread(counters, np.maximum(basis @ theta, _LEAST)))
        if abs(now - total) < _SETTLED * count:
            total = now
            break
        total = now
    return Mixture(np.maximum(basis @ theta, _LEAST), shares, phi, probabilities, total)


def _spread(counters: Counters, full: Matrix) -> float:
    """Return by how much columns above the full height scatter more than counts would: vacancies are all below.

    Two standard errors less than found: mere chance makes no overdispersion.
    """
    z = (counters.height - full) * np.sqrt(counters.precision(full))
    above = z[z > 0] ** 2
    if len(above) < 5:
        return 1.0
    most = 6.25 * float(np.median(above)) / 0.455  # 2.5 standard deviations; the median of a square is 0.455
    found = float(np.minimum(above, most).mean()) / 0.957
    return float(found / (1 + 2 * np.sqrt(2 / len(above))))


@dataclass(frozen=True)
class Counted:
    """What the columns say about all of them."""

    probabilities: Matrix
    """Of 0, 1, ... atoms, shape (N, K), over all that is uncertain."""
    missing: Matrix
    """Atoms missing among those that count, one per draw, shape (draws,)."""
    lacking: Matrix
    """Columns by number of atoms among those that count, shape (draws, K)."""


def count_atoms(
    counters: Counters, steps: Steps, basis: Matrix, mixture: Mixture, counts: npt.NDArray[np.bool_], seed: int
) -> Counted:
    """Draw the atoms of all columns, the shares, the full height and the calibration together (Gibbs sampling).

    Parameters
    ----------
    counts : ndarray, bool, shape (N,)
        Columns that are counted; all take part.
    seed : int
        The draws of the calibration are the same for the same seed and steps, whatever the image, so that frames share them.

    Notes
    -----
    Shares have Jeffreys' prior, the full height a flat one, calibrated parts the normal one of their errors.
    """
    chance = np.random.Generator(np.random.Philox(key=[seed, len(counters.height)]))
    calibration = np.random.Generator(np.random.Philox(key=[seed, 0]))
    kinds = len(steps.parts)
    centre, errors = np.array(steps.parts), np.array(steps.errors)
    full, shares = mixture.full, mixture.shares
    total = np.zeros((len(full), kinds))
    missing, lacking = [], []
    atoms = np.arange(kinds - 1, -1, -1)
    for number in range(_BURN + DRAWS):
        parts = centre + errors * calibration.standard_normal(kinds)
        heights = full[:, None] * parts
        logs = counters.logs(heights) / mixture.phi + np.log(np.maximum(shares, 1e-300))
        weights = np.exp(logs - logs.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        drawn = (chance.random((len(full), 1)) > np.cumsum(weights, axis=1)[:, :-1]).sum(1)
        shares = chance.dirichlet(np.bincount(drawn, minlength=kinds) + _JEFFREYS)
        part = parts[drawn]
        precision = counters.precision(full * part) / mixture.phi
        normal = (basis * (precision * part**2)[:, None]).T @ basis
        root = np.linalg.cholesky(normal + 1e-12 * np.trace(normal) * np.eye(len(normal)))
        mean = np.linalg.solve(normal, basis.T @ (precision * part * counters.height))
        theta = mean + np.linalg.solve(root.T, chance.standard_normal(len(mean)))
        full = np.maximum(basis @ theta, _LEAST)
        if number >= _BURN:
            total += weights
            tally = np.bincount(drawn[counts], minlength=kinds)
            lacking.append(tally)
            missing.append(int(tally @ atoms))
    return Counted(total / DRAWS, np.array(missing, np.float64), np.array(lacking, np.float64))


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
