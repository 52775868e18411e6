"""MRC as mrcfile reads it."""

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emstore.errors import InvalidInput
from emstore.export import export
from emstore.geometry import Affine, Axis, Grid, Space
from emstore.source import Source
from emstore.volume import ValueScale
from emstore_adapters.mrc import MrcAdapter
from export_volumes import axes, numbers, volume


@pytest.mark.parametrize("kind", ["i1", "i2", "u2", "f2", "f4", "c8"])
def test_every_mode_is_kept(tmp_path: Path, kind: str) -> None:
    values = numbers((3, 4, 5), kind)
    notes = export(volume(values, Grid(axes("z y x", values.shape, 2.0, "nanometer"))), tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert file.data.dtype == np.dtype(kind)
        assert np.array_equal(file.data, values)
        assert [float(file.voxel_size[name]) for name in "xyz"] == pytest.approx([20.0, 20.0, 20.0])
        assert file.is_volume()
    assert mrcfile.validate(tmp_path / "a.mrc")
    assert notes == ()


@pytest.mark.parametrize(("kind", "wider"), [("u1", "u2"), ("?", "i1")])
def test_other_types_are_widened_exactly_and_said(tmp_path: Path, kind: str, wider: str) -> None:
    values = numbers((3, 4, 5), kind)
    notes = export(volume(values, "z y x"), tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert file.data.dtype == np.dtype(wider)
        assert np.array_equal(file.data, values)
    assert any(f"kept exactly as {np.dtype(wider).name}" in note for note in notes)


@pytest.mark.parametrize(
    ("values", "dims"),
    [
        (numbers((3, 4), "i8"), "y x"),
        (numbers((3, 4), "f8"), "y x"),
        (numbers((3, 4), "c16"), "y x"),
        (numbers((2, 2, 2, 3, 4), "i2"), "t c z y x"),
        (numbers((2, 2, 3, 4), "i2"), "t c y x"),
        (numbers((2, 3), "i2"), "y energy"),
    ],
)
def test_what_mrc_cannot_hold_is_refused(tmp_path: Path, values: np.ndarray[Any, Any], dims: str) -> None:
    with pytest.raises(InvalidInput, match=r"\.h5"):
        export(volume(values, dims), tmp_path / "a.mrc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dims", "question"),
    [
        ("y x", "is_single_image"),
        ("z y x", "is_volume"),
        ("n y x", "is_image_stack"),
        ("t y x", "is_image_stack"),
        ("t z y x", "is_volume_stack"),
    ],
)
def test_stacks_and_volumes_are_told_apart(tmp_path: Path, dims: str, question: str) -> None:
    values = numbers((2, 3, 4, 5)[-len(dims.split()) :], "i2")
    export(volume(values, dims), tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert getattr(file, question)()
        assert np.array_equal(file.data, values)
    assert mrcfile.validate(tmp_path / "a.mrc")


def test_statistics_are_those_of_the_values(tmp_path: Path) -> None:
    values = numbers((7, 300, 301), "f4")
    export(volume(values, "z y x"), tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert float(file.header.dmin) == values.min()
        assert float(file.header.dmax) == values.max()
        assert float(file.header.dmean) == pytest.approx(values.mean(dtype=np.float64), rel=1e-4, abs=1e-6)
        assert float(file.header.rms) == pytest.approx(values.std(dtype=np.float64), rel=1e-5)


def test_complex_and_infinite_values_have_no_statistics(tmp_path: Path) -> None:
    values = numbers((3, 4, 5), "f4")
    values[1, 2, 3] = np.nan
    for made in (values, numbers((3, 4, 5), "c8")):
        export(volume(made, "z y x"), tmp_path / "a.mrc", force=True)
        with mrcfile.open(tmp_path / "a.mrc") as file:
            assert file.header.dmax < file.header.dmin  # MRC2014's sign for "not determined"
            assert file.header.rms < 0


def test_geometry_is_kept_or_said(tmp_path: Path) -> None:
    grid = Grid(
        (
            Axis("z", 3, positions=(0.0, 1.0, 3.0), unit="nanometer"),
            Axis("y", 4, spacing=1.5, unit="angstrom", origin=30.0),
            Axis("x", 5, spacing=0.002, unit="micrometer"),
        ),
        Affine.of(np.eye(4), Space.INSTRUMENT, "nanometer"),
    )
    notes = " ".join(export(volume(numbers((3, 4, 5), "i2"), grid, scale=ValueScale(2.0, 1.0)), tmp_path / "a.mrc"))
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert [float(file.voxel_size[name]) for name in "xyz"] == pytest.approx([20.0, 1.5, 15.0])
        assert [float(file.header.origin[name]) for name in "xyz"] == pytest.approx([0.0, 30.0, 0.0])
    for word in ("irregular positions along z", "affine is lost", "2.0 * stored + 1.0"):
        assert word in notes


def test_unknown_voxel_size_is_zero_and_said(tmp_path: Path) -> None:
    notes = export(volume(numbers((3, 4, 5), "i2"), "z y x"), tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert [float(file.voxel_size[name]) for name in "xyz"] == [0.0, 0.0, 0.0]
    assert sum("not known" in note for note in notes) == 3


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=4),
    st.sampled_from(["i1", "i2", "u2", "f2", "f4", "c8"]),
    st.one_of(st.none(), st.floats(0.01, 1e4)),
)
def test_our_own_reader_gets_back_what_was_written(tmp_path: Path, shape: list[int], kind: str, step: float | None) -> None:
    names = ("n", "z", "y", "x")[-len(shape) :]
    values = numbers(shape, kind)
    export(volume(values, Grid(axes(names, shape, step, "nanometer"))), tmp_path / "a.mrc", force=True)
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert np.array_equal(file.data.reshape(shape), values)
    [read] = MrcAdapter().open(Source.of([tmp_path / "a.mrc"]))
    whole = read.data[tuple(slice(0, n) for n in read.shape)]
    assert np.array_equal(whole.reshape(shape), values)
    for axis in read.grid.axes:
        if axis.name in ("y", "x"):
            assert axis.spacing == (None if step is None else pytest.approx(10 * step, rel=1e-5))
