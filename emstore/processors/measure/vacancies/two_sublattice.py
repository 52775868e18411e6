"""The two-sublattice route: find metal columns, hide them, find chalcogen columns, compare with MX2. No manual edits.

As with Atomap (M. Nord et al., Adv. Struct. Chem. Imaging 3, 9, 2017): peaks that are some distance apart, centres of mass, 2-D
Gaussians; metal columns are then covered by dark discs and the same is done again. A column lacking one of two atoms is found
like a full one, so that only columns without any atom are missing here.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from emstore.processors.measure.columns.cells import lay_cells
from emstore.processors.measure.columns.fitting import Bounds, fit_columns
from emstore.processors.measure.columns.peaks import find_peaks
from emstore.processors.measure.vacancies.lattice import Matrix, Unusable

_SMOOTHING: Final = 2.0
_LEAST_COLUMNS: Final = 9
_ROUNDS: Final = 4
_MASS: Final = 0.35
"""Radius of the disc whose centre of mass is taken, in nearest distances."""


@dataclass(frozen=True)
class Separations:
    """Least distances of the peaks, and the discs' diameter, pixels."""

    metal: float = 20.0
    disc: float = 12.0
    chalcogen: float = 14.0


@dataclass(frozen=True)
class TwoSublattices:
    """Columns found on both sublattices."""

    metals: Matrix
    """y, x, amplitude, sigma, background, pixels, shape (M, 5)."""
    chalcogens: Matrix
    """The same, shape (N, 5)."""
    counted: npt.NDArray[np.bool_]
    """Chalcogens that count."""
    at_edge: npt.NDArray[np.bool_]
    metal_count: int
    """Metals that count."""

    @property
    def percent(self) -> float:
        """Chalcogen columns missing from one per metal column, percent; negative where there are more."""
        return 100 * (1 - float(self.counted.sum()) / self.metal_count)

    @property
    def interval(self) -> tuple[float, float]:
        """Of `percent`, 95 %: binomial, and one column more or less per length of border where the two counts disagree.

        Both sublattices are cut by the same border, each gaining or losing columns independently: about half a column's standard
        deviation for every ten along it.
        """
        missing = np.clip(1 - float(self.counted.sum()) / self.metal_count, 0.0, 1.0)
        border = 0.3 * np.sqrt(4 * np.sqrt(self.metal_count))
        half = 196 * float(np.hypot(np.sqrt(missing * (1 - missing) / self.metal_count), border / self.metal_count))
        return self.percent - half, self.percent + half


def find_two_sublattices(
    image: Matrix,
    separations: Separations,
    *,
    threshold: float = 0.12,
    invert: bool = False,
    edges: Literal["exclude", "wrap", "all"] = "wrap",
    edge: float | None = None,
) -> TwoSublattices:
    """Find both sublattices of an image.

    Parameters
    ----------
    image : ndarray, float64, shape (rows, columns)
    separations : Separations
    threshold : float
        Least height of a peak in the smoothed image, in parts of its range.
    edges : str
        ``wrap``: columns nearer to the bottom or right border than `edge` are not counted; ``exclude``: nor those at the others.
    edge : float, pixels, optional
        Left out: half the separation of the chalcogens.

    Raises
    ------
    Unusable
        There are too few columns.
    """
    known = np.isfinite(image)
    if min(image.shape) < 3 * separations.metal or known.mean() < 0.5:
        raise Unusable("too small, or too little of it known, for columns that far apart")
    values = np.where(known, image, 0.0) * (-1.0 if invert else 1.0)
    low, high = float(values[known].min()), float(values[known].max())
    if not high > low or not np.isfinite(high - low):
        raise Unusable("constant: all its pixels have the same value")
    values = np.where(known, (values - low) / (high - low), 0.0)
    metals = _columns(values, known, separations.metal, threshold)
    if len(metals) < _LEAST_COLUMNS:
        raise Unusable(f"too few columns: {len(metals)} on the brighter sublattice")
    hidden = _under_discs(values, known, metals, separations.disc / 2)
    chalcogens = _columns(hidden, known, separations.chalcogen, threshold, away=metals, distance=0.75 * separations.chalcogen)
    margin = separations.chalcogen / 2 if edge is None else edge
    counts, at_edge = _counted(chalcogens, image.shape, margin, edges)
    metal_counts, _ = _counted(metals, image.shape, margin, edges)
    if metal_counts.sum() < _LEAST_COLUMNS:
        raise Unusable(f"too few columns: {int(metal_counts.sum())} metal columns count")
    back = np.array([1.0, 1.0, high - low, 1.0, high - low])
    return TwoSublattices(metals * back, chalcogens * back, counts, at_edge, int(metal_counts.sum()))


