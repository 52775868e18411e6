"""The estimate of the noise against noise of known strength, and its independence of the cut."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, stats
from skimage.data import camera

from emstore.blocks.compute import Blocks, Compute, cut
from emstore.errors import InvalidInput
from emstore.processors.denoise import NonLocalMeans, TotalVariation
from emstore.volume import Volume
from in_blocks import arrays, over, planned, run


def estimate(volume: Volume, block: tuple[int, ...] | None = None) -> float:
    operation = planned(NonLocalMeans(), volume, patch=3, distance=1)
    assert operation.reduction is not None
    compute = Compute(operation, "estimate", (volume.data,))
    state = operation.reduction.start()
    for each in Blocks(operation, (volume.shape,), cut(volume.shape, block or volume.shape)):
        state = operation.reduction.add(state, each, compute.map(each))
    return float(operation.reduction.finish(state))


def scene(sigma: float, seed: int = 0) -> npt.NDArray[np.float64]:
    return camera()[:400, :480].astype(float) + np.random.default_rng(seed).normal(0, sigma, (400, 480))


@pytest.mark.parametrize("sigma", [8.0, 20.0, 60.0])
def test_noise_on_a_photograph_is_found(sigma: float) -> None:
    # The photograph's own grain (about 2) and texture add to it.
    assert estimate(over(scene(sigma)[None])) == pytest.approx(sigma, rel=0.12)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_noise_alone_is_found_at_any_scale(scale: float) -> None:
    noise = np.random.default_rng(2).normal(3, 1, (3, 300, 300)) * scale
    assert estimate(over(noise)) == pytest.approx(scale, rel=0.01)


def test_rounded_noise_is_found() -> None:
    noise = np.random.default_rng(2).normal(100, 4, (300, 300)).round().astype(np.uint8)
    assert estimate(over(noise)) == pytest.approx(4, rel=0.04)


def test_filled_background_does_not_count() -> None:
    values = np.zeros((2, 300, 300))
    values[:, 100:200, 100:200] = np.random.default_rng(2).normal(50, 5, (2, 100, 100))
    assert estimate(over(values)) == pytest.approx(5, rel=0.1)


@settings(max_examples=60, deadline=None)
@given(
    values=arrays(types=("u1", "<i2", ">u2", "f4", ">f8")),
    block=st.tuples(*[st.integers(1, 9)] * 3),
)
def test_the_cut_changes_nothing(values: npt.NDArray[np.generic], block: tuple[int, ...]) -> None:
    if min(values.shape[1:]) < 3:
        values = np.pad(values, ((0, 0), (0, 3), (0, 3)), mode="wrap")
    assert estimate(over(values)) == estimate(over(values), block)


def test_values_without_noise_stay() -> None:
    plane = np.add.outer(np.arange(20), 2 * np.arange(30))[None].astype(np.int16)
    assert (run(TotalVariation(), over(plane), dtype="same") == plane).all()


def test_what_is_too_small_must_be_told() -> None:
    with pytest.raises(InvalidInput, match="at least 3 by 3"):
        planned(TotalVariation(), over(np.ones((5, 2, 9), np.uint8)))
    assert planned(TotalVariation(), over(np.ones((5, 2, 9), np.uint8)), sigma=1.0).reduction is None


def test_noise_is_told_once() -> None:
    with pytest.raises(InvalidInput, match="both"):
        planned(NonLocalMeans(), over(np.ones((5, 9, 9), np.uint8)), sigma=1.0, stabilise={})


@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 3, 4), (1, 4, 3), (2, 3, 3), (2, 80, 90)])
@pytest.mark.parametrize("seed", range(5))
def test_every_voxel_inside_has_its_say(shape: tuple[int, ...], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=shape)
    mask = np.outer([1, -2, 1], [1, -2, 1])  # Immerkær 1996, equation 4
    responses = [signal.convolve2d(plane, mask, mode="valid") for plane in values]
    assert estimate(over(values)) == pytest.approx(np.median(np.abs(responses)) / 6 / stats.norm.ppf(0.75), rel=0.005)
