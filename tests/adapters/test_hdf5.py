"""What the HDF5 adapter makes of each layout, against h5py's own reading and the layouts' published rules."""

import csv
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from emstore.errors import EmstoreError, Kind, SourceIncomplete, SourceUnreadable
from emstore.geometry import Affine, Axis, AxisKind, Grid, Space
from emstore.header import Header, RawHeader
from emstore.source import Source
from emstore.volume import MemoryArray, ValueScale, Volume, VolumeKind
from emstore_adapters.exporters.hdf5 import Hdf5Exporter
from emstore_adapters.hdf5 import Hdf5Adapter
from whole import everything

VALUES = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)


def read(path: Path) -> list[Volume]:
    with Source.of([path]) as source:
        return list(Hdf5Adapter().open(source))


def ignored(path: Path) -> dict[str, str]:
    with Source.of([path]) as source:
        Hdf5Adapter().open(source)
        return {entry.name.partition(":")[2]: entry.reason for entry in source.ignored}


def sniff(path: Path) -> int:
    with Source.of([path]) as source:
        return Hdf5Adapter().sniff(source.items[0])


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Callable[[h5py.File], None]], Path]:
    def write(fill: Callable[[h5py.File], None]) -> Path:
        path = tmp_path / "file.h5"
        with h5py.File(path, "w") as file:
            fill(file)
        return path

    return write


Make = Callable[[Callable[[h5py.File], None]], Path]

# --- real files ----------------------------------------------------------------------------------------------------


def test_every_dm5_of_the_manifest_is_as_the_reference_reader_says(data_dir: Path) -> None:
    with (data_dir / "MANIFEST.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["path"].endswith(".dm5")]
    assert rows
    for row in rows:
        [volume] = read(data_dir / row["path"])
        assert str(volume.shape) == row["shape"]
        assert str(volume.dtype) == row["dtype"]
        assert sniff(data_dir / row["path"]) > 90


def test_dm5_calibrations_are_in_pixels_and_fastest_first(instrument_file: Callable[[str], Path]) -> None:
    path = instrument_file("stem/nionswift_dmio/ref_F_2_1.dm5")
    [volume] = read(path)
    with h5py.File(path) as file:
        steps = file["ImageList/[0]/ImageData/Calibrations/Dimension"]
        for k, axis in enumerate(reversed(volume.grid.axes)):
            said = steps[f"[{k}]"].attrs
            assert axis.spacing == pytest.approx(float(said["Scale"]), rel=1e-6)
            assert axis.origin == pytest.approx(-float(said["Origin"]) * float(said["Scale"]), rel=1e-6)
            assert axis.unit == said["Units"].decode()  # not a unit anybody knows: kept as it is
        brightness = file["ImageList/[0]/ImageData/Calibrations/Brightness"].attrs
        scale = volume.scale
        assert scale is not None
        assert (scale.slope, scale.unit) == (float(brightness["Scale"]), "six")
        assert scale.intercept == pytest.approx(-float(brightness["Origin"]) * float(brightness["Scale"]))
    assert [axis.name for axis in volume.grid.axes] == ["energy", "y", "x"]


def test_a_step_of_one_without_a_unit_is_unknown_in_dm5(instrument_file: Callable[[str], Path]) -> None:
    [volume] = read(instrument_file("stem/nionswift_dmio/ref_F_1_1.dm5"))
    assert volume.grid.axes[1].spacing is None
    assert volume.grid.axes[0].spacing == pytest.approx(2.2)


def test_py4dstem_scan_and_pattern_axes(instrument_file: Callable[[str], Path]) -> None:
    [volume] = read(instrument_file("stem/py4DSTEM_size2x3x4x5.h5"))
    assert volume.grid.dims == ("y", "x", "ky", "kx")
    assert volume.shape == (2, 3, 4, 5)
    assert [axis.spacing for axis in volume.grid.axes] == pytest.approx([0.126796875] * 2 + [0.044251566616087125] * 2)
    assert [axis.unit for axis in volume.grid.axes] == ["nanometer"] * 2 + ["1/angstrom"] * 2
    assert volume.header.tree["datacube_root"]["metadatabundle"]["calibration"]["R_pixel_units"] == "nm"


def test_fibsem_stack_says_nothing_of_spacing(instrument_file: Callable[[str], Path]) -> None:
    [volume] = read(instrument_file("fibsem/train-image.h5"))
    assert (volume.name, volume.shape, volume.grid.dims) == ("stack", (50, 100, 200), ("z", "y", "x"))
    assert not any(axis.known for axis in volume.grid.axes)


# --- layouts -------------------------------------------------------------------------------------------------------


def test_dm5_thumbnail_is_not_a_signal_and_colours_come_first(make: Make) -> None:
    colours = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)

    def fill(file: h5py.File) -> None:
        file["ImageList/[0]/ImageData/Data"] = np.zeros((8, 8), np.uint32)
        file["ImageList/[1]/ImageData/Data"] = colours.view(np.uint32)[..., 0]
        file["ImageList/[1]/ImageData"].attrs["DataType"] = 23
        file.create_group("DocumentObjectList/[0]").attrs["ImageSource"] = 0
        file.create_group("ImageSourceList/[0]").attrs["ImageRef"] = 1
        scope = file.create_group("ImageList/[1]/ImageTags/Microscope Info")
        scope.attrs["Voltage"] = 200000.0

    path = make(fill)
    [volume] = read(path)
    assert volume.grid.dims == ("c", "y", "x")
    assert volume.grid.axes[0].labels == ("blue", "green", "red", "alpha")
    assert np.array_equal(everything(volume), np.moveaxis(colours, -1, 0))
    assert volume.header.terms["instrument/ebeam_column/electron_source/voltage"] == {"value": 200000.0, "unit": "volt"}
    assert "thumbnail" in ignored(path)["ImageList/[0]/ImageData/Data"]