def _counted(
    columns: Matrix, shape: tuple[int, ...], edge: float, edges: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    y, x = columns[:, 0], columns[:, 1]
    far = (y > shape[0] - 1 - edge) | (x > shape[1] - 1 - edge)
    at_edge = far | (y < edge) | (x < edge)
    return {"exclude": ~at_edge, "wrap": ~far, "all": np.ones(len(columns), bool)}[edges], at_edge


def _columns(
    values: Matrix, known: npt.NDArray[np.bool_], separation: float, threshold: float, away: Matrix | None = None,
    distance: float = 0.0,
) -> Matrix:  # fmt: skip
    """Return the columns of an image in [0, 1]: peaks, centres of mass, Gaussians; shape (N, 5)."""
    from scipy.spatial import cKDTree

    smoothing = min(_SMOOTHING, separation / 8)
    peaks = find_peaks(values, known, smoothing=smoothing, threshold=threshold, min_distance=separation).astype(np.float64)
    if away is not None and len(peaks):
        peaks = peaks[cKDTree(away[:, :2]).query(peaks)[0] > distance * 0.75]
    if len(peaks) < 2:
        return np.zeros((0, 5))
    nearest = float(np.median(cKDTree(peaks).query(peaks, k=2)[0][:, 1]))
    reach = max(2.0, _MASS * min(nearest, 1.5 * separation))
    places = _centres_of_mass(values, known, peaks, reach)
    moved = np.hypot(*(places - peaks).T) < reach
    places = places[moved]
    radius, sigma = max(2.0, 0.8 * reach), max(1.0, 0.5 * reach)
    cells = lay_cells(known, places, radius=radius, sigma=sigma, on=np.zeros(1))
    floor = float(np.quantile(values[known], 0.1))
    at = np.clip(np.rint(places).astype(int), 0, np.array(values.shape) - 1)
    start = np.stack(
        [
            *places.T,
            np.maximum(values[at[:, 0], at[:, 1]] - floor, 0.02),
            np.full(len(places), sigma),
            np.full(len(places), floor),
        ],
        axis=1,
    )
    lower = np.stack(
        [*(places - reach / 2).T, np.zeros(len(places)), np.full(len(places), 0.5), np.full(len(places), -1.0)], axis=1
    )
    upper = np.stack([*(places + reach / 2).T, *(np.full(len(places), v) for v in (4.0, 1.2 * reach, 1.0))], axis=1)
    data = np.where(known, values, 0.0).ravel()
    fit = fit_columns(
        data, cells, np.clip(start, lower, upper), bounds=Bounds(lower, upper), method="least_squares", tolerance=1e-2, rough=True
    )
    return np.asarray(fit.theta)


def _centres_of_mass(values: Matrix, known: npt.NDArray[np.bool_], places: Matrix, reach: float) -> Matrix:
    """Return the centre of mass of what stands above the lowest value within reach of each place."""
    height, width = values.shape
    half = int(np.ceil(reach))
    steps = np.arange(-half, half + 1)
    for _ in range(_ROUNDS):
        middle = np.rint(places).astype(int)
        rows, columns = middle[:, :1] + steps, middle[:, 1:] + steps
        away = (rows[:, :, None] - places[:, :1, None]) ** 2 + (columns[:, None, :] - places[:, 1:, None]) ** 2
        inside = (
            ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :] & (away <= reach**2)
        )
        at = rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None, :]
        inside &= known[at]
        seen = np.where(inside, values[at], np.inf)
        mass = np.where(inside, seen - seen.min((1, 2), keepdims=True), 0.0)
        total = np.maximum(mass.sum((1, 2)), 1e-300)
        moved = (
            np.stack([(mass * rows[:, :, None]).sum((1, 2)), (mass * columns[:, None, :]).sum((1, 2))], axis=1) / total[:, None]
        )
        places = np.where((mass.sum((1, 2)) > 0)[:, None], moved, places)
    return places


def _under_discs(values: Matrix, known: npt.NDArray[np.bool_], columns: Matrix, radius: float) -> Matrix:
    """Return the image with discs of its lowest value over the columns."""
    from scipy import ndimage

    marks = np.ones(values.shape, bool)
    at = np.clip(np.rint(columns[:, :2]).astype(int), 0, np.array(values.shape) - 1)
    marks[at[:, 0], at[:, 1]] = False
    distance = ndimage.distance_transform_edt(marks)
    return np.where(distance < radius, float(values[known].min()), values)
