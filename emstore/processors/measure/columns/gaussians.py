"""The model of an image of atomic columns, its gradient and its information matrix.

    expected(p) = background of the cell p is in + sum over columns n of A_n exp(-|p - r_n|^2 / (2 s_n^2))

sampled at pixel centres, as a scanned probe samples: no integration over pixels. Parameters of a column, in this order: y, x
(pixels), amplitude A, standard deviation s (pixels), background. A Gaussian is a product of one along rows and one along
columns, so all sums over windows are small matrix products of the window with powers of the distance times those two.
"""

from typing import Final

import numpy as np

from emstore.operation import Array
from emstore.processors.measure.columns.arrays import namespace, sums, true, zeros
from emstore.processors.measure.columns.cells import Cells

Y, X, AMPLITUDE, SIGMA, BACKGROUND = range(5)
PARAMETERS: Final = 5


def expected(cells: Cells, theta: Array) -> Array:
    """Return the model at every pixel, float64, shape (pixels,).

    Parameters
    ----------
    cells : Cells
    theta : array, float64, shape (N, 5)
    """
    xp = namespace(theta)
    image = xp.concatenate((theta[:, BACKGROUND], zeros((1,), theta)))[cells.owner]
    for part in cells.parts(cells.half):
        rows, columns, index = cells.windows(part)
        down, _ = _profile(rows, theta[part, Y, None], theta[part, SIGMA, None])
        across, _ = _profile(columns, theta[part, X, None], theta[part, SIGMA, None])
        first, last = int(index.min()), int(index.max()) + 1  # columns are in array order: a band of the image
        window = (theta[part, AMPLITUDE, None] * down)[:, :, None] * across[:, None, :]
        image[first:last] += sums(index - first, window, last - first)
    return image


def gradient(cells: Cells, theta: Array, residual: Array) -> Array:
    """Return the sum over pixels of the residual times the model's derivative by every parameter.

    Parameters
    ----------
    cells : Cells
    theta : array, float64, shape (N, 5)
    residual : array, float64, shape (pixels,)
        Weighted difference of data and model, 0 at pixels of no cell.

    Returns
    -------
    array, float64, shape (N, 5)
    """
    xp = namespace(theta)
    found = []
    for part in cells.parts(cells.half):
        rows, columns, index = cells.windows(part)
        one = theta[part]
        down = _powers(*_profile(rows, one[:, Y, None], one[:, SIGMA, None]))
        across = _powers(*_profile(columns, one[:, X, None], one[:, SIGMA, None]))
        moments = down.swapaxes(1, 2) @ (residual[index] @ across)
        found.append(_derivatives(moments, one))
    background = sums(cells.owner, residual, cells.count + 1)[:-1]
    return xp.concatenate((xp.concatenate(found), background[:, None]), 1)


def curvature(cells: Cells, theta: Array, residual: Array) -> Array:
    """Return the sum over pixels of the residual times the model's second derivatives by the parameters of one column.

    Those by parameters of two columns are 0, and so are those that involve a background.

    Returns
    -------
    array, float64, shape (N, 5, 5)
    """
    xp = namespace(theta)
    found = []
    for part in cells.parts(cells.half):
        rows, columns, index = cells.windows(part)
        one = theta[part]
        down = _powers(*_profile(rows, one[:, Y, None], one[:, SIGMA, None]), 4)
        across = _powers(*_profile(columns, one[:, X, None], one[:, SIGMA, None]), 4)
        m = down.swapaxes(1, 2) @ (residual[index] @ across)
        a, s = one[:, AMPLITUDE], one[:, SIGMA]
        square, steep = m[:, 2, 0] + m[:, 0, 2], a / s**4
        yy, xx, yx = steep * m[:, 2, 0] - a / s**2 * m[:, 0, 0], steep * m[:, 0, 2] - a / s**2 * m[:, 0, 0], steep * m[:, 1, 1]
        ya, xa, sa = m[:, 1, 0] / s**2, m[:, 0, 1] / s**2, square / s**3
        ys = steep / s * (m[:, 3, 0] + m[:, 1, 2]) - 2 * a / s**3 * m[:, 1, 0]
        xs = steep / s * (m[:, 2, 1] + m[:, 0, 3]) - 2 * a / s**3 * m[:, 0, 1]
        ss = steep / s**2 * (m[:, 4, 0] + 2 * m[:, 2, 2] + m[:, 0, 4]) - 3 * steep * square
        none = 0.0 * a
        entries = (yy, yx, ya, ys, none, yx, xx, xa, xs, none, ya, xa, none, sa, none, ys, xs, sa, ss, *(none,) * 6)
        found.append(xp.stack(entries, -1).reshape(-1, PARAMETERS, PARAMETERS))
    return xp.concatenate(found)