def nexus(file: h5py.File) -> None:
    file.attrs["default"] = "scan2"
    for name in ("scan1", "scan2"):
        entry = file.create_group(name)
        entry.attrs.update(NX_class="NXentry", default="plot")
        plot = entry.create_group("plot")
        plot.attrs.update(NX_class="NXdata", signal="counts", axes=["frame_time", "sample_y", "sample_x"], sample_x_indices=[2])
        plot["counts"] = VALUES + (100 if name == "scan2" else 0)
        plot["counts"].attrs["units"] = "nm"
        plot["frame_time"] = np.array([0.0, 1.0, 3.0, 9.0])
        plot["frame_time"].attrs["units"] = "s"
        plot["sample_y"] = np.linspace(5.0, 7.0, 5)
        plot["sample_y"].attrs["units"] = "um"
        plot["sample_x"] = np.arange(7) * 0.25  # edges
        plot["sample_x"].attrs["units"] = "mm"
        entry["title"] = f"title of {name}"
    file["scan1/instrument/detector/dark"] = np.zeros((50, 60), np.int8)


def test_nexus_follows_default_to_signal_and_axes(make: Make) -> None:
    path = make(nexus)
    volumes = read(path)
    assert [v.name for v in volumes] == ["scan2/plot/counts", "scan1/plot/counts", "scan1/instrument/detector/dark"]
    first = volumes[0]
    assert np.array_equal(everything(first), VALUES + 100)
    time, y, x = first.grid.axes
    assert (time.name, time.kind, time.unit, time.positions) == ("t", AxisKind.TIME, "second", (0.0, 1.0, 3.0, 9.0))
    assert (y.name, y.unit, y.spacing, y.origin) == ("y", "micrometer", pytest.approx(0.5), 5.0)
    assert (x.name, x.unit, x.spacing, x.origin) == ("x", "millimeter", pytest.approx(0.25), 0.125)
    assert first.header.tree["scan2"]["title"] == "title of scan2"
    assert sniff(path) > 90


def test_old_nexus_marks_signal_and_axes_on_the_datasets(make: Make) -> None:
    def fill(file: h5py.File) -> None:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = np.bytes_("NXentry")
        data = entry.create_group("data")
        data.attrs["NX_class"] = np.bytes_("NXdata")
        file["raw/detector"] = VALUES[0]
        data["image"] = h5py.SoftLink("/raw/detector")
        file["raw/detector"].attrs["signal"] = 1
        data["x"] = np.arange(6) * 2.0
        data["x"].attrs.update(axis=2, units="nm")

    [volume] = read(make(fill))
    assert volume.name in ("entry/data/image", "raw/detector")
    assert (volume.grid.axis("x").spacing, volume.grid.axis("x").unit) == (2.0, "nanometer")
    assert not volume.grid.axis("y").known


