"""Statistics and histograms against NumPy."""

from typing import Any

import numpy as np
import pytest

from emstore.errors import InvalidInput
from emstore.processors.measure import Histogram, Statistics
from emstore.volume import ValueScale
from measured import column, measure, on_grid

RANDOM = np.random.default_rng(7)
TYPES = ["bool", "uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "float16", "float32", "float64"]


def noise(dtype: str, shape: tuple[int, ...] = (5, 23, 31)) -> np.ndarray[Any, Any]:
    values = RANDOM.normal(40, 30, shape)
    kind = np.dtype(dtype).kind
    return (values > 40) if kind == "b" else np.clip(values, 0 if kind == "u" else -100, 120).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_slices_are_what_numpy_says(dtype: str, axis: str) -> None:
    values = noise(dtype)
    wide = np.moveaxis(values.astype(np.float64), "zyx".index(axis), 0)
    wide = wide.reshape(wide.shape[0], -1)
    table = measure(Statistics(), values, axis=axis, percentiles=(0, 12.5, 50, 99))
    assert table.rows == values.shape["zyx".index(axis)]
    np.testing.assert_array_equal(column(table, "slice"), np.arange(table.rows))
    np.testing.assert_array_equal(column(table, "position"), 2.0 * np.arange(table.rows))
    assert table.columns["position"].unit == "nanometer"
    for name, truth in [("mean", wide.mean(1)), ("std", wide.std(1)), ("min", wide.min(1)), ("max", wide.max(1))]:
        np.testing.assert_allclose(column(table, name), truth, rtol=1e-12, atol=1e-12, err_msg=name)
    for name, percent in [("p0", 0), ("p12_5", 12.5), ("p50", 50), ("p99", 99)]:
        np.testing.assert_allclose(column(table, name), np.percentile(wide, percent, axis=1), rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", TYPES)
def test_the_whole_is_what_numpy_says(dtype: str) -> None:
    values = noise(dtype)
    wide = values.astype(np.float64)
    summary = measure(Statistics(), values, percentiles=(1, 50)).summary
    assert summary["count"] == values.size
    assert summary["mean"] == pytest.approx(wide.mean(), rel=1e-13)
    assert summary["std"] == pytest.approx(wide.std(), rel=1e-12)
    assert (summary["min"], summary["max"]) == (wide.min(), wide.max())
    if np.dtype(dtype).itemsize <= 2 and np.dtype(dtype).kind != "f":
        assert summary["p50"] == pytest.approx(np.percentile(wide, 50), rel=1e-12)
        assert summary["p1"] == pytest.approx(np.percentile(wide, 1), rel=1e-12)
    else:
        assert summary["p50"] is None


def test_large_offsets_cost_no_precision() -> None:
    base = RANDOM.integers(0, 1000, (4, 50, 50)).astype(np.float64)
    moved = measure(Statistics(), base + 2.0**30, block=(1, 7, 50), percentiles=()).summary
    assert moved["std"] == pytest.approx(base.std(), rel=1e-9)
    counted = measure(Statistics(), (base + 64000).astype("u2")).summary
    assert counted["std"] == pytest.approx(base.std(), rel=1e-14)


def test_an_image_is_one_row_and_its_percentiles_are_the_whole() -> None:
    values = RANDOM.normal(size=(40, 30)).astype("f4")
    table = measure(Statistics(), values)
    assert table.rows == 1
    assert "slice" not in table.columns
    assert table.summary["p50"] == pytest.approx(float(np.median(values.astype(np.float64))), rel=1e-12)
    assert not table.notes


def test_nan_is_left_out_and_counted_and_endless_values_have_no_mean() -> None:
    values = RANDOM.normal(size=(3, 6, 7))
    values[0, 2, 3] = np.nan
    values[1] = np.nan
    values[2, 0, 0] = np.inf
    table = measure(Statistics(), values)
    np.testing.assert_array_equal(column(table, "count"), [41, 0, 42])
    np.testing.assert_array_equal(column(table, "unknown"), [1, 42, 0])
    assert column(table, "mean")[0] == pytest.approx(np.nanmean(values[0]))
    assert column(table, "p50")[0] == pytest.approx(np.nanmedian(values[0]))
    for name in ("mean", "std", "min", "max", "p1"):
        assert np.isnan(column(table, name)[1])
    assert column(table, "max")[2] == np.inf
    assert column(table, "std")[2] != column(table, "std")[2]
    assert table.summary["max"] is None
    assert table.summary["unknown"] == 43


@pytest.mark.parametrize("slope", [2.0, -0.5])
def test_physical_values(slope: float) -> None:
    stored = noise("int16")
    physical = slope * stored.astype(np.float64) - 1024
    volume = on_grid(stored, scale=ValueScale(slope, -1024.0, "HU"))
    table = measure(Statistics(), volume, values="physical", percentiles=(5, 50))
    assert table.columns["mean"].unit == "HU"
    for name, truth in [("mean", physical.mean()), ("std", physical.std()), ("min", physical.min()), ("max", physical.max()),
                        ("p5", np.percentile(physical, 5))]:  # fmt: skip
        assert table.summary[name] == pytest.approx(truth, rel=1e-12), name
    np.testing.assert_allclose(column(table, "p5"), np.percentile(physical, 5, axis=(1, 2)), rtol=1e-12)
    np.testing.assert_array_equal(column(table, "min"), physical.min(axis=(1, 2)))
    assert measure(Statistics(), volume).columns["mean"].unit is None


@pytest.mark.parametrize(
    ("volume", "params", "match"),
    [
        (on_grid(noise("int16")), {"values": "physical"}, "scale"),
        (on_grid(noise("int16")), {"axis": "t"}, "no axis 't'"),
        (on_grid(np.zeros((3, 4), "c8")), {}, "complex"),
    ],
)
def test_what_makes_no_sense_is_refused(volume: Any, params: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        measure(Statistics(), volume, **params)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize(("bins", "ends"), [(10, (0.0, 100.0)), (7, (-20.5, 33.25)), (1, (40.0, 41.0)), (256, (0.0, 256.0))])
def test_histograms_are_numpys(dtype: str, bins: int, ends: tuple[float, float]) -> None:
    values = noise(dtype)
    table = measure(Histogram(), values, bins=bins, range=ends, block=(2, 9, 31))
    truth, edges = np.histogram(values.astype(np.float64), bins, ends)
    np.testing.assert_array_equal(column(table, "count"), truth)
    np.testing.assert_allclose(column(table, "low"), edges[:-1])
    np.testing.assert_allclose(column(table, "high"), edges[1:])
    assert table.summary["below"] == int((values < ends[0]).sum())
    assert table.summary["above"] == int((values > ends[1]).sum())
    assert sum(table.summary.values()) == values.size


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16"])
def test_every_value_has_its_bin(dtype: str) -> None:
    values = noise(dtype)
    found, number = np.unique(values, return_counts=True)
    whole = measure(Histogram(), values, range="dtype")
    assert whole.rows == 2 ** (8 * values.itemsize) if dtype != "bool" else whole.rows == 2
    there = column(whole, "count") > 0
    np.testing.assert_array_equal(column(whole, "low")[there], found)
    np.testing.assert_array_equal(column(whole, "count")[there], number)
    seen = measure(Histogram(), values, range="measured")
    assert (column(seen, "low")[0], column(seen, "high")[-1]) == (found[0], found[-1])
    binned = measure(Histogram(), values, range="measured", bins=4)
    np.testing.assert_array_equal(column(binned, "count"), np.histogram(values.astype("f8"), 4)[0])


def test_a_constant_has_a_histogram() -> None:
    table = measure(Histogram(), np.full((4, 5), 9, "u1"), range="measured", bins=3)
    np.testing.assert_array_equal(column(table, "count"), np.histogram(np.full(20, 9), 3)[0])


def test_nan_and_floats_without_a_range() -> None:
    values = np.array([[0.1, np.nan, 0.9], [2.0, -1.0, 0.5]], "f4")
    table = measure(Histogram(), values, bins=2, range=(0, 1))
    assert dict(table.summary) == {"count": 3, "below": 1, "above": 1, "unknown": 1}
    for wrong in ({"range": "measured", "bins": 3}, {"range": "dtype", "bins": 3}, {"range": "dtype"}):
        with pytest.raises(InvalidInput):
            measure(Histogram(), values, **wrong)
