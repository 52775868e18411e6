"""Grids cut out of and sampled anew: every voxel stays where it was in the world, oblique and irregular ones too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Affine, Axis, Grid, Space

SIZES = (9, 7, 5)


def world(grid: Grid, k: int, j: int, i: int) -> np.ndarray:
    """Place a voxel by the rule in `Grid`: an irregular axis counts in median steps from its first sample."""
    at = []
    for axis, index in zip(grid.axes[-3:], (k, j, i), strict=True):
        if axis.positions is None:
            at.append(float(index))
        else:
            steps = np.abs(np.diff(axis.positions))
            at.append((axis.positions[index] - axis.positions[0]) / (np.median(steps) if steps.size else 1.0))
    assert grid.affine is not None
    return np.asarray(grid.affine.array[:3] @ [*at, 1.0])


def oblique(seed: int, *, irregular: bool, known: bool = True) -> Grid:
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0.5, 3, SIZES[0])
    z_step = float(np.median(steps[1:])) if irregular else 2.5
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [z_step, 0.7, 0.9]
    matrix[:3, 3] = rng.normal(size=3) * 100
    z = (
        Axis("z", SIZES[0], unit="millimeter", positions=tuple(np.cumsum(steps).tolist()))
        if irregular
        else Axis("z", SIZES[0], spacing=z_step if known else None, unit="millimeter" if known else None)
    )
    rest = (Axis("y", SIZES[1], spacing=0.7, unit="millimeter", origin=-3), Axis("x", SIZES[2], spacing=0.9, unit="millimeter"))
    return Grid((z, *rest), Affine.of(matrix, Space.LPS, "millimeter"))


@given(st.integers(0, 9999), st.booleans(), st.tuples(*[st.tuples(st.integers(0, n - 1), st.integers(1, n)) for n in SIZES]))
def test_a_voxel_of_a_crop_is_where_it_was(seed: int, irregular: bool, cuts: tuple[tuple[int, int], ...]) -> None:
    grid = oblique(seed, irregular=irregular)
    region = tuple(slice(a, max(b, a + 1)) for a, b in cuts)
    part = grid.cropped(region)
    assert part.shape == tuple(s.stop - s.start for s in region)
    for old, new, cut in zip(grid.axes, part.axes, region, strict=True):
        np.testing.assert_allclose(new.coordinates(), old.coordinates()[cut], rtol=1e-12, atol=1e-12)
    for corner in (0, -1):
        new_index = [range(n)[corner] for n in part.shape]
        old_index = [s.start + n for s, n in zip(region, new_index, strict=True)]
        np.testing.assert_allclose(world(part, *new_index), world(grid, *old_index), atol=1e-9)


@given(st.integers(0, 9999), st.sampled_from("zyx"), st.floats(-1, 3), st.floats(0.2, 4), st.booleans())
def test_a_resampled_voxel_sits_at_its_fraction_of_an_index(seed: int, name: str, first: float, step: float, known: bool) -> None:
    grid = oblique(seed, irregular=False, known=known)
    new = grid.resampled(name, 4, first=first, step=step)
    at = "zyx".index(name)
    assert new.shape[at] == 4
    for j in range(4):
        index = np.zeros(3)
        index[at] = first + step * j
        assert grid.affine is not None
        there = np.zeros(3)
        there[at] = j
        assert new.affine is not None
        np.testing.assert_allclose(new.affine.world(there), grid.affine.world(index), atol=1e-9)
    old_axis, new_axis = grid.axes[at], new.axes[at]
    if old_axis.spacing is None:
        assert new_axis.spacing is None
    else:
        expected = old_axis.origin + old_axis.spacing * (first + step * np.arange(4))
        np.testing.assert_allclose(new_axis.coordinates(), expected, atol=1e-9)


@given(st.integers(0, 9999), st.booleans())
def test_an_axis_at_other_positions_keeps_the_line_it_lies_on(seed: int, even: bool) -> None:
    grid = oblique(seed, irregular=True)
    old = np.asarray(grid.axes[0].positions)
    if even:
        axis = Axis("z", 6, spacing=0.8, unit="millimeter", origin=float(old[1]))
    else:
        axis = Axis("z", 3, unit="millimeter", positions=(float(old[2]), float(old[3]), float(old[7])))
    new = grid.with_axis(axis)
    normal = (world(grid, 8, 0, 0) - world(grid, 0, 0, 0)) / (old[8] - old[0])  # per unit of position
    for k, position in enumerate(axis.coordinates()):
        np.testing.assert_allclose(world(new, k, 0, 0), world(grid, 0, 0, 0) + normal * (position - old[0]), atol=1e-9)


def test_what_cannot_be_placed_is_refused() -> None:
    uneven = Grid((Axis("t", 3, unit="second", positions=(0.0, 1.0, 5.0)), Axis("y", 2), Axis("x", 2)))
    with pytest.raises(InvalidInput) as caught:
        uneven.resampled("t", 2, first=0, step=1)
    assert caught.value.kind is Kind.BAD_SPACING
    with pytest.raises(InvalidInput):
        uneven.with_axis(Axis("y", 4, spacing=1.0))
    with pytest.raises(InvalidInput):
        uneven.with_axis(Axis("t", 4, spacing=1.0, unit="millisecond"))
    for bad in (slice(0, 0), slice(1, 4), slice(-1, 2)):
        with pytest.raises(InvalidInput):
            uneven.cropped((bad, slice(0, 2), slice(0, 2)))


def test_unknown_positions_keep_counting_from_the_old_start_and_labels_are_cut() -> None:
    grid = Grid((Axis("c", 3, labels=("r", "g", "b")), Axis("y", 8), Axis("x", 8)))
    part = grid.cropped((slice(1, 3), slice(3, 8), slice(0, 8)))
    assert part.axis("c").labels == ("g", "b")
    assert part.axis("y").spacing is None
    assert part.axis("y").coordinates().tolist() == [3, 4, 5, 6, 7]
