"""Reduction against plain NumPy and tensorstore, and which axes each level halves."""

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorstore
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emstore.geometry import Axis, AxisKind, Grid
from emstore.store.pyramid import level_factors, reduce

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
FACTORS = st.tuples(*[st.sampled_from([1, 2])] * 3)


def blocks(a: npt.NDArray[Any], factors: tuple[int, ...]) -> list[tuple[tuple[int, ...], list[Any]]]:
    """Every output voxel's index and the input values it covers, the plain way, as Python numbers."""
    out = []
    for at in product(*(range(-(-n // f)) for n, f in zip(a.shape, factors, strict=True))):
        part = a[tuple(slice(i * f, i * f + f) for i, f in zip(at, factors, strict=True))]
        out.append((at, part.ravel().tolist()))
    return out


@given(st.data(), st.sampled_from(INTEGERS), FACTORS)
@settings(deadline=None, max_examples=80)
def test_integer_means_round_half_up_exactly(data: st.DataObject, dtype: str, factors: tuple[int, ...]) -> None:
    a = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)))
    out = reduce(a, factors, "mean")
    for at, values in blocks(a, factors):
        assert int(out[at]) == (2 * sum(values) + len(values)) // (2 * len(values))


@given(st.data(), st.sampled_from(["uint8", "uint32", "int64", "bool"]), FACTORS)
@settings(deadline=None, max_examples=60)
def test_mode_is_the_most_frequent_value_and_the_smallest_of_several(
    data: st.DataObject, dtype: str, factors: tuple[int, ...]
) -> None:
    elements = st.booleans() if dtype == "bool" else st.integers(0, 3)
    a = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=elements))
    out = reduce(a, factors, "mode")
    assert out.dtype == a.dtype
    for at, values in blocks(a, factors):
        most = max(values.count(v) for v in values)
        assert out[at] == min(v for v in values if values.count(v) == most)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_float_means_and_nan(dtype: str) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(7, 6, 5)).astype(dtype)
    a[2, 3, 4] = np.nan
    out = reduce(a, (2, 2, 2), "mean")
    assert out.dtype == a.dtype
    wide = np.dtype("complex128" if a.dtype.kind == "c" else "float64")
    for at, values in blocks(a, (2, 2, 2)):
        np.testing.assert_allclose(out[at], np.mean(np.array(values, wide)), rtol=2e-3 if dtype == "float16" else 1e-5, atol=1e-3)
    assert np.isnan(out[1, 1, 2])
    assert np.isnan(out).sum() == 1


def test_the_largest_doubles_do_not_overflow() -> None:
    top = np.finfo("float64").max
    np.testing.assert_array_equal(reduce(np.full((2, 2, 2), top), (2, 2, 2), "mean"), [[[top]]])


@pytest.mark.parametrize("shape", [(64, 64, 64), (33, 47, 5), (2, 3, 20, 31)])
def test_against_tensorstore(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    factors = (1,) * (len(shape) - 3) + (2, 2, 2)
    labels = rng.integers(0, 4, shape, dtype="uint32")
    theirs = tensorstore.downsample(tensorstore.array(labels), list(factors), "mode").read().result()
    np.testing.assert_array_equal(reduce(labels, factors, "mode"), theirs)
    floats = rng.normal(size=shape).astype("float32")
    theirs = tensorstore.downsample(tensorstore.array(floats), list(factors), "mean").read().result()
    np.testing.assert_allclose(reduce(floats, factors, "mean"), theirs, rtol=1e-4, atol=1e-6)
    grey = rng.integers(0, 255, shape, dtype="uint8")
    theirs = tensorstore.downsample(tensorstore.array(grey), list(factors), "mean").read().result()
    # It rounds halves to even, we round them up: never more than one grey value apart.
    assert np.abs(reduce(grey, factors, "mean").astype(int) - theirs.astype(int)).max() <= 1


def grid(**axes: tuple[int, float | None, str | None]) -> Grid:
    kinds = {"t": AxisKind.TIME, "c": AxisKind.CHANNEL}
    return Grid(tuple(Axis(k, n, kinds.get(k, AxisKind.SPACE), spacing=d, unit=u) for k, (n, d, u) in axes.items()))


NM = "nanometer"


@pytest.mark.parametrize(
    ("axes", "factors"),
    [
        ({"z": (500, 1.0, NM), "y": (500, 1.0, NM), "x": (500, 1.0, NM)}, ((2, 2, 2), (2, 2, 2))),
        ({"z": (100, 4.0, NM), "y": (2000, 1.0, NM), "x": (2000, 1.0, NM)}, ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))),
        ({"z": (300, 4.0, NM), "y": (300, None, None), "x": (300, 1.0, NM)}, ((2, 2, 2), (2, 2, 2))),
        ({"t": (900, 0.1, "second"), "c": (3, None, None), "y": (200, 1.0, NM), "x": (256, 1.0, NM)}, ((1, 1, 2, 2),)),
        ({"z": (1, 1.0, NM), "y": (256, 50.0, NM), "x": (256, 50.0, NM)}, ((1, 2, 2),)),
        ({"z": (128, 1.0, NM), "y": (128, 1.0, NM), "x": (128, 1.0, NM)}, ()),
    ],
)
def test_levels_go_towards_cubes(axes: dict[str, Any], factors: tuple[Any, ...]) -> None:
    assert level_factors(grid(**axes)) == factors
