"""Fit all columns of an image together: least squares, or maximum likelihood of Poisson counts.

Gauss-Newton steps (Fisher scoring for Poisson) on the joint model, Newton's near the minimum, damped after Levenberg and
Marquardt with a damping of its own for every column. Neighbours are coupled in the normal equations, which are solved by
conjugate gradients preconditioned with every column's own 5x5 block. Bounds are kept by projection (Bertsekas, SIAM J. Control
Optim. 20, 221, 1982).

A step is only taken if it lowers the misfit, and if not, those are damped more where it rises. Columns at rest are left alone
while others, with their neighbours, still move.
"""

from dataclasses import dataclass
from typing import Final, Literal

from emstore.operation import Array
from emstore.processors.measure.columns.arrays import double, maximum, namespace, true, zeros
from emstore.processors.measure.columns.cells import Cells
from emstore.processors.measure.columns.gaussians import SIGMA, X, Y, curvature, expected, gradient, information

Method = Literal["least_squares", "poisson"]

_LARGEST_STEP: Final = 1.0
"""Furthest a column moves in one step, pixels."""
_STRETCH: Final = 0.3
"""Most a width changes in one step, as a part of it."""
_NEAR: Final = 0.05
_FEW: Final = 0.5
"""Once no more than this part of the columns change by more than that, pixels, Newton's steps are taken."""
_CLOSE: Final = 0.02
"""After a step of Newton's in which no column changes by more than this, pixels, the same matrix does for another one."""
_SAFE: Final = 0.5
"""Newton's matrix does for a column whose least curvature it leaves at least this part of."""
_REFUSALS: Final = 10
_BLAME: Final = 0.3
"""A column is to blame for a rise of the misfit if that in its window is at least this part of the worst, to the number of
refusals."""
_ROUGH: Final = 2e-3
"""A rough fit ends when a step lowers the misfit by less than this part."""
_STALLED: Final = 1e-11
_STALLS: Final = 4
"""After so many steps in turn that lower the misfit by less than that part, what still moves is not going to settle."""
_SOLVE_STEPS: Final = 60
_SOLVED: Final = (1e-2, 1e-4)
"""How well a step solves the normal equations, far from the minimum and near it."""
_TINY: Final = 1e-300
_HUGE: Final = 1e200


@dataclass(frozen=True)
class Bounds:
    """The parameters' limits, arrays of float64, shape (N, 5)."""

    lower: Array
    upper: Array


@dataclass(frozen=True)
class Fit:
    """Where a fit ended."""

    theta: Array
    """Parameters, float64, shape (N, 5): y, x, amplitude, sigma, background."""
    converged: Array
    """Columns whose last step was below the tolerance and which touch no limit of place or width, bool, shape (N,)."""
    iterations: int
    misfit: tuple[float, ...]
    """Half the sum of squares, or half the Poisson deviance, at the start and after every step that was taken."""


@dataclass(frozen=True)
class _Problem:
    """Some columns in an image in which all others stand still."""

    data: Array
    cells: Cells
    used: Array
    """Pixels that take part, in whosever cell."""
    rest: Array
    """What all others contribute to the model."""
    bounds: Bounds
    method: Method

    def model(self, theta: Array) -> Array:
        """Return the expected value of every pixel."""
        return self.rest + expected(self.cells, theta)

    def costs(self, mu: Array) -> Array:
        """Return every pixel's share of the misfit."""
        return _costs(self.data, mu, self.used, self.method)


@dataclass(frozen=True)
class _Progress:
    """How far columns have come, each an array of one value per column but `theta`."""

    theta: Array
    damping: Array
    change: Array
    """Pixels that the last step moved and widened it by."""
    still: Array
    """Whether the last step was below the tolerance."""

    def of(self, some: Array) -> "_Progress":
        """Return that of some columns."""
        return _Progress(self.theta[some], self.damping[some], self.change[some], self.still[some])


