"""Grids: every voxel where it is, at every level, in every world."""

import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Affine, Axis, AxisKind, Grid, Space

finite = st.floats(-1e4, 1e4, allow_nan=False, width=32)
spacings = st.floats(1e-3, 1e3, allow_nan=False)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = draw(st.lists(st.lists(finite, min_size=3, max_size=3), min_size=3, max_size=3))
    matrix[:3, 3] = draw(st.lists(finite, min_size=3, max_size=3))
    return matrix


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    sizes = draw(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)))
    axes = []
    for name, size in zip("zyx", sizes, strict=True):
        shape = draw(st.sampled_from(["unknown", "uniform", "irregular"]))
        if shape == "irregular":
            steps = draw(st.lists(st.floats(0.1, 10), min_size=size, max_size=size))
            axes.append(Axis(name, size, unit="millimeter", positions=tuple(np.cumsum(steps).tolist())))
        elif shape == "uniform":
            axes.append(Axis(name, size, spacing=draw(spacings), unit="nanometer", origin=draw(finite)))
        else:
            axes.append(Axis(name, size))
    if draw(st.booleans()):
        return Grid(tuple(axes), Affine.of(draw(affines()), draw(st.sampled_from(Space)), "millimeter"))
    return Grid(tuple(axes))


@given(grids())
def test_a_grid_survives_its_record(grid: Grid) -> None:
    assert Grid.from_json(json.loads(json.dumps(grid.to_json(), allow_nan=False))) == grid


@given(affines(), st.tuples(*[st.integers(0, 100)] * 3))
def test_array_order_says_the_same_as_nifti_order(matrix: np.ndarray, ijk: tuple[int, int, int]) -> None:
    affine = Affine.from_xyz(matrix, Space.RAS, "millimeter")
    theirs = nib.affines.apply_affine(matrix, ijk)
    ours = affine.world(ijk[::-1])
    np.testing.assert_allclose(ours[::-1], theirs, rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(affine.xyz, matrix)


@given(affines())
def test_ras_and_lps_are_mirror_worlds(matrix: np.ndarray) -> None:
    ras = Affine.of(matrix, Space.RAS, "millimeter")
    lps = ras.to(Space.LPS)
    np.testing.assert_array_equal(lps.to(Space.RAS).array, ras.array)
    point = np.array([3.0, 5.0, 7.0])
    np.testing.assert_allclose(lps.world(point), ras.world(point) * [1, -1, -1])


def test_orientation_letters_agree_with_nibabel() -> None:
    axial = np.diag([-1.0, -1.0, 2.0, 1.0])  # DICOM axial: columns to the patient's left, rows to the back
    lps = Affine.from_xyz(np.diag([1.0, 1.0, 2.0, 1.0]), Space.LPS, "millimeter")
    assert nib.aff2axcodes(lps.to(Space.RAS).xyz) == nib.aff2axcodes(axial) == ("L", "P", "S")


def test_nothing_relates_the_instrument_to_a_patient() -> None:
    with pytest.raises(InvalidInput):
        Affine.of(np.eye(4), Space.INSTRUMENT, None).to(Space.RAS)


@given(grids(), st.tuples(*[st.sampled_from([1, 2, 4])] * 3))
def test_a_coarse_voxel_sits_at_the_mean_of_the_fine_ones(grid: Grid, factors: tuple[int, ...]) -> None:
    coarse = grid.coarsened(factors)
    for fine_axis, coarse_axis, factor in zip(grid.axes, coarse.axes, factors, strict=True):
        fine = fine_axis.coordinates()
        whole = len(fine) // factor
        expected = fine[: whole * factor].reshape(whole, factor).mean(axis=1)
        np.testing.assert_allclose(coarse_axis.coordinates()[:whole], expected, rtol=1e-9, atol=1e-9)
    if grid.affine is not None and coarse.affine is not None:
        centre = (np.array(factors) - 1) / 2
        np.testing.assert_allclose(coarse.affine.world([0, 0, 0]), grid.affine.world(centre), rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(coarse.affine.world([1, 1, 1]), grid.affine.world(centre + factors), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("placeholder", [0.0, -1.0, float("nan"), float("inf"), None])
def test_a_readers_placeholder_is_unknown(placeholder: float | None) -> None:
    axis = Axis.measured("x", 5, placeholder, "nanometer")
    assert axis.spacing is None
    assert axis.unit is None


def test_one_without_a_unit_is_unknown_and_with_a_unit_is_known() -> None:
    assert Axis.measured("x", 5, 1.0, None).spacing is None
    assert Axis.measured("x", 5, 1.0, "nanometer").spacing == 1.0
    assert Axis.measured("x", 5, 2.0, None).spacing == 2.0


@pytest.mark.parametrize("bad", [0.0, -2.0, float("nan"), float("inf")])
def test_a_wrong_spacing_is_refused(bad: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        Axis("x", 5, spacing=bad)
    assert caught.value.kind is Kind.BAD_SPACING


def test_spacing_by_hand_needs_a_length_and_no_affine() -> None:
    plain = Grid((Axis("z", 3), Axis("y", 4), Axis("x", 5)))
    made = plain.with_spacing({"z": 10, "y": 5, "x": 5}, "nm")
    assert [a.spacing for a in made.axes] == [10, 5, 5]
    assert {a.unit for a in made.axes} == {"nanometer"}
    with pytest.raises(InvalidInput):
        plain.with_spacing({"z": 10}, "s")
    with pytest.raises(InvalidInput):
        plain.with_spacing({"q": 10}, "nm")
    placed = Grid(plain.axes, Affine.of(np.eye(4), Space.LPS, "millimeter"))
    with pytest.raises(InvalidInput):
        placed.with_spacing({"z": 10}, "nm")


def test_irregular_slices_state_how_irregular_they_are() -> None:
    grid = Grid((Axis("z", 4, unit="millimeter", positions=(0.0, 5.0, 10.0, 20.0)), Axis("y", 2), Axis("x", 2)))
    record = grid.to_json()
    assert record["uniform"]["z"] is False
    assert record["spacing"]["z"] == 5.0
    assert record["max_deviation"]["z"] == pytest.approx(10 / 3)


def test_axes_are_checked() -> None:
    with pytest.raises(InvalidInput):
        Grid((Axis("x", 2), Axis("x", 2)))
    with pytest.raises(InvalidInput):
        Grid((Axis("y", 2), Axis("x", 2)), Affine.of(np.eye(4), Space.RAS, None))
    with pytest.raises(InvalidInput):
        Axis("x", 0)
    with pytest.raises(InvalidInput):
        Axis("x", 2, positions=(1.0,))
    assert Axis("energy", 3, AxisKind.SPECTRAL).known is False


@given(st.integers(0, 2**32 - 1))
def test_directions_are_those_of_nibabel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 5, 3)
    matrix[:3, 3] = rng.normal(size=3) * 100
    affine = Affine.from_xyz(matrix, Space.RAS, "millimeter")
    strength = np.sort(np.abs(matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)), axis=0)
    if (strength[-1] - strength[-2]).min() > 0.2:  # an axis halfway between two has no right answer
        assert affine.directions() == nib.aff2axcodes(matrix)[::-1]
        assert affine.to(Space.LPS).directions() == nib.aff2axcodes(matrix)[::-1]
    assert Affine.from_xyz(matrix, Space.INSTRUMENT, None).directions() is None
