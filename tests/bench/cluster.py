"""A thousand tasks through a Dask cluster of two workers, one of which is killed in between: time, and every block right."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from process import make

import emstore as library
from emstore.blocks.executors import Cluster, Executor, Threads
from emstore.events import Advanced
from emstore.processing import process
from emstore.store import Place, chunking, open_store, verify

EDGE = 32
"""Edge of a shard, and so of a task, voxels."""


def measure(root: Path, *, tasks: tuple[int, int, int] = (10, 10, 10)) -> dict[str, Any]:
    """Return seconds of an undisturbed run in two threads, and on a cluster without and with a killed worker."""
    from distributed import LocalCluster

    chunking.CHUNK_VOXELS = chunking.SHARD_VOXELS = EDGE**3  # type: ignore[misc]
    ref = make(root / "lab.zarr", (tasks[0] * EDGE, tasks[1] * EDGE, tasks[2] * EDGE))
    store = f"{root}/lab.zarr"
    seconds = {}
    made = {}
    with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        workers = [nanny.pid for nanny in cluster.workers.values()]
        runs: dict[str, tuple[Executor, int | None]] = {
            "threads": (Threads(2), None),
            "cluster": (Cluster(address), None),
            "worker killed": (Cluster(address), workers[0]),
        }
        for name, (executor, victim) in runs.items():
            start = time.perf_counter()
            made[name] = smooth(ref, f"{store}/bench/{name.replace(' ', '-')}", executor, victim, int(np.prod(tasks)))
            seconds[name] = round(time.perf_counter() - start, 2)
    for name in runs:
        [checked] = verify(open_store(store), Place("bench", name.replace(" ", "-")), data=True)
        assert not checked.findings, checked.findings
    differing = sum(made["worker killed"].get(key) != value for key, value in made["threads"].items())
    return {
        "tasks": len(made["threads"]),
        "seconds": seconds,
        "milliseconds_per_task_more_than_threads": round(
            (seconds["cluster"] - seconds["threads"]) / len(made["threads"]) * 1e3, 2
        ),
        "blocks that differ after a killed worker (wanted 0)": differing,
    }


def smooth(ref: str, target: str, executor: Executor, victim: int | None, tasks: int) -> dict[str, str]:
    """Process, killing a worker when half is done; return the digest of every shard."""
    done = 0

    def listen(event: Any) -> None:
        nonlocal done
        done += isinstance(event, Advanced)
        if victim is not None and done == tasks // 2:
            os.kill(victim, signal.SIGKILL)
            done += 1

    version = process(
        "denoise.gaussian",
        [ref],
        target,
        params={"sigma": 1, "dtype": "same"},
        executor=executor,
        pyramid=False,
        listener=listen,
    ).version
    assert library.open(target).id == version.id
    return {entry.key: entry.digest for entry in version.manifest.objects if "/image/c/" in entry.key}
