"""interpolate.*: what scipy and numpy say, on the true positions, in any blocks, with the measured slices untouched."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.interpolate import CubicHermiteSpline, interp1d

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Affine, Axis, AxisKind, Space
from emstore.processors.interpolate import Cubic, Linear, Nearest
from emstore.processors.interpolate.sampling import runs
from emstore.volume import VolumeKind
from in_blocks import arrays, axes_of, over, planned, run, same_whatever_the_blocks

METHODS = {"nearest": Nearest(), "linear": Linear(), "cubic": Cubic()}


def reference(method: str, x: npt.NDArray[Any], y: npt.NDArray[Any], at: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float64]:
    """Interpolate in double precision with scipy; the slopes of the cubic are numpy's second-order differences."""
    y = y.astype(np.float64)
    if method == "cubic" and len(x) > 2:
        slopes = np.gradient(y, x, axis=axis, edge_order=2)
        return np.asarray(CubicHermiteSpline(x, y, slopes, axis=axis)(at))
    kind = "nearest" if method == "nearest" else "linear"
    return np.asarray(interp1d(x, y, kind=kind, axis=axis)(at))


def limited(values: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> npt.NDArray[np.float64]:
    """Cut values at the limits of an integer type."""
    return values if dtype.kind == "f" else np.clip(values, np.iinfo(dtype).min, np.iinfo(dtype).max)


@given(
    st.sampled_from(sorted(METHODS)),
    arrays(),
    st.integers(0, 2),
    st.integers(2, 5),
    st.booleans(),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.integers(0, 999),
)
def test_a_factor_gives_what_scipy_gives_in_any_blocks(
    method: str, values: npt.NDArray[Any], axis: int, factor: int, irregular: bool, block: tuple[int, ...], seed: int
) -> None:
    values = np.concatenate([values, values[::-1]], axis=axis)  # at least two
    n = values.shape[axis]
    name = "zyx"[axis]
    axes = list(axes_of("zyx", values.shape, z=3.0, y=2.0, x=1.5))
    x = np.arange(n, dtype=np.float64)
    if irregular:
        x = 5 + np.cumsum(np.random.default_rng(seed).uniform(0.2, 4, n))
        axes[axis] = Axis(name, n, unit="nanometer", positions=tuple(x.tolist()))
    volume = over(values, *axes)
    operation = planned(METHODS[method], volume, axis=name, factor=factor)
    got = same_whatever_the_blocks(operation, (volume,), block)
    assert got.shape[axis] == (n - 1) * factor + 1

    # the measured samples, bit for bit
    kept = np.take(got, np.arange(n) * factor, axis)
    assert kept.tobytes() == np.ascontiguousarray(values.astype(got.dtype)).tobytes()

    # where they are
    assert operation.result is not None
    new = operation.result.grid.axes[axis]
    steps = np.linspace(0, 1, factor, endpoint=False)
    fine = np.append((x[:-1, None] + np.diff(x)[:, None] * steps).ravel(), x[-1])
    scale = 1.0 if irregular else float(axes[axis].spacing or 1)
    np.testing.assert_allclose(new.coordinates(), fine * scale, rtol=1e-12, atol=1e-12)
    assert new.uniform is not irregular
    told = operation.result.attributes["synthetic"]
    assert told == {"axis": name, "measured": [[0, (n - 1) * factor + 1, factor]]}

    # what they are
    expected = limited(reference(method, x, values, fine, axis), values.dtype)
    largest = float(np.abs(values.astype(np.float64)).max())
    if values.dtype.kind == "f":
        tolerance = largest * max(4 * float(np.finfo(values.dtype).eps), 1e-12)
    else:  # rounded: at most half a step off, and what a double cannot tell
        tolerance = 0.5 + largest * 1e-13
    np.testing.assert_allclose(got.astype(np.float64), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_integers_are_rounded_and_never_wrap(method: str) -> None:
    steep = np.array([0, 0, 255, 255, 0, 0], np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    got = run(METHODS[method], over(steep), factor=4)[:, 0, 0].astype(int)
    # On the way up the curve leaves 0..255 on both sides; a value that wrapped would jump by more than a quarter of the range.
    assert np.abs(np.diff(got)).max() <= 100
    assert got[8:13].min() >= 250
    line = np.array([0, 1], np.uint8)[:, None, None]
    assert run(Linear(), over(line), factor=4).ravel().tolist() == [0, 0, 0, 1, 1]  # 0.5 to the even one


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_the_largest_integers_are_kept_exactly(dtype: str) -> None:
    top = np.iinfo(dtype).max
    values = np.array([top, top - 1, top], dtype)[:, None, None]
    got = run(Cubic(), over(values), factor=2).ravel()
    assert got[::2].tolist() == [top, top - 1, top]
    assert got.min() > top // 2


@given(st.integers(0, 999), st.integers(4, 9))
def test_the_cubic_follows_any_parabola_on_any_positions(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.3, 2, n))
    a, b, c = rng.normal(size=3)
    volume = over(
        (a * x**2 + b * x + c)[:, None, None],
        Axis("z", n, unit="nanometer", positions=tuple(x.tolist())),
        Axis("y", 1),
        Axis("x", 1),
    )
    operation = planned(Cubic(), volume, factor=3)
    assert operation.result is not None
    at = operation.result.grid.axes[0].coordinates()
    np.testing.assert_allclose(run(Cubic(), volume, factor=3).ravel(), a * at**2 + b * at + c, rtol=1e-9, atol=1e-9)


def test_on_even_steps_the_cubic_is_the_kernel_of_catmull_and_rom() -> None:
    impulse = np.zeros((9, 1, 1))
    impulse[4] = 1
    got = run(Cubic(), over(impulse), factor=2).ravel()
    assert got[5:12].tolist() == [-1 / 16, 0, 9 / 16, 1, 9 / 16, 0, -1 / 16]
    assert not got[:5].any()
    assert not got[12:].any()


@given(st.floats(0.3, 1), st.booleans(), st.integers(2, 12), st.integers(1, 9), st.integers(0, 99))
def test_isotropic_steps_like_the_finest_other_axis(step: float, irregular: bool, n: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 3, 4))
    x = np.cumsum(rng.uniform(1, 3, n)) if irregular else np.arange(n) * 1.0
    z = (
        Axis("z", n, unit="nanometer", positions=tuple(x.tolist()))
        if irregular
        else Axis("z", n, spacing=0.001, unit="micrometer", origin=0.5)
    )
    at = step if irregular else step / 1000
    volume = over(values, z, Axis("y", 3, spacing=step, unit="nanometer"), Axis("x", 4, spacing=2 * step, unit="nanometer"))
    operation = planned(Linear(), volume, isotropic=True)
    got = same_whatever_the_blocks(operation, (volume,), (block, 2, 3))
    assert operation.result is not None
    new = operation.result.grid.axes[0]
    assert new.unit == z.unit
    assert new.spacing == pytest.approx(at)
    positions = new.coordinates()
    assert positions[0] == z.coordinates()[0]
    assert positions[-1] <= z.coordinates()[-1] * (1 + 1e-5)
    assert positions[-1] + 1.001 * at > z.coordinates()[-1]
    clipped = np.minimum(positions, z.coordinates()[-1])
    np.testing.assert_allclose(got, interp1d(z.coordinates(), values, axis=0)(clipped), atol=1e-5)


def test_isotropic_copies_the_slices_it_meets() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, 3)).astype(np.float32)
    volume = over(values, *axes_of("zyx", values.shape, z=15.0, y=5.0, x=5.0))
    operation = planned(Cubic(), volume, isotropic=True)
    assert operation.result is not None
    assert operation.result.attributes["synthetic"] == {"axis": "z", "measured": [[0, 13, 3]]}
    assert run(Cubic(), volume, isotropic=True)[::3].tobytes() == values.tobytes()


