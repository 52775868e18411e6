"""Made-up crystals seen from above: Gaussian columns on a random lattice, in expected electrons."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emstore.geometry import Axis, AxisKind
from sealed import seal, volume


class Crystal(NamedTuple):
    """One image and the columns in it."""

    electrons: npt.NDArray[np.float32]
    """Expected electrons, shape (y, x)."""
    columns: npt.NDArray[np.float64]
    """Places of the columns in fractional pixels, shape (columns, 2), order (y, x); vacant ones are left out."""


def crystal(
    seed: int, number: int = 0, *, size: tuple[int, int] = (64, 64), dose: float | None = None, vacant: float = 0.03
) -> Crystal:
    """Return one crystal: pixels of 0.1 to 0.3 angstrom, 500 to 10,000 electrons per square angstrom unless given."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, number])))
    pixel = rng.uniform(0.1, 0.3)
    dose = rng.uniform(500, 10_000) if dose is None else dose
    length, ratio, angle = rng.uniform(2.4, 4.5), rng.uniform(1, 1.6), rng.uniform(1.05, 1.6)
    turn = rng.uniform(0, 2 * np.pi)
    first = length / pixel * np.array([np.cos(turn), np.sin(turn)])
    second = length * ratio / pixel * np.array([np.cos(turn + angle), np.sin(turn + angle)])
    reach = int(np.hypot(*size) / (length / pixel * np.sin(angle))) + 3
    i, j = (axis.ravel() for axis in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    sites = np.array(size) / 2 + i[:, None] * first + j[:, None] * second
    places, weights = [], []
    for part in range(rng.integers(1, 4)):
        shift = (0, 0) if part == 0 else rng.uniform(0.3, 0.7, 2) @ np.array([first, second])
        at = sites + shift
        near = ((at > -8) & (at < np.array(size) + 8)).all(axis=1)
        there = near & (rng.random(len(at)) >= vacant)
        places.append(at[there] + rng.normal(0, 0.06 / pixel, (int(there.sum()), 2)))
        weights.append(np.full(int(there.sum()), 1.0 if part == 0 else rng.uniform(0.3, 0.9)))
    at, weight = np.concatenate(places), np.concatenate(weights)
    sigma = rng.uniform(0.35, 0.6) / pixel
    rows, columns = (np.exp(-((np.arange(n)[:, None] - at[:, axis]) ** 2) / (2 * sigma**2)) for axis, n in enumerate(size))
    fraction = rng.uniform(0.005, 0.05) + rng.uniform(0.05, 0.3) * (rows * weight) @ columns.T
    inside = ((at >= 0) & (at <= np.array(size) - 1)).all(axis=1)
    return Crystal((fraction * dose * pixel**2).astype(np.float32), at[inside])


def crystals(seed: int, count: int, *, size: tuple[int, int] = (64, 64), dose: float | None = None) -> npt.NDArray[np.float32]:
    """Return several crystals, shape (n, y, x)."""
    return np.stack([crystal(seed, number, size=size, dose=dose).electrons for number in range(count)])


def sealed_crystals(target: str, values: npt.NDArray[np.float32], quantity: str | None = "electrons") -> str:
    """Seal images as a training version and return its reference."""
    sides = [Axis(name, size, spacing=0.2, unit="angstrom") for name, size in zip("yx", values.shape[1:], strict=True)]
    attributes = {} if quantity is None else {"quantity": quantity}
    made = volume("crystals", values, Axis("n", len(values), AxisKind.OTHER), *sides, attributes=attributes, modality="stem")
    return seal(made, target).ref
