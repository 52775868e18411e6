"""What the engine does when a processor, a worker, the storage or the user ends things early."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emstore
from emstore.blocks.executors import Cluster, Executor, Processes, Threads
from emstore.errors import Capacity, Conflict, Damaged, EmstoreError, Kind, NotFound, ProcessingFailed, StorageFailed
from emstore.processing import Processed, process, run
from emstore.store import Place, open_store
from emstore.store.backend import Backend
from emstore.store.transaction import bury
from in_blocks import axes_of
from sealed import seal, volume

SHAPE = (48, 16, 32)
"""Six shards of 16^3: two along x, three along z."""


@pytest.fixture
def source(lab: str, small_shards: None) -> str:
    values = np.random.default_rng(3).normal(size=SHAPE).astype("f4")
    return seal(volume("made", values, *axes_of("zyx", SHAPE)), f"{lab}/in/a").ref


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """Where a fault counts how often it happened: a relative path, since a Record holds no absolute one."""
    (tmp_path / "ledger").mkdir()
    return os.path.relpath(tmp_path / "ledger")


def faulty(source: str, ledger: str, fault: str, executor: Executor | None = None, **params: Any) -> Processed:
    lab = source.rpartition("/in/")[0]
    params = {"fault": fault, "folder": ledger, "first": 20, **params}
    return process("engine.fault", [source], f"{lab}/out/a", params=params, executor=executor or Threads(2), memory=2 << 30)


def shards(lab: str) -> list[str]:
    return sorted(path.relative_to(lab).as_posix() for path in Path(lab, "out/a").rglob("s0/image/c/*/*/*") if path.is_file())


def unsealed(source: str) -> None:
    lab = source.rpartition("/in/")[0]
    with pytest.raises(NotFound):
        emstore.open(f"{lab}/out/a")
    assert not list(Path(lab, "out/a").glob("v*/zarr.json"))


def count(ledger: str) -> int:
    return len(list(Path(ledger).iterdir()))


SAID = {
    "raise": "engine.fault raised ZeroDivisionError: a planted fault",
    "nan": "engine.fault gave NaN where none went in",
    "shape": r"engine.fault gave float32 \(16, 16, 15\) where it promised float32 \(16, 16, 16\)",
    "dtype": "engine.fault gave float64 .* where it promised float32",
    "list": "engine.fault gave list where it promised float32",
}


@pytest.mark.parametrize("fault", SAID)
def test_a_broken_block_fails_the_run_by_name(source: str, ledger: str, fault: str) -> None:
    with pytest.raises(ProcessingFailed, match=SAID[fault]) as failed:
        faulty(source, ledger, fault, times=1)
    assert "z 16:32, y 0:16, x " in str(failed.value)
    assert count(ledger) == 1, "what failed for good was tried again"
    unsealed(source)
    assert shards(source.rpartition("/in/")[0]), "the others' work is lost"
    done = faulty(source, ledger, fault, times=1)
    assert done.created
    assert done.version.place.version == 1


def test_every_broken_block_is_counted_and_the_first_are_named(source: str, ledger: str) -> None:
    with pytest.raises(ProcessingFailed, match=r"2 tasks failed: .*z 16:32.*x 0:16.*; .*z 16:32.*x 16:32"):
        faulty(source, ledger, "raise", pause=0.2)


@pytest.mark.parametrize("executor", [Processes(2), Cluster("local:2")], ids=["processes", "dask"])
def test_a_broken_block_is_named_by_other_processes_too(source: str, ledger: str, executor: Executor) -> None:
    with pytest.raises(ProcessingFailed, match=r"z 16:32, y 0:16.*engine.fault raised ZeroDivisionError: a planted fault"):
        faulty(source, ledger, "raise", executor)
    unsealed(source)


def test_storage_may_fail_twice(source: str, ledger: str) -> None:
    assert faulty(source, ledger, "storage", times=2).created


def test_storage_that_fails_for_good_ends_the_run(source: str, ledger: str) -> None:
    with pytest.raises(StorageFailed, match="a planted fault of storage"):
        faulty(source, ledger, "storage", Threads(1))
    assert 3 <= count(ledger) <= 6  # three times each for the two tasks that are handed in at once
    unsealed(source)


@pytest.mark.parametrize("executor", [Processes(2), Cluster("local:2")], ids=["processes", "dask"])
def test_a_worker_that_dies_is_survived(source: str, ledger: str, executor: Executor) -> None:
    assert faulty(source, ledger, "exit", executor, times=1).created


def test_a_block_that_kills_every_worker_is_named(source: str, ledger: str) -> None:
    with pytest.raises(ProcessingFailed, match=r"z 16:32, y 0:16.*died") as failed:
        faulty(source, ledger, "exit", Processes(1))
    assert "z 32:48" not in str(failed.value)
    unsealed(source)


def test_no_memory_left_is_a_matter_of_capacity(source: str, ledger: str) -> None:
    with pytest.raises(Capacity, match="ran out of memory"):
        faulty(source, ledger, "memory", times=1)
    unsealed(source)
    assert faulty(source, ledger, "memory", times=1).created


def test_a_full_disk_ends_resumable(source: str, ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Backend.put_new
    left = [3]

    def put_new(self: Backend, key: str, data: Any) -> bool:
        if "/s0/image/c/" in key:
            if not left[0]:
                raise self._explain(OSError(28, "No space left on device"), key)
            left[0] -= 1
        return real(self, key, data)

    monkeypatch.setattr(Backend, "put_new", put_new)
    with pytest.raises(Capacity, match="the disk is full") as full:
        faulty(source, ledger, "")
    assert full.value.kind is Kind.DISK_FULL
    unsealed(source)
    assert len(shards(source.rpartition("/in/")[0])) == 3
    left[0] = 1 << 30
    lab = source.rpartition("/in/")[0]
    before = {key: Path(lab, key).stat().st_ino for key in shards(lab)}
    assert faulty(source, ledger, "").version.place.version == 1
    assert {key: Path(lab, key).stat().st_ino for key in before} == before, "what was written is written again"


def test_a_disk_that_is_too_small_is_told_before(source: str, ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backend, "free_bytes", lambda self: 1000)
    with pytest.raises(Capacity, match="are needed and") as full:
        faulty(source, ledger, "")
    assert full.value.kind is Kind.DISK_FULL
    assert not shards(source.rpartition("/in/")[0])


@pytest.mark.parametrize("executor", [Threads(2), Processes(2)], ids=["threads", "processes"])
def test_a_damaged_input_is_named(source: str, ledger: str, executor: Executor) -> None:
    victim = Path(source, "s0/image/c/1/0/1")
    data = bytearray(victim.read_bytes())
    data[100:140] = bytes(40)
    victim.write_bytes(data)
    with pytest.raises(Damaged, match="s0/image/c/1/0/1"):
        faulty(source, ledger, "", executor)
    unsealed(source)


def test_an_input_whose_shard_is_gone_is_named(source: str, ledger: str) -> None:
    Path(source, "s0/image/c/2/0/0").unlink()
    with pytest.raises(Damaged, match="s0/image/c/2/0/0"):
        faulty(source, ledger, "")
    unsealed(source)


@pytest.mark.parametrize("executor", [Threads(2), Processes(2)], ids=["threads", "processes"])
def test_an_input_aborted_meanwhile_is_named(
    source: str, ledger: str, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = source.rpartition("/in/")[0]
    real = run.begin

    def begin(*arguments: Any, **rest: Any) -> Any:
        held = real(*arguments, **rest)
        Path(source, "zarr.json").unlink()
        bury(open_store(lab).backend, Place("in", "a", 1), "it was taken back")
        return held

    monkeypatch.setattr(run, "begin", begin)
    with pytest.raises(EmstoreError, match=r"in/a/v1|s0/image/c/") as failed:
        faulty(source, ledger, "", executor)
    assert isinstance(failed.value, Damaged | NotFound | Conflict), failed.value
    unsealed(source)


def test_two_runs_of_the_very_same_are_one(source: str, ledger: str) -> None:
    first: list[Any] = []
    runner = threading.Thread(target=lambda: first.append(faulty(source, ledger, "", pause=0.5)))
    runner.start()
    while not list(Path(source.rpartition("/in/")[0]).glob("out/a/v1/.emstore/lease/*")) and runner.is_alive():
        time.sleep(0.01)
    with pytest.raises(Conflict) as busy:
        faulty(source, ledger, "", pause=0.5)
    assert busy.value.kind is Kind.BUSY
    runner.join()
    assert first[0].created
    assert faulty(source, ledger, "", pause=0.5).created is False


def test_too_little_memory_says_what_would_do(lab: str) -> None:
    values = np.random.default_rng(4).integers(0, 200, (100, 200, 300), "u2")
    source = seal(volume("made", values, *axes_of("zyx", values.shape)), f"{lab}/in/a").ref
    with pytest.raises(Capacity) as short:
        process("engine.box", [source], f"{lab}/out/a", memory=10 << 20)
    assert short.value.kind is Kind.MEMORY_BUDGET
    assert short.value.fix is not None
    needed = int(short.value.fix.rpartition("--memory ")[2].removesuffix("MiB"))
    with pytest.raises(Capacity):
        process("engine.box", [source], f"{lab}/out/a", memory=needed * 9 // 10 << 20)
    assert not Path(lab, "out").exists(), "a version was reserved in vain"
    assert process("engine.box", [source], f"{lab}/out/a", memory=needed << 20).created


@pytest.mark.parametrize(("name", "params"), [("engine.box", {"pause": 0.3}), ("engine.above", {"pause": 0.3})])
@pytest.mark.parametrize("kind", ["threads", "processes", "dask"])
def test_ctrl_c_ends_soon_and_resumes(source: str, name: str, params: dict[str, Any], kind: str) -> None:
    lab = source.rpartition("/in/")[0]
    code = f"""
