"""transform.project: numpy's reductions, of a type that holds them, in their place in the world."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emstore.errors import InvalidInput
from emstore.geometry import Affine, Axis, AxisKind, Space
from emstore.processors.transform import Project
from emstore.volume import ValueScale, VolumeKind
from in_blocks import arrays, axes_of, over, planned, run, same_whatever_the_blocks


@given(arrays(), st.sampled_from(["max", "min", "mean", "sum"]), st.integers(0, 2), st.tuples(*[st.integers(1, 9)] * 3))
def test_numpy_says_the_same_in_any_blocks(values: npt.NDArray[Any], how: str, axis: int, block: tuple[int, ...]) -> None:
    volume = over(values, *axes_of("zyx", values.shape, z=2.0))
    got = same_whatever_the_blocks(planned(Project(), volume, axis="zyx"[axis], how=how), (volume,), block)
    assert got.shape[axis] == 1
    if how in ("max", "min"):
        assert got.dtype == values.dtype.newbyteorder("=")
        np.testing.assert_array_equal(got, getattr(np, how)(values, axis=axis, keepdims=True))
        return
    exact = values.astype(object) if values.dtype.kind in "iu" else values.astype(np.longdouble)
    expected = getattr(np, how)(exact, axis=axis, keepdims=True)
    if how == "sum" and got.dtype.kind in "iu":
        assert (got.astype(object) == expected).all()  # Python's own integers, which never wrap
    else:
        largest = float(np.abs(values.astype(np.float64)).max()) * (values.shape[axis] if how == "sum" else 1)
        np.testing.assert_allclose(
            got.astype(np.float64), expected.astype(np.float64), atol=largest * np.finfo(got.dtype).eps * 4
        )


@pytest.mark.parametrize(
    ("given", "mean", "total"),
    [
        ("u1", "f4", "u8"), ("i2", "f4", "i8"), ("u4", "f8", "u8"), ("i8", "f8", "f8"), ("?", "f4", "u8"),
        ("f2", "f2", "f8"), ("f4", "f4", "f8"), ("f8", "f8", "f8"), ("c8", "c8", "c16"),
    ],
)  # fmt: skip
def test_types_hold_what_comes_out(given: str, mean: str, total: str) -> None:
    volume = over(np.ones((3, 2, 2), given))
    for how, wanted in (("mean", mean), ("sum", total)):
        got = run(Project(), volume, how=how)
        assert got.dtype == np.dtype(wanted)
        assert (got == (1 if how == "mean" else 3)).all()


def test_the_slab_keeps_its_place_and_is_as_thick_as_all_its_slices() -> None:
    rng = np.random.default_rng(0)
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [2.0, 1, 1]
    affine = Affine.of(matrix, Space.LPS, "millimeter")
    rest = axes_of("yx", (2, 2))
    even = Axis("z", 5, spacing=2.0, unit="millimeter", origin=10)
    operation = planned(Project(), over(np.zeros((5, 2, 2)), even, *rest, affine=affine), how="max")
    assert operation.result is not None
    grid = operation.result.grid
    assert (grid.axes[0].size, grid.axes[0].spacing, grid.axes[0].origin) == (1, 10.0, 14.0)
    assert grid.affine is not None
    np.testing.assert_allclose(grid.affine.world([0, 0, 0]), affine.world([2, 0, 0]))
    assert grid.affine.voxel_sizes()[0] == pytest.approx(10)

    uneven = Axis("z", 4, unit="millimeter", positions=(1.0, 2.0, 3.0, 7.0))
    operation = planned(Project(), over(np.zeros((4, 2, 2)), uneven, *rest), how="max")
    assert operation.result is not None
    assert (operation.result.grid.axes[0].spacing, operation.result.grid.axes[0].origin) == (7.0, 4.0)


def test_the_physical_meaning_stays_true() -> None:
    values = np.arange(12.0).reshape(4, 3, 1)
    volume = over(values, scale=ValueScale(2.0, 5.0, "HU"), window=(0, 1))
    for how in ("max", "mean", "sum"):
        operation = planned(Project(), volume, how=how)
        assert operation.result is not None
        scale = operation.result.scale
        assert scale is not None
        physical = getattr(np, how)(values * 2 + 5, axis=0, keepdims=True)
        np.testing.assert_allclose(run(Project(), volume, how=how) * scale.slope + scale.intercept, physical)
        assert operation.result.window == (None if how == "sum" else (0, 1))


def test_either_zero_is_the_same_zero() -> None:
    values = np.zeros((2, 3, 5))
    values[0] = -0.0
    for how in ("max", "min"):
        assert not np.signbit(run(Project(), over(values), how=how)).any()


def test_nan_shows_and_labels_and_complex_values_are_refused() -> None:
    values = np.array([[[1.0, 2]], [[np.nan, 3]]])
    for how in ("max", "min", "mean", "sum"):
        got = run(Project(), over(values), how=how)
        assert np.isnan(got).tolist() == [[[True, False]]]
    labels = over(np.ones((2, 2, 2), np.uint8), kind=VolumeKind.LABELS)
    operation = planned(Project(), labels, how="max")
    assert operation.result is not None
    assert operation.result.kind is VolumeKind.LABELS
    for volume, how in ((labels, "mean"), (labels, "sum"), (over(np.ones((2, 2), complex)), "max")):
        with pytest.raises(InvalidInput):
            planned(Project(), volume, axis="y", how=how)


def test_projected_channels_are_called_what_they_are() -> None:
    volume = over(np.ones((3, 2, 2)), Axis("c", 3, AxisKind.CHANNEL, labels=("r", "g", "b")), *axes_of("yx", (2, 2)))
    operation = planned(Project(), volume, axis="c", how="mean")
    assert operation.result is not None
    assert operation.result.grid.axes[0].labels == ("mean",)


def test_summed_frames_have_their_dose_together() -> None:
    dose = {"value": 500.0, "unit": "electron/angstrom^2"}
    volume = over(np.ones((4, 2, 2), "u2"), *axes_of("tyx", (4, 2, 2)), attributes={"dose": dose})
    for how, total in (("sum", 2000.0), ("mean", None)):
        result = planned(Project(), volume, axis="t", how=how).result
        assert result is not None
        assert result.attributes.get("dose", {}).get("value") == total
