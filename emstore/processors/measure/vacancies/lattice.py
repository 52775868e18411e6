"""The hexagonal lattice of an image, found from the image alone.

Reflections of the power spectrum give two reciprocal vectors; the phase of each in overlapping tiles (geometric phase analysis,
M. J. Hytch, E. Snoeck & R. Kilaas, Ultramicroscopy 74, 131, 1998) says where the cells are, and so how the image is distorted:
strain, scan shear and non-square pixels at first order, drift at higher ones.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_STRONG: Final = 20.0
"""Least power of a reflection, in medians of its surroundings; among 1e5 values of noise alone about one in ten images has one
such, and three that form a hexagon practically none."""
_SEEN: Final = 8.0
"""The same of the third of three, whose place the other two tell."""
_CANDIDATES: Final = 40
_LONGEST: Final = 1.35
"""Ratio of two reflections' lengths, at most."""
_ANGLES: Final = (45.0, 75.0)
"""Between two first reflections, degrees."""
_LEAST_CELLS: Final = 4.0
"""Cells across the narrower side without which reflections cannot be told from slow changes."""
_FINEST: Final = 0.48
"""Cycles per pixel."""
MOST_RESIDUAL: Final = 0.12
"""Tiles' distance from the lattice, root mean square in cells, that is a lattice still."""
_TILE: Final = 2.5
"""Standard deviation of a tile's window, in lattice constants."""


class Unusable(Exception):
    """Says why a frame cannot be evaluated, for the notes; never an error of the whole."""


@dataclass(frozen=True)
class Lattice:
    """Positions as a polynomial of cell coordinates."""

    coefficients: Matrix
    """Of every monomial, shape (terms, 2), order (y, x), pixels."""
    order: int
    centre: Matrix
    """Cell coordinates in the middle of the frame, shape (2,)."""
    scale: float
    """Cells from there to the border, about."""

    def basis(self, cells: Matrix) -> Matrix:
        """Return the monomials at cell coordinates (N, 2), shape (N, terms)."""
        u, v = ((cells - self.centre) / self.scale).T
        return np.stack([u**m * v**n for m, n in _powers(self.order)], axis=1)

    def positions(self, cells: Matrix) -> Matrix:
        """Return y, x in pixels of cell coordinates, shape (N, 2)."""
        return np.asarray(self.basis(cells) @ self.coefficients)

    @property
    def vectors(self) -> Matrix:
        """The two cell vectors in the middle, one per row, order (y, x), pixels; about 120 degrees apart."""
        powers = _powers(self.order)
        return np.stack([self.coefficients[powers.index((1, 0))], self.coefficients[powers.index((0, 1))]]) / self.scale

    @property
    def constant(self) -> float:
        """Edge of the ideal hexagonal cell of the same area, pixels."""
        return float(np.sqrt(abs(np.linalg.det(self.vectors)) / np.sqrt(0.75)))

    @property
    def ideal(self) -> Matrix:
        """What turns a displacement (row vector, pixels) into the ideal hexagonal lattice, so that columns are round there."""
        hexagon = np.array([[0.0, 1.0], [np.sqrt(0.75), -0.5]]) * self.constant
        return np.asarray(np.linalg.solve(self.vectors, hexagon))

    def cells(self, positions: Matrix) -> Matrix:
        """Return the cell coordinates of positions (N, 2), to 1e-6."""
        back = np.linalg.inv(self.vectors)
        found = self.centre + (positions - self.positions(self.centre[None])) @ back
        for _ in range(12):
            step = (positions - self.positions(found)) @ back
            found = found + step
            if not step.size or np.abs(step).max() < 1e-6:
                break
        return np.asarray(found)

    def moved(self, coefficients: Matrix) -> "Lattice":
        """Return the same with other coefficients."""
        return Lattice(coefficients, self.order, self.centre, self.scale)

    def sites(self, fraction: tuple[float, float], shape: tuple[int, int], margin: float) -> tuple[Matrix, Matrix]:
        """Return cell coordinates and positions of a site of every cell within `margin` pixels of the frame, top to bottom."""
        height, width = shape
        corners = np.array([[y, x] for y in (-margin, height - 1 + margin) for x in (-margin, width - 1 + margin)])
        reach = self.cells(corners)
        low, high = np.floor(reach.min(0)).astype(int) - 3, np.ceil(reach.max(0)).astype(int) + 3
        i, j = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1), indexing="ij")
        cells = np.stack([i.ravel() + fraction[0], j.ravel() + fraction[1]], axis=1)
        # Beyond the frame the polynomial is not known; cells far away would come back through it.
        middle, vectors = self.positions(self.centre[None]), self.vectors
        straight = middle + (cells - self.centre) @ vectors
        near = margin + 0.5 * max(shape) * 0.2 + 2 * self.constant
        cells = cells[((straight > -near) & (straight < np.array(shape) - 1 + near)).all(1)]
        places = self.positions(cells)
        inside = ((places >= -margin) & (places <= np.array(shape) - 1 + margin)).all(1)
        cells, places = cells[inside], places[inside]
        order = np.lexsort((places[:, 1].round(6), places[:, 0].round(6)))
        return cells[order], places[order]


