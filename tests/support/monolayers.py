"""Made-up MX2 monolayers whose every atom is known: columns of two Gaussians on a hexagonal lattice, in expected electrons."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EDGE = 3.18
"""Of the cell, angstrom."""
HOLLOW = {"2H": ((1 / 3, 2 / 3),), "1T": ((1 / 3, 2 / 3), (2 / 3, 1 / 3))}


class Monolayer(NamedTuple):
    """One image and what is in it."""

    expected: Floats
    """Expected electrons, shape (y, x)."""
    metals: Floats
    """Places of the metal columns, pixels, shape (M, 2), order (y, x)."""
    chalcogens: Floats
    atoms: npt.NDArray[np.int64]
    """In every chalcogen column."""
    alone: Floats
    """What one atom adds to the pixels of every chalcogen column, shape (N, 31, 31), about the nearest pixel."""

    def counted(self, seed: int) -> Floats:
        """Return counts."""
        return np.random.default_rng(seed).poisson(self.expected).astype(np.float64)


def monolayer(
    shape: tuple[int, int] = (160, 160),
    *,
    seed: int = 0,
    pixel: float = 0.2,
    turn: float = 0.2,
    matrix: npt.ArrayLike = ((1.0, 0.0), (0.0, 1.0)),
    bend: float = 0.0,
    metal: float = 1.0,
    chalcogen: float = 0.4,
    one: float = 0.5,
    dose: float = 20_000.0,
    single: float = 0.05,
    double: float = 0.03,
    background: float = 0.05,
    phase: str = "2H",
    vectors: Floats | None = None,
    origin: tuple[float, float] | None = None,
) -> Monolayer:
    """Return one layer: heights in parts of a metal column, distorted by `matrix` and, quadratically, by `bend` pixels."""
    chance = np.random.default_rng([seed, 77])
    c, s = np.cos(turn), np.sin(turn)
    if vectors is None:
        vectors = (
            np.array([[0.0, 1.0], [np.sqrt(0.75), -0.5]]) * (EDGE / pixel) @ np.array([[c, s], [-s, c]]) @ np.asarray(matrix)
        )
    size = np.array(shape)
    reach = int(2 * max(shape) * pixel / EDGE) + 4
    i, j = (axis.ravel() for axis in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    cells = np.stack([i, j], axis=1)
    middle = size / 2 if origin is None else np.array(origin)
    image = np.full(shape, background)
    found = []
    for third in ((0.0, 0.0), *HOLLOW[phase]):
        places = (cells + third) @ vectors + middle
        away = (places - size / 2) / size
        places = places + bend * np.stack([away[:, 0] * away[:, 1], away[:, 1] ** 2], axis=1)
        found.append(places[((places > -12) & (places < size + 12)).all(1)])
    most = 2 if phase == "2H" else 1
    metals, chalcogens = found[0], np.concatenate(found[1:])
    lacks = chance.choice([0, 1, 2], len(chalcogens), p=[1 - single - double, single, double])
    atoms = np.maximum(most - lacks, 0)
    steps = np.arange(-15, 16)

    def column(places: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
        nearest = np.rint(places).astype(int)
        rows, columns = nearest[:, :1] + steps, nearest[:, 1:] + steps
        away = ((rows - places[:, :1]) ** 2)[:, :, None] + ((columns - places[:, 1:]) ** 2)[:, None, :]
        values = (np.exp(-away * (pixel / 0.4) ** 2 / 2) + 0.12 * np.exp(-away * (pixel / 0.85) ** 2 / 2)) / 1.12
        return rows, columns, values

    wide = np.zeros((shape[0] + 80, shape[1] + 80))
    parts = {2: 1.0, 1: one if most == 2 else 1.0, 0: 0.0}
    heights = np.array([chalcogen * parts[int(n)] for n in atoms])
    for places, height in ((metals, np.full(len(metals), metal)), (chalcogens, heights)):
        rows, columns, values = column(places)
        np.add.at(wide, (rows[:, :, None] + 40, columns[:, None, :] + 40), height[:, None, None] * values)
    image += wide[40 : 40 + shape[0], 40 : 40 + shape[1]]
    scale = 0.03 * dose * pixel**2
    alone = scale * chalcogen * (1 - one if most == 2 else 1.0) * column(chalcogens)[2]
    return Monolayer(image * scale, metals, chalcogens, atoms.astype(np.int64), alone)
