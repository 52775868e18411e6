"""TIFF: values equal tifffile's, pixel sizes RosettaSciIO's, and what is missing or mixed is named."""

import itertools
import math
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emstore.errors import EmstoreError, Kind, SourceIncomplete, SourceUnreadable
from emstore.geometry.units import convert
from emstore.source import Source
from emstore.testing import AdapterConformance, Sample
from emstore.volume import Volume
from emstore_adapters.tiff import TiffAdapter

RNG = np.random.default_rng(7)


def open_all(*paths: Path, **kwargs: Any) -> list[Volume]:
    source = Source.of(paths, **kwargs)
    assert all(TiffAdapter().sniff(item) > 0 for item in source.items)
    return list(TiffAdapter().open(source))


def open_one(*paths: Path, **kwargs: Any) -> Volume:
    [volume] = open_all(*paths, **kwargs)
    return volume


def everything(volume: Volume) -> np.ndarray:
    return volume.data[tuple(slice(0, n) for n in volume.shape)]


@pytest.fixture(scope="session")
def vendor_files(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("vendor")
    archives = sorted((data_dir / "fibsem").glob("*.zip"))
    for archive in archives:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder / archive.stem)
    files = sorted(folder.rglob("*.tif")) + sorted((data_dir / "fibsem").glob("*.tif"))
    assert len(files) >= 13
    return files


def test_vendor_files_equal_tifffile(vendor_files: list[Path]) -> None:
    for path in vendor_files:
        expected = tifffile.imread(path)
        volume = open_one(path)
        if "c" in volume.grid.dims:
            expected = np.moveaxis(expected, -1, 0)
        assert volume.dtype == expected.dtype.newbyteorder("="), path.name
        assert np.array_equal(everything(volume), expected), path.name


def test_pixel_sizes_equal_rosettasciio(vendor_files: list[Path]) -> None:
    reader = pytest.importorskip("rsciio.tiff").file_reader
    compared = 0
    for path in vendor_files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            [expected] = reader(str(path))
        axes = {axis["name"]: axis for axis in expected["axes"]}
        volume = open_one(path)
        for name, ours in (("width", "x"), ("height", "y")):
            theirs, axis = axes[name], volume.grid.axis(ours)
            if theirs["units"] is None:
                assert axis.spacing is None, path.name
                continue
            assert axis.spacing is not None, path.name
            assert axis.unit is not None
            # It takes the field of a navigation camera crosswise: 3e-6 apart.
            assert convert(axis.spacing, axis.unit, theirs["units"]) == pytest.approx(theirs["scale"], rel=1e-5), path.name
            compared += 1
    assert compared >= 16


@pytest.mark.parametrize(
    ("name", "metres"),
    [
        ("test_tiff_Zeiss_SEM_1k.tif", 2.615e-6),
        ("test_tiff_Zeiss_SEM_512pix.tif", 5.965e-6 / 512),
        ("ZEISS_SEM_multipage.tif", 12.33e-9),
    ],
)
def test_zeiss_pixel_size_is_of_the_stored_image(vendor_files: list[Path], name: str, metres: float) -> None:
    # The microscope's own rounded figures: "Image Pixel Size", or "Width" over columns.
    axis = open_one(next(p for p in vendor_files if p.name == name)).grid.axis("x")
    assert axis.unit == "meter"
    assert axis.spacing == pytest.approx(metres, rel=1e-3)


def test_instrument_terms(vendor_files: list[Path]) -> None:
    named = {path.name: path for path in vendor_files}
    zeiss = open_one(named["test_tiff_Zeiss_SEM_1k.tif"])
    assert zeiss.modality == "sem"
    assert zeiss.header.terms["instrument/ebeam_column/electron_source/voltage"] == {"value": 25.0, "unit": "kilovolt"}
    assert zeiss.header.terms["instrument/detector/name"] == "HE-SE2"
    fei = open_one(named["FEI-Helios-Ebeam-8bits.tif"])
    assert fei.header.terms["instrument/ebeam_column/electron_source/voltage"] == {"value": 5000.0, "unit": "volt"}
    assert fei.header.terms["instrument/scan_controller/dwell_time"] == {"value": 1e-5, "unit": "second"}
    assert fei.header.terms["instrument/optics/beam_current"] == {"value": 6.25e-12, "unit": "ampere"}
    assert open_one(named["TVIPS_bin4.tif"]).modality == "tem"


