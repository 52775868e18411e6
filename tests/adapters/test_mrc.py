"""MRC against mrcfile and rosettasciio, and against headers written by hand from the standard."""

import bz2
import csv
import gzip
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emstore.errors import Kind, SourceIncomplete, SourceUnreadable
from emstore.geometry import AxisKind
from emstore.source import Source, SourceItem
from emstore.volume import Volume
from emstore_adapters.mrc import MrcAdapter
from whole import everything

ADAPTER = MrcAdapter()
TYPES = ["i1", "i2", "f4", "c8", "u2", "f2"]


def opened(path: Path, *, allow_partial: bool = False) -> Volume:
    [volume] = ADAPTER.open(Source.of([path], allow_partial=allow_partial))
    return volume


def sniffed(path: Path) -> int:
    return ADAPTER.sniff(SourceItem(path, path.name))


def numbers(shape: tuple[int, ...], kind: str) -> npt.NDArray[Any]:
    chance = np.random.default_rng(7)
    if kind[0] == "c":
        return (chance.normal(size=shape) + 1j * chance.normal(size=shape)).astype(kind)
    if kind[0] == "f":
        return chance.normal(size=shape).astype(kind)
    info = np.iinfo(kind)
    return chance.integers(info.min, info.max, shape, dtype=kind, endpoint=True)


