"""register.slices: shifts that were put in are found, as scikit-image finds them, and undone, in any blocks."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from emstore.errors import InvalidInput
from emstore.processors.register import Slices
from emstore.volume import VolumeKind
from in_blocks import axes_of, over, planned, run, same_whatever_the_blocks, told


def scene(seed: int = 0, size: int = 64) -> npt.NDArray[np.float64]:
    """Return a smooth picture with detail everywhere that is 0 around its border."""
    rng = np.random.default_rng(seed)
    picture = ndimage.gaussian_filter(rng.normal(size=(size, size)), 1.5)
    window = np.hanning(size)
    picture = (picture - picture.min()) * np.outer(window, window)
    return np.asarray(picture / picture.max() * 200)


def drifting(shifts: list[tuple[float, float]], seed: int = 0) -> npt.NDArray[np.float64]:
    """Return a stack of one scene moved by exact Fourier shifts."""
    spectrum = np.fft.fft2(scene(seed))
    return np.stack([np.fft.ifft2(ndimage.fourier_shift(spectrum, shift)).real for shift in shifts])


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=6),
    st.sampled_from(["previous", "fixed"]),
    st.sampled_from(["phase", "none"]),
    st.integers(0, 1),
    st.integers(1, 4),
    st.sampled_from(["uint8", "uint16", "float32"]),
)
def test_whole_shifts_are_found_and_undone_exactly(
    shifts: list[tuple[int, int]], against: str, normalization: str, stays: int, block: int, dtype: str
) -> None:
    picture = np.rint(scene()).astype(dtype)
    stack = np.stack([np.roll(picture, shift, (0, 1)) for shift in shifts])
    volume = over(stack)
    operation = planned(Slices(), volume, against=against, normalization=normalization, stays=stays, fill=7)
    got = same_whatever_the_blocks(operation, (volume,), (block, 5, 5))
    found = told(operation, volume, (block, 64, 64))
    expected = np.array(shifts[stays]) - np.array(shifts)
    np.testing.assert_array_equal(found["shifts"]["values"], expected)
    filled = 0.0
    for k, (dy, dx) in enumerate(expected):
        inside = np.zeros((64, 64), bool)
        inside[max(0, dy) : 64 + min(0, dy), max(0, dx) : 64 + min(0, dx)] = True
        np.testing.assert_array_equal(got[k][inside], stack[stays][inside])
        assert (got[k][~inside] == 7).all()
        filled += float((~inside).mean()) / len(stack)
    assert found["filled"] == {"value": 7, "fraction": pytest.approx(filled)}


@pytest.mark.parametrize("against", ["previous", "fixed"])
def test_parts_of_a_pixel_are_found_to_the_step_asked_for(against: str) -> None:
    true = [(0.0, 0.0), (0.3, -0.7), (1.25, -1.5), (0.85, 2.35), (-3.1, 0.45)]
    stack = drifting(true)
    volume = over(stack)
    operation = planned(Slices(), volume, against=against, upsample=20, normalization="none", order=3)
    found = np.array(told(operation, volume, (2, 64, 64))["shifts"]["values"])
    np.testing.assert_allclose(found, -np.array(true), atol=0.051 if against == "fixed" else 0.11)
    got = same_whatever_the_blocks(operation, (volume,), (2, 64, 64))
    middle = (slice(8, -8), slice(8, -8))
    for k in range(1, 5):
        before = np.abs(stack[k][middle] - stack[0][middle]).max()
        after = np.abs(got[k][middle] - stack[0][middle]).max()
        assert after < 3
        assert after < before / 4


@pytest.mark.parametrize("normalization", ["phase", "none"])
def test_scikit_image_finds_the_same(normalization: str) -> None:
    rng = np.random.default_rng(5)
    stack = (drifting([(0.0, 0.0), (2.2, 1.1), (3.4, -0.6)], seed=2) + rng.normal(0, 2, (3, 64, 64))).astype(np.float32)
    named = None if normalization == "none" else "phase"
    pairs = [
        phase_cross_correlation(a.astype(float), b.astype(float), upsample_factor=10, normalization=named)[0]
        for a, b in pairwise(stack)
    ]
    operation = planned(Slices(), over(stack), upsample=10, normalization=normalization)
    found = told(operation, over(stack), (1, 64, 64))["shifts"]["values"]
    np.testing.assert_allclose(found, np.cumsum([(0, 0), *pairs], axis=0), atol=1e-9)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.4, -0.5), (-2.5, 0.0), (0.2, 3.9), (-0.6, -0.1)])
def test_what_is_filled_is_what_is_said(order: int, shift: tuple[float, float]) -> None:
    stack = 100 + drifting([(0.0, 0.0), shift])
    volume = over(stack)
    operation = planned(Slices(), volume, upsample=10, normalization="none", order=order, fill=-1)
    got = run(Slices(), volume, upsample=10, normalization="none", order=order, fill=-1)
    told_of = told(operation, volume)["filled"]
    assert told_of["value"] == -1
    assert told_of["fraction"] == pytest.approx((got == -1).mean(), abs=1e-12)


def test_linear_moving_is_scipys() -> None:
    stack = drifting([(0.0, 0.0), (0.4, -1.7)])
    got = run(Slices(), over(stack), upsample=10, normalization="none", order=1)
    np.testing.assert_allclose(got[1], ndimage.shift(stack[1], (-0.4, 1.7), order=1), atol=1e-9)


def test_frames_are_aligned_on_their_own_and_channels_together() -> None:
    a, b = np.rint(scene(1)), np.rint(scene(2))
    moves = [[(0, 0), (1, 2)], [(0, 0), (-3, 1)]]
    values = np.zeros((2, 2, 2, 64, 64), np.uint8)  # t c z y x
    for t, line in enumerate(moves):
        for z, move in enumerate(line):
            for c, picture in enumerate((a, b / 2)):
                values[t, c, z] = np.roll(picture, move, (0, 1))
    volume = over(values, *axes_of("tczyx", values.shape))
    operation = planned(Slices(), volume)
    assert set(operation.whole) == {"c", "y", "x"}
    got = same_whatever_the_blocks(operation, (volume,), (1, 1, 1, 9, 9))
    found = told(operation, volume)["shifts"]
    assert found["values"] == [[[0, 0], [-1, -2]], [[0, 0], [3, -1]]]
    assert found["order"] == ["line", "slice", "y, x"]
    middle = (slice(4, -4), slice(4, -4))
    for t in range(2):
        for c in range(2):
            np.testing.assert_array_equal(got[t, c, 1][middle], values[t, c, 0][middle])


def test_labels_move_by_whole_pixels_and_large_ones_stay_exact() -> None:
    picture = np.where(scene() > 60, np.uint64(2**63 + 1), np.uint64(0))
    stack = np.stack([picture, np.roll(picture, (2, 3), (0, 1))])
    labels = over(stack, kind=VolumeKind.LABELS)
    got = run(Slices(), labels, order=0)
    np.testing.assert_array_equal(got[1][3:-3, 3:-3], picture[3:-3, 3:-3])
    with pytest.raises(InvalidInput, match="labels"):
        planned(Slices(), labels, order=1)


def test_integers_are_rounded_and_never_wrap() -> None:
    checks = np.zeros((2, 32, 32), np.uint8)
    checks[:, 8:24, 8:24] = 255
    checks[1] = np.roll(checks[1], 1, 0)
    checks[1, 9, 8:24] = 128  # half a pixel
    got = run(Slices(), over(checks), upsample=4, normalization="none", order=3).astype(int)
    assert got[1, 12:20, 12:20].min() > 200  # a cubic overshoots 255 and is cut there
    assert got[1, :6].max() < 40


def test_flat_slices_do_not_move() -> None:
    stack = np.full((3, 16, 16), 9, np.uint8)
    np.testing.assert_array_equal(run(Slices(), over(stack)), stack)
    np.testing.assert_array_equal(run(Slices(), over(stack * 0)), stack * 0)


def test_a_slice_that_cannot_be_compared_is_named() -> None:
    stack = drifting([(0, 0), (1, 1), (2, 2)])
    stack[1, 3, 3] = np.nan
    for against in ("previous", "fixed"):
        with pytest.raises(InvalidInput, match="slice 1 holds NaN"):
            run(Slices(), over(stack), against=against)


@pytest.mark.parametrize(
    ("values", "params"),
    [
        (np.zeros((2, 4, 4)), {"axis": "y"}),
        (np.zeros((2, 4, 4)), {"axis": "q"}),
        (np.zeros((2, 4, 4)), {"stays": 2}),
        (np.zeros((2, 4, 4), np.uint8), {"fill": 256}),
        (np.zeros((2, 4, 4), np.uint8), {"fill": 0.5}),
        (np.zeros((2, 4, 4), complex), {}),
    ],
)
def test_what_makes_no_sense_is_refused(values: npt.NDArray[Any], params: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        planned(Slices(), over(values), **params)