def test_gatan_stack_runs_over_time(vendor_files: list[Path]) -> None:
    volume = open_one(next(p for p in vendor_files if "DM_stack" in p.name))
    assert [(a.name, a.spacing, a.unit) for a in volume.grid.axes] == [
        ("t", 2.5, "second"),
        ("y", 1.6867400407791138, "micrometer"),
        ("x", 0.16867400705814362, "micrometer"),
    ]


def test_imagej_stack(vendor_files: list[Path]) -> None:
    volume = open_one(next(p for p in vendor_files if "imageJ_stack" in p.name))
    assert [(a.name, a.unit) for a in volume.grid.axes] == [("z", "micrometer"), ("y", "micrometer"), ("x", "micrometer")]
    assert [a.spacing for a in volume.grid.axes] == pytest.approx([2.5, 1e6 / 5928571, 1e6 / 5928571])


def test_folder_of_real_colour_slices(data_dir: Path) -> None:
    folder = data_dir / "fibsem" / "rife3dtom_input"
    expected = np.stack([tifffile.imread(path) for path in sorted(folder.iterdir())])
    volume = open_one(folder)
    assert volume.grid.dims == ("c", "z", "y", "x")
    assert np.array_equal(everything(volume), np.moveaxis(expected, -1, 0))
    assert np.array_equal(volume.data[1:2, 2:4, 7:99, 100:301], np.moveaxis(expected, -1, 0)[1:2, 2:4, 7:99, 100:301])
    assert len(volume.files) == 5
    assert all(axis.spacing is None for axis in volume.grid.axes)


# ---------------------------------------------------------------------------------------------- any file


