"""The lattice template on layers whose atoms are known."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import cKDTree

from emstore.processors.measure.vacancies.atoms import Steps, best_calls
from emstore.processors.measure.vacancies.decision import Sites, decide
from emstore.processors.measure.vacancies.lattice import Unusable
from emstore.processors.measure.vacancies.template import Asked, fit_image
from monolayers import Monolayer, monolayer

HALF = Steps((0.0, 0.5, 1.0), (0.01, 0.02, 0.0))
COUNTS = Asked(steps=HALF, counts=True)


def found_in(image: npt.NDArray[np.float64], asked: Asked = COUNTS, seed: int = 0) -> Sites:
    """Return the sites of one image, decided by itself."""
    [sites] = decide([fit_image(image, asked)], seed=seed)
    return sites


def atoms_at(sites: Sites, layer: Monolayer) -> npt.NDArray[np.int64]:
    """Return the true atoms of the sites that count; every one must be where a chalcogen is."""
    distance, index = cKDTree(layer.chalcogens).query(sites.fitted.places[sites.fitted.counts])
    assert distance.max() < 1.0
    assert len(set(index.tolist())) == len(index)
    return layer.atoms[index]


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("turned", {"turn": 0.0}),
        ("turned", {"turn": 0.5}),
        ("turned", {"turn": 1.1}),
        ("sheared", {"matrix": ((1.04, 0.05), (0.0, 0.96))}),
        ("bent", {"bend": 5.0}),
        ("pixels that are not square", {"matrix": ((1.0, 0.0), (0.0, 1.25))}),
        ("odd and not square", {"shape": (131, 190)}),
        ("fine pixels", {"pixel": 0.1, "shape": (260, 250), "dose": 40_000.0}),
        ("coarse pixels", {"pixel": 0.35, "shape": (96, 100)}),
        ("chalcogens brighter than metals", {"chalcogen": 1.5}),
        ("faint chalcogens", {"chalcogen": 0.15, "dose": 200_000.0}),
    ],
)
def test_every_vacancy_is_found(what: str, options: dict[str, object]) -> None:
    layer = monolayer(seed=3, **options)  # type: ignore[arg-type]
    sites = found_in(layer.counted(1))
    true = atoms_at(sites, layer)
    assert sites.fitted.phase == "2H"
    assert len(true) > 0.5 * len(layer.chalcogens) * 0.5
    assert (true < 2).sum() >= 3
    np.testing.assert_array_equal(sites.called[sites.fitted.counts], true)
    np.testing.assert_allclose(sites.counted.probabilities.sum(1), 1, atol=1e-9)


def test_the_two_sides_of_1t_are_told_apart() -> None:
    layer = monolayer(seed=5, phase="1T")
    sites = found_in(layer.counted(1))
    assert sites.fitted.phase == "1T"
    assert sites.fitted.atoms == 1
    assert set(sites.fitted.sublattice.tolist()) == {1, 2}
    np.testing.assert_array_equal(sites.called[sites.fitted.counts], atoms_at(sites, layer))


def test_an_image_turned_by_a_right_angle_or_mirrored_says_the_same() -> None:
    layer = monolayer(seed=2, dose=4_000.0)
    image = layer.counted(4)
    straight = found_in(image)
    width = image.shape[1]
    for other, back in (
        (found_in(np.rot90(image).copy(), COUNTS), lambda p: np.stack([p[:, 1], width - 1 - p[:, 0]], axis=1)),
        (found_in(image[:, ::-1].copy()), lambda p: np.stack([p[:, 0], width - 1 - p[:, 1]], axis=1)),
    ):
        places = back(other.fitted.places)
        distance, index = cKDTree(straight.fitted.places).query(places)
        near = distance < 0.3
        assert near.mean() > 0.97
        same = straight.counted.probabilities[index[near], -1]
        np.testing.assert_allclose(other.counted.probabilities[near, -1], same, atol=0.15)


def test_bright_field_is_the_same_turned_over() -> None:
    layer = monolayer(seed=6, dose=100_000.0)
    image = layer.counted(2)
    dark = 3 * image.max() - image
    sites = found_in(dark, Asked(steps=HALF, invert=True))
    np.testing.assert_array_equal(sites.called[sites.fitted.counts], atoms_at(sites, layer))
    assert np.median(sites.fitted.amplitude) < 0
    assert sites.full < 0


def test_any_scale_and_offset_of_an_analog_image() -> None:
    layer = monolayer(seed=7, dose=30_000.0)
    image = layer.counted(2)
    plain = found_in(image, Asked(steps=HALF))
    np.testing.assert_array_equal(plain.called[plain.fitted.counts], atoms_at(plain, layer))
    scaled = found_in(image * 1e-4 + 7.0, Asked(steps=HALF))
    np.testing.assert_array_equal(scaled.called, plain.called)
    np.testing.assert_allclose(scaled.fitted.amplitude, 1e-4 * plain.fitted.amplitude, rtol=1e-3, atol=1e-7 * abs(plain.full))


def test_heights_are_the_true_ones() -> None:
    layer = monolayer(seed=1, dose=1e6, single=0.1, double=0.1)
    sites = found_in(layer.expected)
    true = atoms_at(sites, layer)
    unit = 0.03 * 1e6 * 0.04 * 0.4
    for atoms in (0, 1, 2):
        assert np.median(sites.fitted.amplitude[sites.fitted.counts][true == atoms]) / unit == pytest.approx(atoms / 2, abs=0.02)


def test_unknown_pixels_are_left_out() -> None:
    layer = monolayer(seed=8)
    image = layer.counted(0)
    image[40:60, 50:90] = np.nan
    image[100, :] = np.inf
    sites = found_in(image)
    np.testing.assert_array_equal(sites.called[sites.fitted.counts], atoms_at(sites, layer))
    inside = ((sites.fitted.places > [44, 54]) & (sites.fitted.places < [56, 86])).all(1)
    assert not (sites.fitted.counts & inside).any()


def test_a_hole_is_no_vacancy() -> None:
    layer = monolayer((200, 200), seed=9, single=0.0, double=0.0)
    y, x = np.mgrid[:200, :200]
    hole = np.hypot(y - 100, x - 90) < 30
    image = np.where(hole, np.random.default_rng(0).poisson(0.5, hole.shape), layer.counted(0)).astype(float)
    sites = found_in(image)
    near = np.hypot(*(sites.fitted.places - [100, 90]).T)
    assert not sites.fitted.counts[near < 20].any()
    assert (sites.called[sites.fitted.counts & (near > 36)] == 2).all()


def test_the_interval_holds_the_truth_and_calls_come_near_an_ideal_observer() -> None:
    """Twenty small layers at a dose where single vacancies are uncertain.

    The ideal observer knows lattice, heights, share, and the atoms of all other columns: the Poisson likelihood ratio of one
    atom less, with the best threshold for all layers together.
    """
    covered, errors, truths, called, ratios = 0, [], [], [], []
    number = 20
    for seed in range(number):
        layer = monolayer((140, 140), seed=seed, dose=4_000.0, double=0.0, turn=0.1 + seed * 0.03)
        image = layer.counted(seed)
        sites = found_in(image)
        true = atoms_at(sites, layer)
        share = sites.counted.missing / len(true)
        low, high = np.quantile(share, [0.025, 0.975])
        actual = (2 - true).sum() / len(true)
        covered += bool(low - 1e-9 <= actual <= high + 1e-9)
        errors.append(share.mean() - actual)
        _, index = cKDTree(layer.chalcogens).query(sites.fitted.places[sites.fitted.counts])
        truths.append(true < 2)
        called.append(sites.called[sites.fitted.counts] < 2)
        ratios.append(np.array([ratio(layer, image, n) for n in index]))
    truth, call, score = (np.concatenate(v) for v in (truths, called, ratios))
    # Of 20 draws at 95 %, 15 or fewer have a probability of 0.3 %.
    assert covered >= 16
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(number)
    order = np.argsort(-score)
    hits = np.cumsum(truth[order])
    ideal = float((2 * hits / (np.arange(1, len(order) + 1) + truth.sum())).max())
    ours = f1(truth, call)
    assert 0.6 < ideal < 0.99
    assert ours >= 0.92 * ideal


def test_frames_of_one_specimen_say_more_together() -> None:
    """Sixteen frames so noisy that one alone does not tell a few vacancies from slightly lower full columns.

    The ideal observer knows everything but which columns lack an atom: the best calls for the exact probabilities.
    """
    layers = [monolayer((150, 150), seed=seed, dose=2_000.0, double=0.0, turn=0.1 + 0.05 * seed) for seed in range(16)]
    images = [layer.counted(seed) for seed, layer in enumerate(layers)]
    fits = [fit_image(image, COUNTS) for image in images]
    alone = [decide([fit])[0] for fit in fits]
    together = decide(fits)
    true = [atoms_at(sites, layer) for sites, layer in zip(together, layers, strict=True)]
    sites = sum(len(atoms) for atoms in true)
    actual = sum(int((2 - atoms).sum()) for atoms in true) / sites
    low, high = np.quantile(sum(one.counted.missing for one in together) / sites, [0.025, 0.975])
    each = [np.ptp(np.quantile(one.counted.missing, [0.025, 0.975])) * len(fits) / sites for one in alone]
    assert low <= actual <= high
    assert high - low < 0.5 * np.mean(each)
    truth = np.concatenate(true) < 2
    index = [cKDTree(layer.chalcogens).query(fit.places[fit.counts])[1] for layer, fit in zip(layers, fits, strict=True)]
    logs = [ratio(*given, n) for *given, which in zip(layers, images, index, strict=True) for n in which]
    odds = np.exp(np.array(logs)) * 0.05 / 0.95
    ideal = f1(truth, best_calls(odds / (1 + odds)))
    assert 0.3 < ideal < 0.9
    assert f1(truth, np.concatenate([one.called[one.fitted.counts] < 2 for one in together])) >= 0.93 * ideal


def test_what_is_shared_follows_the_dose_of_every_frame() -> None:
    layers = [monolayer((150, 150), seed=seed, dose=dose) for seed, dose in enumerate((3_000.0, 60_000.0))]
    weak, strong = decide([fit_image(layer.counted(1), COUNTS) for layer in layers])
    assert strong.full / weak.full == pytest.approx(20, rel=0.1)
    np.testing.assert_array_equal(strong.called[strong.fitted.counts], atoms_at(strong, layers[1]))


def f1(truth: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_]) -> float:
    return float(2 * (truth & called).sum() / (truth.sum() + called.sum()))


def ratio(layer: Monolayer, image: npt.NDArray[np.float64], n: int) -> float:
    """Return the log likelihood ratio of one atom less than full at one column."""
    top, left = np.rint(layer.chalcogens[n]).astype(int) - 15
    rows = slice(max(top, 0), min(top + 31, image.shape[0]))
    columns = slice(max(left, 0), min(left + 31, image.shape[1]))
    one = layer.alone[n][rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    full = layer.expected[rows, columns] + one * (2 - layer.atoms[n])
    less = full - one
    return float((image[rows, columns] * np.log(less / full) - (less - full)).sum())


@pytest.mark.parametrize(
    ("why", "image"),
    [
        ("constant", np.full((64, 64), 3.0)),
        ("too small", np.ones((20, 200))),
        ("unknown", np.full((64, 64), np.nan)),
        ("no lattice", np.random.default_rng(0).poisson(5.0, (128, 128)).astype(float)),
        ("no lattice", np.add.outer(np.arange(100.0), np.arange(90.0))),
        ("no lattice|drift", np.add.outer(np.cos(np.arange(128) * 0.4), np.cos(np.arange(128) * 0.4)) + 2),
        ("too few columns", monolayer((72, 72), seed=1).counted(0)),
        ("too noisy", monolayer(seed=1, dose=400.0, chalcogen=0.12).counted(0)),
        ("second sublattice", monolayer(seed=1, chalcogen=0.0).counted(0)),
    ],
)
def test_what_cannot_be_evaluated_is_said_to_be_so(why: str, image: npt.NDArray[np.float64]) -> None:
    with pytest.raises(Unusable, match=why):
        found_in(image)


@pytest.mark.parametrize("seed", range(12))
def test_noise_shows_no_lattice(seed: int) -> None:
    image = np.random.default_rng(seed).poisson(3.0, (96, 130)).astype(float)
    with pytest.raises(Unusable, match="no lattice"):
        found_in(image)


def test_the_same_image_gives_the_same_table_and_the_seed_only_moves_the_draws() -> None:
    image = monolayer(seed=1, dose=3_000.0).counted(0)
    one, again, other = (found_in(image, COUNTS, seed) for seed in (0, 0, 1))
    assert one.counted.missing.tobytes() == again.counted.missing.tobytes()
    assert one.fitted.amplitude.tobytes() == again.fitted.amplitude.tobytes() == other.fitted.amplitude.tobytes()
    assert other.counted.missing.mean() == pytest.approx(one.counted.missing.mean(), rel=0.2)


def test_calls_are_those_of_the_highest_expected_f1() -> None:
    """Against trying every number of calls, with the expectation over all outcomes."""
    chance = np.random.default_rng(3)
    for _ in range(20):
        p = chance.beta(0.4, 1.0, 9)
        outcomes = np.stack(np.unravel_index(np.arange(512), (2,) * 9), axis=1).astype(bool)
        weights = np.where(outcomes, p, 1 - p).prod(1)

        def expected(called: npt.NDArray[np.bool_], outcomes: npt.NDArray[np.bool_] = outcomes, w: object = weights) -> float:
            total = (outcomes & called).sum(1) * 2 / np.maximum(outcomes.sum(1) + called.sum(), 1)
            return float((total * w).sum())

        order = np.argsort(-p)
        best = max(expected(np.isin(np.arange(9), order[:k])) for k in range(1, 10))
        assert expected(best_calls(p)) > best - 0.05