def test_dimension_scales_and_cf_attributes(make: Make) -> None:
    def fill(file: h5py.File) -> None:
        file["packed"] = VALUES
        file["packed"].attrs.update(scale_factor=0.5, add_offset=-3.0, units="K")
        file["depth"] = np.array([1.0, 2.0, 4.0, 8.0])
        file["depth"].attrs["units"] = "m"
        file["depth"].make_scale("depth")
        file["packed"].dims[0].attach_scale(file["depth"])
        file["packed"].dims[2].label = "x"

    [volume] = read(make(fill))
    assert volume.scale == ValueScale(0.5, -3.0, "kelvin")
    assert volume.grid.axes[0].positions == (1.0, 2.0, 4.0, 8.0)
    assert (volume.grid.axes[0].unit, volume.grid.axes[0].kind) == ("meter", AxisKind.SPACE)
    assert volume.grid.axes[2].name == "x"
    assert everything(volume).dtype == np.uint16  # stored values untouched


@pytest.mark.parametrize(
    ("name", "attributes", "spacing", "unit", "origin"),
    [
        ("data", {"element_size_um": [0.3, 0.2, 0.1]}, [0.3, 0.2, 0.1], "micrometer", 0.0),
        ("volumes/raw", {"resolution": [40.0, 4.0, 4.0], "offset": [400.0, 0.0, 0.0]}, [40.0, 4.0, 4.0], "nanometer", 400.0),
        ("raw", {"resolution": [40.0, 4.0, 4.0]}, [40.0, 4.0, 4.0], None, 0.0),
        ("raw", {"resolution": [1.0, 1.0, 1.0]}, [None] * 3, None, 0.0),
        ("raw", {"resolution": [40.0, 4.0]}, [None] * 3, None, 0.0),
        ("raw", {"resolution": "fine"}, [None] * 3, None, 0.0),
    ],
)
def test_lone_attributes(
    make: Make, name: str, attributes: dict[str, Any], spacing: list[float | None], unit: str | None, origin: float
) -> None:
    def fill(file: h5py.File) -> None:
        file[name] = VALUES
        file[name].attrs.update(attributes)

    [volume] = read(make(fill))
    assert [axis.spacing for axis in volume.grid.axes] == spacing
    assert {axis.unit for axis in volume.grid.axes} == {unit}
    assert volume.grid.axes[0].origin == origin


def test_ilastik_axistags_move_channels_in_front(make: Make) -> None:
    tags = {"axes": [{"key": key, "typeFlags": 2, "resolution": 0} for key in "zyxc"]}
    values = np.arange(3 * 4 * 5 * 2, dtype=np.float32).reshape(3, 4, 5, 2)

    def fill(file: h5py.File) -> None:
        file["exported_data"] = values
        file["exported_data"].attrs["axistags"] = json.dumps(tags)

    [volume] = read(make(fill))
    assert volume.grid.dims == ("z", "c", "y", "x")
    assert np.array_equal(everything(volume), np.moveaxis(values, -1, 1))