def _powers(order: int) -> list[tuple[int, int]]:
    return [(total - n, n) for total in range(order + 1) for n in range(total + 1)]


def find_lattice(image: Matrix, known: npt.NDArray[np.bool_], *, order: int) -> Lattice:
    """Find the hexagonal lattice of an image.

    Parameters
    ----------
    image : ndarray, float64, shape (rows, columns)
        Bright columns; any value where nothing is known.
    known : ndarray, bool
    order : int
        Highest order of the distortion: 1 = affine; taken lower where there are too few cells to tell.

    Raises
    ------
    Unusable
        There is none.
    """
    from scipy import ndimage

    flat = np.where(known, image, image[known].mean())
    window = np.outer(np.hanning(image.shape[0] + 2)[1:-1], np.hanning(image.shape[1] + 2)[1:-1])
    filled = (flat - (flat * window).sum() / window.sum()) * window
    raw, power, frequencies = _spectrum(filled)
    first = _reflections(raw, power, frequencies, image.shape)
    vectors = np.stack([_sharpened(filled, g) for g in first])
    constant = float(np.sqrt(1 / abs(np.linalg.det(vectors)) / np.sqrt(0.75)))
    slow = ndimage.gaussian_filter(flat, constant, mode="nearest")
    return _from_phases(np.where(known, flat - slow, 0.0), vectors, constant, order)


