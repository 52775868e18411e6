"""noise.digital: Poisson counts, whatever the cut."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Axis
from emstore.processors.noise import Digital
from emstore.testing import ProcessorConformance
from emstore.volume import Volume
from in_blocks import over, planned, run, same_whatever_the_blocks


def image(
    values: Any, quantity: str = "beam fraction", pixel: float = 0.02, unit: str | None = "nanometer", **rest: Any
) -> Volume:
    values = np.asarray(values, dtype=np.float32)
    axes = [
        Axis(name, size) for name, size in zip("cz"[-(values.ndim - 2) :] if values.ndim > 2 else "", values.shape, strict=False)
    ]
    axes += [Axis(n, s, spacing=pixel if unit else None, unit=unit) for n, s in zip("yx", values.shape[-2:], strict=True)]
    return over(values, *axes, attributes={"quantity": quantity, **rest})


def test_counts_are_poisson_with_the_expected_mean() -> None:
    # 0.05 of the beam, 2500 e/A^2, pixels of 0.2 A x 0.2 A: 5 electrons each.
    counts = run(Digital(), image(np.full((300, 301), 0.05)), dose=2500, seed=3)
    assert counts.dtype == np.uint16
    found = np.bincount(counts.ravel(), minlength=30)[:30]
    law = stats.poisson(5).pmf(np.arange(30)) * counts.size
    kept = law > 10
    deviation = ((found - law)[kept] ** 2 / law[kept]).sum()
    assert deviation < stats.chi2(kept.sum()).ppf(0.9999)
    rows = counts - counts.mean()
    for neighbour in (np.roll(rows, 1, 0), np.roll(rows, 1, 1), np.roll(rows, 64, 0), np.roll(rows, 64, 1)):
        assert abs(float((rows * neighbour).mean() / rows.var())) < 5 / np.sqrt(counts.size)


@pytest.mark.parametrize("block", [(50, 33), (64, 128), (300, 7)])
def test_the_cut_changes_no_count(block: tuple[int, int]) -> None:
    volume = image(np.random.default_rng(1).random((300, 200)) / 10)
    operation = planned(Digital(), volume, dose=5000.0, seed=9)
    same_whatever_the_blocks(operation, (volume,), block)


def test_frames_have_chances_of_their_own_and_sum_to_the_dose() -> None:
    volume = image(np.full((64, 150), 0.1))
    operation = planned(Digital(), volume, dose=1000.0, frames=40, seed=4)
    counts = same_whatever_the_blocks(operation, (volume,), (7, 64, 40))
    assert operation.result is not None
    assert operation.result.grid.dims == ("t", "y", "x")
    assert counts.shape == (40, 64, 150)
    sums = counts.sum(axis=0, dtype=int)
    assert abs(sums.mean() - 160) < 5 * np.sqrt(160 / sums.size)  # 40 x 1000 e/A^2 x 0.04 A^2 x 0.1
    assert abs(sums.var() / 160 - 1) < 0.1
    first = run(Digital(), volume, dose=1000.0, seed=4)
    np.testing.assert_array_equal(first, counts[0])
    assert (run(Digital(), volume, dose=1000.0, seed=5) != first).any()


def test_expected_electrons_keep_their_own_dose() -> None:
    volume = image(np.full((2, 90, 80), 30.0), "electrons", dose={"value": [500.0, 900.0], "unit": "electron/angstrom^2"})
    operation = planned(Digital(), volume, seed=1)
    assert operation.result is not None
    assert operation.result.attributes["dose"]["value"] == [500.0, 900.0]
    counts = run(Digital(), volume, seed=1)
    assert abs(counts.mean() - 30) < 5 * np.sqrt(30 / counts.size)
    assert (counts[0] != counts[1]).any()


@pytest.mark.parametrize(
    ("volume", "params", "kind"),
    [
        (image(np.ones((4, 4))), {}, Kind.INVALID_INPUT),
        (image(np.ones((4, 4)), unit=None), {"dose": 1}, Kind.BAD_SPACING),
        (image(np.ones((4, 4)), "electrons"), {"dose": 1}, Kind.INVALID_INPUT),
        (image(np.ones((4, 4)), "electrons", counted=True), {}, Kind.INVALID_INPUT),
        (over(np.ones((4, 4), "f4")), {"dose": 1}, Kind.INVALID_INPUT),
        (over(np.ones(4, "f4"), Axis("x", 4)), {"dose": 1}, Kind.INVALID_INPUT),
    ],
)
def test_what_cannot_be_counted_is_refused(volume: Volume, params: dict[str, Any], kind: Kind) -> None:
    with pytest.raises(InvalidInput) as refused:
        planned(Digital(), volume, **params)
    assert refused.value.kind is kind


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_what_cannot_be_expected_is_refused(value: float) -> None:
    with pytest.raises(InvalidInput, match="cannot be counted"):
        run(Digital(), image(np.full((4, 4), value)), dose=1000)


def test_a_count_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInput, match="uint32"):
        run(Digital(), image(np.ones((4, 4))), dose=1e8)
    assert run(Digital(), image(np.ones((4, 4))), dose=1e8, dtype="uint32").min() > 65535


class TestConformance(ProcessorConformance):
    processor = Digital
    volumes = (image(np.random.default_rng(2).random((2, 12, 70)) / 20),)
    params = ({"dose": 4000.0, "seed": 7}, {"dose": 900.0, "frames": 3})
    executors = ("threads",)
    examples = 3
