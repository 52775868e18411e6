"""The use case: whole or not at all, whatever happens."""

import collections
import errno
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emstore.errors import Capacity, Conflict, InvalidInput, Kind, NotFound, SourceUnreadable, StorageFailed
from emstore.events import Advanced, Event, Noted, Started
from emstore.export import export
from emstore.geometry import Grid
from emstore.header import Header
from emstore.volume import Region, Volume
from emstore_adapters.exporters._slabs import reordered, slabs
from export_volumes import Watched, axes, numbers, volume


@dataclass
class Breaking:
    """An array whose second half cannot be read."""

    error: BaseException
    shape: tuple[int, ...] = (8, 4, 4)
    block: tuple[int, ...] = (1, 4, 4)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int16)

    def __getitem__(self, region: Region) -> np.ndarray[Any, Any]:
        if region[0].stop > 4:
            raise self.error
        return np.zeros([part.stop - part.start for part in region], self.dtype)


def breaking(error: BaseException) -> Volume:
    return Volume("broken", Breaking(error), Grid(axes("z y x", (8, 4, 4))), Header("made"))


NAMES = ["a.nii", "a.nii.gz", "a.tif", "a.ome.tif", "a.mrc", "a.h5", "a.mp4", "a.gif"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SourceUnreadable("broken", where="x"), OSError(errno.EIO, "bad disk")])
def test_a_failed_export_leaves_nothing(tmp_path: Path, name: str, error: BaseException) -> None:
    expected = StorageFailed if type(error) is OSError else type(error)
    with pytest.raises(expected):
        export(breaking(error), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_failed_export_keeps_the_file_it_was_to_replace(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(SourceUnreadable):
        export(breaking(SourceUnreadable("broken")), tmp_path / name, force=True)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"precious"


@pytest.mark.parametrize("name", NAMES)
def test_the_longest_extension_chooses_and_one_file_comes_out(tmp_path: Path, name: str) -> None:
    export(volume(numbers((3, 16, 16), "u1"), "z y x"), tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    head = (tmp_path / name).read_bytes()
    marks = {"nii": b"n+1", "gz": b"\x1f\x8b", "tif": b"II*\0", "mrc": b"MAP ", "h5": b"\x89HDF", "mp4": b"ftyp", "gif": b"GIF8"}
    assert marks[name.split(".")[-1]] in head[:512]
    assert (b"www.openmicroscopy.org" in head) == (".ome." in name)


def test_an_existing_file_is_refused_without_force(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(b"precious")
    with pytest.raises(Conflict, match="--force"):
        export(volume(numbers((2, 3, 4), "i2"), "z y x"), path)
    assert path.read_bytes() == b"precious"
    export(volume(numbers((2, 3, 4), "i2"), "z y x"), path, force=True)
    assert nib.load(path).shape == (4, 3, 2)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"

    def intrude(event: Event) -> None:
        if isinstance(event, Advanced):
            path.write_bytes(b"theirs")

    with pytest.raises(Conflict):
        export(volume(numbers((2, 3, 4), "i2"), "z y x"), path, listener=intrude)
    assert path.read_bytes() == b"theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]


def test_bad_targets(tmp_path: Path) -> None:
    small = volume(numbers((2, 3, 4), "i2"), "z y x")
    with pytest.raises(NotFound, match="no such folder"):
        export(small, tmp_path / "nowhere" / "a.nii")
    with pytest.raises(InvalidInput, match=r"\.ome\.tif"):
        export(small, tmp_path / "a.xyz")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(InvalidInput, match="folder"):
        export(small, tmp_path / "folder.nii", force=True)


def test_a_full_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 20 << 20))
    with pytest.raises(Capacity, match="free") as error:
        export(volume(np.zeros((5, 1000, 1000), np.uint8), "z y x"), tmp_path / "a.nii")
    assert error.value.kind is Kind.DISK_FULL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.nii.gz", "a.h5", "a.mp4", "a.gif"])
def test_compressed_files_need_not_have_room_for_every_voxel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    usage = collections.namedtuple("usage", "total used free")
    empty = volume(np.zeros((5, 1000, 1000), np.uint8), "z y x")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 20 << 20))
    export(empty, tmp_path / name)
    assert (tmp_path / name).stat().st_size < 4 << 20
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1 << 20))
    with pytest.raises(Capacity, match="only 1 MB free"):
        export(empty, tmp_path / f"b{name}")


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_fills_meanwhile_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(Capacity, match="full") as error:
        export(breaking(OSError(errno.ENOSPC, "No space left on device")), tmp_path / name)
    assert error.value.kind is Kind.DISK_FULL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_byte_is_told_once_and_notes_are_events(tmp_path: Path, name: str) -> None:
    events: list[Event] = []
    data = volume(numbers((5, 16, 18), "u2"), "z y x")
    notes = export(data, tmp_path / name, listener=events.append, task="job")
    assert events[0] == Started("job", data.nbytes)
    assert sum(event.done for event in events if isinstance(event, Advanced)) == data.nbytes
    assert [event.message for event in events if isinstance(event, Noted)] == list(notes)


