"""What the engine makes block by block, in a real store, is what the operation makes of the whole; whatever the cuts."""

import contextlib
import itertools
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import emstore
import engine_processors
from emstore.blocks import layout
from emstore.blocks.executors import Cluster, Executor, Line, Processes, Threads
from emstore.blocks.work import Task
from emstore.errors import Interrupted
from emstore.events import Advanced, Started
from emstore.processing import plan, process
from emstore.store import Place, Transaction, backend, chunking, verify
from emstore.store.backend import Backend
from emstore.store.store import Store
from in_blocks import arrays, axes_of
from sealed import seal, volume

MANY = settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
TYPES = ("u1", "i1", "<u2", ">u2", "i4", "f4")
PACKAGES = {"engine-processors", "emstore"}

counter = itertools.count()


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    """A store for many small versions, in memory where there is room for one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield emstore.create_store(f"{folder}/lab.zarr")


@contextlib.contextmanager
def forced(chunk: int, shard: int, block: tuple[int, ...]) -> Iterator[None]:
    """Cut everything so: about so many voxels a chunk and a shard, blocks of this shape whatever the memory allows."""

    def lay_out(operation: Any, volumes: Any, written: Any, *, workers: int, **rest: Any) -> Any:
        grid = layout.grid_of(operation, volumes)
        task = layout._task(operation, volumes, written)
        size = (
            tuple(t if name in operation.whole else min(b, t) for b, t, name in zip(block, task, grid.dims, strict=False))
            + task[len(block) :]
        )
        return layout._layout(operation, volumes, written, size, workers, False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "CHUNK_VOXELS", chunk)
        patch.setattr(chunking, "SHARD_VOXELS", shard)
        patch.setattr(layout, "TABLE_BLOCK", 7)
        patch.setattr(backend, "_fsync", lambda path: None)  # nobody pulls the plug here, and it is most of the time
        patch.setattr(plan, "lay_out", lay_out)
        yield


cuts = st.tuples(st.sampled_from([27, 64, 512]), st.sampled_from([512, 4096]), st.tuples(*[st.integers(2, 20)] * 3))


def made(store: Store, values: npt.NDArray[Any], name: str, executor: Executor | None = None, **params: Any) -> Any:
    array = f"a{next(counter)}"
    source = seal(volume("made", values, *axes_of("tczyx"[5 - values.ndim :], values.shape)), f"{store.url}/in/{array}")
    done = process(
        name, [source.ref] * (2 if name == "engine.difference" else 1), f"{store.url}/out/{array}", params=params,
        executor=executor or Threads(2), memory=2 << 30,
    )  # fmt: skip
    assert done.created
    [checked] = verify(store, Place("out", array), data=True)
    assert not checked.findings
    return done.version


def values_of(version: Any) -> npt.NDArray[Any]:
    return np.asarray(version.array()[tuple(slice(0, n) for n in version.array().shape)])


@MANY
@given(arrays(types=("u1", "i1", "<u2", ">u2", "i4"), largest=17), cuts, st.integers(0, 4))
def test_a_finite_support_gives_the_whole_s_very_values(shared: Store, values: Any, cut: Any, radius: int) -> None:
    with forced(*cut):
        version = made(shared, values, "engine.box", radius=radius)
    np.testing.assert_array_equal(values_of(version), engine_processors.box(values, radius))


@MANY
@given(arrays(types=TYPES, largest=17), cuts)
def test_whole_slices_are_never_cut(shared: Store, values: Any, cut: Any) -> None:
    with forced(*cut):
        version = made(shared, values, "engine.slices")
    expected = np.stack([engine_processors.mean_free(part) for part in values])
    np.testing.assert_array_equal(values_of(version), expected)


@MANY
@given(arrays(types=TYPES, largest=17), cuts)
def test_a_changed_grid(shared: Store, values: Any, cut: Any) -> None:
    with forced(*cut):
        version = made(shared, values, "engine.pairs")
    native = values.astype(values.dtype.newbyteorder("="))
    expected = np.maximum.reduceat(native, range(0, len(values), 2), axis=0)
    np.testing.assert_array_equal(values_of(version), expected)


@MANY
@given(arrays(types=TYPES, largest=17), cuts)
def test_regions_from_far_away(shared: Store, values: Any, cut: Any) -> None:
    with forced(*cut):
        version = made(shared, values, "engine.turned")
    np.testing.assert_array_equal(values_of(version), values[::-1, ::-1, ::-1])


@MANY
@given(arrays(types=("u1", "<u2", ">u2", "i4"), largest=17), cuts)
def test_a_reduction_meets_the_blocks_in_array_order(shared: Store, values: Any, cut: Any) -> None:
    with forced(*cut):
        version = made(shared, values, "engine.above")
    mean = int(values.astype("i8").sum()) / values.size
    np.testing.assert_array_equal(values_of(version), values.astype("f8") > mean)
    assert version.info.volume.attributes["mean"] == mean


@MANY
@given(arrays(types=("u1", "i1", ">u2"), largest=17), cuts)
def test_tables_count_every_voxel_once(shared: Store, values: Any, cut: Any) -> None:
    with forced(*cut):
        table = made(shared, values, "engine.counts").table()
    expected, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(table.columns["value"].values, expected)
    np.testing.assert_array_equal(table.columns["count"].values, counts)
    assert table.summary["voxels"] == values.size


@MANY
@given(st.integers(1, 5).flatmap(lambda n: arrays(types=("u1", "<u2"), dims=n, largest=9)), cuts)
def test_any_number_of_axes(shared: Store, values: Any, cut: Any) -> None:
    with forced(*cut):
        version = made(shared, values, "engine.box", radius=1)
    np.testing.assert_array_equal(values_of(version), engine_processors.box(values, 1))


def test_two_inputs(shared: Store, small_shards: None) -> None:
    values = np.random.default_rng(1).integers(0, 9, (20, 30, 17), "u2")
    assert not values_of(made(shared, values, "engine.difference")).any()


EXECUTORS = {"threads": Threads(3), "processes": Processes(2), "dask": Cluster("local:2")}


@pytest.fixture(scope="module", params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Executor:
    return EXECUTORS[request.param]


@pytest.mark.parametrize("name", ["engine.box", "engine.above"])
def test_every_executor_makes_the_same_objects(shared: Store, small_shards: None, executor: Executor, name: str) -> None:
    values = np.random.default_rng(2).integers(0, 200, (40, 33, 20), "u1")
    expected = made(shared, values, name, Threads(1))
    version = made(shared, values, name, executor)
    assert objects(version) == objects(expected)


def objects(version: Any) -> dict[str, str]:
    return {entry.key: entry.digest for entry in version.manifest.objects if not entry.key.startswith(".emstore/")}


def test_the_record_says_it_all(shared: Store) -> None:
    version = made(shared, np.ones((3, 4, 5), "u1"), "engine.box", radius=2)
    record = version.record
    assert record.activity.type == "process"
    assert record.activity.name == "engine.box"
    assert record.params["params"] == {"radius": 2, "pause": 0.0}
    assert record.params["processor_version"] == "1"
    assert [each.role for each in record.inputs] == ["image"]
    assert {software.name for software in record.software} == PACKAGES
    assert record.random.deterministic


def test_the_same_again_is_what_is_there(lab: str) -> None:
    source = seal(volume("made", np.ones((3, 4, 5), "u1"), *axes_of("zyx", (3, 4, 5))), f"{lab}/in/a")
    first = process("engine.box", [source.ref], f"{lab}/out/a")
    second = process("engine.box", [source.ref], f"{lab}/out/a")
    assert (first.created, second.created) == (True, False)
    assert first.version.id == second.version.id
    other = process("engine.box", [source.ref], f"{lab}/out/a", params={"radius": 2})
    assert other.created
    assert other.version.place.version == 2
    assert process("engine.box", [source.ref], f"{lab}/out/a", again=True).created


def test_empty_shards_stay_unwritten(lab: str, small_shards: None) -> None:
    values = np.zeros((40, 40, 40), "u1")
    values[:3, :3, :3] = 1
    source = seal(volume("made", values, *axes_of("zyx", values.shape)), f"{lab}/in/a")
    version = process("engine.box", [source.ref], f"{lab}/out/a", executor=Threads(2)).version
    shards = [entry.key for entry in version.manifest.objects if entry.key.startswith("s0/image/c/")]
    assert shards == ["s0/image/c/0/0/0"]
    np.testing.assert_array_equal(values_of(version), engine_processors.box(values, 1))
    assert Path(lab).is_dir()


@dataclass(frozen=True)
class Counted:
    """Threads that say which tasks they were given."""

    given: list[Task]
    threads: int = 2
    processes: int = 1

    def within(self, threads: int) -> "Counted":
        return replace(self, threads=threads)

    @contextlib.contextmanager
    def doing(self, work: Any, order: Any) -> Iterator[Line]:
        def submit(task: Task) -> Any:
            self.given.append(task)
            return line.submit(task)

        with Threads(self.threads).doing(work, order) as line:
            yield Line(submit, line.width)


def test_a_resumed_run_hands_out_what_is_missing_and_hashes_the_rest_at_once(
    lab: str, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(9).integers(0, 200, (48, 32, 32), "u1")
    source = seal(volume("made", values, *axes_of("zyx", values.shape)), f"{lab}/in/a")
    whole = process("engine.box", [source.ref], f"{lab}/out/whole").version
    real = Transaction.seal

    def stopped(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Transaction, "seal", stopped)
    with pytest.raises(Interrupted):
        process("engine.box", [source.ref], f"{lab}/out/a")
    monkeypatch.setattr(Transaction, "seal", real)
    gone = ["s0/image/c/0/1/0", "s0/image/c/2/0/1"]
    for key in gone:
        Path(lab, "out/a/v1", key).unlink()

    together, real_digest = threading.Barrier(2), Backend.digest

    def digest(self: Backend, key: str) -> tuple[int, str]:
        if "/s0/image/c/" in key:
            together.wait(20)  # ten shards are left, an even number
        return real_digest(self, key)

    monkeypatch.setattr(Backend, "digest", digest)
    given: list[Task] = []
    told: list[Any] = []
    done = process("engine.box", [source.ref], f"{lab}/out/a", executor=Counted(given), listener=told.append)
    assert done.version.place.version == 1
    assert objects(done.version) == objects(whole)
    assert [(task.level, *task.shards) for task in given] == [(0, (0, 1, 0)), (0, (2, 0, 1))]
    [begun] = [event for event in told if isinstance(event, Started)]
    assert sum(event.done for event in told if isinstance(event, Advanced)) == begun.total