def information(cells: Cells, theta: Array, weight: Array) -> Array:
    """Return the blocks of the matrix ``sum over pixels of weight dm/da dm/db``, m the model, a and b all parameters.

    With the weight 1 / expected this is the Fisher information of Poisson counts.

    Parameters
    ----------
    cells : Cells
    theta : array, float64, shape (N, 5)
    weight : array, float64, shape (pixels,)
        0 at pixels of no cell.

    Returns
    -------
    array, float64, shape (N, 5, k, 5)
        ``[n, :, j]`` couples column n (rows) with ``cells.neighbours[n, j]`` (columns); 0 where there is none.
    """
    count, most = cells.neighbours.shape
    whole = zeros((count, PARAMETERS, most, PARAMETERS), theta)
    there = true(cells.present.reshape(-1) > 0)
    back = cells.reverse.reshape(-1)[there]
    one, slot, other, place = there // most, there % most, back // most, back % most
    ground = _grounds(cells, theta, weight).reshape(-1, 4)[there]
    whole[one, BACKGROUND, slot, :4] = ground
    whole[other, :4, place, BACKGROUND] = ground
    once = true(one <= other)
    for part in cells.parts(cells.half, int(once.shape[0])):
        some = once[part]
        block = _couplings(cells, theta[one[some]], theta[other[some]], weight)
        whole[one[some], :4, slot[some], :4] = block
        whole[other[some], :4, place[some], :4] = block.swapaxes(1, 2)
    whole[:, BACKGROUND, 0, BACKGROUND] = sums(cells.owner, weight, count + 1)[:-1]
    return whole


def _couplings(cells: Cells, one: Array, other: Array, weight: Array) -> Array:
    """Return the blocks of pairs of columns but for their backgrounds, shape (n, 4, 4).

    The product of two Gaussians lies between them; its moments are all that is needed.
    """
    xp = namespace(one)
    share = (one[:, SIGMA] ** 2 / (one[:, SIGMA] ** 2 + other[:, SIGMA] ** 2))[:, None]
    middle = xp.round(one[:, :2] + (other[:, :2] - one[:, :2]) * share)
    middle = middle.astype(np.int64) if isinstance(middle, np.ndarray) else middle.long()
    rows, columns, index = cells.window(middle[:, 0], middle[:, 1], cells.half)
    down, off = _profile(rows, one[:, Y, None], one[:, SIGMA, None])
    down = _powers(down * _profile(rows, other[:, Y, None], other[:, SIGMA, None])[0], off, 4)
    across, off = _profile(columns, one[:, X, None], one[:, SIGMA, None])
    across = _powers(across * _profile(columns, other[:, X, None], other[:, SIGMA, None])[0], off, 4)
    moments = down.swapaxes(1, 2) @ (weight[index] @ across)
    apart = (other - one)[:, :2]
    moments = _products(moments, apart[:, Y]).reshape(-1, 9, 5)  # powers along rows of other and one
    moments = _products(moments.swapaxes(1, 2), apart[:, X]).reshape(-1, 3, 3, 3, 3)  # columns, then rows
    partly = _derivatives(xp.einsum("ncadb->nbadc", moments), other[:, None, None, :])
    return _derivatives(xp.einsum("nbai->niba", partly), one[:, None, :]).swapaxes(1, 2)


def _products(moments: Array, apart: Array) -> Array:
    """Return moments of products of powers 0, 1, 2 of distances from two places from those of one, shape (n, 3, 3, m).

    Parameters
    ----------
    moments : array, shape (n, 5, m)
        Of powers 0 to 4 of the distance from one place.
    apart : array, shape (n,)
        Where the other is, as seen from it. Its powers come first in the result.
    """
    d = apart[:, None, None]
    none, single, double = (moments[:, i : i + 3] for i in range(3))
    return namespace(moments).stack((none, single - d * none, double - 2 * d * single + d**2 * none), 1)


def _grounds(cells: Cells, theta: Array, weight: Array) -> Array:
    """Return what couples every column's background with its neighbours' other parameters, shape (N, k, 4)."""
    xp = namespace(theta)
    most = cells.neighbours.shape[1]
    found = []
    for part in cells.parts(cells.cell_half, pairs=1 + most // 8):
        rows, columns, index = cells.window(cells.rows[part], cells.columns[part], cells.cell_half)
        others = theta[cells.neighbours[part]]
        mine = xp.where(cells.owner[index] == cells.neighbours[part, :1, None], weight[index], 0.0)
        down = _powers(*_profile(rows[:, None, :], others[..., Y, None], others[..., SIGMA, None]))  # (n, k, S, 3)
        across = _powers(*_profile(columns[:, None, :], others[..., X, None], others[..., SIGMA, None]))
        count, _, side, powers = down.shape
        rowwise = down.swapaxes(2, 3).reshape(count, most * powers, side) @ mine
        found.append(_derivatives(rowwise.reshape(count, most, powers, -1) @ across, others))
    return xp.concatenate(found)


def _profile(pixels: Array, centre: Array, sigma: Array) -> tuple[Array, Array]:
    """Return a Gaussian of height 1 along one axis, and the distances from its centre, pixels."""
    off = pixels - centre
    return namespace(off).exp(-(off**2) / (2 * sigma**2)), off


def _powers(profile: Array, off: Array, highest: int = 2) -> Array:
    """Return a profile times the powers 0, 1, 2 ... of the distance, shape (..., S, highest + 1)."""
    powers = [profile]
    for _ in range(highest):
        powers.append(powers[-1] * off)
    return namespace(off).stack(powers, -1)


def _derivatives(moments: Array, theta: Array) -> Array:
    """Return sums with the derivatives by y, x, amplitude and sigma from sums with powers of the distances (..., 3, 3)."""
    amplitude, sigma = theta[..., AMPLITUDE], theta[..., SIGMA]
    slope = amplitude / sigma**2
    wide = slope / sigma * (moments[..., 2, 0] + moments[..., 0, 2])
    return namespace(moments).stack((slope * moments[..., 1, 0], slope * moments[..., 0, 1], moments[..., 0, 0], wide), -1)
