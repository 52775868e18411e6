"""Folders of TIFF slices: one stack in natural order, stacks that stay apart, and what is missing or mixed is named."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from emstore.errors import Kind, SourceIncomplete, SourceUnreadable
from emstore.source import Source
from emstore_adapters.tiff import TiffAdapter
from tiffs import open_all, open_one, write_slices
from whole import everything

RNG = np.random.default_rng(7)


def test_folder_of_real_colour_slices(data_dir: Path) -> None:
    folder = data_dir / "fibsem" / "rife3dtom_input"
    expected = np.stack([tifffile.imread(path) for path in sorted(folder.iterdir())])
    volume = open_one(folder)
    assert volume.grid.dims == ("c", "z", "y", "x")
    assert np.array_equal(everything(volume), np.moveaxis(expected, -1, 0))
    assert np.array_equal(volume.data[1:2, 2:4, 7:99, 100:301], np.moveaxis(expected, -1, 0)[1:2, 2:4, 7:99, 100:301])
    assert len(volume.files) == 5
    assert all(axis.spacing is None for axis in volume.grid.axes)


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


def test_slices_in_colour_name_it(tmp_path: Path) -> None:
    for k in range(3):
        tifffile.imwrite(tmp_path / f"s{k}.tif", RNG.integers(0, 255, (40, 41, 3), dtype=np.uint8), photometric="rgb")
    assert open_one(tmp_path).grid.axis("c").labels == ("red", "green", "blue")
