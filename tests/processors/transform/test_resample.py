"""transform.resample against Pillow; transform.regularise against scipy; in any blocks."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.interpolate import interp1d

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Affine, Axis, Space
from emstore.processors.transform import Regularise, Resample
from emstore.volume import VolumeKind
from in_blocks import arrays, axes_of, over, planned, run, same_whatever_the_blocks

PILLOW = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC, "nearest": Image.Resampling.NEAREST}


@given(
    st.sampled_from(sorted(PILLOW)),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(0, 999),
)
def test_pillow_resizes_the_same(method: str, rows: int, columns: int, new_rows: int, new_columns: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    volume = over(values, *axes_of("yx", values.shape, y=2.0, x=3.0))
    wanted = {"y": 2.0 * rows / new_rows, "x": 3.0 * columns / new_columns}
    got = run(Resample(), volume, spacing=wanted, method=method)
    expected = np.asarray(Image.fromarray(values).resize((new_columns, new_rows), PILLOW[method]))
    assert got.shape == expected.shape
    if method != "nearest":  # where a centre lies on a border of two voxels, either is the nearer
        np.testing.assert_allclose(got, expected, atol=2e-5)
        return
    for n, m, axis in ((rows, new_rows, 0), (columns, new_columns, 1)):
        clear = [k for k in range(m) if (2 * k + 1) * n % (2 * m)]
        got, expected = np.take(got, clear, axis), np.take(expected, clear, axis)
    np.testing.assert_array_equal(got, expected)


@settings(max_examples=60)
@given(
    arrays(largest=7),
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.tuples(*[st.floats(0.4, 2, exclude_max=True)] * 3),
    st.sets(st.sampled_from("zyx"), min_size=1),
    st.tuples(*[st.integers(1, 9)] * 3),
)
def test_any_blocks_give_the_same_bits(
    values: npt.NDArray[Any], method: str, steps: tuple[float, ...], named: set[str], block: tuple[int, ...]
) -> None:
    volume = over(values, *axes_of("zyx", values.shape, z=1.0, y=1.0, x=1.0))
    wanted = {name: step for name, step in zip("zyx", steps, strict=True) if name in named}
    operation = planned(Resample(), volume, spacing=wanted, method=method)
    got = same_whatever_the_blocks(operation, (volume,), block)
    assert operation.result is not None
    for axis, old, name in zip(operation.result.grid.axes, volume.grid.axes, "zyx", strict=True):
        step = wanted.get(name, 1.0)
        assert axis.spacing == pytest.approx(step)
        edge = axis.origin - step / 2
        assert edge == pytest.approx(-0.5)  # the outer edge stays
        centres = axis.coordinates()
        assert centres[-1] < old.size - 0.5 + 1e-5  # inside the field of view
        assert centres[-1] + step >= old.size - 0.5 - 1e-5
    if values.dtype.kind != "f" and method == "linear":  # a mean never leaves the range of its values
        assert got.min() >= values.min() or values.dtype.itemsize == 8
        assert got.max() <= values.max() or values.dtype.itemsize == 8


@settings(max_examples=60)
@given(
    arrays(largest=7, types=("u1", "i2")),
    st.sampled_from(["linear", "cubic"]),
    st.tuples(*[st.sampled_from([0.5, 0.7, 1, 2])] * 3),
)
def test_whole_numbers_are_rounded_once(values: npt.NDArray[Any], method: str, steps: tuple[float, ...]) -> None:
    axes = axes_of("zyx", values.shape, z=1.0, y=1.0, x=1.0)
    wanted = dict(zip("zyx", (min(s, 2 * n - 0.5) for s, n in zip(steps, values.shape, strict=True)), strict=True))
    exact = run(Resample(), over(values.astype(np.float64), *axes), spacing=wanted, method=method)
    limits = np.iinfo(values.dtype)
    got = run(Resample(), over(values, *axes), spacing=wanted, method=method)
    np.testing.assert_array_equal(got, np.clip(np.rint(exact), limits.min, limits.max))


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_shrinking_leaves_no_alias(method: str) -> None:
    stripes = np.tile(np.array([0.0, 1.0]), 64)  # the finest pattern there is; every other sample would be all 0 or all 1
    volume = over(stripes[None], *axes_of("yx", (1, 128), x=1.0))
    got = run(Resample(), volume, spacing={"x": 4.0}, method=method)
    np.testing.assert_allclose(got[0, 2:-2], 0.5, atol=0.01)
    operation = planned(Resample(), volume, spacing={"x": 4.0}, method=method)
    assert operation.result is not None
    assert "smoothed" in operation.result.notes[0]


def test_the_same_spacing_is_a_copy() -> None:
    values = np.random.default_rng(2).normal(size=(4, 5, 6)).astype(np.float32)
    volume = over(values, *axes_of("zyx", values.shape, z=0.1, y=0.3, x=7.0))
    assert (
        run(Resample(), volume, spacing={"z": 100, "y": 300, "x": 7000}, unit="picometer", method="cubic").tobytes()
        == values.tobytes()
    )


def test_a_voxel_is_where_its_content_is() -> None:
    rng = np.random.default_rng(9)
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [2.0, 1.0, 1.0]
    matrix[:3, 3] = [5, 6, 7]
    axes = (Axis("z", 12, spacing=2.0, unit="millimeter"), *(Axis(n, 12, spacing=1.0, unit="millimeter") for n in "yx"))
    # A field that is linear in the world: wherever a new voxel inside is said to be, its value must say so too.
    indices = np.stack(np.meshgrid(*[np.arange(12)] * 3, indexing="ij"), axis=-1)
    gradient = np.array([0.3, -0.7, 1.1])
    field = (indices @ matrix[:3, :3].T + matrix[:3, 3]) @ gradient
    volume = over(field, *axes, affine=Affine.of(matrix, Space.RAS, "millimeter"))
    operation = planned(Resample(), volume, spacing={"z": 1.3, "y": 3.0}, method="linear")
    got = run(Resample(), volume, spacing={"z": 1.3, "y": 3.0}, method="linear")
    assert operation.result is not None
    affine = operation.result.grid.affine
    assert affine is not None
    for index in [(4, 2, 3), (9, 1, 11), (13, 2, 6)]:
        assert got[index] == pytest.approx(affine.world(index) @ gradient, abs=1e-9)


@pytest.mark.parametrize(
    ("spacing", "unit", "kind"),
    [
        ({"t": 1.0}, None, Kind.BAD_SPACING),  # unequal
        ({"z": 1.0}, None, Kind.BAD_SPACING),  # unknown
        ({"y": 4.1}, None, Kind.BAD_SPACING),  # less than half a voxel
        ({"y": 0.0}, None, Kind.BAD_SPACING),
        ({"y": -1.0}, None, Kind.BAD_SPACING),
        ({"y": 1e-9}, None, Kind.BAD_SPACING),
        ({"y": 1e-300}, None, Kind.BAD_SPACING),
        ({"y": 1.0}, "second", Kind.BAD_UNIT),
        ({"c": 1.0}, None, Kind.INVALID_INPUT),
        ({"q": 1.0}, None, Kind.INVALID_INPUT),
    ],
)
def test_what_makes_no_sense_is_refused(spacing: dict[str, float], unit: str | None, kind: Kind) -> None:
    _, c, z, y, x = axes_of("tczyx", (2, 2, 2, 2, 2), y=1.0)
    t = Axis("t", 2, unit="second", positions=(0.0, 1.0))
    with pytest.raises(InvalidInput) as caught:
        planned(Resample(), over(np.zeros((2,) * 5), t, c, z, y, x), spacing=spacing, unit=unit, method="linear")
    assert caught.value.kind is kind


def test_labels_are_only_picked() -> None:
    labels = over(np.array([[1, 1, 7, 7]], np.uint16), *axes_of("yx", (1, 4), x=1.0), kind=VolumeKind.LABELS)
    assert run(Resample(), labels, spacing={"x": 0.5}, method="nearest").ravel().tolist() == [1, 1, 1, 1, 7, 7, 7, 7]
    assert run(Resample(), labels, spacing={"x": 2.0}, method="nearest").ravel().tolist() == [1, 7]
    for method in ("linear", "cubic"):
        with pytest.raises(InvalidInput, match="labels"):
            planned(Resample(), labels, spacing={"x": 2.0}, method=method)
        with pytest.raises(InvalidInput, match="labels"):
            planned(Regularise(), labels, axis="x", method=method)


@given(
    arrays(types=("u1", "f4", "f8")),
    st.integers(0, 999),
    st.one_of(st.none(), st.floats(0.3, 3)),
    st.tuples(*[st.integers(1, 9)] * 3),
)
def test_an_even_grid_has_what_lies_at_its_positions(
    values: npt.NDArray[Any], seed: int, step: float | None, block: tuple[int, ...]
) -> None:
    values = np.concatenate([values, values])
    x = 3 + np.cumsum(np.random.default_rng(seed).uniform(0.2, 3, len(values)))
    volume = over(values, Axis("z", len(x), unit="nanometer", positions=tuple(x.tolist())), *axes_of("yx", values.shape[1:]))
    operation = planned(Regularise(), volume, spacing=step, method="linear")
    got = same_whatever_the_blocks(operation, (volume,), block)
    assert operation.result is not None
    axis = operation.result.grid.axes[0]
    assert axis.uniform
    assert axis.spacing == pytest.approx(step or np.median(np.diff(x)))
    at = axis.coordinates()
    assert at[0] == x[0]
    assert x[-1] - axis.spacing < at[-1] <= x[-1] * (1 + 1e-5)
    expected = interp1d(x, values.astype(np.float64), axis=0)(np.minimum(at, x[-1]))
    np.testing.assert_allclose(got, expected, atol=0.51 if values.dtype.kind == "u" else 2e-3)


def test_an_even_axis_needs_no_evening() -> None:
    for spacing in ({"z": 1.0}, {}):
        with pytest.raises(InvalidInput, match="even already"):
            planned(Regularise(), over(np.zeros((3, 2, 2)), *axes_of("zyx", (3, 2, 2), **spacing)), method="linear")
    backwards = over(np.zeros((3, 2)), Axis("z", 3, unit="nanometer", positions=(3.0, 1.0, 0.0)), Axis("x", 2))
    with pytest.raises(InvalidInput, match="do not increase"):
        planned(Regularise(), backwards, method="linear")
