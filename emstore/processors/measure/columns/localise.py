"""From an image to its columns: peaks, a first guess, the joint fit, what does not deserve to be called a column, errors."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.operation import Array
from emstore.processors.measure.columns.arrays import double, like, maximum, namespace, sums, to_numpy, true, zeros
from emstore.processors.measure.columns.bound import amplitude_errors, cramer_rao_bound, least_squares_errors
from emstore.processors.measure.columns.cells import Cells, lay_cells
from emstore.processors.measure.columns.fitting import Bounds, Fit, Method, fit_columns
from emstore.processors.measure.columns.gaussians import AMPLITUDE, BACKGROUND, PARAMETERS, SIGMA, X, Y, expected
from emstore.processors.measure.columns.peaks import LEAST_AREA, find_peaks, smooth

Matrix = npt.NDArray[np.float64]

_FIRST_SMOOTHING: Final = 2.0
"""With which columns are found to learn how wide they are, pixels."""
_NARROWEST: Final = 0.3
"""Least width of a column, pixels: less is a single bright pixel."""
_WIDER: Final = 1.6
"""Most that a column is wider or narrower than is typical, as a factor."""
_REACH: Final = 1.5
"""Furthest that a column lies from its peak, in typical widths."""
_RESOLVED: Final = 2.0
"""Two equal Gaussians nearer than this many widths have one maximum together (Sparrow's limit)."""
_MERGED: Final = 1.0
"""Two fits nearer than this many widths have become one column."""
_PRUNINGS: Final = 3
_DARK: Final = 1e-4
"""Least background of a Poisson fit, in parts of the mean: a pixel that expects nothing could not count anything."""


@dataclass(frozen=True)
class Search:
    """How columns are looked for."""

    method: Method = "least_squares"
    threshold: float = 0.12
    radius: float = 10.0
    min_distance: float = 0.0
    smoothing: float | None = None
    invert: bool = False
    significance: float = 5.0
    tolerance: float = 1e-4
    counts: bool = False
    """The values are electrons (or expected ones): the variance of a pixel is its expectation."""


@dataclass(frozen=True)
class Located:
    """Columns of one image, in array order of where they were found."""

    theta: Matrix
    """y, x, amplitude, sigma, background; float64, shape (N, 5)."""
    errors: Matrix
    """Standard error of each, shape (N, 5)."""
    converged: npt.NDArray[np.bool_]
    sigma: float = float("nan")
    """Typical width that the search began with, pixels."""
    smoothing: float = float("nan")
    dropped: int = 0
    """Peaks that turned out to be no columns."""


def locate(image: Array, search: Search) -> Located:
    """Return the columns of one image.

    Parameters
    ----------
    image : array of NumPy or torch, shape (rows, columns)
        Real values; what is not finite counts as unknown. Electrons for ``poisson``.
    search : Search
        How to look for them.
    """
    values = np.asarray(to_numpy(image), np.float64)
    known = np.isfinite(values)
    sign = -1.0 if search.invert else 1.0
    low, span = _range(values, known)
    if not span > 0 or not np.isfinite(span):
        return _nothing()
    # Electrons stay what they are, since their noise says how many there were; anything else is brought to [0, 1].
    shift, unit = (0.0, 1.0) if search.method == "poisson" or search.counts else (low, span)
    values = np.where(known, (values - shift) / unit, 0.0)
    bright = -values if search.invert else values
    peaks, smoothing, sigma = _peaks(bright, known, search)
    if not len(peaks):
        return _nothing()
    theta = _guess(bright, known, peaks, smoothing, sigma)
    theta[:, AMPLITUDE] *= sign
    theta[:, BACKGROUND] *= sign
    data = like(values.ravel(), image)
    places = peaks.astype(np.float64)
    found, mean = len(peaks), float(np.abs(values[known]).mean())
    moving, converged, spread = np.ones(found, bool), np.zeros(found, bool), np.zeros(theta.shape)
    for prunings in range(_PRUNINGS + 1):
        rough = prunings == 0
        cells = lay_cells(known, places, radius=search.radius, sigma=sigma, on=data)
        fit = _fit(data, cells, theta, places, search, sigma=sigma, mean=mean, rough=rough, moving=moving)
        theta, converged = to_numpy(fit.theta), to_numpy(fit.converged) & (moving | converged)
        spread[moving] = _errors(data, cells, fit.theta, search, rough=rough, of=like(moving, data))
        keep = _columns(theta, spread[:, AMPLITUDE], values.shape, search, sigma)
        # Only what is beside something that is no column has to be fitted again.
        moving = to_numpy(cells.near(like(~keep, data))) | rough
        theta, places, spread, moving, converged = (one[keep] for one in (theta, places, spread, moving, converged))
        if not len(theta):
            return _nothing(found)
        if not moving.any():
            break
    back = np.array([1.0, 1.0, unit, 1.0, unit])
    moved = np.array([0.0, 0.0, 0.0, 0.0, shift])
    return Located(theta * back + moved, spread * back, converged, sigma, smoothing, found - len(theta))


def _nothing(dropped: int = 0) -> Located:
    return Located(np.zeros((0, PARAMETERS)), np.zeros((0, PARAMETERS)), np.zeros(0, bool), dropped=dropped)


def _range(values: Matrix, known: npt.NDArray[np.bool_]) -> tuple[float, float]:
    if not known.any():
        return 0.0, 0.0
    low, high = float(values[known].min()), float(values[known].max())
    with np.errstate(over="ignore"):
        return low, high - low


def _peaks(bright: Matrix, known: npt.NDArray[np.bool_], search: Search) -> tuple[npt.NDArray[np.int64], float, float]:
    """Return peaks, the smoothing they were found with, and the typical width of a column, pixels.

    Without a smoothing asked for, it is that of a column itself: the filter that best tells a known shape from white noise.
    """
    first = _FIRST_SMOOTHING if search.smoothing is None else search.smoothing
    most = max(1, known.size // LEAST_AREA)

    def peaks(smoothing: float, sigma: float = 0.0) -> npt.NDArray[np.int64]:
        apart = max(search.min_distance, _RESOLVED * sigma)
        return find_peaks(bright, known, smoothing=smoothing, threshold=search.threshold, min_distance=apart)

    found, smoothing = peaks(first), first
    if search.smoothing is None:
        while len(found) > most:  # noise
            smoothing *= 1.5
            found = peaks(smoothing)
    elif len(found) > most:
        raise InvalidInput(
            f"there are {len(found)} peaks in {known.size} pixels, more than could be told apart",
            fix="raise smoothing, threshold or min_distance",
        )
    if not len(found):
        return found, smoothing, smoothing
    sigma = _width(bright, known, found, search.radius)
    matched = min(max(0.8 * sigma, 0.5), search.radius) if search.smoothing is None else search.smoothing
    again = peaks(matched, sigma)
    if not 0 < len(again) <= most:
        return found, smoothing, sigma
    return again, matched, _width(bright, known, again, search.radius)


def _width(bright: Matrix, known: npt.NDArray[np.bool_], peaks: npt.NDArray[np.int64], radius: float) -> float:
    """Return the width of the mean of all peaks, found by the same fit of a single column."""
    from scipy.spatial import cKDTree

    height, width = bright.shape
    half = max(2, int(radius))
    if len(peaks) > 1:
        apart = float(np.median(cKDTree(peaks).query(peaks, k=2)[0][:, 1]))
        half = max(2, min(half, int(0.6 * apart)))
    inside = (peaks[:, 0] >= half) & (peaks[:, 0] < height - half) & (peaks[:, 1] >= half) & (peaks[:, 1] < width - half)
    if not inside.any():
        return max(1.0, half / 2.5)
    offsets = np.arange(-half, half + 1)
    total, weight = np.zeros((2 * half + 1,) * 2), np.zeros((2 * half + 1,) * 2)
    chosen = peaks[inside]
    for start in range(0, len(chosen), 256):
        some = chosen[start : start + 256]
        rows, columns = some[:, 0, None, None] + offsets[:, None], some[:, 1, None, None] + offsets
        there = known[rows, columns]
        total += np.where(there, bright[rows, columns], 0.0).sum(0)
        weight += there.sum(0)
    patch = np.where(weight > 0, total / np.maximum(weight, 1), np.nan)
    seen = np.isfinite(patch)
    middle = np.array([[float(half), float(half)]])
    cells = lay_cells(seen, middle, radius=half + 0.5, sigma=half / 3, on=np.zeros(1))
    low, high = float(np.nanmin(patch)), float(np.nanmax(patch))
    if not high > low:
        return max(1.0, half / 2.5)
    patch = np.where(seen, (patch - low) / (high - low), 0.0)
    start_at = np.array([[half, half, 1.0, half / 2.5, 0.0]])
    bounds = Bounds(
        np.array([[half - 1, half - 1, 0.0, _NARROWEST, -1.0]]), np.array([[half + 1, half + 1, 4.0, max(1.0, half), 1.0]])
    )
    fit = fit_columns(patch.ravel(), cells, start_at, bounds=bounds, method="least_squares", tolerance=1e-3)
    # Maxima are found beside the true centres, and so their mean is wider than a column.
    return float(np.clip(fit.theta[0, SIGMA], 0.6, half))


def _guess(bright: Matrix, known: npt.NDArray[np.bool_], peaks: npt.NDArray[np.int64], smoothing: float, sigma: float) -> Matrix:
    """Return parameters to begin with, of bright columns."""
    from scipy import ndimage

    smoothed = smooth(bright, known, smoothing)
    smoothed = np.where(np.isfinite(smoothed), smoothed, np.nanmin(smoothed))
    size = 2 * round(2.5 * sigma) + 3
    floor = ndimage.minimum_filter(smoothed, size, mode="nearest")
    at = peaks[:, 0], peaks[:, 1]
    theta = np.empty((len(peaks), PARAMETERS))
    theta[:, :2] = peaks
    # Smoothing lowers a peak by the ratio of the areas of its old and new self.
    lowered = sigma**2 / (sigma**2 + smoothing**2)
    theta[:, AMPLITUDE] = np.maximum((smoothed[at] - floor[at]) / max(lowered, 0.2), 1e-3 * np.ptp(smoothed))
    theta[:, SIGMA] = sigma
    theta[:, BACKGROUND] = floor[at]
    return theta


def _fit(
    data: Array,
    cells: Cells,
    theta: Matrix,
    places: Matrix,
    search: Search,
    *,
    sigma: float,
    mean: float,
    rough: bool,
    moving: Any,
) -> Fit:
    """Fit all columns together."""
    lower = np.full(theta.shape, -np.inf)
    upper = np.full(theta.shape, np.inf)
    reach = max(2.0, _REACH * sigma)
    lower[:, :2], upper[:, :2] = places - reach, places + reach
    lower[:, SIGMA], upper[:, SIGMA] = max(_NARROWEST, sigma / _WIDER), sigma * _WIDER
    (upper if search.invert else lower)[:, AMPLITUDE] = 0.0
    if search.method == "poisson":
        lower[:, BACKGROUND] = _DARK * mean
    start = np.clip(theta, lower, upper)
    if search.method == "poisson" and search.invert:  # a dip never begins below nothing
        start[:, AMPLITUDE] = np.maximum(start[:, AMPLITUDE], -0.5 * start[:, BACKGROUND])
    return fit_columns(
        data,
        cells,
        like(start, data),
        bounds=Bounds(like(lower, data), like(upper, data)),
        method=search.method,
        tolerance=search.tolerance,
        rough=rough,
        moving=like(moving, data),
    )


def _errors(data: Array, cells: Cells, theta: Array, search: Search, *, rough: bool, of: Array) -> Matrix:
    """Return the standard errors of some columns' parameters, or of the amplitude alone and about."""
    xp = namespace(data)
    model = expected(cells, theta)
    variance = maximum(model, 0.0) if search.method == "poisson" or search.counts else _residual_variance(data, model, cells)
    variance = xp.where(cells.owner < cells.count, variance, float("inf"))
    chosen = cells.near(of)
    some = true(chosen)
    alone, kept = cells.take(chosen)
    of_what = (alone, theta[some], variance[kept])
    if rough:
        found = zeros((len(some), PARAMETERS), data)
        found[:, AMPLITUDE] = amplitude_errors(*of_what)
    else:
        found = (cramer_rao_bound if search.method == "poisson" else least_squares_errors)(*of_what)
    return to_numpy(found[of[some]])


def _residual_variance(data: Array, model: Array, cells: Cells) -> Array:
    """Return the mean squared residual of every pixel's cell, freed of the parameters."""
    xp = namespace(data)
    used = cells.owner < cells.count
    squares = sums(cells.owner, xp.where(used, (data - model) ** 2, 0.0), cells.count + 1)
    number = sums(cells.owner, double(used), cells.count + 1)
    return (squares / maximum(number - PARAMETERS, 1.0))[cells.owner]


def _columns(theta: Matrix, errors: Matrix, shape: tuple[int, int], search: Search, sigma: float) -> npt.NDArray[Any]:
    """Return which fits are columns: inside the image, significant, and not a second one in the same place."""
    from scipy.spatial import cKDTree

    height, width = shape
    with np.errstate(invalid="ignore", divide="ignore"):
        strength = np.abs(theta[:, AMPLITUDE]) / errors
    inside = (theta[:, Y] >= -0.5) & (theta[:, Y] <= height - 0.5) & (theta[:, X] >= -0.5) & (theta[:, X] <= width - 0.5)
    # Without noise at all the error of a perfect fit is nothing over nothing.
    strength = np.where(np.abs(theta[:, AMPLITUDE]) > 0, np.nan_to_num(strength, nan=np.inf), 0.0)
    keep: npt.NDArray[Any] = inside & (strength >= search.significance) & np.isfinite(theta).all(1)
    for one, other in cKDTree(theta[:, :2]).query_pairs(max(_MERGED * sigma, search.min_distance), output_type="ndarray"):
        if keep[one] and keep[other]:
            keep[one if strength[one] < strength[other] else other] = False
    return keep