@st.composite
def pictures(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    dtype = np.dtype(draw(st.sampled_from(["u1", "i1", "u2", "i2", "u4", "f2", "f4", "f8", "c8"])))
    shape = tuple(draw(st.lists(st.integers(2, 40), min_size=2, max_size=4)))
    colour = dtype.kind == "u" and dtype.itemsize < 4 and draw(st.booleans())
    planar = colour and draw(st.booleans())
    if colour:
        shape = (*shape[:-2], 3, *shape[-2:]) if planar else (*shape, 3)
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 255, (*shape, dtype.itemsize), dtype=np.uint8)
    options: dict[str, Any] = {
        "compression": draw(st.sampled_from([None, "zlib", "lzw", "zstd", "lzma", "packbits"])),
        "byteorder": draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
        "photometric": "rgb" if colour else "minisblack",
        "metadata": draw(st.sampled_from([None, {}])),
    }
    if colour:
        options["planarconfig"] = "separate" if planar else "contig"
    if draw(st.booleans()):
        options["tile"] = (16, 32)
    elif draw(st.booleans()):
        options["rowsperstrip"] = draw(st.integers(1, 20))
    if options["compression"] in ("zlib", "lzw", "zstd") and dtype.kind in "ui":
        options["predictor"] = draw(st.booleans())
    return values.view(dtype)[..., 0], options


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(pictures(), st.data())
def test_any_region_of_any_file(tmp_path: Path, made: tuple[np.ndarray, dict[str, Any]], data: st.DataObject) -> None:
    values, options = made
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, **options)
    volume = open_one(path)
    with tifffile.TiffFile(path) as file:
        [series] = file.series
        stored, letters = series.asarray(), series.axes
    if "S" in letters:
        stored = np.moveaxis(stored, letters.index("S"), volume.grid.dims.index("c"))
    assert volume.shape == stored.shape
    for _ in range(3):
        region = []
        for n in stored.shape:
            start = data.draw(st.integers(0, n - 1))
            region.append(slice(start, data.draw(st.integers(start + 1, n))))
        got = volume.data[tuple(region)]
        assert got.dtype == values.dtype
        assert got.tobytes() == np.ascontiguousarray(stored[tuple(region)]).astype(values.dtype).tobytes()


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp", "png", "jpegxl", "deflate"])
def test_image_codecs(tmp_path: Path, compression: str) -> None:
    values = RNG.integers(0, 255, (3, 64, 80, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, compression=compression, photometric="rgb", tile=(32, 32), metadata=None)
    expected = np.moveaxis(tifffile.imread(tmp_path / "a.tif"), -1, 0)
    volume = open_one(tmp_path / "a.tif")
    assert np.array_equal(everything(volume), expected)
    assert np.array_equal(volume.data[0:2, 1:2, 20:50, 31:33], expected[0:2, 1:2, 20:50, 31:33])
    assert volume.data.block == (3, 1, 32, 32)


def test_one_bit_images_are_booleans(tmp_path: Path) -> None:
    values = RNG.random((30, 41)) > 0.5
    tifffile.imwrite(tmp_path / "a.tif", values, rowsperstrip=7)
    volume = open_one(tmp_path / "a.tif")
    assert volume.dtype == np.bool_
    assert np.array_equal(everything(volume), values)


# ---------------------------------------------------------------------------------------------- pixel sizes


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((72, 72), "inch", None), ((96, 96), "inch", None), ((300, 300), "inch", None), ((1, 1), "none", None),
        ((118.11, 118.11), "centimeter", None), ((1, 1), "centimeter", None), ((5, 5), "none", None),
        ((1e6, 1e6), "centimeter", (1e-6, "centimeter")), ((25400, 25400), "inch", (1 / 25400, "inch")),
    ],
)  # fmt: skip
def test_print_settings_are_no_pixel_size(
    tmp_path: Path, resolution: tuple[float, float], unit: str, expected: tuple[float, str] | None
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), "u1"), resolution=resolution, resolutionunit=unit, metadata=None)
    axis = open_one(tmp_path / "a.tif").grid.axis("x")
    if expected is None:
        assert (axis.spacing, axis.unit) == (None, None)
    else:
        assert axis.spacing == pytest.approx(expected[0])
        assert axis.unit == expected[1]


def test_imagej_hyperstack(tmp_path: Path) -> None:
    values = RNG.integers(0, 999, (2, 3, 4, 5, 6), dtype=np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", values, imagej=True, resolution=(4, 4),
        metadata={"axes": "TZCYX", "spacing": 3.5, "unit": "um", "finterval": 0.25},
    )  # fmt: skip
    volume = open_one(tmp_path / "a.tif")
    assert np.array_equal(everything(volume), values.swapaxes(1, 2))
    assert [(a.name, a.spacing, a.unit) for a in volume.grid.axes] == [
        ("t", 0.25, "second"), ("c", None, None), ("z", 3.5, "micrometer"), ("y", 0.25, "micrometer"), ("x", 0.25, "micrometer"),
    ]  # fmt: skip


def test_imagej_without_unit_is_unknown(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((3, 4, 5), "u2"), imagej=True, resolution=(4, 4), metadata={"axes": "ZYX", "spacing": 3.5}
    )
    assert [a.spacing for a in open_one(tmp_path / "a.tif").grid.axes] == [None, None, None]


