"""The model of an image of atomic columns, its gradient and its information matrix.

    expected(p) = background of the cell p is in + sum over columns n of A_n exp(-|p - r_n|^2 / (2 s_n^2))

sampled at pixel centres, as a scanned probe samples: no integration over pixels. Parameters of a column, in this order: y, x
(pixels), amplitude A, standard deviation s (pixels), background. A Gaussian is a product of one along rows and one along
columns, so all sums over windows are small matrix products of the window with powers of the distance times those two.
"""

from typing import Final

from emstore.operation import Array
from emstore.processors.measure.columns.arrays import namespace, sums, zeros
from emstore.processors.measure.columns.cells import Cells

Y, X, AMPLITUDE, SIGMA, BACKGROUND = range(5)
PARAMETERS: Final = 5


def expected(cells: Cells, theta: Array) -> Array:
    """Return the model's image, flattened, one value more at its end: float64, shape (pixels + 1,).

    Parameters
    ----------
    cells : Cells
    theta : array, float64, shape (N, 5)
    """
    xp = namespace(theta)
    size = cells.shape[0] * cells.shape[1] + 1
    image = zeros((size,), theta)
    for part in cells.parts():
        rows, columns, index = cells.pixels(part)
        down, _ = _profile(rows, theta[part, Y, None], theta[part, SIGMA, None])
        across, _ = _profile(columns, theta[part, X, None], theta[part, SIGMA, None])
        image = image + sums(index, (theta[part, AMPLITUDE, None] * down)[:, :, None] * across[:, None, :], size)
    background = xp.concatenate((theta[:, BACKGROUND], zeros((1,), theta)))
    return image + background[cells.owner]


def gradient(cells: Cells, theta: Array, residual: Array) -> Array:
    """Return the sum over pixels of the residual times the model's derivative by every parameter.

    Parameters
    ----------
    cells : Cells
    theta : array, float64, shape (N, 5)
    residual : array, float64, shape (pixels + 1,)
        Weighted difference of data and model, 0 at pixels of no cell.

    Returns
    -------
    array, float64, shape (N, 5)
    """
    xp = namespace(theta)
    found = []
    for part in cells.parts():
        rows, columns, index = cells.pixels(part)
        one = theta[part]
        down = _powers(*_profile(rows, one[:, Y, None], one[:, SIGMA, None]))
        across = _powers(*_profile(columns, one[:, X, None], one[:, SIGMA, None]))
        moments = down.swapaxes(1, 2) @ (residual[index] @ across)
        found.append(_derivatives(moments, one))
    background = sums(cells.owner, residual, cells.count + 1)[:-1]
    return xp.concatenate((xp.concatenate(found), background[:, None]), 1)


def information(cells: Cells, theta: Array, weight: Array) -> Array:
    """Return the blocks of the matrix ``sum over pixels of weight dm/da dm/db``, m the model, a and b all parameters.

    With the weight 1 / expected this is the Fisher information of Poisson counts.

    Parameters
    ----------
    cells : Cells
    theta : array, float64, shape (N, 5)
    weight : array, float64, shape (pixels + 1,)
        0 at pixels of no cell.

    Returns
    -------
    array, float64, shape (N, k, 5, 5)
        Block (n, j) couples column n (rows) with ``cells.neighbours[n, j]`` (columns); 0 where there is none.
    """
    xp = namespace(theta)
    neighbours = cells.neighbours
    count, most = neighbours.shape
    found = []
    for part in cells.parts():
        rows, columns, index = cells.pixels(part)
        one, others = theta[part], theta[neighbours[part]]
        size = rows.shape[1]
        weighted = _weighted(cells, part, one, rows, columns, index, weight)
        down = _powers(*_profile(rows[:, None, :], others[..., Y, None], others[..., SIGMA, None]))  # (n, k, S, 3)
        across = _powers(*_profile(columns[:, None, :], others[..., X, None], others[..., SIGMA, None]))
        across = across.swapaxes(1, 2).reshape(-1, size, most * 3)  # (n, S, k 3)
        rowwise = (weighted.reshape(-1, PARAMETERS * size, size) @ across).reshape(-1, PARAMETERS, size, most, 3)
        # One matrix product per pair: powers along rows with (parameter, power along columns).
        rowwise = xp.einsum("niskc->nksic", rowwise).reshape(-1, most, size, PARAMETERS * 3)
        moments = (down.swapaxes(2, 3) @ rowwise).reshape(-1, most, 3, PARAMETERS, 3)
        found.append(_derivatives(xp.einsum("nkaic->nkiac", moments), others[:, :, None, :]))
    own = sums(cells.owner, weight, count + 1)[:-1]
    blocks = xp.concatenate(found)  # (N, k, 5, 4): all but the neighbour's background
    mirrored = blocks.reshape(count * most, PARAMETERS, 4)[cells.reverse]
    last = zeros((count, most, PARAMETERS), theta)
    last[:, :, :4] = mirrored[:, :, 4, :]
    last[:, 0, 4] = own
    whole = xp.concatenate((blocks, last[..., None]), 3) * cells.present[:, :, None, None]
    # Two windows cut a product's tails differently; their mean is a symmetric matrix.
    back = whole.reshape(count * most, PARAMETERS, PARAMETERS)[cells.reverse]
    return (whole + back.swapaxes(2, 3)) / 2 * cells.present[:, :, None, None]


def _weighted(cells: Cells, part: slice, one: Array, rows: Array, columns: Array, index: Array, weight: Array) -> Array:
    """Return the model's derivatives by a column's parameters over its window, times the weight, shape (n, 5, S, S)."""
    xp = namespace(one)
    amplitude, sigma = one[:, AMPLITUDE, None, None], one[:, SIGMA, None, None]
    down, off_y = _profile(rows, one[:, Y, None], one[:, SIGMA, None])
    across, off_x = _profile(columns, one[:, X, None], one[:, SIGMA, None])
    dy, dx = off_y[:, :, None], off_x[:, None, :]
    heavy = weight[index]
    shape = down[:, :, None] * across[:, None, :] * heavy
    slope = shape * (amplitude / sigma**2)
    number = cells.neighbours[part, 0]
    mine = xp.where(cells.owner[index] == number[:, None, None], heavy, 0.0)
    return xp.stack((slope * dy, slope * dx, shape, slope * ((dy**2 + dx**2) / sigma), mine), 1)


def _profile(pixels: Array, centre: Array, sigma: Array) -> tuple[Array, Array]:
    """Return a Gaussian of height 1 along one axis, and the distances from its centre, pixels."""
    off = pixels - centre
    return namespace(off).exp(-(off**2) / (2 * sigma**2)), off


def _powers(profile: Array, off: Array) -> Array:
    """Return a profile times the powers 0, 1 and 2 of the distance, shape (..., S, 3)."""
    return namespace(off).stack((profile, profile * off, profile * off**2), -1)


def _derivatives(moments: Array, theta: Array) -> Array:
    """Return sums with the derivatives by y, x, amplitude and sigma from sums with powers of the distances (..., 3, 3)."""
    amplitude, sigma = theta[..., AMPLITUDE], theta[..., SIGMA]
    slope = amplitude / sigma**2
    wide = slope / sigma * (moments[..., 2, 0] + moments[..., 0, 2])
    return namespace(moments).stack((slope * moments[..., 1, 0], slope * moments[..., 0, 1], moments[..., 0, 0], wide), -1)
