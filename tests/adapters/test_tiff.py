"""TIFF: values equal tifffile's, pixel sizes RosettaSciIO's."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emstore.errors import SourceUnreadable
from emstore.geometry.units import convert
from emstore.testing import AdapterConformance, Sample
from emstore_adapters.tiff import TiffAdapter
from tiffs import open_all, open_one, write_slices
from whole import everything

RNG = np.random.default_rng(7)


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


# ---------------------------------------------------------------------------------------------- conformance


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


# ---------------------------------------------------------------------------------------------- colours


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


def test_channels_that_are_no_colours_get_no_names(tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (40, 41, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    assert open_one(tmp_path / "a.tif").grid.axis("c").labels is None