def fit_columns(
    data: Array,
    cells: Cells,
    start: Array,
    *,
    bounds: Bounds,
    method: Method,
    tolerance: float = 1e-4,
    iterations: int = 60,
    rough: bool = False,
    moving: Array | None = None,
) -> Fit:
    """Fit the joint model of all columns to an image.

    Parameters
    ----------
    data : array, float64, shape (pixels,)
        The image flattened, with any finite value where nothing is known; electrons for ``poisson``.
    cells : Cells
        Which pixels take part and which columns share them.
    start : array, float64, shape (N, 5)
        Parameters to begin with, inside the bounds.
    bounds : Bounds
        Limits of every parameter.
    method : ``least_squares`` or ``poisson``
        What is made smallest.
    tolerance : float, pixels
        A column has converged when a step moves it, and changes its width, by less.
    iterations : int
        Most steps that are tried.
    rough : bool
        Stop as soon as few columns still move by more than some hundredths of a pixel, or the misfit hardly falls.
    moving : array, bool, shape (N,), optional
        Columns that are not at rest to begin with; left out: all.
    """
    xp = namespace(data)
    moving = cells.rows >= 0 if moving is None else moving
    theta, damping, change, still = start + 0.0, zeros((cells.count,), data) + 1e-3, zeros((cells.count,), data), ~moving
    change[moving] = float("inf")
    used = cells.owner < cells.count
    mu = expected(cells, theta)
    tried, misfit = 0, [float(_costs(data, mu, used, method).sum())]
    while tried < iterations and bool(moving.any()):
        chosen = cells.near(moving)
        some = true(chosen)
        alone, kept = cells.take(chosen)
        limits = Bounds(bounds.lower[some], bounds.upper[some])
        rest = mu[kept] - expected(alone, theta[some])
        problem = _Problem(data[kept], alone, used[kept], rest, limits, method)
        before = _Progress(theta[some], damping[some], change[some], still[some])
        after, falls, stalled = _descend(problem, before, tolerance=tolerance, iterations=iterations - tried, rough=rough)
        tried += len(falls)
        for fall in falls:
            misfit.append(misfit[-1] - fall)
        theta[some], damping[some], change[some], still[some] = after.theta, after.damping, after.change, after.still
        mu[kept] = problem.model(after.theta)
        if rough:
            break
        # Others are woken by what has moved beside them.
        far = zeros((cells.count,), data)
        far[some] = xp.abs(after.theta - before.theta)[:, :2].sum(1)
        moving = cells.near(far > tolerance) & ~chosen
        moving[some] = ~after.still & (not stalled)
    shape = slice(None), slice(SIGMA + 1)
    free = ((theta[shape] > bounds.lower[shape]) & (theta[shape] < bounds.upper[shape])).all(1)
    return Fit(theta, still & free, tried, tuple(misfit))


def _descend(
    problem: _Problem, at: _Progress, *, tolerance: float, iterations: int, rough: bool
) -> tuple[_Progress, list[float], bool]:
    """Take steps until half of the columns that moved are at rest, or steps lead nowhere.

    Returns
    -------
    progress : _Progress
    falls : list of float
        By how much each step lowered the misfit.
    stalled : bool
        Whether it ended because the misfit does not fall any more.
    """
    xp = namespace(problem.data)
    cells, bounds = problem.cells, problem.bounds
    theta, damping, change, still = at.theta, at.damping, at.change, at.still
    mu = problem.model(theta)
    costs = problem.costs(mu)
    falls: list[float] = []
    busy, stalls, refused, close = int((~still).sum()), 0, 0, False
    total = float(costs.sum())
    for _ in range(iterations):
        near = float(double(change > _NEAR).mean()) < _FEW
        if near and rough:
            break
        if not refused:
            first, second = _weights(problem.data, mu, problem.used, problem.method)
            downhill = gradient(cells, theta, first)
            if not close:
                matrix = None  # the largest array there is makes room for its successor
                matrix = information(cells, theta, second[near])
                if near:
                    matrix = _newton(matrix, curvature(cells, theta, first))
            blocked = ((theta <= bounds.lower) & (downhill <= 0)) | ((theta >= bounds.upper) & (downhill >= 0))
            downhill = xp.where(blocked, 0.0, downhill)
        step = _limited(_solve(cells, matrix, downhill, blocked, damping, _SOLVED[near]), theta)
        trial = xp.minimum(xp.maximum(theta + step, bounds.lower), bounds.upper)
        trial_mu = problem.model(trial)
        trial_costs = problem.costs(trial_mu)
        rise = trial_costs - costs
        fall = -float(rise.sum())
        if not fall >= -1e-12 * (total + 1):
            refused += 1
            if refused > _REFUSALS:
                break
            damping = xp.where(_to_blame(cells, rise, refused), maximum(damping * 10, 1e-2), damping)
            falls.append(0.0)
            continue
        moved = xp.abs(trial - theta)
        theta, mu, costs, refused = trial, trial_mu, trial_costs, 0
        falls.append(fall)
        total -= fall
        damping = maximum(damping * 0.3, 1e-9)
        change = moved[:, Y] + moved[:, X] + moved[:, SIGMA]
        still = (moved[:, Y] + moved[:, X] < tolerance) & (moved[:, SIGMA] < 10 * tolerance) & (damping < 1)
        stalls = stalls + 1 if fall <= _STALLED * total else 0
        if stalls == _STALLS or 2 * int((~still).sum()) <= busy or (rough and fall < _ROUGH * total):
            break
        close = near and not close and float(change.max()) < _CLOSE
    return _Progress(theta, damping, change, still), falls, stalls == _STALLS or refused > _REFUSALS


