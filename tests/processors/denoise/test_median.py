"""The median filter against `numpy.median` over every window."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emstore.errors import InvalidInput
from emstore.processors.denoise import Median
from emstore.volume import VolumeKind
from in_blocks import NUMBERS, arrays, over, planned, run, same_whatever_the_blocks


def written_out(values: npt.NDArray[Any], window: tuple[int, ...]) -> npt.NDArray[Any]:
    padded = np.pad(values, [(n // 2, n // 2) for n in window], mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, window).reshape(*values.shape, -1)
    return np.sort(windows, axis=-1)[..., windows.shape[-1] // 2]


@settings(max_examples=120, deadline=None)
@given(
    values=arrays(types=(*NUMBERS, "u8")),
    block=st.tuples(*[st.integers(1, 9)] * 3),
    window=st.tuples(*[st.sampled_from([1, 3, 5])] * 3),
)
def test_blocks_make_the_whole_exactly(values: npt.NDArray[Any], block: tuple[int, ...], window: tuple[int, ...]) -> None:
    volume = over(values)
    result = same_whatever_the_blocks(planned(Median(), volume, size=window), (volume,), block)
    np.testing.assert_array_equal(result, written_out(values, window))


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 40), block=st.integers(1, 12), size=st.sampled_from([1, 3, 7, 15]), seed=st.integers(0, 99))
def test_lines(length: int, block: int, size: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=length)
    result = run(Median(), over(values), size=size, block=(block,))
    np.testing.assert_array_equal(result, written_out(values, (size,)))


@settings(max_examples=40, deadline=None)
@given(values=arrays(types=("f2", "f4", ">f8")), block=st.tuples(*[st.integers(1, 9)] * 3), seed=st.integers(0, 99))
def test_a_window_with_nan_gives_nan(values: npt.NDArray[Any], block: tuple[int, ...], seed: int) -> None:
    values[np.random.default_rng(seed).random(values.shape) < 0.1] = np.nan
    expected = written_out(values, (3, 3, 3))
    padded = np.pad(np.isnan(values), 1, mode="symmetric")
    expected[np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3)).any(axis=(-3, -2, -1))] = np.nan
    np.testing.assert_array_equal(run(Median(), over(values), block=block), expected)


def test_a_mask_keeps_its_majority() -> None:
    mask = np.random.default_rng(1).random((6, 20, 20)) > 0.5
    result = run(Median(), over(mask, kind=VolumeKind.LABELS), size=3, block=(2, 7, 20))
    assert result.dtype == bool
    np.testing.assert_array_equal(result, written_out(mask, (3, 3, 3)))


def test_an_even_window_has_no_centre() -> None:
    with pytest.raises(InvalidInput, match="odd"):
        planned(Median(), over(np.ones((4, 5, 6), np.uint8)), size=4)


def test_a_window_has_its_limits() -> None:
    with pytest.raises(InvalidInput, match="too large"):
        planned(Median(), over(np.ones((4, 5, 6), np.uint8)), size=10**6 + 1)
