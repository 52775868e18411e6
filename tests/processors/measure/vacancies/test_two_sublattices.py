"""The two-sublattice route: counts known by construction, and what Atomap finds."""

import warnings

import numpy as np
import pytest
from scipy.spatial import cKDTree

from emstore.processors.measure.vacancies.lattice import Unusable
from emstore.processors.measure.vacancies.two_sublattice import Separations, find_two_sublattices
from monolayers import Monolayer, monolayer

CELL = np.array([[0.0, 32.0], [28.0, -16.0]])
"""Vectors that repeat exactly in a frame of whole pixels: 32 along x, 56 along y."""


def periodic(rows: int, columns: int, *, double: float, seed: int = 0) -> Monolayer:
    """Return a layer that fills its frame with whole cells."""
    return monolayer(
        (56 * rows, 32 * columns), seed=seed, pixel=0.1, vectors=CELL, origin=(3.3, 5.1), single=0.0, double=double,
        chalcogen=0.6, dose=1e5,
    )  # fmt: skip


def test_of_a_frame_that_repeats_the_wrap_around_rule_counts_every_column_once() -> None:
    layer = periodic(4, 7, double=0.0)
    found = find_two_sublattices(layer.expected, Separations(), edges="wrap", edge=7.0)
    every = find_two_sublattices(layer.expected, Separations(), edges="all")
    assert found.metal_count == 2 * 4 * 7 - _at_far_border(layer.metals, layer.expected.shape, 7.0)
    assert every.metal_count >= found.metal_count
    assert found.percent == pytest.approx(0.0, abs=100 * 3 / found.metal_count)
    low, high = found.interval
    assert low <= 0 <= high


def _at_far_border(places: np.ndarray, shape: tuple[int, ...], edge: float) -> int:
    """Return how many columns of the frame the rule drops beyond its last pixel's neighbours."""
    inside = ((places >= 0) & (places <= np.array(shape) - 1)).all(1)
    far = (places > np.array(shape) - 1 - edge).any(1)
    return 2 * 4 * 7 - int((inside & ~far).sum())


def test_the_percentage_is_that_of_the_columns_without_atoms() -> None:
    layer = monolayer((400, 380), seed=4, pixel=0.14, single=0.0, double=0.06, chalcogen=0.6, dose=1e5)
    found = find_two_sublattices(layer.counted(0), Separations(), edges="exclude")
    inside = ((layer.chalcogens > 7) & (layer.chalcogens < [392, 372])).all(1)
    true = 100 * (layer.atoms[inside] == 0).mean()
    low, high = found.interval
    assert low <= true <= high
    empty = layer.chalcogens[(layer.atoms == 0) & inside]
    there = layer.chalcogens[(layer.atoms == 2) & inside]
    assert len(empty) > 10
    assert (cKDTree(found.chalcogens[:, :2]).query(empty)[0] > 6).sum() >= len(empty) - 1
    assert (cKDTree(found.chalcogens[:, :2]).query(there)[0] < 1).mean() > 0.98
    metals = layer.metals[((layer.metals > 7) & (layer.metals < [392, 372])).all(1)]
    assert np.sqrt((cKDTree(found.metals[:, :2]).query(metals)[0] ** 2).mean()) < 0.2


def test_one_missing_atom_of_two_is_not_seen() -> None:
    layer = monolayer((300, 300), seed=4, pixel=0.14, single=0.1, double=0.0, chalcogen=0.8, dose=1e5)
    found = find_two_sublattices(layer.counted(0), Separations(), edges="exclude")
    inside = ((layer.chalcogens > 8) & (layer.chalcogens < 291)).all(1)
    assert cKDTree(found.chalcogens[:, :2]).query(layer.chalcogens[inside])[0].max() < 1.5


def test_columns_are_those_that_atomap_finds() -> None:
    layer = monolayer((230, 230), seed=2, pixel=0.1, single=0.0, double=0.06, chalcogen=0.6, dose=3e5)
    ours = find_two_sublattices(layer.expected, Separations(disc=18.0), edges="all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        am = pytest.importorskip("atomap.api")
        hs = pytest.importorskip("hyperspy.api")
        metals = am.Sublattice(am.get_atom_positions(hs.signals.Signal2D(layer.expected), separation=20), image=layer.expected)
        metals.find_nearest_neighbors()
        metals.refine_atom_positions_using_center_of_mass(show_progressbar=False)
        metals.refine_atom_positions_using_2d_gaussian(show_progressbar=False)
        places = np.array([(atom.pixel_y, atom.pixel_x) for atom in metals.atom_list])
        y, x = np.mgrid[:230, :230]
        hidden = layer.expected.copy()
        for row, column in places:
            hidden[(y - row) ** 2 + (x - column) ** 2 < 81] = layer.expected.min()
        chalcogens = np.array(am.get_atom_positions(hs.signals.Signal2D(hidden), separation=14))[:, ::-1]
    # Atomap's least distance is one along both axes at once, so that it finds fewer of the chalcogens, none of them elsewhere.
    for found, theirs, away, fewer in ((ours.metals, places, 0.3, 1), (ours.chalcogens, chalcogens, 3.0, 12)):
        assert len(theirs) > 30
        inside = theirs[((theirs > 22) & (theirs < 207)).all(1)]
        distance, index = cKDTree(found[:, :2]).query(inside)
        assert distance.max() < away
        ours_inside = ((found[:, :2] > 22) & (found[:, :2] < 207)).all(1).sum()
        assert 0 <= ours_inside - len(set(index.tolist())) <= fewer


@pytest.mark.parametrize(
    ("why", "image"),
    [
        ("constant", np.ones((128, 128))),
        ("too small", np.random.default_rng(0).random((40, 128))),
        ("too small", np.full((99, 99), np.nan)),
    ],
)
def test_what_has_no_columns_is_said_to_be_so(why: str, image: np.ndarray) -> None:
    with pytest.raises(Unusable, match=why):
        find_two_sublattices(image, Separations())