def test_ome(tmp_path: Path) -> None:
    values = RNG.integers(0, 999, (2, 3, 4, 5, 6), dtype=np.uint16)
    facts = {
        "axes": "TCZYX", "PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.004, "PhysicalSizeZ": 1,
        "PhysicalSizeZUnit": "Å", "TimeIncrement": 30, "TimeIncrementUnit": "ms", "Channel": {"Name": ["DAPI", "GFP", "BSE"]},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", values, metadata=facts)
    volume = open_one(tmp_path / "a.ome.tif")
    assert np.array_equal(everything(volume), values)
    assert [(a.name, a.spacing, a.unit) for a in volume.grid.axes] == [
        ("t", 30.0, "millisecond"), ("c", None, None), ("z", 1.0, "angstrom"), ("y", 0.004, "micrometer"),
        ("x", 4.0, "nanometer"),
    ]  # fmt: skip
    assert volume.grid.axis("c").labels == ("DAPI", "GFP", "BSE")
    assert volume.name == "a"


def test_several_images_in_one_file(tmp_path: Path) -> None:
    one, two = RNG.integers(0, 9, (3, 8, 9), dtype=np.uint8), RNG.integers(0, 9, (16, 5), dtype=np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as out:
        out.write(one, metadata={"axes": "ZYX", "Name": "stack", "PhysicalSizeX": 2.0})
        out.write(two, metadata={"axes": "YX", "Name": "overview", "PhysicalSizeX": 7.0})
    first, second = open_all(tmp_path / "a.ome.tif")
    assert (first.name, second.name) == ("stack", "overview")
    assert np.array_equal(everything(first), one)
    assert np.array_equal(everything(second), two)
    assert (first.grid.axis("x").spacing, second.grid.axis("x").spacing) == (2.0, 7.0)


def ome_set(folder: Path, values: np.ndarray, names: tuple[str, str]) -> None:
    """Write a stack as an OME-TIFF set of one plane per file."""
    planes = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    y, x = values.shape[1:]
    for z, name in enumerate(names):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{z}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
            f'SizeX="{x}" SizeY="{y}" SizeZ="{len(values)}" SizeC="1" SizeT="1"><Channel ID="Channel:0:0"/>{planes}'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite((folder / name).resolve(), values[z], description=xml, metadata=None)


def test_ome_set_over_several_files(tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (2, 8, 9), dtype=np.uint8)
    ome_set(tmp_path, values, ("p0.ome.tif", "p1.ome.tif"))
    for start in (tmp_path, tmp_path / "p0.ome.tif"):
        volume = open_one(start)
        assert volume.grid.dims == ("z", "y", "x")
        assert np.array_equal(everything(volume), values)
        assert [path.name for path in volume.files] == ["p0.ome.tif", "p1.ome.tif"]


def test_ome_set_must_not_leave_its_folder(tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (2, 8, 9), dtype=np.uint8)
    inner = tmp_path / "inner"
    inner.mkdir()
    ome_set(inner, values, ("p0.ome.tif", "../p1.ome.tif"))
    with pytest.raises(SourceUnreadable, match="outside"):
        open_all(inner / "p0.ome.tif")


def test_only_the_full_level_of_a_pyramid(tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (64, 80), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        out.write(values, subifds=1, tile=(16, 16))
        out.write(values[::2, ::2], subfiletype=1, tile=(16, 16))
    volume = open_one(tmp_path / "a.tif")
    assert np.array_equal(everything(volume), values)
    assert any("32x40" in note for note in volume.notes)


def test_palette_and_inverted_values_are_kept_and_told(tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (6, 7), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    colours = RNG.integers(0, 65535, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "b.tif", values, photometric="palette", colormap=colours)
    for name, word in (("a.tif", "miniswhite"), ("b.tif", "colour table")):
        volume = open_one(tmp_path / name)
        assert np.array_equal(everything(volume), values)
        assert any(word in note for note in volume.notes)


# ---------------------------------------------------------------------------------------------- folders


def write_slices(folder: Path, values: np.ndarray, **options: Any) -> list[Path]:
    folder.mkdir(exist_ok=True, parents=True)
    paths = [folder / f"slice_{i}.tif" for i in range(len(values))]
    for path, one in zip(paths, values, strict=True):
        tifffile.imwrite(path, one, **options)
    return paths


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib", "rowsperstrip": 3}, {"byteorder": ">"}, {"tile": (16, 16)}, {"bigtiff": True}]
)
def test_folder_is_one_stack_in_natural_order(tmp_path: Path, options: dict[str, Any]) -> None:
    values = RNG.integers(0, 999, (12, 20, 30), dtype=np.uint16)
    write_slices(tmp_path / "run", values, **options)
    volume = open_one(tmp_path / "run")
    assert volume.name == "run"
    assert volume.grid.dims == ("z", "y", "x")
    assert np.array_equal(everything(volume), values)
    assert np.array_equal(volume.data[3:11, 5:6, 7:29], values[3:11, 5:6, 7:29])
    assert not any("gap" in note for note in volume.notes)


def test_slices_may_be_coded_differently(tmp_path: Path) -> None:
    values = RNG.integers(0, 999, (4, 20, 30), dtype=np.uint16)
    coded: list[dict[str, Any]] = [
        {},
        {"compression": "lzw"},
        {"byteorder": ">", "rowsperstrip": 4},
        {"tile": (16, 16), "bigtiff": True},
    ]
    for i, options in enumerate(coded):
        tifffile.imwrite(tmp_path / f"{i}.tif", values[i], **options)
    assert np.array_equal(everything(open_one(tmp_path)), values)


@pytest.mark.parametrize(
    ("odd", "word"),
    [(np.zeros((20, 31), "u2"), "shape"), (np.zeros((20, 30), "u1"), "type"), (np.zeros((20, 30, 3), "u2"), "shape"),
     (np.zeros((2, 20, 30), "u2"), "several pages")],
)  # fmt: skip
def test_mismatched_slice_is_named(tmp_path: Path, odd: np.ndarray, word: str) -> None:
    values = RNG.integers(0, 999, (6, 20, 30), dtype=np.uint16)
    paths = write_slices(tmp_path, values)
    tifffile.imwrite(paths[3], odd, photometric="rgb" if odd.shape[-1] == 3 else "minisblack", metadata=None)
    with pytest.raises(SourceUnreadable, match=word) as caught:
        open_all(tmp_path)
    assert caught.value.kind is Kind.SOURCE_INCONSISTENT
    assert caught.value.where == "slice_3.tif"
    source = Source.of([tmp_path], allow_partial=True)
    [volume] = TiffAdapter().open(source)
    assert np.array_equal(everything(volume), np.delete(values, 3, axis=0))
    assert [skipped.name for skipped in source.skipped] == ["slice_3.tif"]
    assert any("3 missing between slice_2.tif and slice_4.tif" in note for note in volume.notes)


def test_cut_slice_is_named(tmp_path: Path) -> None:
    values = RNG.integers(0, 999, (6, 20, 30), dtype=np.uint16)
    paths = write_slices(tmp_path, values)
    paths[4].write_bytes(paths[4].read_bytes()[:-1])
    with pytest.raises(SourceIncomplete, match="4 slices before it are good") as caught:
        open_all(tmp_path)
    assert caught.value.where == "slice_4.tif"
    assert open_one(tmp_path, allow_partial=True).shape == (5, 20, 30)


def test_missing_number_is_noted(tmp_path: Path) -> None:
    for number in (1, 2, 3, 6, 7, 9):
        tifffile.imwrite(tmp_path / f"z{number:03}.tif", np.zeros((4, 5), "u1"))
    notes = open_one(tmp_path).notes
    assert any("4 to 5 missing between z003.tif and z006.tif" in note for note in notes)
    assert any("8 missing between z007.tif and z009.tif" in note for note in notes)


def test_folders_inside_are_stacks_of_their_own(tmp_path: Path) -> None:
    one, two = RNG.integers(0, 9, (3, 4, 5), dtype=np.uint8), RNG.integers(0, 9, (2, 6, 7), dtype=np.uint8)
    write_slices(tmp_path / "BSE", one)
    write_slices(tmp_path / "SE", two)
    volumes = {volume.name: volume for volume in open_all(tmp_path)}
    assert np.array_equal(everything(volumes["BSE"]), one)
    assert np.array_equal(everything(volumes["SE"]), two)


def test_unrelated_pictures_stay_apart(tmp_path: Path) -> None:
    pictures = {"overview": np.zeros((4, 5), "u1"), "detail": np.ones((6, 7), "u1"), "lamella": np.ones((6, 7), "u2")}
    for name, values in pictures.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", values)
    found = {volume.name: everything(volume) for volume in open_all(tmp_path)}
    assert found.keys() == pictures.keys()
    assert all(np.array_equal(found[name], values) for name, values in pictures.items())


def test_stacks_in_a_folder_stay_apart(tmp_path: Path) -> None:
    values = RNG.integers(0, 9, (2, 3, 4, 5), dtype=np.uint8)
    for i in range(2):
        tifffile.imwrite(tmp_path / f"t{i}.tif", values[i], photometric="minisblack")
    volumes = open_all(tmp_path)
    assert [volume.name for volume in volumes] == ["t0", "t1"]
    assert all(np.array_equal(everything(volume), one) for volume, one in zip(volumes, values, strict=True))


def test_first_slice_speaks_for_the_pixel_size(tmp_path: Path) -> None:
    values = np.zeros((3, 4, 5), "u1")
    paths = write_slices(tmp_path, values, resolution=(1e6, 1e6), resolutionunit="centimeter", metadata=None)
    assert open_one(tmp_path).grid.axis("x").spacing == pytest.approx(1e-6)
    tifffile.imwrite(paths[2], values[0], resolution=(2e6, 2e6), resolutionunit="centimeter", metadata=None)
    assert any("slice_2.tif" in note for note in open_one(tmp_path).notes)


def test_reading_a_slice_opens_only_its_file(tmp_path: Path) -> None:
    values = RNG.integers(0, 99, (5, 20, 30), dtype=np.uint8)
    paths = write_slices(tmp_path, values)
    volume = open_one(tmp_path)
    for path in paths[:2] + paths[3:]:
        path.unlink()
    assert np.array_equal(volume.data[2:3, 0:20, 0:30], values[2:3])
    with pytest.raises(SourceUnreadable, match=r"slice_3\.tif"):
        volume.data[3:4, 0:20, 0:30]


# ---------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 16)}, {"rowsperstrip": 5}, {"bigtiff": True}])
def test_raw_header_and_image_make_the_file(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RNG.integers(0, 99, (3, 40, 50), dtype=np.uint16), photometric="minisblack", metadata=None, **options)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        spans = sorted((o, o + n) for page in file.pages for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
    expected, at = b"", 0
    for start, stop in spans:
        expected, at = expected + content[at:start], stop
    [raw] = open_one(path).header.raw
    assert raw.read() == expected + content[at:]


def test_imagej_raw_header_leaves_the_images_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = RNG.integers(0, 99, (9, 40, 50), dtype=np.uint16)
    tifffile.imwrite(path, values, imagej=True, metadata={"axes": "ZYX"})
    [raw] = open_one(path).header.raw
    assert len(raw.read()) == path.stat().st_size - values.nbytes


def test_headers_of_a_folder_are_one_archive(tmp_path: Path) -> None:
    values = np.zeros((3, 4, 5), "u1")
    paths = write_slices(tmp_path / "run", values, description="from the microscope", metadata=None)
    [raw] = open_one(tmp_path / "run").header.raw
    (tmp_path / raw.name).write_bytes(raw.read())
    assert raw.read() == raw.read()
    with zipfile.ZipFile(tmp_path / raw.name) as archive:
        assert archive.namelist() == [path.name for path in paths]
        for path in paths:
            header = archive.read(path.name)
            assert b"from the microscope" in header
            assert len(header) == path.stat().st_size - values[0].nbytes


# ---------------------------------------------------------------------------------------------- damaged and hostile


@pytest.mark.parametrize("how", ["imagej", "ome", "pages", "compressed"])
def test_cut_stacks_say_how_much_is_good(tmp_path: Path, how: str) -> None:
    values = RNG.integers(0, 255, (10, 30, 40), dtype=np.uint8)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, imagej=how == "imagej", ome=how == "ome") as out:
        if how in ("imagej", "ome"):
            out.write(values, photometric="minisblack", metadata={"axes": "ZYX"})
        else:
            for one in values:
                out.write(one, contiguous=False, compression="zlib" if how == "compressed" else None, metadata=None)
    content = path.read_bytes()
    assert np.array_equal(everything(open_one(path)), values)
    path.write_bytes(content[: len(content) * 7 // 10])
    with pytest.raises(SourceIncomplete, match=r"\d+ (of \d+ )?(pages|images)") as caught:
        open_all(path)
    assert caught.value.where == path.name
    volume = open_one(path, allow_partial=True)
    assert how != "imagej" or any("tifffile" in note for note in volume.notes)
    whole = everything(volume)
    if how == "ome":  # what ties the pages together stood at the end
        whole = whole[np.newaxis]
    assert len(whole) in ((1,) if how == "ome" else (6, 7))
    assert np.array_equal(whole, values[: len(whole)])


def test_circular_chain(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 5), "u1"), metadata=None)
    content = bytearray(path.read_bytes())
    first = struct.unpack("<I", content[4:8])[0]
    entries = struct.unpack("<H", content[first : first + 2])[0]
    content[first + 2 + 12 * entries :][:4] = b""
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable, match="circle"):
        open_all(path)


def hand_made(path: Path, tags: dict[int, tuple[int, int, int]], tail: bytes = b"") -> Path:
    """Write a little-endian TIFF of one directory: code -> (type, count, value)."""
    body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", code, *tags[code]) for code in sorted(tags))
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0) + tail)
    return path