import sys
from emstore.blocks.executors import Cluster, Processes, Threads
from emstore.errors import Interrupted
from emstore.events import Advanced
from emstore.processing import process
from emstore.store import chunking
from emstore.blocks import layout

def main():
    chunking.CHUNK_VOXELS, chunking.SHARD_VOXELS, layout.TABLE_BLOCK = 8**3, 16**3, 16
    executor = {{"threads": Threads(1), "processes": Processes(1), "dask": Cluster("local:1")}}[{kind!r}]
    tell = lambda event: print("advanced", flush=True) if isinstance(event, Advanced) else None
    try:
        process({name!r}, [{source!r}], {lab + "/out/a"!r}, params={params!r}, executor=executor, listener=tell)
    except Interrupted as error:
        print(error, flush=True)
        sys.exit(error.exit_code)

if __name__ == "__main__":
    main()
"""
    script = Path(lab).parent / "run.py"
    script.write_text(code)
    run = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "advanced\n", run.stderr.read() if run.stderr else ""
    os.killpg(run.pid, signal.SIGINT)  # a terminal sends it to all
    out, err = run.communicate(timeout=30)
    assert run.returncode == 130, err
    assert "it resumes" in out
    assert "Traceback" not in err, err
    unsealed(source)
    assert process(name, [source], f"{lab}/out/a", params=params).version.place.version == 1