@pytest.mark.parametrize("irregular", [False, True])
def test_an_oblique_grid_keeps_every_measured_slice_in_its_place(irregular: bool) -> None:
    rng = np.random.default_rng(4)
    matrix = np.eye(4)
    positions = (0.0, 2.0, 4.0, 7.0)
    matrix[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [2.0, 1, 1]
    matrix[:3, 3] = [10, 20, 30]
    z = Axis("z", 4, unit="millimeter", **({"positions": positions} if irregular else {"spacing": 2.0}))  # type: ignore[arg-type]
    rest = (Axis("y", 2, spacing=1.0, unit="millimeter"), Axis("x", 2, spacing=1.0, unit="millimeter"))
    volume = over(np.zeros((4, 2, 2)), z, *rest, affine=Affine.of(matrix, Space.LPS, "millimeter"))
    operation = planned(Linear(), volume, factor=2)
    assert operation.result is not None
    grid = operation.result.grid
    assert grid.affine is not None
    new = grid.axes[0].coordinates()
    nominal = float(np.median(np.diff(new)))
    for k in range(4):
        index = (new[2 * k] - new[0]) / nominal
        old_index = (z.coordinates()[k] - z.coordinates()[0]) / 2.0
        np.testing.assert_allclose(grid.affine.world([index, 1, 1]), matrix[:3] @ [old_index, 1, 1, 1], atol=1e-9)


def test_nan_reaches_only_the_samples_made_from_it() -> None:
    values = np.zeros((6, 1, 1))
    values[2] = np.nan
    for method, there in (("nearest", {3, 4, 5}), ("linear", {3, 4, 5}), ("cubic", {1, 3, 4, 5, 7})):
        got = run(METHODS[method], over(values), factor=2).ravel()
        spoilt = set(np.flatnonzero(np.isnan(got)).tolist())
        assert spoilt <= there
        assert 4 in spoilt
        assert method == "nearest" or spoilt == there


def test_complex_values_are_pairs_of_real_ones() -> None:
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(4, 30, 30)) + 1j * rng.normal(size=(4, 30, 30))).astype(np.complex64)
    volume = over(values)
    got = same_whatever_the_blocks(planned(Cubic(), volume, factor=3), (volume,), (2, 7, 11))
    for part in (np.real, np.imag):
        np.testing.assert_array_equal(part(got), run(Cubic(), over(part(values).copy()), factor=3))