PLAIN = {
    256: (4, 1, 10), 257: (4, 1, 10), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 200), 277: (3, 1, 1),
    278: (4, 1, 10), 279: (4, 1, 100),
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {256: (4, 1, 2**31), 257: (4, 1, 2**31), 278: (4, 1, 2**31)},
        {256: (4, 1, 2**31), 257: (4, 1, 2**31), 278: (4, 1, 2**31), 259: (3, 1, 8)},
        {256: (4, 1, 100_000), 257: (4, 1, 100_000), 278: (4, 1, 1), 259: (3, 1, 5)},
        {256: (4, 1, 0)},
        {257: (4, 1, 0)},
        {258: (3, 1, 8), 339: (3, 1, 5)},
        {273: (4, 2**30, 8), 279: (4, 2**30, 8)},
        {273: (4, 1, 2**32 - 1)},
        {279: (4, 1, 0)},
        {278: (4, 1, 0)},
        {277: (3, 1, 60000)},
        {322: (4, 1, 2**30), 323: (4, 1, 2**30), 324: (4, 1, 200), 325: (4, 1, 100)},
        {259: (3, 1, 4242)},
        {259: (3, 1, 5)},
        {330: (4, 1, 8)},
    ],
)
def test_hostile_directories_end_in_one_clear_error(tmp_path: Path, changes: dict[int, tuple[int, int, int]]) -> None:
    path = hand_made(tmp_path / "a.tif", PLAIN | changes, RNG.bytes(400))
    message = "a.tif"
    try:
        volumes = open_all(path)
        for volume in volumes:
            assert math.prod(volume.shape) < 1 << 24
            everything(volume)
    except EmstoreError as error:
        message = str(error)
    else:
        # A single strip without a size, or an empty directory beside the image: what tifffile reads, we read.
        assert set(changes) in ({278}, {279}, {330})
        assert np.array_equal(everything(volumes[0]), tifffile.imread(path))
    assert "a.tif" in message


