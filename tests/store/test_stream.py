"""The streaming writer: right at every level whatever the shape, the same bytes every time, and never twice the work."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emstore.errors import Interrupted, SourceUnreadable, StorageFailed
from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header
from emstore.store import metadata, plan
from emstore.store.pyramid import reduce
from emstore.store.reader import StoredArray
from emstore.store.writer import VersionPlan, plan_version, write_version_data
from emstore.volume import MemoryArray, Region, Volume, VolumeKind
from memory_sink import MemorySink

KINDS = {"t": AxisKind.TIME, "c": AxisKind.CHANNEL, "e": AxisKind.SPECTRAL, "u": AxisKind.RECIPROCAL, "v": AxisKind.RECIPROCAL}


@dataclass
class Counted:
    """A `LazyArray` that remembers what was read."""

    values: npt.NDArray[Any]
    block: tuple[int, ...]
    regions: list[Region] = field(default_factory=list)
    fail_after: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        self.regions.append(region)
        if self.fail_after is not None and len(self.regions) > self.fail_after:
            raise SourceUnreadable("the disk went away", where="slice 7")
        return self.values[region].copy()


def volume(values: npt.NDArray[Any], names: str, block: tuple[int, ...] | None = None, **rest: Any) -> Volume:
    grid = Grid(tuple(Axis(name, n, KINDS.get(name, AxisKind.SPACE)) for name, n in zip(names, values.shape, strict=True)))
    return Volume("v", Counted(values, block or (1,) * values.ndim), grid, Header("none"), **rest)


def levels(each: Volume, plan: VersionPlan, sink: MemorySink, empty: Any) -> Iterator[npt.NDArray[Any]]:
    documents = metadata.children(plan, metadata.Windows())
    for level in plan.levels:
        path = f"{level.group}/image"
        stored = StoredArray(sink, path, documents[path], known_empty=lambda: empty)
        yield stored[tuple(slice(0, n) for n in level.shape)]


def check_levels(each: Volume, plan: VersionPlan, sink: MemorySink, empty: Any) -> None:
    """Every level is the whole-array reduction of the one before."""
    expected = np.ascontiguousarray(each.data[tuple(slice(0, n) for n in each.shape)])
    for level, found in zip(plan.levels, levels(each, plan, sink, empty), strict=True):
        np.testing.assert_array_equal(found, expected)
        if level.factors is not None:
            expected = reduce(expected, level.factors, plan.how)


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    names, most = draw(
        st.sampled_from(
            [("x", 300), ("yx", 300), ("zyx", 140), ("tyx", 140), ("cyx", 140), ("tczyx", 140), ("yxuv", 12), ("e", 9)]
        )
    )
    shape = tuple(draw(st.integers(1, 4 if n in "tc" else most)) for n in names)
    dtype = draw(st.sampled_from(["uint8", "uint16", "float32", "bool"]))
    kind = draw(st.sampled_from([VolumeKind.IMAGE, VolumeKind.LABELS])) if dtype != "float32" else VolumeKind.IMAGE
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    values = (rng.integers(0, 3, shape) * rng.integers(0, 80, shape)).astype(dtype)
    values[tuple(slice(0, n // 2) for n in shape)] = 0
    block = tuple(draw(st.integers(1, n)) for n in shape)
    return volume(values, names, block, kind=kind)


@given(volumes())
@settings(deadline=None, max_examples=40)
def test_every_level_of_any_shape(each: Volume) -> None:
    plan = plan_version(each)
    sink = MemorySink()
    done: list[int] = []
    result = write_version_data(each, plan, sink, advance=done.append)
    check_levels(each, plan, sink, set(result.empty))
    assert sum(done) == each.nbytes
    assert not set(result.empty) & set(sink.objects)


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> Volume:
    """A volume that takes many tiles: small tiles stand in for a large array."""
    monkeypatch.setattr(plan, "TILE_BYTES", 1 << 18)
    rng = np.random.default_rng(5)
    values = rng.integers(0, 255, (300, 150, 140), dtype="uint8")
    values[100:230] = 0
    return volume(values, "zyx")


def small_shards(each: Volume) -> VersionPlan:
    """Shards of one chunk, so that there are many of them on every level."""
    full = plan_version(each)
    shallow = tuple(replace(level, codec=replace(level.codec, shape=level.chunk)) for level in full.levels)
    return replace(full, levels=shallow)


def test_the_bytes_do_not_depend_on_threads_tiles_or_blocks(tiled: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    first = MemorySink()
    write_version_data(tiled, plan_version(tiled, workers=1), first)
    monkeypatch.setattr(plan, "TILE_BYTES", 1 << 26)
    other = replace(tiled, data=MemoryArray(tiled.data.values))  # type: ignore[attr-defined]
    second = MemorySink()
    write_version_data(other, plan_version(other, workers=8), second)
    assert first.objects == second.objects


@pytest.mark.parametrize("seed", range(12))
def test_a_rerun_after_any_loss_makes_the_same_objects(tiled: Volume, seed: int) -> None:
    full = small_shards(tiled)
    truth = MemorySink()
    result = write_version_data(tiled, full, truth)
    rng = np.random.default_rng(seed)
    share = rng.uniform(0, 1)
    kept = {key: data for key, data in truth.objects.items() if rng.uniform() < share}
    again = MemorySink(dict(kept), before=frozenset(kept))
    second = write_version_data(tiled, full, again)
    assert again.objects == truth.objects
    assert set(again.puts) == set(truth.objects) - set(kept)
    assert second == result


def test_nothing_is_read_again_when_all_is_there(tiled: Volume) -> None:
    values = tiled.data.values  # type: ignore[attr-defined]
    values[values == 0] = 1  # no shard is left out, so none has to be looked at again
    full = small_shards(tiled)
    truth = MemorySink()
    write_version_data(tiled, full, truth)
    tiled.data.regions.clear()  # type: ignore[attr-defined]
    done: list[int] = []
    write_version_data(tiled, full, MemorySink(dict(truth.objects), before=frozenset(truth.objects)), advance=done.append)
    assert tiled.data.regions == []  # type: ignore[attr-defined]
    assert sum(done) == tiled.nbytes
    one = "s0/image/c/4/2/2"
    most = frozenset(truth.objects) - {one}
    again = MemorySink({key: truth.objects[key] for key in most}, before=most)
    write_version_data(tiled, full, again)
    assert again.objects == truth.objects
    assert all(region[0].start >= 256 for region in tiled.data.regions)  # type: ignore[attr-defined]


def test_stopping_leaves_what_a_rerun_goes_on_from(tiled: Volume) -> None:
    full = small_shards(tiled)
    truth = MemorySink()
    write_version_data(tiled, full, truth)
    sink = MemorySink()
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        write_version_data(tiled, full, sink, cancelled=lambda: next(asked) >= 4)
    assert 0 < len(sink.objects) < len(truth.objects)
    again = MemorySink(dict(sink.objects), before=frozenset(sink.objects))
    write_version_data(tiled, full, again)
    assert again.objects == truth.objects
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "encode", "put"))]


def test_a_source_best_read_in_order_is_read_in_order(tiled: Volume) -> None:
    tiled.data.sequential = True  # type: ignore[attr-defined]
    tiled.data.block = (1, 150, 140)  # type: ignore[attr-defined,misc]
    write_version_data(tiled, plan_version(tiled), MemorySink())
    starts = [tuple(part.start for part in region) for region in tiled.data.regions]  # type: ignore[attr-defined]
    assert len(starts) > 10
    assert starts == sorted(starts)


def test_a_source_that_fails_ends_the_write_with_its_own_error(tiled: Volume) -> None:
    tiled.data.fail_after = 5  # type: ignore[attr-defined]
    with pytest.raises(SourceUnreadable, match="slice 7"):
        write_version_data(tiled, plan_version(tiled), MemorySink())


def test_a_source_that_gives_something_else_is_refused(tiled: Volume) -> None:
    class Liar(Counted):
        def __getitem__(self, region: Region) -> npt.NDArray[Any]:
            return super().__getitem__(region)[..., :-1]

    liar = Liar(tiled.data.values, (1, 1, 1))  # type: ignore[attr-defined]
    with pytest.raises(SourceUnreadable, match="promised"):
        write_version_data(replace(tiled, data=liar), plan_version(tiled), MemorySink())


def test_a_sink_that_fails_ends_the_write_with_its_own_error(tiled: Volume) -> None:
    class Full(MemorySink):
        def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
            if len(self.objects) > 3:
                raise StorageFailed("no space left", where=key)
            super().put(key, data)

    with pytest.raises(StorageFailed, match="no space left"):
        write_version_data(tiled, small_shards(tiled), Full())


def test_bytes_on_their_way_are_bounded(tiled: Volume) -> None:
    """A slow store makes the writer wait instead of filling memory."""
    full = small_shards(tiled)
    limit = plan.PUTS * max(level.codec.chunks.nbytes * level.codec.count for level in full.levels)
    sending = threading.Lock()
    now, most = [0], [0]

    class Slow(MemorySink):
        def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
            with sending:
                now[0] += len(data)
                most[0] = max(most[0], now[0])
            threading.Event().wait(0.01)
            super().put(key, data)
            with sending:
                now[0] -= len(data)

    write_version_data(tiled, full, Slow())
    assert 0 < most[0] <= limit * 1.01


def test_the_virtual_image_is_the_sum_over_the_detector() -> None:
    rng = np.random.default_rng(2)
    for dtype, total in (("uint16", "uint64"), ("int16", "int64"), ("float32", "float64")):
        values = (rng.integers(0, 9, (9, 40, 12, 10)) * 3).astype(dtype)
        each = volume(values, "yxuv")
        full = plan_version(each)
        sink = MemorySink()
        write_version_data(each, full, sink)
        document = metadata.children(full, metadata.Windows())["virtual/s0/image"]
        found = StoredArray(sink, "virtual/s0/image", document)[(slice(0, 9), slice(0, 40))]
        assert found.dtype == total
        np.testing.assert_array_equal(found, values.sum(axis=(2, 3), dtype=total))
