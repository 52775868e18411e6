"""Distances between neighbouring columns: strain error, histograms, and the part of it that noise makes.

The thesis judges denoising by the standard deviation of the horizontal and of the vertical distances between neighbouring
columns over a reference distance. Thermal and static displacements are in that too and do not vanish with dose; `noise_error`
is what remains when every distance is compared with itself at infinite dose, as a multiple of the Cramer-Rao bound.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Direction = Literal["horizontal", "vertical"]

DIRECTIONS: Final[tuple[Direction, ...]] = ("horizontal", "vertical")
_SECTOR: Final = np.tan(np.deg2rad(22.5))
"""A neighbour lies in a direction if it is no further off it than this, over its distance along it."""


@dataclass(frozen=True)
class Pairs:
    """Neighbours in one direction: `second` is the next column after `first` along it."""

    first: Indices
    second: Indices
    distances: Matrix
    """Along the direction, in the unit of the positions."""


def turned(places: Matrix, angle: float) -> Matrix:
    """Return positions (y, x) in axes turned by an angle, degrees from x towards y."""
    turn = np.deg2rad(angle)
    y, x = places.T
    return np.column_stack([y * np.cos(turn) - x * np.sin(turn), y * np.sin(turn) + x * np.cos(turn)])


def find_reference(places: Matrix, direction: Direction) -> float | None:
    """Return the median distance of every column's next neighbour within 22.5 degrees of a direction; ``None`` without any."""
    from scipy.spatial import cKDTree

    if len(places) < 2:
        return None
    near = min(len(places), 13)
    _, index = cKDTree(places).query(places, k=near)
    apart = places[index] - places[:, None, :]
    along, across = (apart[..., 1], apart[..., 0]) if direction == "horizontal" else (apart[..., 0], apart[..., 1])
    distance = np.where((along > 0) & (np.abs(across) <= _SECTOR * along), along, np.inf).min(1)
    found = distance[np.isfinite(distance)]
    return float(np.median(found)) if len(found) else None


def neighbour_pairs(places: Matrix, direction: Direction, *, reference: float, tolerance: float) -> Pairs:
    """Return each column with the one nearest to where the next is expected.

    Parameters
    ----------
    places : ndarray, float64, shape (N, 2)
        y, x.
    direction : ``horizontal`` (along x) or ``vertical`` (along y)
    reference : float
        Expected distance, in the unit of the positions.
    tolerance : float
        Furthest that a neighbour may be from where it is expected, in parts of the reference.
    """
    from scipy.spatial import cKDTree

    if len(places) < 2:
        none = np.zeros(0, np.int64)
        return Pairs(none, none, np.zeros(0))
    step = np.array([0.0, reference] if direction == "horizontal" else [reference, 0.0])
    distance, index = cKDTree(places).query(places + step)
    first = np.flatnonzero((distance <= tolerance * reference) & (index != np.arange(len(places))))
    second = np.asarray(index[first], np.int64)
    along = 1 if direction == "horizontal" else 0
    return Pairs(first, second, places[second, along] - places[first, along])


def match(places: Matrix, truth: Matrix, radius: float) -> tuple[Indices, Indices]:
    """Return pairs of columns and true ones that are each other's nearest and no further apart than a radius."""
    from scipy.spatial import cKDTree

    none = np.zeros(0, np.int64)
    if not len(places) or not len(truth):
        return none, none
    distance, there = cKDTree(truth).query(places)
    _, back = cKDTree(places).query(truth)
    found = np.flatnonzero((distance <= radius) & (back[there] == np.arange(len(places))))
    return found, np.asarray(there[found], np.int64)


def root_mean_square(values: Matrix) -> float:
    """Return the root of the mean square."""
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")
