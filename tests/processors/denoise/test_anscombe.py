"""The generalised Anscombe transform against sums over the Poisson distribution and samples of it."""

import numpy as np
import pytest
from scipy import stats

from emstore.errors import InvalidInput
from emstore.processors.denoise.anscombe import Anscombe, Detector
from emstore.volume import ValueScale
from in_blocks import over


def mean_stabilised(count: float, detector: Anscombe) -> float:
    """Return E[f(z) | count] by the definition: a sum over quanta, an integral over read noise, on a grid of its own."""
    g, m, s = detector.gain, detector.offset, detector.read_noise
    quanta = np.arange(max(0, stats.poisson.ppf(1e-14, count)), stats.poisson.ppf(1 - 1e-14, count) + 2)
    noise, step = np.linspace(-8 * s, 8 * s, 4001, retstep=True) if s else (np.zeros(1), 1.0)
    density = stats.norm.pdf(noise, 0, s) * step if s else np.ones(1)
    stabilised = [2 / g * np.sqrt(np.maximum(0, g * (g * k + m + noise) + 3 / 8 * g**2 + s**2 - g * m)) @ density for k in quanta]
    return float(stats.poisson.pmf(quanta, count) @ stabilised)


@pytest.mark.parametrize(
    "detector", [Anscombe(1, 0, 0), Anscombe(2.5, 100, 0), Anscombe(1, 0, 0.3), Anscombe(4, -20, 6), Anscombe(1, 5, 12)], ids=str
)
@pytest.mark.parametrize("count", [0, 0.05, 0.3, 1, 2, 5, 20, 100, 390, 410])
def test_the_inverse_is_unbiased(detector: Anscombe, count: float) -> None:
    back = detector.inverse(np.array([mean_stabilised(count, detector)]))
    assert (back[0] - detector.offset) / detector.gain == pytest.approx(count, abs=1e-4)


@pytest.mark.parametrize("count", [500, 5000, 1e6])
def test_the_inverse_is_unbiased_for_bright_images(count: float) -> None:
    quanta = np.arange(count - 12 * np.sqrt(count), count + 12 * np.sqrt(count)).round()
    mean = stats.poisson.pmf(quanta, count) @ (2 * np.sqrt(quanta + 3 / 8))  # Anscombe 1948
    assert Anscombe(1, 0, 0).inverse(np.array([mean]))[0] == pytest.approx(count, rel=1e-6)


@pytest.mark.parametrize("count", [5.0, 50.0, 5000.0])
@pytest.mark.parametrize("read_noise", [0.0, 7.0])
def test_stabilised_noise_has_a_standard_deviation_of_one(count: float, read_noise: float) -> None:
    rng = np.random.default_rng(1)
    detector = Anscombe(3.0, 40.0, read_noise)
    values = 3.0 * rng.poisson(count, 200_000) + rng.normal(40.0, read_noise, 200_000)
    assert detector.forward(values.copy()).std() == pytest.approx(1, abs=0.05 if count < 10 else 0.01)


def test_undoing_it_by_algebra_would_be_biased() -> None:
    """What the exact inverse is for: at one quantum a pixel the algebraic one is nearly a fifth of a quantum off."""
    mean = mean_stabilised(1.0, Anscombe(1, 0, 0))
    assert abs((mean / 2) ** 2 - 3 / 8 - 1) > 0.15


def test_less_than_no_quantum_is_none() -> None:
    detector = Anscombe(2.0, 10.0, 1.0)
    assert detector.inverse(np.array([0.0, 0.5]))[1] == 10.0
    assert np.isnan(detector.inverse(np.array([np.nan]))[0])


def test_a_detector_may_be_described_in_physical_values() -> None:
    volume = over(np.ones((2, 3, 4), np.uint16), scale=ValueScale(0.5, -100.0, "counts"))
    assert Anscombe.of(Detector(gain=2, offset=-90, read_noise=3, values="physical"), volume) == Anscombe(4.0, 20.0, 6.0)
    assert Anscombe.of(Detector(gain=2, offset=20, read_noise=3), volume) == Anscombe(2.0, 20.0, 3.0)


@pytest.mark.parametrize("scale", [None, ValueScale(-1.0), ValueScale(0.0)])
def test_physical_values_need_a_rising_scale(scale: ValueScale | None) -> None:
    with pytest.raises(InvalidInput, match="scale"):
        Anscombe.of(Detector(values="physical"), over(np.ones((2, 3, 4), np.uint16), scale=scale))