def test_large_and_small_rows_agree() -> None:
    values = np.random.default_rng(5).integers(0, 65535, (7, 40, 50), dtype=np.uint16)
    volume = over(values)
    for axis in "zyx":
        same_whatever_the_blocks(planned(Cubic(), volume, axis=axis, factor=3), (volume,), (4, 9, 13))


def test_frames_and_single_lines_can_be_interpolated() -> None:
    cine = over(np.arange(24.0).reshape(3, 1, 2, 4), *axes_of("tzyx", (3, 1, 2, 4), t=0.1))
    got = run(Linear(), cine, axis="t", factor=2)
    np.testing.assert_allclose(got[1], cine.data[(slice(0, 2),) + (slice(None),) * 3].mean(axis=0))
    line = over(np.array([1.0, 3, 2]), Axis("energy", 3, AxisKind.SPECTRAL, spacing=0.5, unit="electronvolt"))
    assert run(Linear(), line, axis="energy", factor=2).tolist() == [1, 2, 3, 2.5, 2]


def test_labels_are_only_repeated() -> None:
    labels = over(np.array([1, 7], np.uint8)[:, None, None], kind=VolumeKind.LABELS)
    assert run(Nearest(), labels, factor=4).ravel().tolist() == [1, 1, 1, 7, 7]
    operation = planned(Nearest(), labels, factor=4)
    assert operation.result is not None
    assert operation.result.kind is VolumeKind.LABELS
    for method in (Linear(), Cubic()):
        with pytest.raises(InvalidInput, match="labels"):
            planned(method, labels, factor=2)


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"axis": "q", "factor": 2}, Kind.INVALID_INPUT),
        ({"axis": "c", "factor": 2}, Kind.INVALID_INPUT),  # channels
        ({"axis": "z", "factor": 2}, Kind.INVALID_INPUT),  # a single slice
        ({"axis": "t", "factor": 2}, Kind.BAD_SPACING),  # positions that do not increase
        ({"axis": "y", "isotropic": True}, Kind.BAD_SPACING),  # unknown spacing
        ({"axis": "x", "isotropic": True}, Kind.BAD_SPACING),  # no other known spacing
        ({"axis": "t", "isotropic": True}, Kind.BAD_SPACING),
    ],
)
def test_what_makes_no_sense_is_refused(params: dict[str, Any], kind: Kind) -> None:
    t, c, z, y, x = axes_of("tczyx", (3, 2, 1, 4, 4), x=2.0)
    t = Axis("t", 3, AxisKind.TIME, unit="second", positions=(0.0, 2.0, 1.0))
    with pytest.raises(InvalidInput) as caught:
        planned(Linear(), over(np.zeros((3, 2, 1, 4, 4)), t, c, z, y, x), **params)
    assert caught.value.kind is kind


def test_isotropic_never_leaves_samples_out() -> None:
    fine = over(np.zeros((4, 4, 4)), *axes_of("zyx", (4, 4, 4), z=1.0, y=2.0, x=2.0))
    with pytest.raises(InvalidInput, match="resample"):
        planned(Linear(), fine, isotropic=True)


@pytest.mark.parametrize("params", [{}, {"factor": 2, "isotropic": True}, {"factor": 1}, {"factor": 2, "steps": 3}])
def test_parameters_say_one_thing(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Linear.params(**params)


def test_only_what_is_needed_is_read() -> None:
    volume = over(np.zeros((100, 4, 4)))
    operation = planned(Cubic(), volume, factor=4)
    assert operation.needs is not None
    rest = (slice(0, 4), slice(1, 3))
    assert operation.needs((slice(40, 41), *rest)) == ((slice(10, 11), *rest),)  # a copy
    assert operation.needs((slice(41, 42), *rest)) == ((slice(9, 13), *rest),)
    assert operation.needs((slice(0, 397), *rest)) == ((slice(0, 100), *rest),)


@given(st.lists(st.booleans(), max_size=30))
def test_runs_are_pythons_ranges(flags: list[bool]) -> None:
    there = [k for a, b, step in runs(np.array(flags, bool)) for k in range(a, b, step)]
    assert there == [k for k, flag in enumerate(flags) if flag]


def test_measured_slices_between_uneven_steps_are_told() -> None:
    z = Axis("z", 4, unit="nanometer", positions=(0.0, 1.0, 2.5, 4.0))
    volume = over(np.zeros((4, 2, 2)), z, *axes_of("yx", (2, 2), y=1.0, x=1.0))
    operation = planned(Linear(), volume, isotropic=True)
    assert operation.result is not None
    assert operation.result.grid.axes[0].coordinates().tolist() == [0, 1, 2, 3, 4]
    measured = {k for a, b, step in operation.result.attributes["synthetic"]["measured"] for k in range(a, b, step)}
    assert measured == {0, 1, 4}
