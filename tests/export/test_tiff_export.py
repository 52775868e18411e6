"""TIFF as tifffile reads it, and OME-XML as its schema's models read it."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emstore
import emstore_adapters.exporters.tiff as module
from emstore.errors import InvalidInput
from emstore.export import export
from emstore.geometry import Affine, Axis, AxisKind, Grid, Space
from emstore.source import Source
from emstore.volume import ValueScale, Volume
from emstore_adapters.tiff import TiffAdapter
from export_volumes import axes, numbers, volume

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def calibrated(shape: tuple[int, int, int, int, int], kind: str) -> Volume:
    """Return t, c, z, y, x with every step known."""
    t, c, z, y, x = shape
    return volume(
        numbers(shape, kind),
        Grid(
            (
                Axis("t", t, AxisKind.TIME, spacing=40.0, unit="millisecond"),
                Axis("c", c, AxisKind.CHANNEL, labels=tuple(f"dye {i}" for i in range(c))),
                Axis("z", z, spacing=0.03, unit="micrometer"),
                Axis("y", y, spacing=9.2024, unit="nanometer"),
                Axis("x", x, spacing=9.2024, unit="nanometer"),
            )
        ),
    )


def pixels(path: Path) -> Any:
    with tifffile.TiffFile(path) as file:
        assert file.ome_metadata is not None
        found = ET.fromstring(file.ome_metadata).find(f"{OME}Image/{OME}Pixels")
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["?", "i1", "i2", "i4", "u1", "u2", "u4", "f4", "f8", "c8", "c16"])
def test_ome_tiff_keeps_values_and_steps(tmp_path: Path, kind: str) -> None:
    data = calibrated((3, 2, 4, 5, 6), kind)
    export(data, tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert (file.series[0].axes, file.series[0].shape) == ("TCZYX", (3, 2, 4, 5, 6))
        assert np.array_equal(file.asarray(), data.data[:, :, :, :, :])
    found = pixels(tmp_path / "a.ome.tif")
    steps = {name: (float(found.get(f"PhysicalSize{name}")), found.get(f"PhysicalSize{name}Unit")) for name in "XYZ"}
    assert steps == {"X": (9.2024, "nm"), "Y": (9.2024, "nm"), "Z": (0.03, "µm")}
    assert (float(found.get("TimeIncrement")), found.get("TimeIncrementUnit")) == (pytest.approx(0.04), "s")
    assert [channel.get("Name") for channel in found.findall(f"{OME}Channel")] == ["dye 0", "dye 1"]


def test_ome_xml_is_valid(tmp_path: Path) -> None:
    models = pytest.importorskip("ome_types", reason="ome-types is not installed")
    export(calibrated((3, 2, 4, 5, 6), "u2"), tmp_path / "a.ome.tiff")
    with tifffile.TiffFile(tmp_path / "a.ome.tiff") as file:
        made = models.from_xml(file.ome_metadata)
    assert made.images[0].pixels.physical_size_x_quantity.to("nm").magnitude == pytest.approx(9.2024)
    assert made.images[0].pixels.size_z == 4


def test_ome_tiff_carries_no_network_address(tmp_path: Path) -> None:
    data = volume(numbers((2, 3, 4), "u1"), "z y x")
    found = []
    for name in "ab":
        export(data, tmp_path / f"{name}.ome.tif")
        with tifffile.TiffFile(tmp_path / f"{name}.ome.tif") as file:
            assert file.ome_metadata is not None
            found.append(str(ET.fromstring(file.ome_metadata).get("UUID")))
    assert all(uuid.split("-")[2][0] == "4" for uuid in found)  # version 4: random, not made of this machine
    assert found[0] != found[1]


def test_unknown_steps_are_left_out(tmp_path: Path) -> None:
    export(volume(numbers((2, 3, 4), "u1"), "z y x"), tmp_path / "a.ome.tif")
    assert not [key for key in pixels(tmp_path / "a.ome.tif").attrib if key.startswith("PhysicalSize")]
    export(volume(numbers((2, 3, 4), "u1"), "z y x"), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.imagej_metadata is not None
        assert "unit" not in file.imagej_metadata
        assert "spacing" not in file.imagej_metadata


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_imagej_hyperstacks(tmp_path: Path, kind: str) -> None:
    data = calibrated((3, 2, 4, 5, 6), kind)
    notes = export(data, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == "TZCYX"
        assert np.array_equal(file.asarray().transpose(0, 2, 1, 3, 4), data.data[:, :, :, :, :])
        found = file.imagej_metadata
        x, y = file.pages.first.resolution
    assert found is not None
    assert (found["unit"], found["spacing"]) == ("nm", pytest.approx(30.0))
    assert found["finterval"] == pytest.approx(0.04)
    assert (1 / x, 1 / y) == (pytest.approx(9.2024, rel=1e-6), pytest.approx(9.2024, rel=1e-6))
    assert found["Labels"][:2] == ["dye 0", "dye 1"]
    assert notes == ()


def test_our_own_reader_finds_the_same_steps(tmp_path: Path) -> None:
    data = calibrated((3, 1, 4, 5, 6), "u2")
    for name in ("a.tif", "a.ome.tif"):
        export(data, tmp_path / name)
        [read] = TiffAdapter().open(Source.of([tmp_path / name]))
        assert read.grid.dims in (("t", "z", "y", "x"), ("t", "c", "z", "y", "x"))
        for axis, nanometres in (("z", 30.0), ("y", 9.2024), ("x", 9.2024)):
            found = read.grid.axis(axis)
            assert found.spacing is not None
            assert found.spacing * {"nanometer": 1, "micrometer": 1000}[str(found.unit)] == pytest.approx(nanometres, rel=1e-6)


@pytest.mark.parametrize("kind", ["i2", "f8", "c8", "?", "i8", "f2"])
def test_other_types_are_plain_pages(tmp_path: Path, kind: str) -> None:
    data = volume(numbers((3, 4, 5), kind), Grid(axes("z y x", (3, 4, 5), 2.0, "micrometer")))
    notes = export(data, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert np.array_equal(file.asarray(), data.data[:, :, :])
        assert file.series[0].dtype == np.dtype(kind)
        assert file.pages.first.resolution[0] == pytest.approx(5000.0)  # per centimetre
        assert file.shaped_metadata is not None
        assert file.shaped_metadata[0]["spacing_z"] == 2.0
    assert any("ImageJ cannot read" in note for note in notes)


def test_any_axes_before_the_page(tmp_path: Path) -> None:
    values = numbers((2, 3, 4, 5), "u2")
    export(volume(values, "energy n y x"), tmp_path / "a.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), values)


def test_large_files_are_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLASSIC_LIMIT", 100)
    for name in ("a.tif", "a.ome.tif"):
        export(volume(numbers((3, 40, 50), "u1"), "z y x"), tmp_path / name)
        with tifffile.TiffFile(tmp_path / name) as file:
            assert file.is_bigtiff
            assert np.array_equal(file.asarray(), numbers((3, 40, 50), "u1"))


@pytest.mark.parametrize(
    ("name", "values", "dims"),
    [
        ("a.ome.tif", numbers((2, 3), "i8"), "y x"),
        ("a.ome.tif", numbers((2, 3, 4), "u1"), "energy y x"),
        ("a.tif", numbers((2, 3), "f8").astype(np.longdouble), "y x"),
        ("a.tif", numbers((2, 3), "f4"), "y energy"),
    ],
)
def test_what_tiff_cannot_hold_is_refused(tmp_path: Path, name: str, values: np.ndarray[Any, Any], dims: str) -> None:
    with pytest.raises(InvalidInput, match=r"\.h5"):
        export(volume(values, dims), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_losses_are_said(tmp_path: Path, name: str) -> None:
    grid = Grid(
        (
            Axis("z", 3, positions=(0.0, 1.0, 2.5), unit="millimeter"),
            Axis("y", 4, spacing=1.0, unit="millimeter", origin=7.0),
            Axis("x", 5, spacing=1.0, unit="millimeter"),
        ),
        Affine.of(np.eye(4), Space.LPS, "millimeter"),
    )
    notes = " ".join(export(volume(numbers((3, 4, 5), "u2"), grid, scale=ValueScale(2.0, 1.0)), tmp_path / name))
    for word in ("irregular positions along z", "first sample along y", "orientation", "2.0 * stored + 1.0"):
        assert word in notes


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=5),
    st.sampled_from(["u1", "i2", "u2", "f4", "f8"]),
    st.sampled_from(["a.tif", "a.ome.tif"]),
)
def test_any_shape_and_type(tmp_path: Path, shape: list[int], kind: str, name: str) -> None:
    values = numbers(shape, kind)
    export(volume(values, " ".join(("t", "c", "z", "y", "x")[-len(shape) :])), tmp_path / name, force=True)
    with tifffile.TiffFile(tmp_path / name) as file:
        found = file.asarray()
        order = [letter for letter in "TCZYX"[-len(shape) :] if letter in file.series[0].axes]
        if file.is_imagej or file.is_ome:  # axes of size 1 are left out, the others named
            found = found.transpose([file.series[0].axes.index(letter) for letter in order])
    assert np.array_equal(found.reshape(shape), values)


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("labels", [("red", "green", "blue"), ("R", "G", "B"), ("red", "green", "blue", "alpha")])
@pytest.mark.parametrize("dims", ["c y x", "c z y x", "t c z y x"])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_colours_are_samples_of_rgb_pixels(tmp_path: Path, kind: str, labels: tuple[str, ...], dims: str, name: str) -> None:
    sizes = {"t": 2, "c": len(labels), "z": 3, "y": 5, "x": 6}
    steps = {"t": (40.0, "millisecond", AxisKind.TIME), "c": (None, None, AxisKind.CHANNEL)}
    made = []
    for axis in dims.split():
        step, unit, sort = steps.get(axis, (2.0, "micrometer", AxisKind.SPACE))
        made.append(Axis(axis, sizes[axis], sort, spacing=step, unit=unit, labels=labels if axis == "c" else None))
    values = numbers([sizes[axis] for axis in dims.split()], kind)
    affine = Affine.of(np.eye(4), Space.LPS, "millimeter") if dims.endswith("z y x") else None
    export(volume(values, Grid(tuple(made), affine)), tmp_path / name)
    with tifffile.TiffFile(tmp_path / name) as file:
        page = file.pages.first
        assert (page.photometric, page.planarconfig, page.samplesperpixel) == (2, 1, len(labels))
        assert page.extrasamples == ((2,) if len(labels) == 4 else ())
        assert len(file.pages) == values.size // (30 * len(labels))
        assert np.array_equal(np.moveaxis(file.asarray(), -1, dims.split().index("c")), values)
        assert page.resolution[0] == pytest.approx(0.5 if file.is_imagej else 5000.0)
        assert file.is_imagej == (name == "a.tif" and kind == "u1" and len(labels) == 3)
    if name == "a.ome.tif":
        [channel] = pixels(tmp_path / name).findall(f"{OME}Channel")
        assert channel.get("SamplesPerPixel") == str(len(labels))


@pytest.mark.parametrize(("kind", "labels"), [("f4", ("red", "green", "blue")), ("u1", ("blue", "green", "red")), ("u1", None)])
def test_other_channels_stay_pages(tmp_path: Path, kind: str, labels: tuple[str, ...] | None) -> None:
    values = numbers((3, 5, 6), kind)
    grid = Grid((Axis("c", 3, AxisKind.CHANNEL, labels=labels), Axis("y", 5), Axis("x", 6)))
    export(volume(values, grid), tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert (file.pages.first.photometric, len(file.pages)) == (1, 3)
        assert np.array_equal(file.asarray(), values)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_a_colour_file_comes_back_in_colour(data_dir: Path, tmp_path: Path, name: str) -> None:
    path = data_dir / "fibsem/rife3dtom_input/img_00.tif"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    emstore.create_store(str(tmp_path / "lab.zarr"))
    [made] = emstore.ingest([path], f"{tmp_path}/lab.zarr/d/a")
    export(made.version.volume(), tmp_path / name)
    with tifffile.TiffFile(tmp_path / name) as file:
        assert (file.pages.first.photometric, len(file.pages)) == (2, 1)
        assert np.array_equal(file.asarray(), tifffile.imread(path))
