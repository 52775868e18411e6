"""HDF5 as h5py and xarray read it, and as emstore reads it back."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emstore.errors import InvalidInput
from emstore.export import export
from emstore.geometry import Affine, Axis, AxisKind, Grid, Space
from emstore.header import Header, RawHeader, quantity
from emstore.source import Source
from emstore.volume import MemoryArray, ValueScale, Volume, VolumeKind
from emstore_adapters.hdf5 import Hdf5Adapter
from export_volumes import axes, numbers, volume

TYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]

RICH = Volume(
    "scan",
    MemoryArray(numbers((3, 4, 5, 6), "i2")),
    Grid(
        (
            Axis("t", 3, AxisKind.TIME, positions=(0.0, 0.5, 2.0), unit="second"),
            Axis("z", 4, spacing=2.0, unit="nanometer", origin=3.0),
            Axis("y", 5, spacing=1.0, unit="nanometer"),
            Axis("x", 6, spacing=1.0, unit="nanometer"),
        ),
        Affine.of([[2, 0, 0, 3], [0, 0.6, -0.8, 0], [0, 0.8, 0.6, 0], [0, 0, 0, 1]], Space.INSTRUMENT, "nanometer"),
    ),
    Header(
        "Maker's own",
        {"Gerät": {"Name": "Titan ½", "list": [1, None, "x"]}, "long": "word " * 40_000},
        {"instrument/ebeam_column/electron_source/voltage": quantity(300, "kilovolt")},
        (RawHeader("b.hdr", lambda: bytes(range(256))), RawHeader("a.txt", lambda: b""), RawHeader("a.txt", lambda: b"second")),
    ),
    kind=VolumeKind.LABELS,
    modality="stem",
    scale=ValueScale(0.5, -3.0, "HU"),
    window=(-10.0, 40.0),
    attributes={"nifti": {"sform_code": 1}},
    notes=("a note",),
)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_every_type_is_kept(tmp_path: Path, kind: str, suffix: str) -> None:
    values = numbers((3, 4, 5), kind)
    assert export(volume(values, "z y x"), tmp_path / f"a{suffix}") == ()
    with h5py.File(tmp_path / f"a{suffix}") as file:
        assert file["image"].dtype == np.dtype(kind)
        assert np.array_equal(file["image"][...], values)
        assert file["image"].chunks is not None
        assert file["image"].compression == "gzip"


def test_axes_are_dimension_scales_with_units(tmp_path: Path) -> None:
    export(RICH, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        image = file["image"]
        assert [dim.label for dim in image.dims] == ["t", "z", "y", "x"]
        assert [dim[0].name for dim in image.dims] == ["/t", "/z", "/y", "/x"]
        assert file["t"][...].tolist() == [0.0, 0.5, 2.0]
        assert file["z"][...].tolist() == [3.0, 5.0, 7.0, 9.0]
        assert (file["t"].attrs["units"], file["z"].attrs["units"]) == ("second", "nanometer")


def test_xarray_opens_it(tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf", reason="h5netcdf is not installed")
    export(RICH, tmp_path / "a.h5")
    with xr.open_dataset(tmp_path / "a.h5", engine="h5netcdf", decode_times=False) as found:
        assert found["image"].dims == ("t", "z", "y", "x")
        assert np.array_equal(found["image"].values, RICH.data[:, :, :, :])
        assert found["z"].values.tolist() == [3.0, 5.0, 7.0, 9.0]
        assert found["z"].attrs["units"] == "nanometer"


def test_unknown_axes_have_indices_and_no_unit(tmp_path: Path) -> None:
    export(volume(numbers((3, 4), "u1"), "y x"), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["x"][...].tolist() == [0, 1, 2, 3]
        assert "units" not in file["x"].attrs
        assert json.loads(file.attrs["voxel"])["spacing"] is None


def test_everything_else_is_kept_as_json_and_bytes(tmp_path: Path) -> None:
    export(RICH, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["emstore_export"] == 1
        assert json.loads(file.attrs["header"]) == RICH.header.tree
        assert json.loads(file.attrs["terms"]) == RICH.header.terms
        assert json.loads(file.attrs["scale"]) == {"slope": 0.5, "intercept": -3.0, "unit": "HU"}
        kept = [(item.attrs["name"], item[...].tobytes(), item.dtype) for item in file["source"].values()]
    assert kept == [
        ("b.hdr", bytes(range(256)), np.uint8),
        ("a.txt", b"", np.uint8),
        ("a.txt", b"second", np.uint8),
    ]


def test_emstore_reads_it_back(tmp_path: Path) -> None:
    export(RICH, tmp_path / "a.h5")
    [read] = Hdf5Adapter().open(Source.of([tmp_path / "a.h5"]))
    assert np.array_equal(read.data[tuple(slice(0, n) for n in read.shape)], RICH.data[:, :, :, :])
    for what in ("name", "grid", "kind", "modality", "scale", "window", "attributes", "notes"):
        assert getattr(read, what) == getattr(RICH, what), what
    assert read.header.format == RICH.header.format
    assert read.header.tree == RICH.header.tree
    assert read.header.terms == RICH.header.terms
    assert [raw.read() for raw in read.header.raw if raw.name == "b.hdr"] == [bytes(range(256))]


def test_an_axis_cannot_take_the_image_s_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="image"):
        export(volume(numbers((3, 4), "u1"), Grid((Axis("image", 3), Axis("x", 4)))), tmp_path / "a.h5")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from(TYPES),
    st.one_of(st.none(), st.floats(1e-6, 1e6)),
)
def test_any_shape_type_and_step(tmp_path: Path, shape: list[int], kind: str, step: float | None) -> None:
    names = ("a", "energy", "z", "y", "x")[-len(shape) :]
    made = volume(numbers(shape, kind), Grid(axes(names, shape, step, "nanometer")))
    export(made, tmp_path / "a.h5", force=True)
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(file["image"][...], numbers(shape, kind))
    [read] = Hdf5Adapter().open(Source.of([tmp_path / "a.h5"]))
    assert read.grid == made.grid
