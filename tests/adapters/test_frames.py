"""PNG and JPEG: values equal Pillow's (and imagecodecs' for 16-bit colour), folders are series, and cut pictures are told."""

import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from emstore.errors import Capacity, Kind, SourceIncomplete, SourceUnreadable
from emstore.geometry import AxisKind
from emstore.source import Source
from emstore.testing import AdapterConformance
from emstore.volume import Volume
from emstore_adapters.frames import FramesAdapter
from whole import everything

RNG = np.random.default_rng(7)


def open_one(*paths: Path, **kwargs: Any) -> Volume:
    source = Source.of(paths, **kwargs)
    assert all(FramesAdapter().sniff(item) > 0 for item in source.items)
    [volume] = FramesAdapter().open(source)
    return volume


def channels_first(values: np.ndarray) -> np.ndarray:
    return np.moveaxis(values, -1, 0) if values.ndim == 3 else values


@st.composite
def pictures(draw: st.DrawFn) -> tuple[np.ndarray, str]:
    samples = draw(st.sampled_from([1, 2, 3, 4]))
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 40)), *((samples,) if samples > 1 else ()))
    kind = draw(st.sampled_from(["png", "png16", *(["jpg"] if samples in (1, 3) else [])]))
    dtype = np.uint16 if kind == "png16" else np.uint8
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    return values, kind


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(pictures(), st.data())
def test_any_region_of_any_picture(tmp_path: Path, made: tuple[np.ndarray, str], data: st.DataObject) -> None:
    values, kind = made
    path = tmp_path / "a.bin"  # the name says nothing
    if kind == "jpg":
        Image.fromarray(values).save(path, format="jpeg", quality=80)
        stored = np.asarray(Image.open(path))
    else:
        path.write_bytes(imagecodecs.png_encode(values))
        stored = values
    volume = open_one(path)
    stored = channels_first(stored)
    assert volume.shape == stored.shape
    assert volume.dtype == values.dtype
    assert volume.grid.dims == ("c", "y", "x")[-stored.ndim :]
    region = []
    for n in stored.shape:
        start = data.draw(st.integers(0, n - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, n))))
    assert np.array_equal(volume.data[tuple(region)], stored[tuple(region)])


def test_palette_keeps_indices(tmp_path: Path) -> None:
    values = RNG.integers(0, 3, (8, 9), dtype=np.uint8)
    picture = Image.fromarray(values, mode=None).convert("P")
    picture.putdata(list(values.ravel()))
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "a.png")
    volume = open_one(tmp_path / "a.png")
    assert np.array_equal(everything(volume), values)
    assert volume.header.tree["info"]["palette"][:9] == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert any("colour table" in note for note in volume.notes)


def test_one_bit_is_boolean(tmp_path: Path) -> None:
    values = RNG.random((8, 9)) > 0.5
    Image.fromarray(values).save(tmp_path / "a.png")
    volume = open_one(tmp_path / "a.png")
    assert volume.dtype == np.bool_
    assert np.array_equal(everything(volume), values)


def test_cmyk(tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (8, 9, 4), dtype=np.uint8)
    Image.frombytes("CMYK", (9, 8), values.tobytes()).save(tmp_path / "a.jpg")
    expected = channels_first(np.asarray(Image.open(tmp_path / "a.jpg")))
    assert np.array_equal(everything(open_one(tmp_path / "a.jpg")), expected)


def write_frames(folder: Path, values: np.ndarray, suffix: str = ".png") -> list[Path]:
    folder.mkdir(exist_ok=True, parents=True)
    paths = [folder / f"f{i}{suffix}" for i in range(len(values))]
    for path, one in zip(paths, values, strict=True):
        Image.fromarray(one).save(path)
    return paths