def _spectrum(filled: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Return the power of every frequency, the same in medians of its ring, and the frequencies (..., 2), cycles per pixel."""
    power = np.abs(np.fft.fftshift(np.fft.fft2(filled))) ** 2
    y, x = (np.fft.fftshift(np.fft.fftfreq(n)) for n in power.shape)
    frequencies = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
    ring = np.minimum((np.hypot(y[:, None], x) * min(power.shape)).astype(int), min(power.shape))
    order = np.argsort(ring, axis=None, kind="stable")
    edges = np.searchsorted(ring.ravel()[order], np.arange(ring.max() + 2))
    sorted_power = power.ravel()[order]
    middle = np.array(
        [
            np.median(sorted_power[edges[max(0, n - 1)] : edges[min(n + 2, len(edges) - 1)]] if n else [np.inf])
            for n in range(len(edges) - 1)
        ]
    )
    return power, power / np.maximum(middle[ring], 1e-12 * power.max() + 1e-300), frequencies


def _reflections(raw: Matrix, power: Matrix, frequencies: Matrix, shape: tuple[int, ...]) -> list[Matrix]:
    """Return two first reflections about 60 degrees apart: the shortest that form a hexagon.

    Raises
    ------
    Unusable
        There are no three that do.
    """
    from scipy import ndimage

    length = np.hypot(*np.moveaxis(frequencies, -1, 0))
    top = (power == ndimage.maximum_filter(power, 3, mode="wrap")) & (power > _STRONG)
    top &= (length > _LEAST_CELLS / min(shape)) & (length < _FINEST)
    where = np.argwhere(top)
    where = where[np.argsort(-raw[tuple(where.T)], kind="stable")][: 2 * _CANDIDATES]
    spots = frequencies[tuple(where.T)]
    near = ndimage.maximum_filter(power, 3, mode="wrap")

    def strength(g: Matrix) -> float:
        index = [round(f * n) + n // 2 for f, n in zip(g, shape, strict=True)]
        if not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
            return 0.0
        return float(near[index[0], index[1]])

    best: tuple[float, list[Matrix]] | None = None
    for n, one in enumerate(spots):
        for other in spots[n + 1 :]:
            a, b = float(np.hypot(*one)), float(np.hypot(*other))
            angle = np.degrees(np.arccos(np.clip(one @ other / (a * b), -1, 1)))
            third = one - other
            c = float(np.hypot(*third))
            if max(a, b, c) > _LONGEST * min(a, b, c) or not _ANGLES[0] <= angle <= _ANGLES[1] or strength(third) < _SEEN:
                continue
            if best is None or a + b + c < best[0] * 0.95:
                best = (a + b + c, [one, other])
    if best is None:
        raise Unusable("no lattice: no hexagon of reflections stands out of the noise of its spectrum")
    return best[1]


def _sharpened(filled: Matrix, g: Matrix) -> Matrix:
    """Return a frequency moved to the maximum of the power near it, to some thousandths of a cycle per frame."""
    step = 0.5 / np.array(filled.shape)
    y, x = (np.arange(n) for n in filled.shape)
    for _ in range(8):
        down = np.exp(-2j * np.pi * np.outer(g[0] + np.array([-1, 0, 1]) * step[0], y))
        across = np.exp(-2j * np.pi * np.outer(x, g[1] + np.array([-1, 0, 1]) * step[1]))
        p = np.log(np.abs(down @ filled @ across) + 1e-300)
        for axis, line in enumerate((p[:, 1], p[1, :])):
            bend = line[0] - 2 * line[1] + line[2]
            shift = 0.5 * (line[0] - line[2]) / bend if bend < 0 else float(np.sign(line[2] - line[0]))
            g = g + np.eye(2)[axis] * np.clip(shift, -1, 1) * step[axis]
        step = step * 0.6
    return g


def _from_phases(image: Matrix, vectors: Matrix, constant: float, order: int) -> Lattice:
    """Fit the lattice to the phases of tiles.

    Raises
    ------
    Unusable
        They do not lie on a smooth lattice.
    """
    shape = image.shape
    sigma = [min(_TILE * constant, max(1.2 * constant, n / 6)) for n in shape]
    counts = [int(np.clip((n - 2 * s) / (1.5 * s), 1, 14)) + 1 for n, s in zip(shape, sigma, strict=True)]
    middles = [np.linspace(min(s, n / 3), n - 1 - min(s, n / 3), k) for n, s, k in zip(shape, sigma, counts, strict=True)]
    lines = [np.arange(n, dtype=np.float64) for n in shape]
    tiles = [np.exp(-((line - m[:, None]) ** 2) / (2 * s**2)) for line, m, s in zip(lines, middles, sigma, strict=True)]
    places = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1)
    cells, weights = [], []
    for g in vectors:
        down, across = (np.exp(-2j * np.pi * f * line) for f, line in zip(g, lines, strict=True))
        found = (tiles[0] * down) @ image @ (tiles[1] * across).T
        cells.append(places @ g + _unwrapped(found) / (2 * np.pi))
        weights.append(np.abs(found))
    targets = np.stack(cells, axis=-1).reshape(-1, 2)
    weight = np.minimum(*weights).ravel()
    weight = weight / weight.max()
    spots = places.reshape(-1, 2)
    across_cells = min(shape) / constant
    order = min(order, 3 if min(counts) >= 5 else 2 if min(counts) >= 3 else 1)
    centre = np.asarray((vectors @ (np.array(shape) / 2)).round(), np.float64)
    lattice = Lattice(np.zeros((3, 2)), 1, centre, across_cells / 2)
    for each in range(1, order + 1):
        lattice = Lattice(np.zeros((len(_powers(each)), 2)), each, centre, across_cells / 2)
        basis = lattice.basis(targets)
        good = weight > 0.3 * np.median(weight)
        for _ in range(4):
            w = np.where(good, weight, 0.0)[:, None]
            lattice = lattice.moved(np.linalg.lstsq(basis * w, spots * w, rcond=None)[0])
            away = np.hypot(*(spots - basis @ lattice.coefficients).T) / constant
            good = (away < 3 * max(float(np.median(away[good])), 0.01)) & (weight > 0.3 * np.median(weight))
    away = np.hypot(*(spots - lattice.positions(targets)).T) / constant
    if float(np.sqrt(np.average(away**2, weights=weight))) > MOST_RESIDUAL:
        raise Unusable("drift or several grains: its cells do not lie on one smoothly distorted lattice")
    return lattice


def _unwrapped(values: npt.NDArray[np.complex128]) -> Matrix:
    """Return the phase of a grid of tiles, continuous from the middle outwards, radian."""
    phase = np.angle(values)
    middle = phase.shape[0] // 2
    row = np.unwrap(phase[middle])
    up = np.unwrap(np.concatenate([row[None], phase[:middle][::-1]]), axis=0)[1:][::-1]
    down = np.unwrap(np.concatenate([row[None], phase[middle + 1 :]]), axis=0)
    return np.concatenate([up, down])
