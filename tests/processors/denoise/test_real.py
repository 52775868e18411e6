"""One real image of a microscope: an implanted MoS2 sheet, STEM, 1024 x 1024, uint32."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter, median_filter

from emstore.processors.denoise import Gaussian, Median, NonLocalMeans, TotalVariation
from in_blocks import over, run


@pytest.fixture
def atoms(instrument_file: Callable[[str], Path]) -> npt.NDArray[np.uint32]:
    from rsciio.digitalmicrograph import file_reader

    (signal,) = file_reader(str(instrument_file("stem/example_Se_implanted_MoS2.dm3")))
    return np.asarray(signal["data"], np.uint32)[200:520, 300:640]


def test_filters_are_scipys(atoms: npt.NDArray[np.uint32]) -> None:
    smooth = run(Gaussian(), over(atoms), sigma=2.0, dtype="same", block=(100, 90))
    np.testing.assert_array_equal(smooth, np.rint(gaussian_filter(atoms.astype(np.float64), 2.0)))
    np.testing.assert_array_equal(run(Median(), over(atoms), size=5, block=(100, 90)), median_filter(atoms, 5))


@pytest.mark.parametrize("processor", [NonLocalMeans(), TotalVariation()], ids=lambda processor: processor.name)
def test_noise_goes_and_the_lattice_stays(processor: NonLocalMeans | TotalVariation, atoms: npt.NDArray[np.uint32]) -> None:
    """Noise is what two neighbouring lines of the scan do not share; the lattice is the strongest peak of the spectrum."""
    result = run(processor, over(atoms), dtype="float64", block=(100, 90))

    def lattice(image: npt.NDArray[np.floating]) -> tuple[int, float]:
        power = np.abs(np.fft.rfft2(image - image.mean())) ** 2
        power[:5, :5] = power[-5:, :5] = 0
        return int(power.argmax()), float(power.max())

    before, after = atoms.astype(np.float64), result
    assert np.diff(after, 2, axis=0).std() < 0.7 * np.diff(before, 2, axis=0).std()
    assert lattice(after)[0] == lattice(before)[0]
    assert lattice(after)[1] > 0.7 * lattice(before)[1]
    assert after.mean() == pytest.approx(before.mean(), rel=1e-3)