def test_strips_without_a_size_are_missing(tmp_path: Path) -> None:
    # Two packed strips, but the table of sizes has an entry for the first only.
    strip = zlib.compress(bytes(50))
    changes = {259: (3, 1, 8), 278: (4, 1, 5), 273: (4, 2, 300), 279: (4, 1, len(strip))}
    path = hand_made(tmp_path / "a.tif", PLAIN | changes)
    start = path.stat().st_size
    path.write_bytes(path.read_bytes() + bytes(300 - start) + struct.pack("<II", 308, 308) + strip)
    [volume] = open_all(path)
    assert not volume.data[0:5, :].any()
    with pytest.raises(SourceIncomplete, match="strip or tile 1 is missing"):
        everything(volume)


def test_no_pages(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(4))
    with pytest.raises(SourceUnreadable, match="no pages"):
        open_all(tmp_path / "a.tif")


def test_damaged_bytes_never_surprise(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", RNG.integers(0, 9, (2, 16, 16), dtype=np.uint8), compression="zlib", photometric="minisblack"
    )
    content, unnamed = (tmp_path / "a.tif").read_bytes(), 0
    for seed, at in itertools.product(range(3), range(0, min(len(content), 400), 3)):
        broken = bytearray(content)
        broken[at] = np.random.default_rng((seed, at)).integers(0, 256)
        (tmp_path / "b.tif").write_bytes(broken)
        source = Source.of([tmp_path / "b.tif"])
        if not TiffAdapter().sniff(source.items[0]):
            continue
        try:
            for volume in TiffAdapter().open(source):
                if volume.nbytes < 1 << 24:
                    everything(volume)
        except EmstoreError as error:
            unnamed += "b.tif" not in str(error)
    assert not unnamed


