"""Images of Gaussian columns whose every parameter is known, for tests of what finds them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.blocks.compute import evaluate
from emstore.geometry import Axis, AxisKind
from emstore.processors.measure import Columns
from emstore.table import Table
from emstore.volume import Volume
from sealed import volume

Matrix = npt.NDArray[np.float64]


def gaussians(shape: tuple[int, int], theta: Matrix, background: float = 0.0) -> Matrix:
    """Return a sum of Gaussians, sampled at pixel centres: rows of y, x, amplitude, sigma."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    image = np.full(shape, float(background))
    for row, column, amplitude, sigma in theta[:, :4]:
        image += amplitude * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
    return image


def lattice(
    shape: tuple[int, int], pitch: float, *, amplitude: float, sigma: float, seed: int, jitter: float = 0.3, spread: float = 0.0
) -> Matrix:
    """Return columns on a square lattice, displaced at random, with widths that differ: rows of y, x, amplitude, sigma."""
    rng = np.random.default_rng(seed)
    rows, columns = (np.arange(pitch / 2, n - pitch / 2 + 1e-9, pitch) for n in shape)
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    places = places + rng.normal(0, jitter, places.shape)
    return np.column_stack([places, np.full(len(places), amplitude), sigma * (1 + spread * rng.uniform(-1, 1, len(places)))])


def nearest(found: Matrix, truth: Matrix) -> npt.NDArray[np.int64]:
    """Return for every true column the nearest one found, by y and x."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(found[:, :2]).query(truth[:, :2])[1], np.int64)


def image(values: npt.NDArray[Any], spacing: float | None = 0.2, quantity: str | None = "electrons") -> Volume:
    """Return an image with pixels of 0.2 angstrom, away from the origin."""
    lead = [Axis(f"q{i}", n, AxisKind.OTHER) for i, n in enumerate(values.shape[:-2])]
    unit = None if spacing is None else "angstrom"
    axes = [
        Axis(name, n, spacing=spacing, unit=unit, origin=origin)
        for name, n, origin in zip("yx", values.shape[-2:], (5.0, -3.0) if spacing else (0.0, 0.0), strict=True)
    ]
    return volume("image", values, *lead, *axes, attributes={} if quantity is None else {"quantity": quantity})


def measured(one: Volume, **params: Any) -> Table:
    """Return the columns of an image."""
    found = evaluate(Columns().plan([one], Columns.params(**params)), [one])
    assert isinstance(found, Table)
    return found
