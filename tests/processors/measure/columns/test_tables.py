"""Strain, precision and matching: on lattices whose distances are known."""

from typing import Any

import numpy as np
import pytest

from columns import gaussians, image, lattice, measured
from emstore.errors import InvalidInput
from emstore.processors.measure import Matching, Precision, Strain
from emstore.table import Column, Table

EVEN = np.stack(np.meshgrid(np.arange(0, 200, 5.0), np.arange(0, 300, 4.0), indexing="ij"), -1).reshape(-1, 2)


def table(
    places: np.ndarray[Any, Any], error: float = 0.05, frame: Any = None, unit: str | None = "angstrom", **more: Any
) -> Table:
    columns = {
        "frame": Column(np.zeros(len(places), np.int64) if frame is None else frame),
        "y": Column(places[:, 0], unit),
        "x": Column(places[:, 1], unit),
        "y_error": Column(np.full(len(places), error), unit),
        "x_error": Column(np.full(len(places), 2 * error), unit),
        **{name: Column(values) for name, values in more.items()},
    }
    return Table("columns", columns)


def row(found: Table, direction: str) -> dict[str, Any]:
    at = list(found.columns["direction"].values).index(direction)
    return {name: column.values[at] for name, column in found.columns.items()}


def test_strain_error_is_that_of_the_displacements() -> None:
    rng = np.random.default_rng(0)
    moved = EVEN + rng.normal(0, [0.1, 0.05], EVEN.shape)
    found = Strain().plan([table(moved)], Strain.params())
    for direction, reference, deviation, pairs in (("horizontal", 4, 0.05, 40 * 74), ("vertical", 5, 0.1, 39 * 75)):
        one = row(found, direction)
        assert one["reference"] == pytest.approx(reference, rel=2e-3)
        assert one["mean"] == pytest.approx(reference, rel=2e-3)
        assert one["pairs"] == pairs
        # The difference of two independent displacements has twice their variance.
        assert one["strain_error"] == pytest.approx(np.sqrt(2) * deviation / reference, rel=0.05)
        assert one["strain_error_low"] < one["strain_error"] < one["strain_error_high"]
    assert found.columns["deviation"].unit == "angstrom"


@pytest.mark.parametrize("angle", [-30.0, 12.0])
def test_a_turned_lattice(angle: float) -> None:
    turn = np.deg2rad(angle)
    y, x = EVEN.T
    places = np.column_stack([y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)])
    found = Strain().plan([table(places)], Strain.params(angle=angle))
    assert row(found, "horizontal")["mean"] == pytest.approx(4)
    assert row(found, "vertical")["mean"] == pytest.approx(5)
    assert row(found, "vertical")["strain_error"] == pytest.approx(0, abs=1e-9)


def test_histograms_are_probabilities() -> None:
    moved = EVEN + np.random.default_rng(1).normal(0, 0.1, EVEN.shape)
    found = Strain().plan([table(moved)], Strain.params(give="histogram", bins=30))
    for direction, reference in (("horizontal", 4), ("vertical", 5)):
        of = found.columns["direction"].values == direction
        distance, share = found.columns["distance"].values[of], found.columns["probability"].values[of]
        assert share.sum() == pytest.approx(1)
        assert (distance * share).sum() == pytest.approx(reference, rel=0.01)


def test_precision_is_a_multiple_of_the_bound() -> None:
    rng = np.random.default_rng(2)
    noise = 1.3 * rng.normal(0, [0.05, 0.1], (6, *EVEN.shape))
    frames = np.repeat(np.arange(6), len(EVEN))
    reference = EVEN + rng.normal(0, 0.2, EVEN.shape)  # thermal displacements are in both and vanish
    moved = (reference + noise).reshape(-1, 2)
    found = Precision().plan([table(moved, frame=frames), table(reference)], Precision.params())
    assert found.rows == 12
    ratios = found.columns["ratio"].values
    np.testing.assert_allclose(ratios, 1.3, rtol=0.06)
    assert found.summary["horizontal"] == pytest.approx(1.3, rel=0.03)
    assert found.summary["vertical"] == pytest.approx(1.3, rel=0.03)
    inside = (found.columns["ratio_low"].values < 1.3) & (found.columns["ratio_high"].values > 1.3)
    assert inside.mean() >= 0.6
    quarter = Precision().plan([table(moved, frame=frames), table(reference)], Precision.params(dose_ratio=0.25))
    np.testing.assert_allclose(quarter.columns["ratio"].values, ratios / 2)


def test_matching_counts_what_is_lost_and_invented() -> None:
    sigma = np.full(len(EVEN), 2.0)
    truth = table(EVEN, sigma=sigma)
    kept = np.ones(len(EVEN), bool)
    kept[[500, 900, 1300]] = False
    places = np.vstack([EVEN[kept] + [0.1, -0.2], [[52.5, 42.0], [102.5, 82.0]]])
    found = Matching().plan([table(places, sigma=np.full(len(places), 2.4)), truth], Matching.params(radius=1.0))
    assert found.summary["recall"] == pytest.approx(1 - 3 / len(EVEN))
    assert found.summary["precision"] == pytest.approx(1 - 2 / len(places))
    assert found.columns["rms"].values[0] == pytest.approx(np.hypot(0.1, 0.2))
    assert found.columns["bias_y"].values[0] == pytest.approx(0.1)
    assert found.columns["width_ratio"].values[0] == pytest.approx(1.2)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidInput, match="unit"):
        Precision().plan([table(EVEN), table(EVEN, unit=None)], Precision.params())
    with pytest.raises(InvalidInput, match="neighbours"):
        Strain().plan([table(EVEN[:1])], Strain.params())
    with pytest.raises(InvalidInput, match="y and x"):
        Strain().plan([Table("other", {"a": Column(np.zeros(3))})], Strain.params())


def test_from_images_to_multiples_of_the_bound() -> None:
    """Columns of noisy images against those of the clean one at the same dose: maximum likelihood is at the bound."""
    truth = lattice((120, 120), 12, amplitude=0.4, sigma=2.2, seed=5)
    fraction = gaussians((120, 120), truth, 0.1)
    dose = 2500.0
    reference = measured(image(fraction, quantity="beam fraction"), method="poisson", dose=dose)
    rng = np.random.default_rng(0)
    noisy = rng.poisson(np.broadcast_to(fraction * dose * 0.04, (4, 120, 120))).astype("uint16")
    columns = measured(image(noisy), method="poisson")
    found = Precision().plan([columns, reference], Precision.params())
    for direction in ("horizontal", "vertical"):
        assert 0.9 < found.summary[direction] < 1.12
