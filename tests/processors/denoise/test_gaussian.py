"""Gaussian smoothing against convolution written out, and SciPy on the whole array."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from emstore.errors import InvalidInput
from emstore.geometry import Axis
from emstore.processors.denoise import Gaussian
from emstore.volume import ValueScale
from in_blocks import arrays, axes_of, over, planned, run, same_whatever_the_blocks

RNG = np.random.default_rng(5)


def written_out(values: npt.NDArray[Any], axis: int, sigma: float, truncate: float) -> npt.NDArray[np.float64]:
    """Return a convolution along one axis: a sampled Gaussian that sums to 1, the border mirrored with its edge repeated."""
    radius = int(truncate * sigma + 0.5)
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    width = [(radius, radius) if i == axis else (0, 0) for i in range(values.ndim)]
    padded = np.pad(values.astype(np.float64), width, mode="symmetric")
    return np.apply_along_axis(np.convolve, axis, padded, kernel / kernel.sum(), mode="valid")


@settings(max_examples=80, deadline=None)
@given(
    values=arrays(types=("u1", "i1", "<u2", ">u2", "i4", "f2", "f4", ">f8")),
    block=st.tuples(*[st.integers(1, 9)] * 3),
    sigma=st.tuples(*[st.sampled_from([0.0, 0.4, 1.0, 2.3])] * 3),
    truncate=st.sampled_from([1.0, 3.0, 4.0]),
    dtype=st.sampled_from(["float32", "float64", "same"]),
    counts=st.booleans(),
)
def test_blocks_make_the_whole(
    values: npt.NDArray[Any], block: tuple[int, ...], sigma: tuple[float, ...], truncate: float, dtype: str, counts: bool
) -> None:
    volume = over(values)
    stabilise = {"gain": 2.0, "read_noise": 1.0} if counts else None
    operation = planned(Gaussian(), volume, sigma=sigma, truncate=truncate, dtype=dtype, stabilise=stabilise)
    result = same_whatever_the_blocks(operation, (volume,), block)
    if not counts:
        expected = values.astype(np.float64)
        for axis, width in enumerate(sigma):
            expected = written_out(expected, axis, width, truncate) if width else expected
        if result.dtype.kind in "iu":
            assert np.abs(result - expected).max() <= 0.5 + 1e-6
        else:
            np.testing.assert_allclose(
                result, expected, rtol=1e-3 if result.dtype == np.float16 else 1e-6, atol=1e-6 * np.abs(expected).max()
            )


def test_it_is_scipys() -> None:
    values = RNG.integers(0, 65535, (12, 40, 50), np.uint16, endpoint=True)
    expected = gaussian_filter(values.astype(np.float64), (1, 2, 0.5), truncate=3)
    np.testing.assert_array_equal(
        run(Gaussian(), over(values), block=(5, 17, 50), sigma=(1, 2, 0.5), truncate=3, dtype="float64"), expected
    )
    result = run(Gaussian(), over(values), block=(5, 17, 50), sigma=(1, 2, 0.5), truncate=3, dtype="same")
    np.testing.assert_array_equal(result, np.rint(expected))
    assert result.dtype == np.uint16


def test_time_and_channels_are_left_alone() -> None:
    values = RNG.normal(size=(3, 2, 4, 9, 8))
    result = run(Gaussian(), over(values), sigma=1.5, dtype="float64", block=(2, 1, 3, 4, 5))
    for t in range(3):
        for c in range(2):
            np.testing.assert_array_equal(result[t, c], gaussian_filter(values[t, c], 1.5))


def test_a_slice_may_be_filtered_on_its_own_and_time_on_request() -> None:
    values = RNG.normal(size=(5, 9, 8))
    np.testing.assert_array_equal(run(Gaussian(), over(values), axes="slice", dtype="same")[2], gaussian_filter(values[2], 1.0))
    film = over(values, *axes_of("tyx", values.shape))
    np.testing.assert_array_equal(run(Gaussian(), film, axes=("t",), dtype="same"), gaussian_filter(values, (1, 0, 0)))


def test_sigma_in_physical_units() -> None:
    values = RNG.normal(size=(6, 20, 30))
    volume = over(values, *axes_of("zyx", values.shape, z=10.0, y=2.0, x=4.0))
    result = run(Gaussian(), volume, sigma=0.008, unit="µm", dtype="float64")
    np.testing.assert_allclose(result, gaussian_filter(values, (0.8, 4.0, 2.0)), rtol=0, atol=1e-12)


def test_a_physical_sigma_needs_known_even_spacing() -> None:
    values = np.ones((4, 5, 6), np.float32)
    with pytest.raises(InvalidInput, match="'z' has no even spacing"):
        planned(Gaussian(), over(values, *axes_of("zyx", values.shape, y=2.0, x=4.0)), unit="nm")
    uneven = Axis("z", 4, positions=(0.0, 1.0, 3.0, 4.0), unit="nanometer")
    with pytest.raises(InvalidInput, match="'z' has no even spacing"):
        planned(Gaussian(), over(values, uneven, *axes_of("yx", (5, 6), y=2.0, x=2.0)), unit="nm")
    operation = planned(Gaussian(), over(values, uneven, *axes_of("yx", (5, 6), y=2.0, x=2.0)))
    assert operation.result is not None
    assert "not evenly spaced" in operation.result.notes[0]


def test_mean_counts_survive_stabilising() -> None:
    """Half an electron a pixel: the plain inverse of the square root would lose a quarter of it."""
    counts = np.random.default_rng(3).poisson(0.5, (400, 400)).astype(np.uint16)
    values = (10 * counts + 100).astype(np.uint16)
    result = run(Gaussian(), over(values), sigma=6.0, stabilise={"gain": 10, "offset": 100}, block=(150, 400))
    assert (result.mean() - 100) / 10 == pytest.approx(0.5, abs=0.01)


def test_meaning_is_kept() -> None:
    volume = over(np.ones((4, 5, 6), ">i2"), modality="ct", scale=ValueScale(2.0, -1024.0, "HU"), window=(0.0, 9.0))
    result = planned(Gaussian(), volume).result
    assert result is not None
    assert (result.grid, result.modality, result.scale, result.window) == (volume.grid, "ct", volume.scale, (0.0, 9.0))
    assert result.dtype == np.float32


def test_nan_stays_where_it_is() -> None:
    values = np.ones((1, 30, 30))
    values[0, 10, 10] = np.nan
    spoilt = np.isnan(run(Gaussian(), over(values), axes="slice", block=(1, 7, 7)))[0]
    assert spoilt[6:15, 6:15].all()
    assert spoilt.sum() == 81


def test_values_that_would_not_fit_are_an_error() -> None:
    with pytest.raises(InvalidInput, match="too large for float32"):
        run(Gaussian(), over(np.full((1, 5, 5), 1e300)))
    with pytest.raises(InvalidInput, match="2\\^53"):
        run(Gaussian(), over(np.full((1, 5, 5), 2**63, np.uint64)))
    assert run(Gaussian(), over(np.full((1, 5, 5), 1e300)), dtype="same")[0, 0, 0] == pytest.approx(1e300)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sigma": (1.0, 1.0)}, "2 values for 3"),
        ({"sigma": -1.0}, "negative"),
        ({"sigma": 1e308}, "at most 10000"),
        ({"axes": ("q",)}, "no axis 'q'"),
        ({"axes": ("z", "z")}, "once"),
        ({"axes": ()}, "once"),
        ({"unit": "parsec"}, "not known"),
    ],
)
def test_nonsense_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        planned(Gaussian(), over(np.ones((4, 5, 6), np.uint8)), **params)
