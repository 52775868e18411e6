"""The lattice-template method for one image: lattice, mean cell, joint heights, columns as counters."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from emstore.processors.measure.vacancies.atoms import (
    Counters,
    Mixture,
    Steps,
    beside,
    fit_mixture,
    odds,
)
from emstore.processors.measure.vacancies.decision import Fitted, Phase
from emstore.processors.measure.vacancies.joint import Windows, fit_heights, refine_places, windows
from emstore.processors.measure.vacancies.lattice import Lattice, Matrix, Unusable, find_lattice
from emstore.processors.measure.vacancies.shapes import MeanCell, brightest, fit_cell, mean_cell

_LEAST_SIDE: Final = 24
_LEAST_COLUMNS: Final = 20
_EMPTY: Final = 0.4
"""A third site below this part of the second is empty, as in 2H; above the next, both are chalcogen, as in 1T."""
_ALIKE: Final = 0.6
_FAINT: Final = 0.04
"""A second sublattice below this part of the first cannot be told from the first one's tail."""
_COVERED: Final = 0.5
"""Share of the frame that the lattice must cover."""
_NOISY: Final = 0.7
"""Least distance between full and one atom less, in standard errors of a column, that says anything about single columns."""
_DECIDED: Final = 6.0
"""Gain in log likelihood by columns of half the height, without which there are none."""
_MORE: Final = 2.0
"""How many times as many of them the brighter sublattice must have for the dimmer to be the metal."""
_FINE: Final = 20.0
"""Pixels per cell from which on they are added up in squares: to `_COARSE` at least, where a column still has two sigmas of
two pixels."""
_COARSE: Final = 10.0
_WHOLE: Final = 0.7
"""Share of a column that must be seen for it to say something about the others."""
_MEAN_FIELD: Final = 3
_PLACES: Final = 2


@dataclass(frozen=True)
class Asked:
    """How one image is to be evaluated."""

    steps: Steps
    """Calibration of 2H columns: 0, 1, 2 atoms. For 1T only the first and the last matter."""
    phase: Literal["auto", "2H", "1T"] = "auto"
    metal: Literal["auto", "brighter", "dimmer"] = "auto"
    order: int = 3
    """Of the lattice's distortion."""
    counts: bool = False
    """The values are electrons."""
    invert: bool = False
    edge: float | None = None
    """Chalcogens nearer to the border are at the edge, pixels; left out: the reach of a column."""
    edges: Literal["exclude", "wrap", "all"] = "exclude"
    """Which sites count: away from all borders, from the bottom and right one, or all."""


