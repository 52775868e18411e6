"""A Dask cluster whose workers differ, join, lack something or die, and the ways docs/clusters.md starts one."""

import builtins
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import emstore
from command_line import result
from dask_cluster import Started, Watched, at_most, started
from emstore.blocks import executors
from emstore.blocks.executors import Cluster, Threads
from emstore.blocks.runner import run
from emstore.blocks.work import Done, Order, Task
from emstore.errors import InvalidInput, NotFound, StorageFailed
from emstore.events import Advanced
from emstore.processing import process
from emstore.store import Place, open_store, verify
from in_blocks import axes_of
from sealed import seal, volume

PAGE = (Path(__file__).resolve().parents[2] / "docs/clusters.md").read_text()
SHAPE = (80, 80, 64)
"""A hundred shards of 16^3."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with started(tmp_path_factory.mktemp("dask"), threads=(1, 3)) as cluster:
        yield cluster


@pytest.fixture
def source(lab: str, small_shards: None) -> str:
    values = np.random.default_rng(8).integers(0, 200, SHAPE, "u1")
    seal(volume("made", values, *axes_of("zyx", SHAPE)), f"{lab}/in/a")
    return lab


def watch(cluster: Cluster, order: Watched, tasks: int, meanwhile: Any = None) -> list[int]:
    """Do tasks that do nothing; return how many the cluster did at once, as it said after each."""
    widths: list[int] = []
    numbers: set[int] = set()

    def done(answer: Done) -> None:
        numbers.add(answer.number)
        widths.append(line.width())
        if meanwhile is not None and len(widths) == 1:
            meanwhile()

    nothing: Any = None
    given: Any = order
    with cluster.doing(nothing, given) as line:
        every = (Task(number, (slice(0, 1),), None) for number in range(tasks))
        run(every, line.submit, done, window=lambda: 2 * line.width())
    assert numbers == set(range(tasks))
    return widths


@pytest.mark.parametrize(("at_once", "most", "width"), [(None, [1, 3], 4), (2, [1, 2], 3), (1, [1, 1], 2)])
def test_workers_keep_to_their_threads_and_to_what_memory_takes(
    uneven: Started, tmp_path: Path, at_once: int | None, most: list[int], width: int
) -> None:
    cluster = Cluster(uneven.address)
    assert (cluster.threads, cluster.processes) == (3, 1)
    widths = watch(cluster if at_once is None else cluster.within(at_once), Watched(str(tmp_path)), 40)
    assert set(widths) == {width}
    assert sorted(at_most(tmp_path).values()) == most


def test_a_worker_that_joins_gets_work_and_keeps_to_the_budget_too(uneven: Started, tmp_path: Path) -> None:
    with ExitStack() as stack:
        widths = watch(
            Cluster(uneven.address).within(2), Watched(str(tmp_path)), 60, lambda: stack.enter_context(uneven.one_more(4))
        )
    assert widths[0] == 3
    assert widths[-1] == 5
    assert sorted(at_most(tmp_path).values()) == [1, 2, 2]


def test_a_large_order_goes_to_workers_that_ask_for_it(uneven: Started, tmp_path: Path) -> None:
    found = np.arange(1 << 20)
    watch(Cluster(uneven.address), Watched(str(tmp_path), found, pause=0.01), 50)
    assert len(list(tmp_path.glob("opened-*"))) == 2
    assert sorted(at_most(tmp_path).values()) == [1, 3]


def test_a_worker_with_another_version_is_refused(source: str, uneven: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = emstore.__version__
    monkeypatch.setattr(emstore, "__version__", "99.0")
    with pytest.raises(InvalidInput, match=rf"a worker has emstore {re.escape(theirs)} and .*this process emstore 99.0"):
        process("engine.box", [f"{source}/in/a"], f"{source}/out/other", executor=Cluster(uneven.address), memory=2 << 30)
    assert not list(Path(source, "out/other").glob("v*/zarr.json"))


def test_a_worker_that_lacks_the_processor_is_refused(uneven: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_software", lambda name: (("emstore", emstore.__version__), ("their-package", "1.0")))
    with pytest.raises(InvalidInput, match=r"a worker has .* and their.other nowhere, this process .* and their-package 1.0"):
        watch(Cluster(uneven.address), Watched(str(tmp_path), processor="their.other"), 1)


def test_a_store_that_a_worker_does_not_reach_is_named(source: str, uneven: Started) -> None:
    order = Order("engine.box", {}, ((f"{source}-elsewhere", "in/a/v1", ""),), None, None, ((0, 1),), (1,))
    nothing: Any = None
    with (
        Cluster(uneven.address).doing(nothing, order) as line,
        pytest.raises(NotFound, match="a worker does not find it") as lost,
    ):
        line.submit(Task(0, (slice(0, 1),), None)).result(60)
    assert f"{source}-elsewhere" in str(lost.value)


def test_workers_are_asked_for_the_device(uneven: Started, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(InvalidInput, match="2 of the cluster's 2 workers have no device 'cuda:7'"):
        watch(Cluster(uneven.address), Watched(str(tmp_path), device="cuda:7"), 1)
    watch(Cluster(uneven.address), Watched(str(tmp_path), device="meta"), 1)  # a device that PyTorch has everywhere


def test_a_cluster_without_workers_is_said_to_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_PATIENCE", 0.5)
    with started(tmp_path, threads=()) as cluster, pytest.raises(StorageFailed, match="the cluster has no workers"):
        Cluster(cluster.address).threads  # noqa: B018


def test_a_hundred_tasks_with_a_worker_killed_in_between(source: str, tmp_path: Path) -> None:
    with started(tmp_path) as cluster:
        made = result_of(source, "cluster", Cluster(cluster.address), kill=cluster.nannies[0])
    whole = result_of(source, "threads", Threads(2))
    assert len(made) == 100
    assert made == whole
    [found] = verify(open_store(source), Place("out", "cluster"), data=True)
    assert not found.findings


def result_of(lab: str, array: str, executor: Any, kill: int | None = None) -> dict[str, str]:
    """Process; kill the worker of a nanny when a third is done; return the digests of the result's shards."""
    advanced = 0

    def listen(event: Any) -> None:
        nonlocal advanced
        advanced += isinstance(event, Advanced)
        if kill is not None and advanced == 33:
            [worker] = [p for p in psutil.Process(kill).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
            worker.kill()
            advanced += 1

    done = process(
        "engine.box", [f"{lab}/in/a"], f"{lab}/out/{array}", params={"pause": 0.02}, executor=executor, memory=2 << 30,
        pyramid=False, listener=listen,
    )  # fmt: skip
    return {entry.key: entry.digest for entry in done.version.manifest.objects if "/image/c/" in entry.key}


def test_a_scheduler_that_dies_ends_the_run_and_leaves_it_resumable(source: str, tmp_path: Path) -> None:
    with started(tmp_path) as cluster:
        code = f"""
from emstore.blocks.executors import Cluster
from emstore.blocks import layout
from emstore.events import Advanced
from emstore.processing import process
from emstore.store import Place, open_store, verify
from emstore.store import chunking

chunking.CHUNK_VOXELS, chunking.SHARD_VOXELS, layout.TABLE_BLOCK = 8**3, 16**3, 16
tell = lambda event: print("advanced", flush=True) if isinstance(event, Advanced) else None
process("engine.box", [{source + "/in/a"!r}], {source + "/out/a"!r}, params={{"pause": 0.1}},
        executor=Cluster({cluster.address!r}), memory=2 << 30, pyramid=False, listener=tell)
"""
        run_ = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert run_.stdout is not None
        assert run_.stdout.readline() == "advanced\n", run_.communicate()
        os.kill(cluster.scheduler, signal.SIGKILL)
        _, err = run_.communicate(timeout=90)
    assert run_.returncode != 0
    assert "StorageFailed: " in err, err
    assert "the cluster's scheduler is gone" in err, err
    assert not list(Path(source, "out/a").glob("v*/zarr.json"))
    assert result_of(source, "a", Threads(2)) == result_of(source, "whole", Threads(2))


SBATCH = """#!/bin/sh
# What SLURM does with a job script, as far as it matters here: the comments are for SLURM, the rest runs in the background.
cp "$1" "$JOBS/script"
sh "$JOBS/script" > "$JOBS/out" 2>&1 &
echo $! > "$JOBS/pid"
echo "Submitted batch job $!"
"""


def test_the_page_s_slurm_cluster_asks_for_what_it_says_and_does_the_work(
    lab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {"sbatch": SBATCH, "scancel": '#!/bin/sh\nkill "$@"\n'}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("JOBS", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # where workers keep their files
    [code] = [block for block in blocks("python") if "SLURMCluster" in block]
    values = np.random.default_rng(2).normal(100, 20, (20, 30, 40)).astype("f4")
    seal(volume("made", values, *axes_of("zyx", values.shape)), f"{lab}/brain/scan")
    asked: list[str] = []

    def work(question: str) -> str:
        """Stand where the page waits: the cluster runs, and its address is on the screen."""
        asked.append(question)
        address = capsys.readouterr().out.strip()
        arguments = [part for part in shlex.split(blocks("sh")[0]) if part != "emstore"]
        arguments[arguments.index("--cluster") + 1] = address
        result(*(part.replace("lab.zarr", lab) for part in arguments))
        return ""

    monkeypatch.setattr(builtins, "input", work)
    names: dict[str, Any] = {}
    try:
        exec(compile(code.replace("jobs=2", "jobs=1"), "docs/clusters.md", "exec"), names)
        script = (tmp_path / "script").read_text().splitlines()
        assert names["cluster"].job_script().splitlines()[:-1] == [line for line in script if "distributed.cli" not in line]
    finally:
        if "cluster" in names:
            names["cluster"].close()
    assert asked
    assert {
        "#SBATCH -p cpu",
        "#SBATCH -A lab",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=32G",
        "#SBATCH -t 08:00:00",
        "export OMP_NUM_THREADS=1",
    } <= set(script)
    [command] = [line for line in script if "distributed.cli.dask_worker" in line]
    assert "--nthreads 4" in command
    assert "--memory-limit 32.00GiB" in command
    assert "--lifetime 7h --lifetime-stagger 5m" in command
    everything = tuple(slice(0, n) for n in values.shape)
    made = emstore.open(f"{lab}/brain/smooth").array()[everything]
    assert np.array_equal(made, emstore.open(process_in_threads(lab)).array()[everything])


def process_in_threads(lab: str) -> str:
    return process(
        "denoise.gaussian", [f"{lab}/brain/scan"], f"{lab}/brain/here", params={"sigma": 2}, executor=Threads(1)
    ).version.ref


def test_the_page_s_commands_are_what_dask_understands() -> None:
    from distributed.cli import dask_scheduler, dask_worker

    commands = [shlex.split(line) for block in blocks("sh") for line in block.splitlines() if line.startswith("dask ")]
    [scheduler, worker] = commands
    assert scheduler[:2] == ["dask", "scheduler"]
    assert dask_scheduler.main.make_context("scheduler", scheduler[2:]).params["port"] == "8786"
    # `dask cuda worker` has these options of `dask worker`.
    assert worker[:3] == ["dask", "cuda", "worker"]
    given = dask_worker.main.make_context("worker", worker[3:]).params
    assert (given["nthreads"], given["memory_limit"], given["death_timeout"]) == (1, "64GiB", "60")


def test_dask_cuda_understands_the_page() -> None:
    cli = pytest.importorskip("dask_cuda.cli", reason="dask-cuda asks for a Dask of its own and an NVIDIA driver")
    import inspect

    from dask_cuda import LocalCUDACluster

    [line] = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("dask cuda worker")]
    assert cli.cuda.commands["worker"].make_context("worker", shlex.split(line)[3:]).params["nthreads"] == 1
    [code] = [block for block in blocks("python") if "LocalCUDACluster" in block]
    wanted = re.findall(r"(\w+)=", code)
    assert wanted
    assert set(wanted) <= set(inspect.signature(LocalCUDACluster).parameters)


@pytest.mark.parametrize("block", blocks("python"))
def test_the_page_s_python_compiles(block: str) -> None:
    compile(block, "docs/clusters.md", "exec")