class TestFiles(AdapterConformance):
    adapter = TiffAdapter
    raw_verbatim = False  # strips are cut out of the header, and a folder's headers are one archive

    @staticmethod
    def files(folder: Path) -> list[Path]:
        rng = np.random.default_rng(3)
        one = folder / "one.tif"
        tifffile.imwrite(
            one, rng.integers(0, 99, (40, 41, 3), dtype=np.uint8), photometric="rgb", compression="zlib", rowsperstrip=8
        )
        stack = folder / "stack.tif"
        with tifffile.TiffWriter(stack) as out:
            for _ in range(6):
                out.write(rng.integers(0, 99, (30, 41), dtype=np.uint16), metadata=None, contiguous=False, compression="lzw")
        large = folder / "large.tif"
        tifffile.imwrite(large, rng.integers(0, 99, (20, 1024, 2048), dtype=np.uint8), photometric="minisblack")
        tiled = folder / "tiled.tif"
        tifffile.imwrite(tiled, rng.integers(0, 99, (4096, 8192), dtype=np.uint8), tile=(256, 256), compression="zstd")
        write_slices(folder / "slices", rng.integers(0, 99, (20, 1024, 2048), dtype=np.uint8))
        return [one, stack, large, tiled, folder / "slices"]

    def reference(self, sample: Sample) -> dict[str, np.ndarray]:
        path = sample.paths[0]
        if path.is_dir():
            return {path.name: np.stack([tifffile.imread(p) for p in sorted(path.iterdir(), key=lambda p: int(p.stem[6:]))])}
        values = tifffile.imread(path)
        return {path.stem: np.moveaxis(values, -1, 0) if path.stem == "one" else values}