def by_hand(path: Path, nx: int, ny: int, nz: int, mode: int, data: bytes, *, order: str = "<", **fields: Any) -> Path:
    """Write a header field by field, from the table of the MRC2014 paper."""
    head = bytearray(1024)
    struct.pack_into(f"{order}10i", head, 0, nx, ny, nz, mode, *fields.get("start", (0, 0, 0)), *fields.get("m", (nx, ny, nz)))
    struct.pack_into(f"{order}6f", head, 40, *fields.get("cella", (0, 0, 0)), 90, 90, 90)
    struct.pack_into(f"{order}3i", head, 64, *fields.get("map", (1, 2, 3)))
    extended = fields.get("extended", b"")
    struct.pack_into(f"{order}2i", head, 88, fields.get("ispg", 1), len(extended))
    head[104:108] = fields.get("exttyp", b"\0\0\0\0")
    struct.pack_into(f"{order}i", head, 108, fields.get("nversion", 20140))
    if "imod_flags" in fields:
        struct.pack_into(f"{order}2i", head, 152, 1146047817, fields["imod_flags"])
    struct.pack_into(f"{order}3f", head, 196, *fields.get("origin", (0, 0, 0)))
    head[208:212] = fields.get("magic", b"MAP ")
    head[212:216] = fields.get("stamp", b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0")
    path.write_bytes(bytes(head) + extended + data)
    return path


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packing", ["", ".gz", ".bz2"])
def test_every_mode_and_byte_order_equals_mrcfile(tmp_path: Path, kind: str, order: str, packing: str) -> None:
    path = tmp_path / f"a.mrc{packing}"
    values = numbers((5, 6, 7), kind)
    compression = {"": None, ".gz": "gzip", ".bz2": "bzip2"}[packing]
    with mrcfile.new(path, values.astype(np.dtype(kind).newbyteorder(order)), compression=compression) as file:
        file.voxel_size = (1.5, 2.5, 3.5)
    with mrcfile.open(path) as file:
        expected, size = np.array(file.data), file.voxel_size
        assert kind == "i1" or file.header.mode.dtype.byteorder in (order, "=")  # single bytes have no order
    volume = opened(path)
    assert sniffed(path) == 95
    assert volume.dtype == np.dtype(kind)
    assert np.array_equal(everything(volume), expected)
    assert np.array_equal(volume.data[1:4, 2:3, 3:6], expected[1:4, 2:3, 3:6])
    assert [(a.name, a.spacing, a.unit) for a in volume.grid.axes] == [
        ("z", pytest.approx(float(size.z)), "angstrom"),
        ("y", pytest.approx(float(size.y)), "angstrom"),
        ("x", pytest.approx(float(size.x)), "angstrom"),
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_complex_integers(tmp_path: Path, order: str) -> None:
    pairs = numbers((3, 4, 5, 2), "i2")
    volume = opened(by_hand(tmp_path / "a.mrc", 5, 4, 3, 3, pairs.astype(f"{order}i2").tobytes(), order=order))
    assert volume.dtype == np.complex64
    expected = pairs[..., 0] + 1j * pairs[..., 1]
    assert np.array_equal(everything(volume), expected)
    assert np.array_equal(volume.data[1:2, 1:3, 2:5], expected[1:2, 1:3, 2:5])


@pytest.mark.parametrize("nx", [4, 7])
def test_four_bit_values(tmp_path: Path, nx: int) -> None:
    values = np.random.default_rng(3).integers(0, 16, (3, 2, nx), dtype=np.uint8)
    padded = np.pad(values, ((0, 0), (0, 0), (0, nx % 2)))
    packed = padded[..., 0::2] | padded[..., 1::2] << 4  # the first value is in the low four bits
    volume = opened(by_hand(tmp_path / "a.mrc", nx, 2, 3, 101, packed.tobytes()))
    assert np.array_equal(everything(volume), values)
    for first in range(nx):
        assert np.array_equal(volume.data[0:2, 1:2, first:nx], values[0:2, 1:2, first:nx])


def test_imod_bytes_are_unsigned_unless_flagged(tmp_path: Path) -> None:
    data = bytes(range(250, 256)) + bytes(6)
    plain = opened(by_hand(tmp_path / "plain.mrc", 4, 3, 1, 0, data))
    signed = opened(by_hand(tmp_path / "signed.mrc", 4, 3, 1, 0, data, imod_flags=1))
    unsigned = opened(by_hand(tmp_path / "unsigned.mrc", 4, 3, 1, 0, data, imod_flags=0))
    assert (plain.dtype, signed.dtype, unsigned.dtype) == (np.int8, np.int8, np.uint8)
    assert everything(signed).min() == -6
    assert everything(unsigned).max() == 255


@pytest.mark.parametrize("mapping", [(1, 2, 3), (2, 1, 3), (3, 2, 1), (2, 3, 1), (3, 1, 2), (1, 3, 2)])
def test_axes_are_put_in_order(tmp_path: Path, mapping: tuple[int, int, int]) -> None:
    # The value at x, y, z is 100 z + 10 y + x; sizes and steps tell the axes apart.
    sizes, cell = {1: 4, 2: 3, 3: 2}, (40.0, 60.0, 100.0)
    truth = np.add.outer(100 * np.arange(2), np.add.outer(10 * np.arange(3), np.arange(4))).astype("<i2")
    columns, rows, slow = mapping
    stored = truth.transpose([3 - slow, 3 - rows, 3 - columns])
    path = by_hand(
        tmp_path / "a.map", sizes[columns], sizes[rows], sizes[slow], 1, stored.tobytes(), map=mapping, m=(4, 3, 2), cella=cell
    )
    volume = opened(path)
    assert volume.grid.dims == ("z", "y", "x")
    assert np.array_equal(everything(volume), truth)
    assert np.array_equal(volume.data[1:2, 0:2, 1:4], truth[1:2, 0:2, 1:4])
    assert [a.spacing for a in volume.grid.axes] == [50.0, 20.0, 10.0]


def test_stacks_and_volumes(tmp_path: Path) -> None:
    values = numbers((6, 4, 5), "i2")
    with mrcfile.new(tmp_path / "images.mrcs", values) as file:
        file.set_image_stack()
    with mrcfile.new(tmp_path / "volume.mrc", values) as file:
        file.set_volume()
    with mrcfile.new(tmp_path / "volumes.mrc", values.reshape(2, 3, 4, 5)) as file:
        file.voxel_size = (2.0, 3.0, 4.0)
    with mrcfile.new(tmp_path / "image.mrc", values[0]):
        pass
    assert opened(tmp_path / "images.mrcs").grid.dims == ("n", "y", "x")
    assert opened(tmp_path / "images.mrcs").grid.axis("n").kind is AxisKind.OTHER
    assert opened(tmp_path / "volume.mrc").grid.dims == ("z", "y", "x")
    stack = opened(tmp_path / "volumes.mrc")
    assert stack.grid.dims == ("n", "z", "y", "x")
    assert stack.shape == (2, 3, 4, 5)
    assert [a.spacing for a in stack.grid.axes] == [None, 4.0, 3.0, 2.0]
    assert np.array_equal(everything(stack), values.reshape(2, 3, 4, 5))
    assert opened(tmp_path / "image.mrc").shape == (4, 5)


@pytest.mark.parametrize(
    ("cella", "nversion", "spacing"),
    [
        ((0, 0, 0), 20140, None),
        ((-40, -30, -20), 20140, None),
        ((float("nan"), 30, 20), 20140, None),
        ((4, 3, 2), 0, None),  # one ångström in a file older than MRC2014
        ((4, 3, 2), 20140, 1.0),
        ((8, 6, 4), 0, 2.0),
    ],
)
def test_placeholders_are_unknown(tmp_path: Path, cella: tuple[float, ...], nversion: int, spacing: float | None) -> None:
    axis = opened(by_hand(tmp_path / "a.mrc", 4, 3, 2, 0, bytes(24), cella=cella, nversion=nversion)).grid.axis("x")
    assert axis.spacing == spacing
    assert axis.unit == (None if spacing is None else "angstrom")


def test_origins(tmp_path: Path) -> None:
    cell = (8.0, 6.0, 4.0)
    origin = opened(by_hand(tmp_path / "a.mrc", 4, 3, 2, 0, bytes(24), cella=cell, origin=(10, 20, 30), start=(9, 9, 9)))
    start = opened(by_hand(tmp_path / "b.mrc", 4, 3, 2, 0, bytes(24), cella=cell, start=(5, 6, 7)))
    imod = opened(by_hand(tmp_path / "c.mrc", 4, 3, 2, 0, bytes(24), cella=cell, origin=(10, 20, 30), imod_flags=4))
    assert [a.origin for a in origin.grid.axes] == [30.0, 20.0, 10.0]
    assert [a.origin for a in start.grid.axes] == [14.0, 12.0, 10.0]
    assert [a.origin for a in imod.grid.axes] == [-30.0, -20.0, -10.0]


def test_old_files_are_recognised_by_their_exact_length(tmp_path: Path) -> None:
    old = by_hand(tmp_path / "old.mrc", 4, 3, 2, 1, bytes(48), magic=b"\0\0\0\0", stamp=b"\0\0\0\0", order=">")
    assert 0 < sniffed(old) < 50
    assert opened(old).shape == (2, 3, 4)
    old.write_bytes(old.read_bytes() + b"x")
    assert sniffed(old) == 0


def test_fei_extended_header(tmp_path: Path) -> None:
    dtype = mrcfile.dtypes.get_ext_header_dtype(b"FEI1", "<")
    records = np.zeros(5, dtype)
    records["Metadata size"], records["Bitmask 1"] = dtype.itemsize, 1 << 5 | 1 << 7
    records["HT"], records["Alpha tilt"] = 200_000.0, [-40.0, -20.0, 0.0, 20.0, 40.0]
    path = tmp_path / "tilt.mrc"
    values = numbers((5, 4, 6), "i2")
    with mrcfile.new(path, values) as file:
        file.set_image_stack()
        file.set_extended_header(records)
        file.header.exttyp = b"FEI1"
    volume = opened(path)
    assert np.array_equal(everything(volume), values)
    assert volume.attributes["mrc"]["tilt_angles"] == {"values": [-40.0, -20.0, 0.0, 20.0, 40.0], "unit": "degree"}
    assert volume.header.terms["instrument/ebeam_column/electron_source/voltage"] == {"value": 200_000.0, "unit": "volt"}
    assert volume.header.tree["FEI1 extended header"]["Alpha tilt"] == [-40.0, -20.0, 0.0, 20.0, 40.0]
    assert volume.header.raw[0].read() == path.read_bytes()[: 1024 + 5 * dtype.itemsize]


def test_first_fei_extended_header_gives_the_pixel_size(tmp_path: Path) -> None:
    extended = np.zeros((1024, 32), "<f4")
    extended[:2, 0], extended[:2, 11] = [-60, 60], 2.5e-10
    path = by_hand(tmp_path / "a.mrc", 4, 3, 2, 1, bytes(48), ispg=0, m=(4, 3, 1), cella=(4, 3, 1), extended=extended.tobytes())
    volume = opened(path)
    assert volume.grid.axis("x").spacing == pytest.approx(2.5, rel=1e-6)
    assert volume.attributes["mrc"]["tilt_angles"]["values"] == [-60.0, 60.0]


def test_unknown_extended_headers_are_kept_raw(tmp_path: Path) -> None:
    path = by_hand(tmp_path / "a.mrc", 4, 3, 2, 0, bytes(range(24)), exttyp=b"SERI", extended=b"serial em" * 20)
    volume = opened(path)
    assert volume.header.raw[0].read()[1024:] == b"serial em" * 20
    assert np.array_equal(everything(volume).ravel(), np.arange(24))


@pytest.mark.parametrize("packing", ["", ".gz", ".bz2"])
def test_cut_files_say_how_many_sections_are_good(tmp_path: Path, packing: str) -> None:
    values = numbers((6, 40, 50), "i2")
    with mrcfile.new(tmp_path / "a.mrc", values):
        pass
    data = (tmp_path / "a.mrc").read_bytes()[: 1024 + 3 * 4000 + 100]
    path = tmp_path / f"cut.mrc{packing}"
    path.write_bytes({"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[packing](data))
    with pytest.raises(SourceIncomplete, match="3 of 6 sections are good"):
        everything(opened(path))
    assert np.array_equal(everything(opened(path, allow_partial=True)), values[:3])


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_cut_streams_never_give_filler(tmp_path: Path, share: float, compress: Callable[[bytes], bytes]) -> None:
    values = numbers((6, 40, 50), "i2")
    with mrcfile.new(tmp_path / "a.mrc", values):
        pass
    packed = compress((tmp_path / "a.mrc").read_bytes())
    path = tmp_path / "cut.mrc.packed"
    path.write_bytes(packed[: int(len(packed) * share)])
    with pytest.raises(SourceUnreadable):
        everything(opened(path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"mode": 9}, "mode 9"), ({"mode": 16}, "mode 16"), ({"nx": -4}, "makes no sense"), ({"nx": 1 << 30}, "makes no sense")],
)
def test_bad_headers_are_refused(tmp_path: Path, fields: dict[str, int], message: str) -> None:
    settings_ = {"nx": 4, "mode": 1} | fields
    path = by_hand(tmp_path / "a.mrc", settings_["nx"], 3, 2, settings_["mode"], bytes(48))
    with pytest.raises(SourceUnreadable, match=message) as error:
        opened(path)
    if "mode" in fields:
        assert error.value.kind is Kind.SOURCE_UNSUPPORTED


def test_a_huge_promise_is_incomplete_not_a_crash(tmp_path: Path) -> None:
    path = by_hand(tmp_path / "a.mrc", 1 << 20, 1 << 20, 2_000_000_000, 4, bytes(100))
    with pytest.raises(SourceIncomplete, match="0 of 2000000000 sections"):
        opened(path)


def test_a_philips_rec_is_not_mrc(instrument_file: Callable[[str], Path]) -> None:
    assert sniffed(instrument_file("hostile/phantom_truncated.REC")) == 0


REAL = [
    "20241021_00405_0_Virt 0_sum.mrc",
    "20241021_00405_ext1_Ext 1.mrc",
    "20241021_00405_final.mrc",
    "20241021_00405_movie.mrc",
    "Custom_movie.mrc",
    "HAADFscan.mrc",
    "ROI_Random_Scan_Sum.mrc",
    "ROI_Random_Scan_movie.mrc",
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_equal_mrcfile_and_rosettasciio(instrument_file: Callable[[str], Path], name: str) -> None:
    path = instrument_file(f"stem/mrc_de/{name}")
    volume = opened(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these headers lack what mrcfile asks of MRC2014
        with mrcfile.open(path, permissive=True) as file:
            assert np.array_equal(everything(volume).ravel(), file.data.ravel())
    reader = pytest.importorskip("rsciio.mrc", reason="rosettasciio is not installed (extra em)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its file to the garbage collector
        [signal] = reader.file_reader(str(path))
    assert np.array_equal(everything(volume), signal["data"])
    assert sniffed(path) == 95


def test_real_pixel_sizes(instrument_file: Callable[[str], Path]) -> None:
    scan = opened(instrument_file("stem/mrc_de/HAADFscan.mrc"))
    assert [(a.spacing, a.unit) for a in scan.grid.axes] == [(pytest.approx(56.791, rel=1e-5), "angstrom")] * 2
    assert scan.modality == "stem"
    assert scan.header.terms["instrument/detector/name"] == "HAADF"
    final = opened(instrument_file("stem/mrc_de/20241021_00405_final.mrc"))
    assert [(a.spacing, a.unit) for a in final.grid.axes] == [(None, None)] * 2


def test_the_sidecar_gives_a_movie_its_axes(instrument_file: Callable[[str], Path]) -> None:
    path = instrument_file("stem/mrc_de/20241021_00405_movie.mrc")
    info = path.with_name("20241021_00405_info.txt").read_text()

    def said(key: str) -> float:
        found = re.search(rf"^{re.escape(key)}\s*= (\S+)$", info, re.MULTILINE)
        assert found is not None, key
        return float(found[1])

    volume = opened(path)
    assert volume.grid.dims == ("y", "x", "ky", "kx")
    assert volume.shape[:2] == (said("Scan - Size Y"), said("Scan - Size X"))
    assert volume.grid.axis("y").spacing == said("Specimen Pixel Size Y (nanometers)")
    assert volume.grid.axis("x").spacing == said("Specimen Pixel Size X (nanometers)")
    assert volume.grid.axis("ky").kind is AxisKind.RECIPROCAL
    assert volume.modality == "stem"
    assert path.with_name("20241021_00405_info.txt") in volume.files
    assert volume.header.raw[1].read() == path.with_name("20241021_00405_info.txt").read_bytes()


def test_scan_positions_are_kept(instrument_file: Callable[[str], Path]) -> None:
    path = instrument_file("stem/mrc_de/ROI_Random_Scan_movie.mrc")
    with path.with_name("ROI_Random_Scan_scan_coordinates.csv").open() as file:
        expected = [[int(x), int(y)] for x, y in csv.reader(file)]
    assert opened(path).attributes["mrc"]["scan_positions_xy"] == expected


def test_a_sidecar_of_another_movie_is_left_alone(tmp_path: Path, instrument_file: Callable[[str], Path]) -> None:
    info = instrument_file("stem/mrc_de/20241021_00405_info.txt").read_bytes()
    (tmp_path / "other_info.txt").write_bytes(info)
    volume = opened(by_hand(tmp_path / "other_movie.mrc", 8, 4, 31, 0, bytes(8 * 4 * 31)))
    assert volume.grid.dims == ("z", "y", "x")
    assert volume.files == (tmp_path / "other_movie.mrc",)


def test_a_cut_scan_keeps_whole_rows(tmp_path: Path, instrument_file: Callable[[str], Path]) -> None:
    path = instrument_file("stem/mrc_de/20241021_00405_movie.mrc")
    (tmp_path / "a_info.txt").write_bytes(path.with_name("20241021_00405_info.txt").read_bytes())
    whole = everything(opened(path))
    (tmp_path / "a_movie.mrc").write_bytes(path.read_bytes()[: 1024 + 21 * 64])
    with pytest.raises(SourceIncomplete, match="21 of 32 sections"):
        opened(tmp_path / "a_movie.mrc")
    part = everything(opened(tmp_path / "a_movie.mrc", allow_partial=True))
    assert np.array_equal(part, whole[:2])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(TYPES),
    st.tuples(*[st.floats(0.125, 1024, width=32)] * 3),
    st.data(),
)
def test_any_file_by_mrcfile(
    tmp_path: Path, shape: tuple[int, int, int], kind: str, size: tuple[float, float, float], data: st.DataObject
) -> None:
    path = tmp_path / "any.mrc"
    values = numbers(shape, kind)
    with mrcfile.new(path, values, overwrite=True) as file:
        file.voxel_size = size
    volume = opened(path)
    found = everything(volume)
    assert np.array_equal(found.reshape(shape), values)
    for axis in volume.grid.axes:
        assert axis.spacing == pytest.approx(size["xyz".index(axis.name)], rel=1e-5)
    region = tuple(slice(*sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))) for n in volume.shape)
    assert np.array_equal(volume.data[region], found[region])
