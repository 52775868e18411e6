"""Total variation against scikit-image on whole slices and volumes, and against the energy it minimises."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.restoration import denoise_tv_chambolle

from emstore.processors.denoise import TotalVariation
from in_blocks import arrays, over, planned, run, same_whatever_the_blocks

RNG = np.random.default_rng(7)
CLEAN = 60.0 * (np.add.outer(np.arange(40), np.arange(50)) % 23 > 11)
SCENE = RNG.normal(0, 4, (4, 40, 50)) + CLEAN


@settings(max_examples=60, deadline=None)
@given(
    values=arrays(types=("u1", "<i2", ">f4", "f8", "i4")),
    block=st.tuples(*[st.integers(1, 9)] * 3),
    axes=st.sampled_from(["slice", "volume", ("z", "x"), ("y",)]),
    dtype=st.sampled_from(["float32", "float64", "same"]),
    noise=st.sampled_from([{"sigma": 40.0}, {"stabilise": {"gain": 3.0, "read_noise": 2.0}}]),
)
def test_blocks_make_the_whole_exactly(
    values: npt.NDArray[Any], block: tuple[int, ...], axes: Any, dtype: str, noise: dict[str, Any]
) -> None:
    volume = over(values)
    operation = planned(TotalVariation(), volume, axes=axes, dtype=dtype, iterations=20, **noise)
    same_whatever_the_blocks(operation, (volume,), block)


def test_it_is_scikit_images() -> None:
    result = run(TotalVariation(), over(SCENE), sigma=4.0, strength=0.9, dtype="float64", block=(3, 7, 7))
    for z in range(4):
        np.testing.assert_allclose(result[z], denoise_tv_chambolle(SCENE[z], 3.6), rtol=0, atol=1e-6)
    result = run(TotalVariation(), over(SCENE), axes="volume", sigma=4.0, strength=0.9, dtype="float64", block=(3, 7, 7))
    np.testing.assert_allclose(result, denoise_tv_chambolle(SCENE, 3.6), rtol=0, atol=1e-6)


def test_the_energy_falls_and_the_edges_stay() -> None:
    def energy(image: npt.NDArray[np.float64]) -> float:
        steps = np.zeros((2, 40, 50))
        steps[0, :-1], steps[1, :, :-1] = np.diff(image, axis=0), np.diff(image, axis=1)
        return float(((image - SCENE[0]) ** 2).sum() / 2 + 2.8 * np.hypot(*steps).sum())

    result = run(TotalVariation(), over(SCENE[:1]), sigma=4.0, dtype="float64")[0]
    assert energy(result) < min(energy(SCENE[0]), energy(CLEAN))
    assert np.sqrt(((result - CLEAN) ** 2).mean()) < 2.5


def test_estimated_noise_serves_as_well() -> None:
    result = run(TotalVariation(), over(SCENE), block=(1, 40, 50))
    assert np.sqrt(((result - CLEAN) ** 2).mean()) < 2.5


def test_slices_are_never_cut() -> None:
    assert planned(TotalVariation(), over(SCENE)).whole == ("y", "x")
    assert planned(TotalVariation(), over(SCENE), axes="volume").whole == ("z", "y", "x")


@pytest.mark.parametrize("dose", [2.0, 20.0])
def test_stabilising_keeps_counts(dose: float) -> None:
    """Without it one weight cannot suit dark and bright; with it the mean of both is kept."""
    clean = np.where(CLEAN > 0, dose, dose / 10)
    counts = RNG.poisson(clean, (4, 40, 50)).astype(np.uint16)
    result = run(TotalVariation(), over(counts), stabilise={})
    assert result.mean() == pytest.approx(clean.mean(), rel=0.05)
    assert np.sqrt(((result - clean) ** 2).mean()) < 0.6 * np.sqrt(((counts - clean) ** 2).mean())