@pytest.mark.parametrize(
    ("samples", "extra", "labels"),
    [
        (3, None, ("red", "green", "blue")),
        (4, "unassalpha", ("red", "green", "blue", "alpha")),
        (4, "unspecified", ("red", "green", "blue", "extra")),
    ],
)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_samples_of_rgb_pixels_are_named(
    tmp_path: Path, samples: int, extra: str | None, labels: tuple[str, ...], planar: str, name: str
) -> None:
    values = RNG.integers(0, 255, (40, 41, samples) if planar == "contig" else (samples, 40, 41), dtype=np.uint8)
    tifffile.imwrite(
        tmp_path / name, values, photometric="rgb", planarconfig=planar, extrasamples=None if extra is None else [extra]
    )
    assert open_one(tmp_path / name).grid.axis("c").labels == labels


def test_slices_in_colour_name_it(tmp_path: Path) -> None:
    for k in range(3):
        tifffile.imwrite(tmp_path / f"s{k}.tif", RNG.integers(0, 255, (40, 41, 3), dtype=np.uint8), photometric="rgb")
    assert open_one(tmp_path).grid.axis("c").labels == ("red", "green", "blue")


def test_channels_that_are_no_colours_get_no_names(tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (40, 41, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    assert open_one(tmp_path / "a.tif").grid.axis("c").labels is None
