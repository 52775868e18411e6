"""Fit all columns of an image together: least squares, or maximum likelihood of Poisson counts.

Gauss-Newton steps (Fisher scoring for Poisson) on the joint model, Newton's near the minimum, damped after Levenberg and
Marquardt with a damping of its own for every column, so that a hopeless one does not slow the others. Neighbours are coupled
in the normal equations, which are solved by conjugate gradients preconditioned with every column's own 5x5 block. A step is
only taken if it lowers the whole image's misfit. Bounds are kept by projection (Bertsekas, SIAM J. Control Optim. 20, 221,
1982).
"""

from dataclasses import dataclass
from typing import Final, Literal

from emstore.operation import Array
from emstore.processors.measure.columns.arrays import double, maximum, namespace, sums, zeros
from emstore.processors.measure.columns.cells import Cells
from emstore.processors.measure.columns.gaussians import SIGMA, X, Y, curvature, expected, gradient, information

Method = Literal["least_squares", "poisson"]

_LARGEST_STEP: Final = 1.0
"""Furthest a column moves in one step, pixels."""
_STRETCH: Final = 0.3
"""Most a width changes in one step, as a part of it."""
_NEAR: Final = 0.05
_FEW: Final = 0.1
"""Once all columns but a few (as a part) change by less than this, pixels, Newton's steps are taken."""
_CLOSE: Final = 0.02
"""After a step of Newton's in which no column changes by more than this, pixels, the same matrix does for another one."""
_SAFE: Final = 1e-3
_REFUSALS: Final = 10
_BLAME: Final = 0.3
"""A column is to blame for a rise of the misfit if that near it is at least this part of the worst, to the number of refusals."""
_SOLVE_STEPS: Final = 60
_SOLVED: Final = 1e-4
_TINY: Final = 1e-300


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
) -> Fit:
    """Fit the joint model of all columns to an image.

    Parameters
    ----------
    data : array, float64, shape (pixels + 1,)
        The image flattened, with any finite value where nothing is known and at its end; electrons for ``poisson``.
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
        Stop as soon as few columns still move by more than some hundredths of a pixel.
    """
    xp = namespace(data)
    theta = start
    used = cells.owner < cells.count
    damping = zeros((cells.count,), data) + 1e-3
    mu = expected(cells, theta)
    costs = _costs(data, mu, cells, used, method)
    trail = [float(costs.sum())]
    still = damping < 0
    near, close, tried, refused = False, False, 0, 0
    while tried < iterations:
        tried += 1
        first, second = _weights(data, mu, used, method)
        downhill = gradient(cells, theta, first)
        if not refused and not close:
            matrix = information(cells, theta, second[near])
            if near:
                matrix = _newton(matrix, curvature(cells, theta, first))
        blocked = ((theta <= bounds.lower) & (downhill <= 0)) | ((theta >= bounds.upper) & (downhill >= 0))
        step = _limited(_solve(cells, matrix, xp.where(blocked, 0.0, downhill), blocked, damping), theta)
        trial = xp.minimum(xp.maximum(theta + step, bounds.lower), bounds.upper)
        trial_mu = expected(cells, trial)
        trial_costs = _costs(data, trial_mu, cells, used, method)
        total = float(trial_costs.sum())
        rise = trial_costs - costs
        if not total <= trail[-1] * (1 + 1e-12) + 1e-12:
            refused += 1
            if refused > _REFUSALS:
                break
            # Those whose cells, or whose neighbours' cells, rose most are to blame.
            worst = _largest(rise[cells.neighbours] * cells.present)
            blamed = ~(worst < _BLAME ** (refused + 1) * float(worst.max()))
            damping = xp.where(blamed, maximum(damping * 10, 1e-2), damping)
            continue
        moved = xp.abs(trial - theta)
        theta, mu, costs, refused = trial, trial_mu, trial_costs, 0
        trail.append(total)
        damping = maximum(damping * 0.3, 1e-9)
        change = moved[:, Y] + moved[:, X] + moved[:, SIGMA]
        still = (moved[:, Y] + moved[:, X] < tolerance) & (moved[:, SIGMA] < 10 * tolerance) & (damping < 1)
        if bool(still.all()):
            break
        close = near and not close and float(change.max()) < _CLOSE
        near = float(double(change > _NEAR).mean()) < _FEW
        if near and rough:
            break
    shape = slice(None), slice(SIGMA + 1)
    free = ((theta[shape] > bounds.lower[shape]) & (theta[shape] < bounds.upper[shape])).all(1)
    return Fit(theta, still & free, tried, tuple(trail))


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
    """
    xp = namespace(matrix)
    own = matrix[:, 0] - second
    diagonal = xp.einsum("nii->ni", matrix[:, 0])
    scale = 1 / xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0))
    least = xp.linalg.eigvalsh(own * scale[:, :, None] * scale[:, None, :])[:, 0]
    own = xp.where((least > _SAFE)[:, None, None], own, matrix[:, 0])
    return xp.concatenate((own[:, None], matrix[:, 1:]), 1)


def _costs(data: Array, mu: Array, cells: Cells, used: Array, method: Method) -> Array:
    """Return every cell's share of the misfit; infinite where Poisson counts would have no positive expectation."""
    xp = namespace(data)
    if method == "least_squares":
        each = (data - mu) ** 2 / 2
    else:
        safe = maximum(mu, _TINY)
        each = mu - data + data * xp.log(maximum(data, _TINY) / safe)
        each = xp.where(mu > 0, each, float("inf"))
    return sums(cells.owner, xp.where(used, each, 0.0), cells.count + 1)[:-1]


def _largest(values: Array) -> Array:
    """Return the largest of every row."""
    return values.max(1) if namespace(values).__name__ == "numpy" else values.amax(1)


def _limited(step: Array, theta: Array) -> Array:
    """Return steps shortened, each column's as a whole, to what the quadratic approximation can be trusted for."""
    xp = namespace(step)
    far = _largest(xp.abs(step[:, :2]))
    wide = xp.abs(step[:, SIGMA]) / theta[:, SIGMA]
    return step / maximum(xp.maximum(far / _LARGEST_STEP, wide / _STRETCH), 1.0)[:, None]


def _solve(cells: Cells, matrix: Array, right: Array, blocked: Array, damping: Array) -> Array:
    """Return the damped Gauss-Newton step of the parameters that are not blocked."""
    xp = namespace(right)
    free = double(~blocked)
    own = matrix[:, 0]
    diagonal = xp.einsum("nii->ni", own)
    # Parameters in their own units: amplitudes may be 1e-3 and positions 10.
    scale = 1 / xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0)) * free
    eye = xp.eye(right.shape[1], dtype=right.dtype, **({} if xp.__name__ == "numpy" else {"device": right.device}))
    extra = damping[:, None] + 1e-12
    scaled = own * scale[:, :, None] * scale[:, None, :] + eye * (extra + (1 - free))[:, None, :]
    first = xp.linalg.inv(scaled)
    others = matrix[:, 1:] * scale[:, None, :, None] * scale[cells.neighbours[:, 1:]][:, :, None, :]

    def times(v: Array) -> Array:
        near = xp.einsum("nij,nj->ni", scaled, v)
        if not others.shape[1]:
            return near
        beside = v[cells.neighbours[:, 1:]]
        return near + (others @ beside[..., None])[..., 0].sum(1)

    right = right * scale
    found = zeros(tuple(right.shape), right)
    rest = right
    ahead = (first @ rest[..., None])[..., 0]
    direction = ahead
    product = float((rest * ahead).sum())
    goal = _SOLVED**2 * product
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