def fit_image(image: Matrix, asked: Asked) -> Fitted:
    """Fit one image.

    Parameters
    ----------
    image : ndarray, float64, shape (rows, columns)
        Electrons if ``asked.counts``, else any intensity. What is not finite counts as unknown.
    asked : Asked

    Raises
    ------
    Unusable
        It shows no lattice, or not enough of it: why.
    """
    values, known = _screened(image)
    bright = -values if asked.invert else values
    lattice = find_lattice(bright, known, order=asked.order)
    if lattice.constant >= _FINE:
        return _from_coarse(image, int(lattice.constant // _COARSE), asked)
    cells = abs(float(np.linalg.det(lattice.vectors)))
    if known.sum() / cells < _LEAST_COLUMNS:
        raise Unusable(f"too few columns: {known.sum() / cells:.0f} cells, at least {_LEAST_COLUMNS} are needed")
    data, unit = _as_electrons(bright, known, asked, lattice)
    lattice, cell = _settled(data, known, lattice)
    phase = _phase(cell, asked)
    notes: list[str] = []
    margin = cell.shapes[0].reach(lattice.constant)
    kinds = [lattice.sites(cell.fractions[n], (known.shape[0], known.shape[1]), margin) for n in range(3 if phase == "1T" else 2)]
    places = [k[1] for k in kinds]
    laid = [windows(p, cell.shapes[n], lattice, known) for n, p in enumerate(places)]
    if min(int((w.seen > 0.9).sum()) for w in laid) < _LEAST_COLUMNS:
        raise Unusable(f"too few columns: at least {_LEAST_COLUMNS} of every kind are needed whole")
    fit = fit_heights(data, known, laid, lattice.constant)
    ends = np.cumsum([0, *(len(p) for p in places)])
    heights = [fit.heights[a:b] for a, b in itertools.pairwise(ends)]
    errors = [fit.errors[a:b] for a, b in itertools.pairwise(ends)]
    steps = asked.steps if phase == "2H" else _one_atom(asked.steps)
    frame = _Frame(data, known, np.asarray(fit.expected), lattice, places, laid, heights, errors)
    if phase == "1T":
        metal, chalcogens = 0, [1, 2]
    else:
        metal, said = _which_metal(frame, steps, asked)
        chalcogens = [1 - metal]
        notes += said
    counters, beneath, mixture = _mean_field(frame, metal, chalcogens, steps)
    joined = np.concatenate([places[n] for n in chalcogens])
    seen = np.concatenate([laid[n].seen for n in chalcogens])
    # The metal's own lattice says where there is a crystal at all.
    inside = _inside(joined, places[metal], heights[metal], laid[metal].seen, lattice) & (seen > 0.5)
    rows, columns = (known.shape[0] - 1, known.shape[1] - 1)
    border = np.minimum.reduce([joined[:, 0], rows - joined[:, 0], joined[:, 1], columns - joined[:, 1]])
    edge = float(np.median([cell.shapes[n].reach(lattice.constant) for n in chalcogens])) if asked.edge is None else asked.edge
    at_edge = border < edge
    within = (border >= -0.5) & (seen > 0.2)
    covered = inside[within & ~at_edge].mean() if (within & ~at_edge).any() else 0.0
    if covered < _COVERED:
        raise Unusable(f"no lattice: metal columns are found around {covered:.0%} of its sites only")
    far = np.minimum(rows - joined[:, 0], columns - joined[:, 1]) < edge
    counts = within & inside & ~{"exclude": at_edge, "wrap": far, "all": np.zeros_like(far)}[asked.edges]
    if counts.sum() < _LEAST_COLUMNS:
        raise Unusable(f"too few columns: {int(counts.sum())} chalcogen columns away from the edge")
    counters = counters.spread(mixture.phi)
    full = mixture.level * beneath
    clear = float(np.median(((1 - steps.parts[-2]) * full * np.sqrt(counters.precision(full)))[counts]))
    if clear < _NOISY:
        raise Unusable(f"too noisy: one atom less is {clear:.1f} standard errors of a column, at least {_NOISY} are needed")
    order = np.flatnonzero(within)
    order = order[np.lexsort((joined[order, 1].round(6), joined[order, 0].round(6)))]
    amplitude = np.concatenate([heights[n] for n in chalcogens])
    error = np.concatenate([errors[n] for n in chalcogens]) * np.sqrt(mixture.phi)
    sublattice = np.concatenate([np.full(len(places[n]), i + 1) for i, n in enumerate(chalcogens)])
    signed = -unit if asked.invert else unit
    return Fitted(
        joined[order], sublattice[order], signed * amplitude[order], unit * error[order], at_edge[order],
        (inside & (seen > _WHOLE))[order], counts[order], counters.of(order), beneath[order], signed, steps, phase, lattice,
        places[metal], metal == 0, mixture.phi, clear, tuple(notes),
    )  # fmt: skip


def _from_coarse(image: Matrix, size: int, asked: Asked) -> Fitted:
    """Fit an image after adding up squares of pixels: counts stay counts, and what a column is is known as well."""
    height, width = (n // size * size for n in image.shape)
    added = image[:height, :width].reshape(height // size, size, width // size, size).sum((1, 3))
    found = fit_image(added, replace(asked, edge=None if asked.edge is None else asked.edge / size))
    middle, area = (size - 1) / 2, size**2
    lattice = found.lattice.moved(found.lattice.coefficients * size)
    lattice.coefficients[0] += middle
    return replace(
        found, places=found.places * size + middle, metals=found.metals * size + middle, lattice=lattice,
        amplitude=found.amplitude / area, error=found.error / area, unit=found.unit / area,
    )  # fmt: skip


def _screened(image: Matrix) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    known = np.isfinite(image)
    if min(image.shape) < _LEAST_SIDE:
        raise Unusable(f"too small: {image.shape[0]} x {image.shape[1]} pixels, at least {_LEAST_SIDE} are needed")
    if known.mean() < 0.5:
        raise Unusable(f"unknown: only {known.mean():.0%} of its pixels have a value")
    values = np.where(known, image, 0.0)
    with np.errstate(over="ignore"):
        span = float(np.ptp(values[known]))
    if not span > 0 or not np.isfinite(span):
        raise Unusable("constant: all its pixels have the same value" if not span > 0 else "its values are too large to add up")
    return values, known


def _settled(data: Matrix, known: npt.NDArray[np.bool_], lattice: Lattice) -> tuple[Lattice, MeanCell]:
    """Find the columns in the mean cell and bring the lattice to where they are, in turns."""
    mean, pixels = mean_cell(data, known, lattice)
    origin = brightest(mean, pixels)
    cell = fit_cell(mean, pixels, lattice, origin)
    for _ in range(_PLACES):
        used = [n for n in range(3) if cell.heights[n] > 0.1 * cell.heights[0]] or [0]
        for _ in range(2):
            lattice = refine_places(
                data, known, lattice, [cell.fractions[n] for n in used], [cell.shapes[n] for n in used],
                [float(cell.heights[n]) for n in used],
            )  # fmt: skip
        mean, pixels = mean_cell(data, known, lattice)
        cell = fit_cell(mean, pixels, lattice, origin)
    if not cell.heights[0] > 3 * cell.errors[0]:
        raise Unusable("no lattice: its mean cell shows no columns")
    return lattice, cell


def _phase(cell: MeanCell, asked: Asked) -> Phase:
    first, second, third = (float(h) for h in cell.heights)
    if second < _FAINT * first or second < 4 * float(cell.errors[1]):
        raise Unusable(f"no second sublattice: the second site of its mean cell has {second / first:.0%} of the first")
    if asked.phase != "auto":
        return asked.phase
    ratio = third / second
    if ratio < _EMPTY:
        return "2H"
    if ratio > _ALIKE and second < 0.9 * first:
        return "1T"
    raise Unusable(
        f"neither 2H nor 1T: the sites of its mean cell have heights 1 : {second / first:.2f} : {third / first:.2f} "
        "(several layers, or columns too broad)"
    )


def _one_atom(steps: Steps) -> Steps:
    return Steps((steps.parts[0], steps.parts[-1]), (steps.errors[0], 0.0))


def _as_electrons(bright: Matrix, known: npt.NDArray[np.bool_], asked: Asked, lattice: Lattice) -> tuple[Matrix, float]:
    """Return the image in units in which a pixel's variance is its expectation, and the unit.

    Electrons are left as they are. Otherwise variance = gain x value + constant, found from how pixels scatter around their
    neighbours; that of a noise-free image comes out tiny, and so everything as well known.
    """
    if asked.counts and not asked.invert:
        return bright, 1.0
    from scipy import ndimage

    low = float(bright[known].min())
    values = np.where(known, bright - low, 0.0)
    span = float(values[known].max())
    # Second differences cancel what is smooth; in units of the pixel's own variance their square is 20 (4 1 1 1 1).
    kernel = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float64)
    rough = ndimage.convolve(values, kernel, mode="nearest") ** 2 / 20
    smooth = ndimage.gaussian_filter(values, max(1.0, 0.06 * lattice.constant), mode="nearest")
    solid = ndimage.binary_erosion(known, iterations=2)
    if not solid.any():
        raise Unusable("unknown: no pixel has all its neighbours")
    x, y = smooth[solid], rough[solid]
    edges = np.quantile(x, np.linspace(0, 1, 13))
    which = np.clip(np.searchsorted(edges, x) - 1, 0, 11)
    count = np.bincount(which, minlength=12)
    good = count > 20
    xs = np.bincount(which, x, 12)[good] / count[good]
    ys = np.bincount(which, y, 12)[good] / count[good]
    floor = (1e-4 * span) ** 2
    if len(xs) < 3:
        gain, constant = floor / span, float(np.mean(y)) + floor
    else:
        slope, start = np.polyfit(xs, ys, 1, w=1 / np.maximum(ys, floor))
        gain, constant = max(float(slope), 0.0), max(float(start), 0.0) + floor
        if gain == 0.0:
            constant = float(np.mean(ys)) + floor
    gain = max(gain, 0.02 * constant / span)
    return (values + constant / gain) / gain, gain


@dataclass(frozen=True)
class _Frame:
    """What all further steps are made from; lists have one entry per kind of column."""

    data: Matrix
    known: npt.NDArray[np.bool_]
    expected: Matrix
    lattice: Lattice
    places: list[Matrix]
    laid: list[Windows]
    heights: list[Matrix]
    errors: list[Matrix]


def _which_metal(frame: _Frame, steps: Steps, asked: Asked) -> tuple[int, list[str]]:
    """Return which of two sublattices is the metal: the one without columns of half the height."""
    if asked.metal != "auto":
        return (0 if asked.metal == "brighter" else 1), []
    found = []
    for n in (0, 1):
        counters, beneath, mixture = _mean_field(frame, 1 - n, [n], steps, rounds=1)
        seen = frame.laid[n].seen > _WHOLE
        none = fit_mixture(counters.of(seen), Steps((1.0,), (0.0,)), beneath[seen], phi=mixture.phi)
        vacant = int((mixture.probabilities[seen, -1] < 0.5).sum())
        found.append(vacant if mixture.total - none.total > _DECIDED else 0)
    # Chalcogens are lost far more easily than metal atoms.
    if found[0] > _MORE * found[1]:
        return 1, [f"the dimmer columns are the metal: {found[0]} of the brighter have half the height, and {found[1]} of them"]
    if found[1] > _MORE * found[0]:
        return 0, []
    return 0, ["the brighter columns are taken for the metal: vacancies do not tell (see parameter metal)"]


def _shape(frame: _Frame) -> tuple[int, int]:
    return frame.known.shape[0], frame.known.shape[1]


def _mean_field(
    frame: _Frame, metal: int, chalcogens: Sequence[int], steps: Steps, rounds: int = _MEAN_FIELD
) -> tuple[Counters, Matrix, Mixture]:
    """Classify every chalcogen with its neighbours at what they are expected to be, again and again.

    Knowing that metals are alike and chalcogens one of few tells more than free heights do: what a free neighbour could take
    over is not lost to noise. Returned are the chalcogens as counters, the height of the metals beside each, and their mixture.
    """
    flat = np.append(np.where(frame.known, frame.data, 0.0).ravel(), 0.0)
    expected = np.append(frame.expected, 0.0)
    believed = [h.copy() for h in frame.heights]
    own = frame.heights[metal]
    whole = frame.laid[metal].seen > _WHOLE
    if not whole.any():
        whole[:] = True
    noise = frame.errors[metal] ** 2
    places = np.concatenate([frame.places[n] for n in chalcogens])
    around = np.concatenate([frame.places[metal], places])
    typical, beneath = np.split(beside(frame.places[metal][whole], own[whole], around, _shape(frame)), [len(own)])
    away = own - typical
    spread = max(0.0, (1.4826 * float(np.median(np.abs(away[whole])))) ** 2 - float(np.median(noise[whole])))
    expected = _put(frame, expected, believed, metal, typical + spread / (spread + noise) * away)
    seen = np.concatenate([frame.laid[n].seen for n in chalcogens]) > _WHOLE
    start = np.concatenate([frame.heights[n] for n in chalcogens])
    full = np.full(len(start), float(np.median(start[seen])) if seen.any() else float(np.median(start)))
    mixture: Mixture | None = None
    for _ in range(rounds):
        parts = []
        first = 0
        for n in chalcogens:
            last = first + len(frame.places[n])
            parts.append(_counters(frame.laid[n], flat, expected, believed[n], full[first:last], steps.parts[-2]))
            first = last
        counters = Counters(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("height", "rate", "offset")))
        mixture = fit_mixture(counters.of(seen), steps, beneath[seen])
        full = mixture.level * beneath
        mean = full * (odds(counters, steps, full, mixture) @ np.array(steps.parts))
        first = 0
        for n in chalcogens:
            last = first + len(frame.places[n])
            expected = _put(frame, expected, believed, n, mean[first:last])
            first = last
    assert mixture is not None
    return counters, beneath, replace(mixture, probabilities=odds(counters, steps, full, mixture))


def _put(frame: _Frame, expected: Matrix, believed: list[Matrix], kind: int, heights: Matrix) -> Matrix:
    """Return the expectation with the columns of a kind changed to other heights, and keep these."""
    laid = frame.laid[kind]
    change = (heights - believed[kind])[:, None] * laid.values
    believed[kind] = heights
    return np.asarray(expected + np.bincount(laid.index.ravel(), change.ravel(), len(expected)))


def _counters(laid: Windows, flat: Matrix, expected: Matrix, believed: Matrix, full: Matrix, part: float) -> Counters:
    """Return what every column alone says about its height, all else being as expected."""
    values = laid.values
    rest = expected[laid.index] - believed[:, None] * values
    floor = 0.02 * max(float(np.abs(flat[:-1]).mean()), 1e-300)
    upper = np.maximum(rest + full[:, None] * values, floor)
    lower = np.maximum(rest + (part * full)[:, None] * values, floor)
    at_full = np.maximum((values**2 / upper).sum(1), 1e-12)
    at_part = np.maximum((values**2 / lower).sum(1), at_full * (1 + 1e-6))
    middle = 0.5 * (upper + lower)
    weight = values / middle
    height = (weight * (flat[laid.index] - rest)).sum(1) / np.maximum((weight * values).sum(1), 1e-300)
    # rate / (full + offset) = at_full, rate / (part full + offset) = at_part
    offset = (at_full * full - at_part * part * full) / (at_part - at_full)
    offset = np.maximum(offset, 1e-6 * full)
    blind = laid.seen < 1e-6
    return Counters(
        np.where(blind, full, height), np.where(blind, 1e-12, at_full * (full + offset)), np.where(blind, np.abs(full), offset)
    )


def _inside(places: Matrix, metals: Matrix, heights: Matrix, seen: Matrix, lattice: Lattice) -> npt.NDArray[np.bool_]:
    """Return which sites have two thirds at least of the metal columns next to them that can be seen."""
    from scipy.spatial import cKDTree

    usable = seen > 0.5
    if not usable.any():
        return np.zeros(len(places), bool)
    there = heights[usable] > 0.5 * np.median(heights[usable])
    distance, index = cKDTree(metals[usable]).query(places, k=3, distance_upper_bound=0.8 * lattice.constant)
    near = np.isfinite(distance)
    padded = np.append(there, False)
    return np.asarray((padded[index] & near).sum(1) >= np.maximum(1, np.ceil(near.sum(1) * 2 / 3)))