@pytest.mark.parametrize("name", NAMES)
def test_no_more_than_the_budget_is_read_at_once(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import emstore_adapters.exporters._slabs as module

    budget = 4 * 64 * 64
    monkeypatch.setattr(module.slabs, "__kwdefaults__", {"whole": 2, "budget": budget})
    data = Watched(numbers((32, 64, 64), "u1"), (2, 32, 32))
    export(Volume("w", data, Grid(axes("z y x", data.shape)), Header("made"), window=(0, 255)), tmp_path / name)
    sizes = [np.prod([part.stop - part.start for part in region]) for region in data.asked]
    assert max(sizes) <= budget
    assert sum(sizes) == data.values.size


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.integers(0, 3),
    st.integers(1, 200),
    st.data(),
)
def test_slabs_tile_every_volume_in_file_order(shape: list[int], whole: int, budget: int, data: st.DataObject) -> None:
    names = [f"a{i}" for i in range(len(shape))]
    block = tuple(data.draw(st.integers(1, n)) for n in shape)
    truth = np.arange(int(np.prod(shape)), dtype=np.uint8 if np.prod(shape) < 256 else np.uint16).reshape(shape)
    watched = Watched(truth, block)
    made = Volume("w", watched, Grid(axes(names, shape)), Header("made"))
    parts = [truth[region].ravel() for region in slabs(made, whole=whole, budget=budget)]
    assert np.array_equal(np.concatenate(parts), truth.ravel())
    least = int(np.prod(shape[max(0, len(shape) - whole) :])) * truth.itemsize if whole else truth.itemsize
    assert max(part.nbytes for part in parts) <= max(budget, least)


def test_reordered_reads_the_same_values() -> None:
    values = numbers((2, 3, 4, 5, 6), "i2")
    turned = reordered(volume(values, "t c z y x"), ("c", "t", "z", "y", "x"))
    assert turned.grid.dims == ("c", "t", "z", "y", "x")
    region = (slice(1, 3), slice(0, 1), slice(2, 4), slice(1, 5), slice(0, 6))
    assert np.array_equal(turned.data[region], values.transpose(1, 0, 2, 3, 4)[region])


def test_third_parties_write_through_the_same_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import emstore.registry

    class Lister:
        name = "lister"
        extensions = (".list",)

        def write(self, volume: Volume, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
            path.write_text(",".join(volume.grid.dims))
            return ("only the axes",)

    monkeypatch.setattr(emstore.registry, "exporter_for", lambda name: Lister())
    assert export(volume(numbers((2, 3), "i2"), "y x"), tmp_path / "a.list") == ("only the axes",)
    assert (tmp_path / "a.list").read_text() == "y,x"
