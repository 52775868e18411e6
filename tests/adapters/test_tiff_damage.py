"""Damaged and hostile TIFF files: what is good is read, all else ends in one clear error."""

import itertools
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from emstore.errors import EmstoreError, SourceIncomplete, SourceUnreadable
from emstore.source import Source
from emstore_adapters.tiff import TiffAdapter
from tiffs import open_all, open_one
from whole import everything

RNG = np.random.default_rng(7)


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
