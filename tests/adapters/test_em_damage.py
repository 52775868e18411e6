"""Damaged, cut and hostile electron microscopy files: clear errors, the good part on request, never filler."""

import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emstore.errors import Capacity, EmstoreError, SourceIncomplete, SourceUnreadable
from emstore.source import Source
from emstore.volume import Volume
from emstore_adapters.em import EmAdapter, dm, events

Find = Callable[[str], Path]


def whole(volume: Volume) -> np.ndarray[Any, Any]:
    return volume.data[tuple(slice(0, n) for n in volume.shape)]


def read(path: Path, *, partial: bool = False) -> tuple[list[Volume], Source]:
    source = Source.of([path], allow_partial=partial)
    return list(EmAdapter().open(source)), source


def cut(path: Path, to: Path, size: int) -> Path:
    to.mkdir(exist_ok=True)
    (to / path.name).write_bytes(path.read_bytes()[:size])
    return to / path.name


# -- cut files ---------------------------------------------------------------------------------------------------------

CUT = [
    ("tia/64x64x5_TEM_preview_1.ser", 3, r"3 of its 5 elements"),
    ("tvips/test_tvips_2233_000.tvips", 2, r"2 frames of it are whole"),
    ("test1.blo", 2, r"2 of 3 whole scan rows"),
]


@pytest.mark.parametrize(("name", "kept", "words"), CUT, ids=[row[0] for row in CUT])
def test_a_cut_series_says_what_is_good_and_gives_it_on_request(
    instrument_file: Find, tmp_path: Path, name: str, kept: int, words: str
) -> None:
    path = instrument_file(f"stem/{name}")
    [volume], _ = read(path)
    expected = whole(volume)
    short = cut(path, tmp_path / "cut", ends(path, expected)[kept] - 1)
    with pytest.raises(SourceIncomplete, match=words):
        read(short)
    [part], source = read(short, partial=True)
    np.testing.assert_array_equal(whole(part), expected[:kept])
    assert source.skipped


def ends(path: Path, values: np.ndarray[Any, Any]) -> list[int]:
    """Find each plane's bytes in the file and return where they end."""
    content, at, found = path.read_bytes(), 0, []
    for plane in values:
        for frame in plane.reshape(-1, *plane.shape[-2:]):
            stored = frame[::-1] if path.suffix == ".ser" else frame
            at = content.index(stored.tobytes(), at) + stored.nbytes
        found.append(at)
    return found


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.99])
@pytest.mark.parametrize(
    "name",
    ["test_STEM_image.dm3", "EELS_SI.dm4", "fei_example_tem_stack.emd", "example_signal.emd", "example2_v3.1.hspy"],
)
def test_a_cut_file_is_refused(instrument_file: Find, tmp_path: Path, name: str, share: float) -> None:
    path = instrument_file(f"stem/{name}")
    short = cut(path, tmp_path, int(share * path.stat().st_size))
    with pytest.raises(SourceUnreadable) as caught:
        read(short)
    assert caught.value.where is not None
    assert name in caught.value.where
    assert read(short, partial=True)[0] == []


# -- hostile DigitalMicrograph tags ------------------------------------------------------------------------------------


def dm3(*tags: bytes) -> bytes:
    body = struct.pack(">BBI", 0, 0, len(tags)) + b"".join(tags)
    return struct.pack(">III", 3, len(body), 1) + body


def tag(name: bytes, *info: int) -> bytes:
    return struct.pack(">BH", 21, len(name)) + name + b"%%%%" + struct.pack(f">{1 + len(info)}I", len(info), *info)


@pytest.mark.parametrize(
    "content",
    [
        dm3(tag(b"none", 20, 15, 0, 0, 0x7FFFFFFF)),  # two thousand million structs of nothing
        dm3(tag(b"long", 20, 2, 0x7FFFFFFF)),
        dm3(tag(b"text", 18, 0x7FFFFFFF)),
        dm3(*[struct.pack(">BHBBI", 20, 0, 0, 0, 1)] * 1),  # a group that promises more than is there
        dm3(),
    ],
    ids=["empty structs", "array", "string", "group", "no image"],
)
def test_lying_tags_are_refused_at_once(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("rsciio")
    path = tmp_path / "hostile.dm3"
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable):
        read(path)


def test_too_many_tags_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rsciio")
    path = tmp_path / "tags.dm3"
    path.write_bytes(dm3(*[tag(b"a", 3) + bytes(4)] * 100))
    monkeypatch.setattr(dm, "MAX_TAGS", 1000)
    with pytest.raises(Capacity, match="more than 1000 bytes of tags"):
        read(path)


# -- hostile HDF5 ------------------------------------------------------------------------------------------------------


def hspy(path: Path, make: Callable[[h5py.Group], None]) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.attrs["file_format_version"] = "3.1"
        group = file.create_group("Experiments/image")
        make(group)
        for number in range(2):
            group.create_group(f"axis-{number}").attrs.update({"scale": 1.0, "offset": 0.0, "units": "nm", "navigate": False})
    return path


