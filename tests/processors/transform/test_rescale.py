"""transform.rescale: scikit-image's line and NumPy's percentiles, found a block at a time."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from skimage.exposure import rescale_intensity

from emstore.blocks.compute import evaluate
from emstore.errors import InvalidInput
from emstore.processors.transform import Rescale
from emstore.processors.transform.distribution import LARGEST, Distribution
from emstore.volume import ValueScale, VolumeKind
from in_blocks import arrays, over, planned, run, same_whatever_the_blocks, told

TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]


@given(arrays(), st.sampled_from(TYPES), st.tuples(*[st.integers(1, 9)] * 3))
def test_scikit_image_draws_the_same_line(values: npt.NDArray[Any], dtype: str, block: tuple[int, ...]) -> None:
    low, high = (float(n) for n in np.percentile(values.astype(np.float64), [20, 70]))
    if not low < high:
        return
    volume = over(values)
    operation = planned(Rescale(), volume, values=(low, high), dtype=dtype)
    got = same_whatever_the_blocks(operation, (volume,), block)
    if np.dtype(dtype).kind == "f":
        bottom, top = 0.0, 1.0
    else:
        bottom, top = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    line = rescale_intensity(values.astype(np.float64), in_range=(low, high), out_range=(bottom, top))
    rounding = 1e-6 if np.dtype(dtype).kind == "f" else 0.5 + 1e-6 * (top - bottom > 1e6) * top
    np.testing.assert_allclose(got.astype(np.float64), line, atol=rounding)


@given(
    arrays(types=("u1", "i1", "u2", ">i2", "i4", "u8", "f4", "f8")),
    st.tuples(st.floats(0, 49), st.floats(51, 100)),
    st.tuples(*[st.integers(1, 9)] * 3),
)
def test_percentiles_are_those_of_numpy(values: npt.NDArray[Any], percents: tuple[float, float], block: tuple[int, ...]) -> None:
    expected = np.percentile(values.astype(np.float64), percents)
    volume = over(values)
    operation = planned(Rescale(), volume, percentiles=percents, dtype="uint16")
    found = told(operation, volume, block)["rescaled_from"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found == told(operation, volume)["rescaled_from"]  # whatever the blocks
    got = same_whatever_the_blocks(operation, (volume,), block)
    if expected[0] < expected[1]:
        assert got.max() == 65535
        assert got.min() == 0
    else:
        np.testing.assert_array_equal(got, np.where(values.astype(np.float64) > expected[1], 65535, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_many_different_values_are_binned_finely_and_the_same_in_any_order(dtype: str) -> None:
    rng = np.random.default_rng(7)
    values = (rng.lognormal(3, 1, 500_000) * (1 if dtype[0] == "f" else 1e6)).clip(max=2e9).astype(dtype)
    whole = Distribution.of(values)
    assert whole.dropped > 0
    assert whole.keys.size <= LARGEST
    percents = (0.1, 1.0, 50.0, 99.0, 99.9)
    np.testing.assert_allclose(whole.percentiles(percents), np.percentile(values.astype(np.float64), percents), rtol=5e-4)
    shuffled = Distribution.empty()
    for part in np.array_split(rng.permutation(values), 37):
        shuffled = shuffled.plus(Distribution.of(part))
    assert shuffled.dropped == whole.dropped
    np.testing.assert_array_equal(shuffled.keys, whole.keys)
    np.testing.assert_array_equal(shuffled.counts, whole.counts)


def test_every_16_bit_value_is_counted() -> None:
    values = np.arange(-32768, 32768).astype(np.int16)
    counted = Distribution.of(np.concatenate([values, values[:100]]))
    assert counted.dropped == 0
    assert counted.keys.size == 65536
    assert counted.counts.tolist() == [2] * 100 + [1] * 65436


@given(st.lists(st.floats(width=64, allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
def test_any_doubles_keep_their_order(numbers: list[float]) -> None:
    values = np.array(numbers)
    known = np.sort(values[~np.isnan(values)])
    counted = Distribution.of(values)
    assert counted.counts.sum() == known.size
    if known.size:
        ends = counted.percentiles((0.0, 100.0))
        assert ends == (known[0], known[-1])


def test_nan_is_left_out_and_stays_unless_the_type_cannot_say_it() -> None:
    values = np.array([[np.nan, 0, 1, 2, 3, 4]])
    got = run(Rescale(), over(values), percentiles=(0, 100), dtype="float32")
    np.testing.assert_allclose(got, [[np.nan, 0, 0.25, 0.5, 0.75, 1]])
    with pytest.raises(InvalidInput, match="NaN"):
        run(Rescale(), over(values), percentiles=(0, 100), dtype="uint8")
    with pytest.raises(InvalidInput, match="every value is NaN"):
        run(Rescale(), over(values * np.nan), percentiles=(0, 100), dtype="float32")
    with pytest.raises(InvalidInput, match="infinite"):
        run(Rescale(), over(np.array([[0, 1, np.inf]])), percentiles=(0, 100), dtype="float32")


def test_one_value_becomes_the_low_end() -> None:
    flat = over(np.full((2, 3, 4), 7, np.uint8))
    for dtype in TYPES:
        got = run(Rescale(), flat, percentiles=(1, 99), dtype=dtype)
        assert (got == (np.iinfo(dtype).min if np.dtype(dtype).kind != "f" else 0)).all()
    assert told(planned(Rescale(), flat, percentiles=(1, 99), dtype="uint8"), flat)["rescaled_from"] == [7, 7]
    spike = np.zeros(1000)
    spike[5] = 1
    assert run(Rescale(), over(spike[None]), percentiles=(1, 99), dtype="uint8").sum() == 255


@pytest.mark.parametrize(("low", "high"), [(-1.7e308, 1.7e308), (0.0, 5e-324), (1.0, 1.0 + 2**-52)])
def test_ranges_at_the_ends_of_doubles(low: float, high: float) -> None:
    got = run(Rescale(), over(np.array([[low, high, np.inf, -np.inf]])), values=(low, high), dtype="uint8")
    assert got.tolist() == [[0, 255, 255, 0]]


def test_a_stated_range_keeps_the_physical_meaning() -> None:
    values = np.linspace(-1000, 3000, 50).astype(np.int16)[None]
    volume = over(values, scale=ValueScale(2.0, -7.0, "HU"))
    operation = planned(Rescale(), volume, values=(-1000, 3000), dtype="float64", to=(10, 30))
    assert operation.result is not None
    scale = operation.result.scale
    assert scale is not None
    assert scale.unit == "HU"
    got = evaluate(operation, (volume,))
    assert isinstance(got, np.ndarray)
    np.testing.assert_allclose(got * scale.slope + scale.intercept, values * 2.0 - 7)
    operation = planned(Rescale(), volume, percentiles=(0, 100), dtype="uint8")
    assert operation.result is not None
    assert operation.result.scale is None
    assert "left out" in operation.result.notes[0]


def test_amounts_only() -> None:
    for volume in (over(np.ones((2, 2), np.uint8), kind=VolumeKind.LABELS), over(np.ones((2, 2), complex))):
        with pytest.raises(InvalidInput):
            planned(Rescale(), volume, values=(0, 1), dtype="uint8")


@pytest.mark.parametrize(
    "params",
    [
        {"dtype": "uint8"},
        {"dtype": "uint8", "values": (0, 1), "percentiles": (0, 100)},
        {"dtype": "uint8", "values": (1, 1)},
        {"dtype": "uint8", "values": (0, float("inf"))},
        {"dtype": "uint8", "percentiles": (-1, 50)},
        {"dtype": "uint8", "values": (0, 1), "to": (0, 256)},
        {"dtype": "int8", "values": (0, 1), "to": (-129, 0)},
        {"dtype": "complex64", "values": (0, 1)},
    ],
)
def test_parameters_make_sense(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rescale.params(**params)
