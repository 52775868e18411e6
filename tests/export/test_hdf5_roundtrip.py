"""A version exported to HDF5 and ingested again is the same but for how it came to be, which it tells as well."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emstore
from command_line import result
from emstore.export import export
from emstore.geometry import Affine, Axis, AxisKind, Grid, Space
from emstore.header import Header, RawHeader, quantity
from emstore.source import Source
from emstore.volume import MemoryArray, ValueScale, Volume, VolumeKind
from emstore_adapters.hdf5 import Hdf5Adapter
from export_volumes import numbers
from sealed import seal

NANOMETERS = {"unit": "nanometer"}
OBLIQUE = Affine.of([[2.5, 0, 0.1, 3], [0, 0.6, -0.8, -1e-7], [0, 0.8, 0.6, 1e5], [0, 0, 0, 1]], Space.LPS, "millimeter")
GRIDS = {
    "irregular": Grid(
        (
            Axis("t", 3, AxisKind.TIME, positions=(0.0, 0.5, 2.0000000001), unit="second"),
            Axis("z", 4, positions=(0.1, 1.0, 1.5, 7.0), unit="micrometer"),
            Axis("y", 5, spacing=1 / 3, unit="micrometer", origin=-0.1),
            Axis("x", 6, spacing=1 / 3, unit="micrometer", origin=1e-9),
        )
    ),
    "oblique": Grid(
        (
            Axis("z", 4, spacing=2.5, unit="millimeter"),
            Axis("y", 5, spacing=1.0, unit="millimeter"),
            Axis("x", 6, spacing=1.0, unit="millimeter"),
        ),
        OBLIQUE,
    ),
    "unknown": Grid((Axis("z", 4), Axis("y", 5, unit="pixel"), Axis("x", 6, origin=3.0))),
    "partly known": Grid((Axis("z", 4), Axis("y", 5, spacing=4.0, **NANOMETERS), Axis("x", 6, spacing=4.0, **NANOMETERS))),
    "channels": Grid(
        (
            Axis("c", 3, AxisKind.CHANNEL, labels=("DAPI", "α-tubulin", "")),
            Axis("y", 5, spacing=4.0, **NANOMETERS),
            Axis("x", 6, spacing=4.0, **NANOMETERS),
        )
    ),
    "diffraction": Grid(
        (
            Axis("y", 3, spacing=0.2, **NANOMETERS),
            Axis("x", 4, spacing=0.2, **NANOMETERS),
            Axis("ky", 5, AxisKind.RECIPROCAL, spacing=0.01, unit="1/nanometer", origin=-0.02),
            Axis("kx", 6, AxisKind.RECIPROCAL, spacing=0.01, unit="1/nanometer", origin=-0.02),
        )
    ),
}
HEADER = Header(
    "Maker's own",
    {"Gerät": {"Name": "Titan ½", "list": [1, 2.5, None, "x", True]}, "positions": list(range(10_000)), "text": "word " * 40_000},
    {"instrument/ebeam_column/electron_source/voltage": quantity(300, "kilovolt"), "instrument/name": "A"},
    (RawHeader("b.hdr", lambda: bytes(range(256)) * 300), RawHeader("a b.txt", lambda: b"")),
)
RICH: dict[str, Any] = {
    "kind": VolumeKind.LABELS,
    "modality": "stem",
    "scale": ValueScale(0.1, -1024.0, "HU"),
    "window": (-10.0, 40.5),
    "attributes": {"nifti": {"sform_code": 1}, "times": [k / 7 for k in range(5000)]},
    "notes": ("a note", "another"),
}


@pytest.fixture
def lab(tmp_path: Path) -> str:
    emstore.create_store(f"{tmp_path}/lab.zarr")
    return f"{tmp_path}/lab.zarr"


def there_and_back(version: emstore.Version, lab: str, folder: Path, name: str = "back") -> emstore.Version:
    """Export a version and ingest the file."""
    export(version.volume(), folder / f"{name}.h5")
    [done] = emstore.ingest([folder / f"{name}.h5"], f"{lab}/again/{name}")
    return done.version


def assert_equal_but_for_its_making(again: emstore.Version, version: emstore.Version) -> None:
    new, old = again.volume(), version.volume()
    for what in ("name", "grid", "kind", "modality", "scale", "window", "notes", "dtype", "shape"):
        assert getattr(new, what) == getattr(old, what), what
    assert {key: value for key, value in new.attributes.items() if key != "exported_from"} == old.attributes
    assert (new.header.format, new.header.tree, new.header.terms) == (old.header.format, old.header.tree, old.header.terms)
    assert again.source() == version.source()
    assert [raw.name for raw in new.header.raw] == [raw.name for raw in old.header.raw]
    assert again.levels == version.levels
    for level in range(version.levels):
        whole = tuple(slice(0, n) for n in version.array(level).shape)
        np.testing.assert_array_equal(again.array(level)[whole], version.array(level)[whole])


@pytest.mark.parametrize("name", list(GRIDS))
@pytest.mark.parametrize("rich", [True, False], ids=["rich", "bare"])
def test_a_version_comes_back_equal(lab: str, tmp_path: Path, name: str, rich: bool) -> None:
    grid = GRIDS[name]
    values = numbers(grid.shape, "u2" if rich else "f4")
    header = HEADER if rich else Header("bare")
    version = seal(Volume("scan 1", MemoryArray(values), grid, header, **(RICH if rich else {})), f"{lab}/lab/raw")
    again = there_and_back(version, lab, tmp_path)
    assert_equal_but_for_its_making(again, version)
    assert again.volume().grid == grid
    np.testing.assert_array_equal(again.array()[tuple(slice(0, n) for n in grid.shape)], values)


@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"])
def test_every_type_comes_back_equal(lab: str, tmp_path: Path, dtype: str) -> None:
    grid = GRIDS["unknown"]
    version = seal(Volume("v", MemoryArray(numbers(grid.shape, dtype)), grid, Header("bare")), f"{lab}/lab/raw")
    assert_equal_but_for_its_making(there_and_back(version, lab, tmp_path), version)


def test_the_record_cites_the_file_and_the_file_carries_the_record_before(lab: str, tmp_path: Path) -> None:
    grid = GRIDS["oblique"]
    version = seal(Volume("v", MemoryArray(numbers(grid.shape, "u1")), grid, HEADER, **RICH), f"{lab}/lab/raw")
    again = there_and_back(version, lab, tmp_path)
    file = tmp_path / "back.h5"
    [source] = again.record.sources
    assert (source.name, source.size, source.format) == ("back.h5", file.stat().st_size, "HDF5 (emstore)")
    assert source.digest == f"blake3:{blake3(file.read_bytes()).hexdigest()}"
    assert (again.record.activity.type, again.record.activity.name) == ("ingest", "hdf5")
    assert again.id != version.id
    sealed = json.loads((Path(lab) / "lab/raw/v1/zarr.json").read_bytes())["attributes"]["emstore"]
    told = again.volume().attributes["exported_from"]
    assert told == {"id": sealed["seal"], "ref": "lab/raw/v1", "store": version.store.id, "record": sealed["record"]}
    with h5py.File(file) as opened:
        assert json.loads(opened.attrs["origin"]) == told


def test_the_command_line_carries_it_too(lab: str, tmp_path: Path) -> None:
    grid = GRIDS["irregular"]
    version = seal(Volume("v", MemoryArray(numbers(grid.shape, "u1")), grid, HEADER, **RICH), f"{lab}/lab/raw")
    assert result("export", version.ref, tmp_path / "a.hdf5")["lost"] == []
    result("ingest", tmp_path / "a.hdf5", f"{lab}/lab/again")
    again = emstore.open(f"{lab}/lab/again")
    assert_equal_but_for_its_making(again, version)
    assert again.volume().attributes["exported_from"]["id"] == version.id


def test_three_times_there_and_back_keeps_the_whole_chain(lab: str, tmp_path: Path) -> None:
    grid = GRIDS["channels"]
    version = seal(Volume("v", MemoryArray(numbers(grid.shape, "u1")), grid, HEADER, **RICH), f"{lab}/lab/raw")
    chain = [version]
    for name in ("once", "twice", "thrice"):
        chain.append(there_and_back(chain[-1], lab, tmp_path, name))
        assert_equal_but_for_its_making(chain[-1], version)
    told = chain[-1].volume().attributes["exported_from"]
    for before in reversed(chain[:-1]):
        assert told["id"] == before.id
        assert told["record"] == before.record.model_dump(mode="json")
        told = told.get("exported_from")
    assert told is None


def test_a_file_not_made_of_a_version_has_no_such_claim(lab: str, tmp_path: Path) -> None:
    grid = GRIDS["unknown"]
    export(Volume("v", MemoryArray(numbers(grid.shape, "u1")), grid, HEADER), tmp_path / "a.h5")
    [done] = emstore.ingest([tmp_path / "a.h5"], f"{lab}/lab/raw")
    assert "exported_from" not in done.version.volume().attributes
    with h5py.File(tmp_path / "a.h5") as opened:
        assert json.loads(opened.attrs["origin"]) is None


@pytest.mark.parametrize("name", list(GRIDS))
@pytest.mark.filterwarnings("error")
def test_xarray_and_h5py_read_coordinates_with_units_and_the_record(lab: str, tmp_path: Path, name: str) -> None:
    grid = GRIDS[name]
    values = numbers(grid.shape, "i2")
    version = seal(Volume("v", MemoryArray(values), grid, HEADER, **RICH), f"{lab}/lab/raw")
    export(version.volume(), tmp_path / "a.h5")
    with xr.open_dataset(tmp_path / "a.h5", engine="h5netcdf") as found:
        image = found["image"]
        assert image.dims == grid.dims
        assert image.dtype == np.int16
        assert np.array_equal(image.values, values)
        for axis in grid.axes:
            assert found[axis.name].attrs.get("units") == (axis.unit if axis.known else None)
            if axis.positions is not None:
                assert found[axis.name].values.tolist() == list(axis.positions)
            elif axis.spacing is not None:
                steps = [axis.origin + k * axis.spacing for k in range(axis.size)]
                np.testing.assert_allclose(found[axis.name].values, steps, rtol=1e-15)
        record = json.loads(found.attrs["origin"])["record"]
        assert json.loads(found.attrs["voxel"])["affine"] == (
            None if grid.affine is None else {"matrix": np.array(OBLIQUE.matrix).tolist(), "space": "LPS", "unit": "millimeter"}
        )
    assert datetime.fromisoformat(record["activity"]["ended"]) == version.record.activity.ended
    with h5py.File(tmp_path / "a.h5") as file:
        for number, axis in enumerate(grid.axes):
            assert file["image"].dims[number].label == axis.name
            assert file["image"].dims[number][0].shape == (axis.size,)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    count = draw(st.integers(1, 4))
    axes = []
    for name in ("t", "z", "y", "x")[-count:]:
        size = draw(st.integers(1, 6))
        unit = draw(st.sampled_from([None, "nanometer", "second", "furlong", "µ°"]))
        place = draw(st.sampled_from(["unknown", "spacing", "positions"]))
        number = st.floats(-1e12, 1e12)
        spacing = draw(st.floats(1e-300, 1e300)) if place == "spacing" else None
        positions = tuple(draw(st.lists(number, min_size=size, max_size=size))) if place == "positions" else None
        kind = AxisKind.TIME if name == "t" else AxisKind.SPACE
        axes.append(Axis(name, size, kind, spacing=spacing, unit=unit, origin=draw(number), positions=positions))
    affine = None
    if count >= 3 and draw(st.booleans()):
        rows = [[draw(st.floats(-1e6, 1e6)) for _ in range(4)] for _ in range(3)]
        affine = Affine.of([*rows, [0, 0, 0, 1]], draw(st.sampled_from(list(Space))), draw(st.sampled_from([None, "millimeter"])))
    return Grid(tuple(axes), affine)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
facts = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids(), tree=st.dictionaries(words, facts, max_size=3), attributes=st.dictionaries(words, facts, max_size=3))
def test_any_grid_and_header_come_back_equal(
    tmp_path: Path, grid: Grid, tree: dict[str, Any], attributes: dict[str, Any]
) -> None:

    made = Volume("v", MemoryArray(numbers(grid.shape, "u1")), grid, Header("x", tree, attributes), attributes=attributes)
    export(made, tmp_path / "a.h5", force=True)
    [read] = Hdf5Adapter().open(Source.of([tmp_path / "a.h5"]))
    assert read.grid == grid
    assert (read.header.tree, read.header.terms, read.attributes) == (tree, attributes, attributes)
    assert read.header.raw == ()


REAL = [
    "stem/test_STEM_image.dm3",
    "stem/EELS_SI.dm4",
    "stem/tia/64x64x5_TEM_preview_1.ser",
    "mri_nifti/anatomical.nii",
    "mri_nifti/example4d.nii.gz",
    "mr_dicom/emri_small/emri_small.dcm",
    "mr_dicom/multiecho",
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_come_back_equal(lab: str, tmp_path: Path, instrument_file: Callable[[str], Path], name: str) -> None:
    [first, *_] = emstore.ingest([instrument_file(name)], f"{lab}/lab/raw", take_all=True)
    again = there_and_back(first.version, lab, tmp_path)
    assert_equal_but_for_its_making(again, first.version)
    assert [s.name for s in again.record.sources] == ["back.h5"]
    told = again.volume().attributes["exported_from"]["record"]["sources"]
    assert [s["digest"] for s in told] == [s.digest for s in first.version.record.sources]
