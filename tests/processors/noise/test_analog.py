"""noise.analog: what each step does to an image whose answer is known."""

import numpy as np
import pytest

from emstore.errors import InvalidInput
from emstore.geometry import Axis
from emstore.processors.noise import Analog
from emstore.processors.noise.detector import analog
from emstore.testing import ProcessorConformance
from emstore.volume import Volume
from in_blocks import over, run


def image(values: np.ndarray, quantity: str = "beam fraction") -> Volume:
    axes = [Axis("z", values.shape[0])] * (values.ndim > 2)
    axes += [Axis(n, s, spacing=0.25, unit="angstrom") for n, s in zip("yx", values.shape[-2:], strict=True)]
    return over(values.astype(np.float32), *axes, attributes={"quantity": quantity})


HALVES = np.repeat([[0.2, 0.8]], 200, axis=1).repeat(300, axis=0)
"""Dark to the left, bright to the right."""


def test_poisson_noise_alone_stretches_counts_to_the_unit_interval() -> None:
    # 4000 e/A^2 on 0.0625 A^2: 50 and 200 electrons.
    got = run(Analog(), image(HALVES), dose=4000, points=0)
    assert (got.min(), got.max()) == (0, 1)
    dark, bright = got[:, :200], got[:, 200:]
    # A stretch keeps ratios of differences: contrast to noise is (200 - 50) / sqrt(200), brightness of the noise 1 : 2.
    assert (bright.mean() - dark.mean()) / bright.std() == pytest.approx(150 / np.sqrt(200), rel=0.03)
    assert bright.std() / dark.std() == pytest.approx(2, rel=0.03)


def test_gaussian_noise_adds_its_variance() -> None:
    plain = run(Analog(), image(HALVES), dose=1e7, points=0).astype(float)
    noisy = run(Analog(), image(HALVES), dose=1e7, points=0, variance=0.04).astype(float)
    contrast = plain[:, 200:].mean() - plain[:, :200].mean()
    got = noisy[:, 200:].mean() - noisy[:, :200].mean()
    assert noisy[:, 200:].std() / got == pytest.approx(0.2 / contrast, rel=0.03)


def test_the_background_is_smooth_and_weighs_what_was_asked() -> None:
    flat = np.full((120, 100), 0.5)
    got = run(Analog(), image(flat), dose=1e12, points=20, blend=0.99, blur=0.2).astype(float)
    assert (got.min(), got.max()) == (0, 1)
    assert np.abs(np.diff(got, axis=0)).max() < 0.1


def test_a_point_of_the_background_is_blurred_by_a_part_of_the_shorter_edge() -> None:
    """Nothing but one point: what is left is its Gaussian, whose logarithm falls by half the squared distance in sigmas."""
    for shape in ((240, 100), (100, 240)):
        got = analog(np.zeros(shape), np.random.default_rng(1), points=1, blur=0.05)  # far from the edges
        y, x = np.unravel_index(got.argmax(), shape)
        assert (got.min(), got.max(), got.dtype.name) == (0, 1, "float32")
        fell = -np.log(got[y, x + np.arange(1, 12)])
        np.testing.assert_allclose(fell, np.arange(1, 12) ** 2 / (2 * 5.0**2), rtol=1e-3)


def test_each_frame_is_treated_alone() -> None:
    frames = np.stack([HALVES, HALVES / 7])
    got = run(Analog(), image(frames), dose=1000, seed=2)
    assert [float(frame.max()) for frame in got] == [1, 1]
    np.testing.assert_array_equal(got[0], run(Analog(), image(frames[:1]), dose=1000, seed=2)[0])
    assert not run(Analog(), image(np.zeros((5, 6))), dose=1000, points=0).any()


@pytest.mark.parametrize("volume", [image(HALVES, "electrons"), over(HALVES)])
def test_what_is_no_beam_fraction_is_refused(volume: Volume) -> None:
    with pytest.raises(InvalidInput, match="beam"):
        run(Analog(), volume, dose=1000)


class TestConformance(ProcessorConformance):
    processor = Analog
    volumes = (image(np.random.default_rng(2).random((4, 30, 25)) / 20),)
    params = ({"dose": 4000.0, "variance": 0.01, "seed": 7},)
    executors = ("threads",)
    examples = 3
