"""All columns of an image fitted together: fixed places and shapes, free heights, a smooth background, Poisson weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.processors.measure.vacancies.lattice import Lattice, Matrix
from emstore.processors.measure.vacancies.shapes import Shape

_ROUNDS: Final = 3
_NODE_CELLS: Final = 8.0
"""Distance of the background's nodes, in lattice constants: less and it would take part in single columns."""
_LEAST: Final = 0.02
"""Least expectation of a pixel, in parts of the mean: a pixel that expects nothing could not count anything."""
_DARK: Final = 0.1
"""The same where the model is a rough one."""


@dataclass(frozen=True)
class Windows:
    """Where the columns are and what each adds to its pixels when its height is 1."""

    index: npt.NDArray[np.int64]
    """Pixels of every window, into the flattened image with one more at the end for all outside and unknown, shape (N, S)."""
    values: Matrix
    """Shape (N, S); zero outside the image and where nothing is known."""
    whole: Matrix
    """Sum of squares a window would have if all of it were seen, shape (N,)."""

    @property
    def seen(self) -> Matrix:
        """Return the share of every column that is seen, 0 to 1."""
        return np.asarray((self.values**2).sum(1) / self.whole)


def windows(places: Matrix, shape: Shape, lattice: Lattice, known: npt.NDArray[np.bool_]) -> Windows:
    """Lay the windows of columns at `places` (N, 2)."""
    height, width = known.shape
    squared, index = _distances(places, shape, lattice, known)
    values = shape.at(squared)
    whole = (values**2).sum(1)
    seen = np.append(known.ravel(), False)[index]
    return Windows(np.where(seen, index, height * width), np.where(seen, values, 0.0), whole)


def _distances(
    places: Matrix, shape: Shape, lattice: Lattice, known: npt.NDArray[np.bool_]
) -> tuple[Matrix, npt.NDArray[np.int64]]:
    height, width = known.shape
    half = int(np.ceil(shape.reach(lattice.constant) * max(1.0, float(np.linalg.norm(np.linalg.inv(lattice.ideal), 2)))))
    steps = np.arange(-half, half + 1)
    middle = np.rint(places).astype(np.int64)
    rows, columns = middle[:, :1] + steps, middle[:, 1:] + steps
    dy, dx = rows - places[:, :1], columns - places[:, 1:]
    (a, b), (c, d) = lattice.ideal
    # (dy, dx) @ ideal, squared, for a square of pixels.
    squared = (
        (a**2 + b**2) * dy[:, :, None] ** 2
        + (c**2 + d**2) * dx[:, None, :] ** 2
        + 2 * (a * c + b * d) * dy[:, :, None] * dx[:, None, :]
    )
    down = np.where((rows >= 0) & (rows < height), rows * width, -1)
    across = np.where((columns >= 0) & (columns < width), columns, -1)
    index = np.where((down[:, :, None] < 0) | (across[:, None, :] < 0), height * width, down[:, :, None] + across[:, None, :])
    return squared.reshape(len(places), -1), index.reshape(len(places), -1)


@dataclass(frozen=True)
class Heights:
    """Heights of all columns, and what they and the background make of the image."""

    heights: Matrix
    """Shape (N,), all kinds of columns one after the other."""
    errors: Matrix
    """Standard errors if the variance of a pixel is its expectation."""
    background: Matrix
    """Shape (pixels,)."""
    expected: Matrix
    """Shape (pixels,)."""


def fit_heights(
    data: Matrix, known: npt.NDArray[np.bool_], kinds: Sequence[Windows], constant: float, *, poisson: bool = True
) -> Heights:
    """Fit the heights of all columns and the background at once.

    Iteratively reweighted least squares: every round takes the last one's expectation as the variance, which converges to
    Poisson maximum likelihood (P. McCullagh & J. A. Nelder, Generalized Linear Models, 1989, section 2.5).

    Parameters
    ----------
    data : ndarray, float64, shape (rows, columns)
        Electrons, or what has the variance of electrons.
    known : ndarray, bool
    kinds : sequence of Windows
        Columns of every kind.
    constant : float, pixels
        Edge of the cell.
    poisson : bool
        Weigh pixels by the inverse of their expectation; else alike.
    """
    from scipy import sparse
    from scipy.sparse import linalg

    pixels = known.size
    index = np.concatenate([w.index.ravel() for w in kinds]) if len({w.index.shape[1] for w in kinds}) > 1 else None
    if index is None:
        index = np.concatenate([w.index for w in kinds]).ravel()
    values = np.concatenate([w.values.ravel() for w in kinds])
    sizes = np.concatenate([np.full(len(w.index), w.index.shape[1]) for w in kinds])
    count = len(sizes)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    columns = sparse.csr_array((values, index, ends), shape=(count, pixels + 1))[:, :pixels]
    nodes = _nodes((known.shape[0], known.shape[1]), constant)
    flat, seen = np.where(known, data, 0.0).ravel(), known.ravel().astype(np.float64)
    design = sparse.vstack([columns, nodes], format="csr")
    mean = float(flat.sum() / seen.sum())
    expected = np.full(pixels, mean)
    kind = np.repeat(np.arange(len(kinds)), [len(w.index) for w in kinds])
    whole = np.concatenate([w.whole for w in kinds])
    solution = np.zeros(design.shape[0])
    solution[count:] = mean
    heights = np.zeros(count)
    typical = np.zeros(len(kinds))
    normal: Any = None
    for number in range(_ROUNDS + 1 if poisson else 2):
        weight = seen / np.maximum(expected, _LEAST * abs(mean)) if poisson and number else seen / max(abs(mean), 1e-300)
        # What is hardly seen stays near the others of its kind; on what is seen this weighs nothing.
        scale = float(np.median(weight[seen > 0]))
        share = np.concatenate([w.seen for w in kinds])
        prior = np.where(share < 0.5, whole * scale * 0.05, 1e-9 * whole * scale)
        ridge = np.concatenate([prior, np.full(nodes.shape[0], 1e-6 * pixels / nodes.shape[0] * scale)])
        target = np.concatenate([prior * typical[kind], ridge[count:] * mean])
        scaled = design.multiply(weight[None, :]).tocsr()
        normal = (scaled @ design.T + sparse.diags_array(ridge)).tocsc()
        solution = linalg.spsolve(normal, scaled @ flat + target)
        heights = solution[:count]
        typical = np.array(
            [
                np.median(heights[(kind == k) & (share > 0.7)]) if ((kind == k) & (share > 0.7)).any() else 0.0
                for k in range(len(kinds))
            ]
        )
        expected = design.T @ solution
    # A column's neighbours far away change its variance by less than a hundredth: the inverse of the diagonal with its
    # strongest couplings is not needed to tell how sure it is.
    errors = 1 / np.sqrt(normal.diagonal()[:count])
    return Heights(heights, errors, np.asarray(nodes.T @ solution[count:]), np.asarray(expected))


