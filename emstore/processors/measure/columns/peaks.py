"""Find where columns may be: local maxima of a smoothed image above a threshold, whatever the lattice.

After the peak finder of StatSTEM (A. De Backer et al., Ultramicroscopy 171, 104, 2016): smooth, scale to [0, 1], keep local
maxima above a threshold that are some distance apart.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

LEAST_AREA: Final = 25
"""Pixels that a peak must have to itself, on average over an image: a Gaussian on a background has five parameters."""
_SUPPORT: Final = 0.25
"""Share of a smoothing kernel that must lie on known pixels for its mean to count."""


def smooth(image: npt.NDArray[np.float64], known: npt.NDArray[np.bool_], sigma: float) -> npt.NDArray[np.float64]:
    """Return an image after a Gaussian filter over its known pixels; NaN where too few are near."""
    from scipy import ndimage

    if sigma <= 0:
        return np.where(known, image, np.nan)
    if known.all():
        return np.asarray(ndimage.gaussian_filter(image, sigma, mode="nearest"))
    share = ndimage.gaussian_filter(known.astype(np.float64), sigma, mode="nearest")
    total = ndimage.gaussian_filter(np.where(known, image, 0.0), sigma, mode="nearest")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known & (share > _SUPPORT), total / share, np.nan)


def find_peaks(
    image: npt.NDArray[np.float64],
    known: npt.NDArray[np.bool_],
    *,
    smoothing: float,
    threshold: float = 0.12,
    min_distance: float = 0.0,
) -> npt.NDArray[np.int64]:
    """Return the pixels of local maxima, in array order.

    Parameters
    ----------
    image : ndarray, float64, shape (rows, columns)
        Bright columns.
    known : ndarray, bool
        Pixels that have a value.
    smoothing : float, pixels
        Standard deviation of the Gaussian filter before; 0 for none.
    threshold : float
        Least height of a maximum of the smoothed image, in parts of its range.
    min_distance : float, pixels
        Of two maxima nearer than this, the higher stays; 0 keeps all.

    Returns
    -------
    ndarray, int64, shape (N, 2)
        Row and column. A flat top counts once, at the pixel nearest to its middle.
    """
    from scipy import ndimage

    smoothed = smooth(image, known, smoothing)
    there = np.isfinite(smoothed)
    if not there.any():
        return np.zeros((0, 2), np.int64)
    low, high = float(smoothed[there].min()), float(smoothed[there].max())
    if not high - low > 1e-12 * max(abs(low), abs(high)):  # constant, but for rounding
        return np.zeros((0, 2), np.int64)
    filled = np.where(there, smoothed, -np.inf)
    top = (filled == ndimage.maximum_filter(filled, 3, mode="nearest")) & (filled > low + threshold * (high - low))
    labels, count = ndimage.label(top, np.ones((3, 3)))
    if not count:
        return np.zeros((0, 2), np.int64)
    middles = np.rint(ndimage.center_of_mass(top, labels, np.arange(1, count + 1))).astype(np.int64)
    # The middle of a curved flat top may lie beside it.
    inside = labels[middles[:, 0], middles[:, 1]] == np.arange(1, count + 1)
    if not inside.all():
        first = ndimage.minimum_position(labels, labels, np.arange(1, count + 1))
        middles = np.where(inside[:, None], middles, np.asarray(first, np.int64))
    if min_distance > 0:
        middles = middles[_apart(middles.astype(np.float64), filled[middles[:, 0], middles[:, 1]], min_distance)]
    return np.asarray(middles[np.lexsort((middles[:, 1], middles[:, 0]))], np.int64)


def _apart(positions: npt.NDArray[np.float64], heights: npt.NDArray[np.float64], distance: float) -> npt.NDArray[np.bool_]:
    """Return which points stay when, from the highest down, each removes those nearer than a distance."""
    from scipy.spatial import cKDTree

    kept = np.ones(len(positions), bool)
    near = cKDTree(positions).query_ball_point(positions, np.nextafter(distance, 0))
    for number in np.argsort(-heights, kind="stable"):
        if kept[number]:
            kept[near[number]] = False
            kept[number] = True
    return kept
