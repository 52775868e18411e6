"""The mean cell of an image, and in it the sites and the shape of a column on each.

Averaging over all cells leaves little noise even where single columns drown in it. In a hexagonal cell only three sites have
threefold symmetry; in MX2 seen along its layers' normal they hold metal, chalcogen and nothing (2H), or metal and two
chalcogens (1T). A column is a narrow Gaussian and a wide one, the probe's tail, round in the undistorted lattice.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from emstore.processors.measure.vacancies.lattice import Lattice, Matrix

THIRDS: Final = ((0.0, 0.0), (2 / 3, 1 / 3), (1 / 3, 2 / 3))
"""The three sites relative to the first, cell coordinates of vectors 120 degrees apart."""
_BINS: Final = 30
_REACH: Final = 2
"""Cells whose columns reach into one."""


@dataclass(frozen=True)
class Shape:
    """A column of height 1: ``(exp(-r^2 / 2 narrow^2) + tail exp(-r^2 / 2 wide^2)) / (1 + tail)``."""

    narrow: float
    """Standard deviation, pixels of the undistorted lattice."""
    wide: float
    tail: float

    def at(self, squared: Matrix) -> Matrix:
        """Return the values at squared distances, any shape."""
        near = np.exp(squared * (-0.5 / self.narrow**2))
        if not self.tail:
            return np.asarray(near)
        return np.asarray((near + self.tail * np.exp(squared * (-0.5 / self.wide**2))) / (1 + self.tail))

    def slope(self, squared: Matrix) -> Matrix:
        """Return the derivative by the squared distance."""
        near = np.exp(squared * (-0.5 / self.narrow**2)) * (-0.5 / self.narrow**2)
        far = self.tail * np.exp(squared * (-0.5 / self.wide**2)) * (-0.5 / self.wide**2)
        return np.asarray((near + far) / (1 + self.tail))

    def reach(self, constant: float) -> float:
        """Return the distance beyond which less than 1 % is left, at most a cell, pixels."""
        r = np.linspace(0, constant, 200)
        seen = np.flatnonzero(self.at(r**2) > 0.01)
        return float(max(r[seen[-1]], 2.0))


@dataclass(frozen=True)
class MeanCell:
    """What the mean cell says. Sites in the order of their heights, brightest first."""

    origin: tuple[float, float]
    """Cell coordinates of the brightest site."""
    fractions: tuple[tuple[float, float], ...]
    """Cell coordinates of the three sites, brightest first."""
    heights: Matrix
    """Of the mean column there, above the background, shape (3,)."""
    errors: Matrix
    """Standard errors of these, from what the model leaves over."""
    shapes: tuple[Shape, Shape, Shape]
    background: float


def mean_cell(image: Matrix, known: npt.NDArray[np.bool_], lattice: Lattice, smoothing: float = 0.06) -> tuple[Matrix, Matrix]:
    """Average an image over all cells.

    Returns
    -------
    mean, pixels : ndarray, float64, shape (30, 30)
        Value and number of pixels at the cell coordinates ``n / 30``.
    """
    rows, columns = np.nonzero(known)
    cells = lattice.cells(np.stack([rows, columns], axis=1).astype(np.float64))
    bins = np.floor(cells * _BINS + 0.5).astype(np.int64) % _BINS
    index = bins[:, 0] * _BINS + bins[:, 1]
    pixels = np.bincount(index, minlength=_BINS**2).astype(np.float64)
    total = np.bincount(index, weights=image[known], minlength=_BINS**2)
    mean = np.divide(total, pixels, out=np.full(_BINS**2, image[known].mean()), where=pixels > 0)
    return mean.reshape(_BINS, _BINS), pixels.reshape(_BINS, _BINS)


def brightest(mean: Matrix, pixels: Matrix) -> tuple[float, float]:
    """Return the cell coordinates about which threefold sites are brightest: those of the highest place of the mean cell."""
    from scipy import ndimage

    width = 0.07 * _BINS
    smooth = ndimage.gaussian_filter(mean * pixels, width, mode="wrap") / ndimage.gaussian_filter(pixels, width, mode="wrap")
    i, j = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    return float(i) / _BINS, float(j) / _BINS


def fit_cell(mean: Matrix, pixels: Matrix, lattice: Lattice, origin: tuple[float, float]) -> MeanCell:
    """Fit columns on the three sites to the mean cell: heights by linear least squares, widths around it.

    The sites share the tail; each of the two brighter has a width of its own, the third that of the second.
    """
    from scipy.optimize import least_squares

    constant = lattice.constant
    grid = np.stack(np.meshgrid(np.arange(_BINS), np.arange(_BINS), indexing="ij"), axis=-1).reshape(-1, 2) / _BINS
    steps = np.arange(-_REACH, _REACH + 1)
    copies = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    squared = []
    for third in THIRDS:
        away = (grid - np.array(origin) - np.array(third) + 0.5) % 1.0 - 0.5
        moved = (away[:, None] + copies) @ lattice.vectors @ lattice.ideal
        squared.append((moved**2).sum(-1))
    weight = np.sqrt(pixels.ravel())
    data = mean.ravel()
    order = _by_height(data, weight, squared, constant)
    squared = [squared[n] for n in order]

    def shapes(q: Matrix) -> tuple[Shape, Shape, Shape]:
        one, two, tail = (float(v) for v in q[:3])
        wide = float(q[3])
        return Shape(one, wide, tail), Shape(two, wide, tail), Shape(two, wide, tail)

    def solved(q: Matrix) -> tuple[Matrix, Matrix]:
        lines = [shape.at(r2).sum(1) for shape, r2 in zip(shapes(q), squared, strict=True)]
        design = np.stack([*lines, np.ones_like(data)], axis=1)
        heights = np.linalg.lstsq(design * weight[:, None], data * weight, rcond=None)[0]
        if heights[-1] < 0:  # nothing scatters less than nothing: tails as wide as the cell would take over
            heights = np.append(np.linalg.lstsq(design[:, :-1] * weight[:, None], data * weight, rcond=None)[0], 0.0)
        return heights, design

    def left(q: Matrix) -> Matrix:
        heights, design = solved(q)
        return np.asarray((data - design @ heights) * weight)

    low = np.array([0.06, 0.06, 0.0, 0.22]) * [constant, constant, 1.0, constant]
    high = np.array([0.21, 0.21, 0.6, 0.6]) * [constant, constant, 1.0, constant]
    start = np.array([0.13, 0.13, 0.1, 0.3]) * [constant, constant, 1.0, constant]
    scale = max(float(np.ptp(data)) * float(weight.mean()), 1e-300)
    found = least_squares(lambda q: left(q) / scale, start, bounds=(low, high), x_scale=high - low, max_nfev=40)
    heights, design = solved(found.x)
    weighted = design * weight[:, None]
    rest = float((left(found.x) ** 2).sum()) / max(int((pixels > 0).sum()) - 8, 1)
    errors = np.sqrt(np.diag(np.linalg.pinv(weighted.T @ weighted)) * rest)
    fractions = tuple((origin[0] + THIRDS[n][0], origin[1] + THIRDS[n][1]) for n in order)
    return MeanCell(origin, fractions, heights[:3], errors[:3], shapes(found.x), float(heights[3]))


def _by_height(data: Matrix, weight: Matrix, squared: list[Matrix], constant: float) -> list[int]:
    shape = Shape(0.13 * constant, 0.3 * constant, 0.1)
    design = np.stack([*(shape.at(r2).sum(1) for r2 in squared), np.ones_like(data)], axis=1)
    heights = np.linalg.lstsq(design * weight[:, None], data * weight, rcond=None)[0]
    return [int(n) for n in np.argsort(-heights[:3], kind="stable")]