@pytest.mark.parametrize("shape", [(12, 10, 14), (12, 10, 14, 3)])
def test_folder_is_a_series_over_unknown_time(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = RNG.integers(0, 255, shape, dtype=np.uint8)
    write_frames(tmp_path / "run", values)
    volume = open_one(tmp_path / "run")
    expected = np.moveaxis(values, -1, 1) if values.ndim == 4 else values
    assert np.array_equal(everything(volume), expected)
    region = (slice(3, 11), *(slice(1, n) for n in expected.shape[1:]))
    assert np.array_equal(volume.data[region], expected[region])
    time = volume.grid.axis("t")
    assert (volume.name, time.kind, time.spacing, time.unit) == ("run", AxisKind.TIME, None, None)
    assert volume.data.block == (1, *expected.shape[1:])
    assert len(volume.files) == 12


@pytest.mark.parametrize(
    ("odd", "word"),
    [
        (np.zeros((10, 15), "u1"), "15x10 instead of 14x10"),
        (np.zeros((10, 14), "u2"), "type"),
        (np.zeros((10, 14, 3), "u1"), "mode"),
    ],
)
def test_mismatched_frame_is_named(tmp_path: Path, odd: np.ndarray, word: str) -> None:
    values = RNG.integers(0, 255, (5, 10, 14), dtype=np.uint8)
    paths = write_frames(tmp_path, values)
    paths[2].write_bytes(imagecodecs.png_encode(odd))
    with pytest.raises(SourceUnreadable, match=word) as caught:
        open_one(tmp_path)
    assert (caught.value.kind, caught.value.where) == (Kind.SOURCE_INCONSISTENT, "f2.png")
    assert np.array_equal(everything(open_one(tmp_path, allow_partial=True)), np.delete(values, 2, axis=0))


def test_unrelated_pictures_stay_apart(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5), "u1")).save(tmp_path / "overview.png")
    Image.fromarray(np.zeros((6, 7), "u1")).save(tmp_path / "detail.png")
    source = Source.of([tmp_path])
    assert {volume.name: volume.shape for volume in FramesAdapter().open(source)} == {"overview": (4, 5), "detail": (6, 7)}


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_cut_frame_is_named(tmp_path: Path, suffix: str) -> None:
    values = RNG.integers(0, 255, (4, 30, 40), dtype=np.uint8)
    paths = write_frames(tmp_path, values, suffix)
    content = paths[2].read_bytes()
    for kept in (len(content) // 2, len(content) - 1, 100):
        paths[2].write_bytes(content[:kept])
        with pytest.raises(SourceIncomplete, match="2 of 4 frames are good so far") as caught:
            open_one(tmp_path)
        assert caught.value.where == paths[2].name
    assert open_one(tmp_path, allow_partial=True).shape == (3, 30, 40)


def test_damage_inside_is_told_when_read(tmp_path: Path) -> None:
    paths = write_frames(tmp_path, RNG.integers(0, 255, (2, 30, 40), dtype=np.uint8))
    content = bytearray(paths[1].read_bytes())
    content[len(content) // 2] ^= 0xFF
    paths[1].write_bytes(content)
    volume = open_one(tmp_path)
    volume.data[0:1, 0:30, 0:40]
    with pytest.raises(SourceUnreadable, match=r"f1\.png"):
        volume.data[1:2, 0:30, 0:40]


def test_orientation_is_noted_and_not_applied(tmp_path: Path) -> None:
    values = RNG.integers(0, 255, (8, 12), dtype=np.uint8)
    picture = Image.fromarray(values)
    exif = Image.Exif()
    exif[274] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    volume = open_one(tmp_path / "a.png")
    assert np.array_equal(everything(volume), values)
    assert any("orientation 6" in note for note in volume.notes)


def test_dots_per_inch_are_no_pixel_size(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 12), "u1")).save(tmp_path / "a.jpg", dpi=(300, 300))
    volume = open_one(tmp_path / "a.jpg")
    assert [axis.spacing for axis in volume.grid.axes] == [None, None]
    assert any("print setting" in note for note in volume.notes)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *between: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + chunk(b"IDAT", zlib.compress(bytes(108))) + chunk(b"IEND", b"")


def test_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1 << 20, 1 << 20))
    with pytest.raises(Capacity, match="1048576x1048576"):
        open_one(tmp_path / "a.png")


def test_animation_is_refused_by_kind(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(9, 9, chunk(b"acTL", bytes(8))))
    with pytest.raises(SourceUnreadable) as caught:
        open_one(tmp_path / "a.png")
    assert caught.value.kind is Kind.SOURCE_UNSUPPORTED


def test_raw_header_is_all_but_the_image(tmp_path: Path) -> None:
    note = chunk(b"tEXt", b"Comment\0from the microscope")
    content = png(11, 9, note)
    (tmp_path / "a.png").write_bytes(content)
    [raw] = open_one(tmp_path / "a.png").header.raw
    assert raw.read() == content.replace(chunk(b"IDAT", zlib.compress(bytes(108))), b"")
    Image.fromarray(RNG.integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "b.jpg", comment=b"hello")
    [raw] = open_one(tmp_path / "b.jpg").header.raw
    content = (tmp_path / "b.jpg").read_bytes()
    assert content.startswith(raw.read())
    assert b"hello" in raw.read()
    # The last segment before the image data starts the scan: two bytes of length, then that many less two.
    assert raw.read()[-10:-8] == b"\xff\xda"


class TestConformance(AdapterConformance):
    adapter = FramesAdapter
    raw_verbatim = False  # PNG headers are the chunks around the image data; a folder's are one archive

    @staticmethod
    def files(folder: Path) -> list[Path]:
        rng = np.random.default_rng(3)
        Image.fromarray(rng.integers(0, 99, (40, 41, 3), dtype=np.uint8)).save(folder / "colour.png")
        Image.fromarray(rng.integers(0, 99, (40, 41), dtype=np.uint8)).save(folder / "grey.jpg")
        large = folder / "large"
        write_frames(large, rng.integers(0, 255, (24, 1024, 2048), dtype=np.uint8))
        return [folder / "colour.png", folder / "grey.jpg", large]