def _nodes(shape: tuple[int, int], constant: float) -> Any:
    """Return the background's bilinear hats, a sparse matrix of shape (nodes, pixels)."""
    from scipy import sparse

    hats = []
    for n in shape:
        count = max(2, round(n / (_NODE_CELLS * constant)) + 1)
        at = np.linspace(0, count - 1, n)
        hats.append(sparse.csr_array(np.maximum(0.0, 1 - np.abs(at[None, :] - np.arange(count)[:, None]))))
    return sparse.kron(hats[0], hats[1], format="csr")


def refine_places(
    data: Matrix, known: npt.NDArray[np.bool_], lattice: Lattice, fractions: Sequence[tuple[float, float]],
    shapes: Sequence[Shape], heights: Sequence[float],
) -> Lattice:  # fmt: skip
    """Move the lattice to where the columns, all of a kind alike, explain the counts best: one Fisher scoring step.

    Every column says with which precision where it is; the lattice's polynomial is fitted to all of them. This is the step of
    the joint likelihood but for what overlapping columns share.
    """
    margin = 0.0
    flat = np.append(np.where(known, data, 0.0).ravel(), 0.0)
    expected = np.zeros(known.size + 1)
    parts = []
    for fraction, shape, height in zip(fractions, shapes, heights, strict=True):
        cells, places = lattice.sites(fraction, (known.shape[0], known.shape[1]), margin)
        squared, index = _distances(places, shape, lattice, known)
        seen = np.append(known.ravel(), False)[index]
        index = np.where(seen, index, known.size)
        np.add.at(expected, index, height * shape.at(squared))
        parts.append((cells, places, squared, index, seen, height, shape))
    mean = float(flat[:-1][known.ravel()].mean())
    # What windows cut off, and what there is besides, is taken for even.
    expected = np.maximum(expected + (mean - float(expected[:-1][known.ravel()].mean())), _DARK * abs(mean))
    left = (flat - expected) / expected
    metric = lattice.ideal @ lattice.ideal.T
    normal, right = 0.0, 0.0
    for cells, places, squared, index, seen, height, shape in parts:
        size = round(np.sqrt(index.shape[1]))
        steps = np.arange(size) - size // 2
        middle = np.rint(places)
        dy = (middle[:, :1] + steps - places[:, :1])[:, :, None] + np.zeros((1, 1, size))
        dx = (middle[:, 1:] + steps - places[:, 1:])[:, None, :] + np.zeros((1, size, 1))
        away = np.stack([dy.reshape(len(places), -1), dx.reshape(len(places), -1)], axis=-1)
        steep = -2 * height * shape.slope(squared)[..., None] * (away @ metric) * seen[..., None]
        score = (steep * left[index][..., None]).sum(1)
        fisher = np.einsum("nsi,nsj->nij", steep / expected[index][..., None], steep)
        basis = lattice.basis(cells)
        normal = normal + np.einsum("na,nij,nb->aibj", basis, fisher, basis)
        right = right + np.einsum("na,ni->ai", basis, score)
    terms = len(lattice.coefficients)
    matrix = np.asarray(normal).reshape(2 * terms, 2 * terms)
    matrix = matrix + np.eye(2 * terms) * 1e-9 * np.trace(matrix)
    step = np.linalg.solve(matrix, np.asarray(right).ravel()).reshape(terms, 2)
    longest = 0.1 * lattice.constant
    return lattice.moved(lattice.coefficients + np.clip(step, -longest, longest))