def _to_blame(cells: Cells, rise: Array, refusals: int) -> Array:
    """Return the columns in whose windows the misfit rises most; more of them after every refusal."""
    xp = namespace(rise)
    near = xp.concatenate([rise[cells.windows(part)[2]].sum((1, 2)) for part in cells.parts(cells.half)])
    return ~(near < _BLAME ** (refusals + 1) * float(near.max()))


def _weights(data: Array, mu: Array, used: Array, method: Method) -> tuple[Array, tuple[Array, Array]]:
    """Return minus the misfit's first derivative by the model at every pixel, and its second: expected and as it is."""
    xp = namespace(data)
    if method == "least_squares":
        one = double(used)
        return (data - mu) * one, (one, one)
    inverse = xp.where(used & (mu > 0), 1 / maximum(mu, _TINY), 0.0)
    return xp.where(used, data * inverse - 1, 0.0), (inverse, data * inverse**2)


def _newton(matrix: Array, second: Array) -> Array:
    """Return the misfit's true matrix of second derivatives, for those columns at least where it is safely positive.

    Gauss-Newton comes nearer by a factor per step, Newton by ever more; far from a minimum only the former points downhill.
    The matrix is changed in place.
    """
    xp = namespace(matrix)
    before = matrix[:, :, 0]
    own = before - second
    diagonal = xp.einsum("nii->ni", before)
    scale = 1 / xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0))
    each = scale[:, :, None] * scale[:, None, :]
    least, most = (xp.linalg.eigvalsh(one * each)[:, 0] for one in (own, before))
    matrix[:, :, 0] = xp.where((least > _SAFE * most)[:, None, None], own, before)
    return matrix


def _costs(data: Array, mu: Array, used: Array, method: Method) -> Array:
    """Return every pixel's share of the misfit; huge where Poisson counts would have no positive expectation."""
    xp = namespace(data)
    if method == "least_squares":
        each = (data - mu) ** 2 / 2
    else:
        safe = maximum(mu, _TINY)
        each = mu - data + data * xp.log(maximum(data, _TINY) / safe)
        each = xp.where(mu > 0, each, _HUGE)
    return xp.where(used, each, 0.0)


def _largest(values: Array) -> Array:
    """Return the largest of every row."""
    return values.max(1) if namespace(values).__name__ == "numpy" else values.amax(1)


def _limited(step: Array, theta: Array) -> Array:
    """Return steps shortened, each column's as a whole, to what the quadratic approximation can be trusted for."""
    xp = namespace(step)
    far = _largest(xp.abs(step[:, :2]))
    wide = xp.abs(step[:, SIGMA]) / theta[:, SIGMA]
    return step / maximum(xp.maximum(far / _LARGEST_STEP, wide / _STRETCH), 1.0)[:, None]


def _solve(cells: Cells, matrix: Array, right: Array, blocked: Array, damping: Array, tolerance: float) -> Array:
    """Return the damped Gauss-Newton step of the parameters that are not blocked."""
    xp = namespace(right)
    free = double(~blocked)
    own = matrix[:, :, 0]
    diagonal = xp.einsum("nii->ni", own)
    # Parameters in their own units: amplitudes may be 1e-3 and positions 10.
    scale = 1 / xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0)) * free
    eye = xp.eye(right.shape[1], dtype=right.dtype, **({} if xp.__name__ == "numpy" else {"device": right.device}))
    extra = damping[:, None] + 1e-12
    extra = extra + (1 - free)
    first = xp.linalg.inv(own * scale[:, :, None] * scale[:, None, :] + eye * extra[:, None, :])
    count, size, most, _ = matrix.shape
    rows = matrix.reshape(count, size, most * size)

    def times(v: Array) -> Array:
        near = (scale * v)[cells.neighbours].reshape(count, most * size, 1)
        return (rows @ near)[..., 0] * scale + extra * v

    right = right * scale
    found = zeros(tuple(right.shape), right)
    rest = right
    ahead = (first @ rest[..., None])[..., 0]
    direction = ahead
    product = float((rest * ahead).sum())
    goal = tolerance**2 * product
    for _ in range(_SOLVE_STEPS):
        if not product > goal:
            break
        turned = times(direction)
        curvature = float((direction * turned).sum())
        if not curvature > 0:  # far neighbours are left out of the matrix, which may cost it its definiteness
            break
        found = found + direction * (product / curvature)
        rest = rest - turned * (product / curvature)
        ahead = (first @ rest[..., None])[..., 0]
        before, product = product, float((rest * ahead).sum())
        direction = ahead + direction * (product / before)
    return found * scale


__all__ = ["Bounds", "Fit", "Method", "fit_columns"]