def test_chunks_that_were_never_written_are_not_made_up(tmp_path: Path) -> None:
    def make(group: h5py.Group) -> None:
        data = group.create_dataset("data", (64, 64), "u2", chunks=(16, 64))
        data[:32] = 7

    path = hspy(tmp_path / "a.hspy", make)
    with pytest.raises(SourceIncomplete, match="2 of its 4 chunks"):
        read(path)
    assert read(path, partial=True)[0] == []


def test_a_declared_array_of_terabytes_costs_nothing(tmp_path: Path) -> None:
    def make(group: h5py.Group) -> None:
        group.create_dataset("data", (1 << 21, 1 << 21), "f8", chunks=(1024, 1024))

    with pytest.raises(SourceIncomplete, match="0 of its 4194304 chunks"):
        read(hspy(tmp_path / "a.hspy", make))


def test_huge_chunks_are_refused(tmp_path: Path) -> None:
    def make(group: h5py.Group) -> None:
        group.create_dataset("data", (20000, 20000), "f8", chunks=(20000, 20000), compression="gzip").id.write_direct_chunk(
            (0, 0), b"not a chunk"
        )

    with pytest.raises(Capacity, match="too large to decode"):
        read(hspy(tmp_path / "a.hspy", make))


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["data"] = np.arange(9).reshape(3, 3)

    def external(group: h5py.Group) -> None:
        group["data"] = h5py.ExternalLink(str(secret), "data")

    def virtual(group: h5py.Group) -> None:
        layout = h5py.VirtualLayout((3, 3), "i8")
        layout[:] = h5py.VirtualSource(str(secret), "data", (3, 3))
        group.create_virtual_dataset("data", layout)

    def raw(group: h5py.Group) -> None:
        group.create_dataset("data", (3, 3), "i8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    for number, make in enumerate((external, virtual, raw)):
        with pytest.raises(SourceUnreadable):
            read(hspy(tmp_path / f"{number}.hspy", make))


def test_ragged_arrays_are_refused(tmp_path: Path) -> None:
    def make(group: h5py.Group) -> None:
        group.create_dataset("data", (2, 2), h5py.vlen_dtype(np.float64))

    with pytest.raises(SourceUnreadable, match="not numbers"):
        read(hspy(tmp_path / "a.hspy", make))


# -- event streams -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_an_event_stream_counts_like_one_event_at_a_time(monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    monkeypatch.setattr(events, "_PIECE", 7)
    height, width, channels = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)))
    event = st.one_of(st.just(65535), st.integers(0, channels - 1))
    stream = np.array(data.draw(st.lists(event, min_size=1, max_size=120)), np.uint16)
    steps = int((stream == 65535).sum())
    frames = data.draw(st.one_of(st.none(), st.integers(1, 4)))
    expected = np.zeros((height, width, channels), np.uint16)
    pixel = frame = 0
    last = -(-steps // (height * width)) if frames is None else frames
    for value in stream.tolist():
        if pixel == height * width:
            pixel, frame = 0, frame + 1
        if frame == last:
            break
        if value == 65535:
            pixel += 1
        else:
            expected[pixel // width, pixel % width, value] += 1
    if frames is None and steps == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        with h5py.File(path, "w") as file:
            file["Data"] = stream[:, None]
        array = events.EventArray(path, "a", ("/Data",), expected.shape, np.dtype(np.uint16), frames)
        np.testing.assert_array_equal(array[tuple(slice(0, n) for n in expected.shape)], expected)
        region = tuple(slice(data.draw(st.integers(0, n - 1)), n) for n in expected.shape)
        np.testing.assert_array_equal(array[region], expected[region])


# -- flipped bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["test-1.dm3", "test-23.dm4", "tia/16x16x5_STEM_BF_DF_preview_1.ser", "test1.blo", "tvips/test_tvips_2233_000.tvips"],
)
def test_flipped_bytes_end_in_a_clear_error_or_a_whole_read(instrument_file: Find, tmp_path: Path, name: str) -> None:
    pytest.importorskip("rsciio")
    original = instrument_file(f"stem/{name}")
    content = original.read_bytes()
    path = tmp_path / original.name
    # Headers are where it hurts: half of the flips fall into the first kilobyte.
    place = st.one_of(st.integers(0, min(1023, len(content) - 1)), st.integers(0, len(content) - 1))

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(place, st.integers(1, 255)), min_size=1, max_size=4))
    def check(flips: list[tuple[int, int]]) -> None:
        damaged = bytearray(content)
        for at, bits in flips:
            damaged[at] ^= bits
        path.write_bytes(bytes(damaged))
        try:
            volumes, _ = read(path)
            for volume in volumes:
                region = tuple(slice(0, min(n, 64)) for n in volume.shape)
                assert volume.data[region].shape == tuple(part.stop for part in region)
        except EmstoreError:
            return

    check()