def test_complex_colour_structs_booleans_and_byte_order(make: Make) -> None:
    colour = np.zeros((4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["G"] = 7

    def fill(file: h5py.File) -> None:
        file["a"] = (VALUES + 1j).astype(np.complex128)
        file["b"] = colour
        file["c"] = VALUES > 3
        file["d"] = VALUES.astype(">u2")

    found = {volume.name: volume for volume in read(make(fill))}
    assert np.array_equal(everything(found["a"]), VALUES + 1j)
    assert found["b"].grid.dims == ("c", "y", "x")
    assert np.array_equal(everything(found["b"])[:, 0, 0], [0, 7, 0])
    assert found["c"].dtype == bool
    assert np.array_equal(everything(found["c"]), VALUES > 3)
    assert found["d"].dtype.isnative
    assert np.array_equal(everything(found["d"]), VALUES)


def test_labels_pyramid_levels_and_short_lists(make: Make) -> None:
    def fill(file: h5py.File) -> None:
        file["t00000/s00/0/cells"] = VALUES
        file["t00000/s00/1/cells"] = VALUES[::2, ::2, ::2]
        file["volumes/labels/cells"] = VALUES.astype(np.uint64)
        file["means"] = np.arange(9.0)
        file["spectrum"] = np.arange(2048.0)

    path = make(fill)
    found = {volume.name: volume for volume in read(path)}
    assert set(found) == {"t00000/s00/0/cells", "volumes/labels/cells", "spectrum"}
    assert found["volumes/labels/cells"].kind is VolumeKind.LABELS
    left = ignored(path)
    assert "level 1" in left["t00000/s00/1/cells"]
    assert "9 numbers" in left["means"]


def test_unwritten_chunks_are_told(make: Make) -> None:
    def fill(file: h5py.File) -> None:
        stack = file.create_dataset("stack", (8, 4, 4), np.int16, chunks=(2, 4, 4), fillvalue=-1)
        stack[:4] = 5

    [volume] = read(make(fill))
    assert any("2 of 4 chunks were never written" in note for note in volume.notes)
    assert np.array_equal(np.unique(everything(volume)), [-1, 5])


def test_what_emstore_exported_comes_back_equal(tmp_path: Path) -> None:
    matrix = np.diag([3.0, 2.0, 1.0, 1.0])
    volume = Volume(
        "signal 1",
        MemoryArray(VALUES),
        Grid(
            (
                Axis("z", 4, unit="millimeter", positions=(0.0, 1.0, 3.0, 4.0)),
                Axis("y", 5, spacing=2.0, unit="millimeter"),
                Axis("x", 6),
            ),
            Affine.of(matrix, Space.LPS, "millimeter"),
        ),
        Header("Made up", {"a": {"b": [1, 2, "µ"]}}, {"instrument/name": "none"}, (RawHeader("h.bin", lambda: b"\x00\xff\x01"),)),
        kind=VolumeKind.LABELS,
        modality="ct",
        scale=ValueScale(2.0, -1024.0, "HU"),
        window=(-5.0, 9.5),
        attributes={"codes": [1, 2]},
        notes=("one", "two"),
    )
    path = tmp_path / "out.h5"
    Hdf5Exporter().write(volume, path, lambda size: None)
    [back] = read(path)
    assert sniff(path) > 90
    assert np.array_equal(everything(back), VALUES)
    for name in ("name", "grid", "kind", "modality", "scale", "window", "attributes", "notes"):
        assert getattr(back, name) == getattr(volume, name)
    assert (back.header.format, back.header.tree, back.header.terms) == ("Made up", volume.header.tree, volume.header.terms)
    assert [(raw.name, raw.read()) for raw in back.header.raw] == [("h.bin", b"\x00\xff\x01")]


def test_user_block_and_metadata_dump(tmp_path: Path) -> None:
    path = tmp_path / "block.h5"
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["image"] = VALUES
        file["image"].attrs["exposure"] = 0.25
        file["settings/mode"] = "slow"
        file.attrs["operators"] = ["a", "b"]
    assert sniff(path) == 30
    [volume] = read(path)
    tree = json.loads(volume.header.raw[0].read())
    assert tree["image@exposure"] == 0.25
    assert tree["settings"]["mode"] == "slow"
    assert tree["@operators"] == ["a", "b"]
    assert volume.header.tree == tree


# --- hostile and broken --------------------------------------------------------------------------------------------


def test_external_links_are_named_and_not_followed(make: Make, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"] = VALUES

    def fill(file: h5py.File) -> None:
        file["image"] = VALUES[0]
        file["link"] = h5py.ExternalLink("secret.h5", "/data")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["loop"] = h5py.SoftLink("/loop")
        file["deep/round"] = h5py.SoftLink("/deep")

    path = make(fill)
    assert [volume.name for volume in read(path)] == ["image"]
    left = ignored(path)
    assert "secret.h5" in left["link"]
    assert "dangling" in left


def test_only_external_links_is_an_error_that_names_them(make: Make) -> None:
    path = make(lambda file: file.__setitem__("entry/data", h5py.ExternalLink("frames_000001.h5", "/data")))
    with pytest.raises(SourceUnreadable, match=r"frames_000001\.h5"):
        read(path)


def test_values_in_other_files_are_refused(make: Make, tmp_path: Path) -> None:
    (tmp_path / "passwords").write_bytes(bytes(480))
    outside = h5py.VirtualLayout(shape=(4, 5, 6), dtype="u2")
    outside[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", shape=(4, 5, 6))
    hidden = h5py.VirtualLayout(shape=(4, 5, 6), dtype="u2")
    hidden[:] = h5py.VirtualSource(".", "/external", shape=(4, 5, 6))

    for name in ("external", "virtual", "nested"):

        def fill(file: h5py.File, name: str = name) -> None:
            file["image"] = VALUES[0]
            if name != "virtual":
                file.create_dataset("external", (4, 5, 6), "u2", external=[(str(tmp_path / "passwords"), 0, 240)])
            if name != "external":
                file.create_virtual_dataset(name, outside if name == "virtual" else hidden)

        path = make(fill)
        with pytest.raises(SourceUnreadable, match=r"not followed|not a plain dataset"):
            read(path)
        with Source.of([path], allow_partial=True) as source:
            assert [volume.name for volume in Hdf5Adapter().open(source)] == ["image"]
            assert source.skipped


def test_virtual_dataset_over_its_own_file_is_read(make: Make) -> None:
    layout = h5py.VirtualLayout(shape=(2, 5, 6), dtype="u2")
    layout[0] = h5py.VirtualSource(".", "/part0", shape=(5, 6))
    layout[1] = h5py.VirtualSource(".", "/part1", shape=(5, 6))

    def fill(file: h5py.File) -> None:
        file["part0"], file["part1"] = VALUES[0], VALUES[1]
        file.create_virtual_dataset("whole", layout)

    [volume] = [volume for volume in read(make(fill)) if volume.name == "whole"]
    assert np.array_equal(everything(volume), VALUES[:2])


def test_missing_filter_is_named(make: Make) -> None:
    def fill(file: h5py.File) -> None:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 5, 6))
        plist.set_filter(32100, h5py.h5z.FLAG_OPTIONAL, ())  # nobody's number
        space = h5py.h5s.create_simple(VALUES.shape)
        dataset = h5py.h5d.create(file.id, b"packed", h5py.h5t.NATIVE_UINT16, space, plist)
        dataset.write_direct_chunk((0, 0, 0), VALUES.tobytes())

    with pytest.raises(SourceUnreadable, match="filter 32100") as caught:
        read(make(fill))
    assert caught.value.kind is Kind.SOURCE_UNSUPPORTED


def test_tables_text_and_objects_are_ignored_by_name(make: Make) -> None:
    def fill(file: h5py.File) -> None:
        file["image"] = VALUES
        file["table"] = np.zeros(5, dtype=[("a", "f4"), ("b", "S3")])
        file["words"] = ["a", "b"]
        ragged = file.create_dataset("ragged", (3,), h5py.vlen_dtype(np.int32))
        ragged[0] = [1, 2]
        file["empty"] = np.zeros((0, 4))

    path = make(fill)
    assert [volume.name for volume in read(path)] == ["image"]
    assert set(ignored(path)) >= {"table", "words", "ragged"}


def test_imaris_is_refused_by_name(make: Make) -> None:
    def fill(file: h5py.File) -> None:
        file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"] = VALUES
        file.attrs["ImarisDataSet"] = np.frombuffer(b"ImarisDataSet", "S1")

    with pytest.raises(SourceUnreadable, match="Imaris"):
        read(make(fill))


def test_cut_off_file_says_how_much_is_there(make: Make) -> None:
    path = make(lambda file: file.__setitem__("image", VALUES))
    size = path.stat().st_size
    os.truncate(path, size - 100)
    with pytest.raises(SourceIncomplete, match=f"{size - 100} of {size} bytes"):
        read(path)


def test_huge_declared_shape_costs_nothing(make: Make) -> None:
    path = make(lambda file: file.create_dataset("big", (1 << 20, 1 << 15, 1 << 15), "u1", chunks=(16, 128, 128)) and None)
    [volume] = read(path)
    assert volume.shape == (1 << 20, 1 << 15, 1 << 15)
    assert volume.data[0:1, 0:2, 0:2].tolist() == [[[0, 0], [0, 0]]]


def test_oversized_chunks_are_refused(make: Make) -> None:
    path = make(lambda file: file.create_dataset("big", (1 << 11, 1 << 20), "u1", chunks=(1 << 11, 1 << 20)) and None)
    with pytest.raises(EmstoreError, match="chunks"):
        read(path)


def test_damaged_files_end_in_values_or_one_error(make: Make) -> None:
    def fill(file: h5py.File) -> None:
        nexus(file)
        file.create_dataset("packed", data=VALUES, chunks=(2, 5, 6), compression="gzip")
        file["text"] = "words"

    path = make(fill)
    whole = path.read_bytes()
    chance = random.Random(11)
    outcomes = {"read": 0, "refused": 0}
    for turn in range(150):
        damaged = bytearray(whole)
        for _ in range(1 + turn % 4):
            at = chance.randrange(len(damaged))
            damaged[at] ^= 1 << chance.randrange(8)
        if turn % 5 == 0:
            damaged[chance.randrange(len(damaged) - 8) :][:8] = struct.pack("<Q", chance.getrandbits(64))
        path.write_bytes(damaged)
        try:
            for volume in read(path):
                volume.data[tuple(slice(0, min(n, 8)) for n in volume.shape)]
            outcomes["read"] += 1
        except EmstoreError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0, outcomes
