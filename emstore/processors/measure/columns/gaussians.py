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


def curvature(cells: Cells, theta: Array, residual: Array) -> Array:
    """Return the sum over pixels of the residual times the model's second derivatives by the parameters of one column.

    Those by parameters of two columns are 0, and so are those that involve a background.

    Returns
    -------
    array, float64, shape (N, 5, 5)
    """
    xp = namespace(theta)
    found = []
    for part in cells.parts():
        rows, columns, index = cells.pixels(part)
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
    for part in cells.parts(2):
        rows, columns, index = cells.pixels(part)
        one, others = theta[part], theta[neighbours[part]]
        size = rows.shape[1]
        heavy = weight[index].swapaxes(1, 2)  # along columns, then rows
        mine = xp.where(cells.owner[index].swapaxes(1, 2) == neighbours[part, :1, None], heavy, 0.0)
        theirs = neighbours[part]  # (n, k): no further than their own windows reach
        near_down = xp.abs(rows[:, None, :] - cells.rows[theirs][:, :, None]) <= cells.half
        near_across = xp.abs(columns[:, None, :] - cells.columns[theirs][:, :, None]) <= cells.half
        down, off = _profile(rows[:, None, :], others[..., Y, None], others[..., SIGMA, None])
        down = _powers(xp.where(near_down, down, 0.0), off)  # (n, k, S, 3)
        across, off = _profile(columns[:, None, :], others[..., X, None], others[..., SIGMA, None])
        across = _powers(xp.where(near_across, across, 0.0), off)
        # A column is its own first neighbour: powers (b, d) along rows and (a, c) along columns, of both of a pair.
        both_down = (down[:, :1, :, :, None] * down[:, :, :, None, :]).reshape(-1, most, size, 9)
        both_across = (across[:, :1, :, :, None] * across[:, :, :, None, :]).reshape(-1, most, size, 9)
        pairs = _moments(both_across, heavy, both_down).reshape(-1, most, 3, 3, 3, 3)  # (n, k, a, c, b, d)
        first = _derivatives(xp.einsum("nkacbd->nkcdba", pairs), one[:, None, None, None, :])  # (n, k, c, d, 4)
        couple = _derivatives(xp.einsum("nkcdi->nkidc", first), others[:, :, None, :])
        ground = _derivatives(_moments(across, mine, down).swapaxes(2, 3), others)  # of this cell's background and those
        found.append(xp.concatenate((couple, ground[:, :, None, :]), 2))
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


def _moments(across: Array, weight: Array, down: Array) -> Array:
    """Return sums over a window of functions along columns (n, k, S, p) and rows (n, k, S, q) times a weight: (n, k, p, q).

    The weight has the shape (n, S, S), along columns first.
    """
    count, most, size, p = across.shape
    rowwise = across.swapaxes(2, 3).reshape(count, most * p, size) @ weight
    return rowwise.reshape(count, most, p, size) @ down


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
