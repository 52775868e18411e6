"""Killed runs and killed workers leave nothing torn behind; the rerun finishes what they began, byte for byte."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from dask_cluster import Started, started
from in_blocks import axes_of
from sealed import seal, volume

DRIVER = Path(__file__).resolve().parents[1] / "support" / "process_driver.py"
SHAPE = (64, 32, 16)
KILLS = int(os.environ.get("EMSTORE_KILLS", "8"))
"""Kills on a cluster, whose runs take their time; 50 in a long run."""


def drive(mode: str, lab: str, executor: str, **rest: Any) -> dict[str, Any]:
    job = {"mode": mode, "store": lab, "executor": executor, "seed": 11, "params": {}, "name": "engine.box", **rest}
    done = subprocess.run(
        [sys.executable, str(DRIVER), json.dumps(job)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["problems"] == [], done.stderr[-3000:]
    return result


@pytest.fixture
def source(lab: str, small_shards: None) -> str:
    values = np.random.default_rng(6).integers(0, 200, SHAPE, "u1")
    seal(volume("made", values, *axes_of("zyx", SHAPE)), f"{lab}/in/a")
    return lab


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with started(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


@pytest.mark.parametrize(("name", "pause"), [("engine.box", 0.03), ("engine.above", 0.03)])
def test_killed_at_random_moments(source: str, name: str, pause: float) -> None:
    params = {"pause": pause}
    result = drive("client", source, "threads", kills=25, name=name, params=params, seed=len(name))
    assert result["killed"] == 25
    assert result["interrupted"] >= 5, result


def test_killed_at_random_moments_on_a_cluster(source: str, cluster: Started) -> None:
    result = drive("client", source, cluster.address, kills=KILLS, params={"pause": 0.03})
    assert result["killed"] == KILLS
    assert result["interrupted"] >= KILLS // 5, result


def test_a_cluster_s_workers_killed_at_random_moments(source: str, cluster: Started) -> None:
    result = drive("worker", source, cluster.address, kills=KILLS // 2, params={"pause": 0.03}, nannies=cluster.nannies)
    assert result["killed"] == KILLS // 2


@pytest.mark.parametrize("everyone", [False, True], ids=["one", "all"])
def test_workers_killed_that_hold_a_large_order(source: str, cluster: Started, everyone: bool) -> None:
    result = drive(
        "worker", source, cluster.address, kills=KILLS // 2, params={"pause": 0.03}, nannies=cluster.nannies,
        name="engine.above", scattered=True, all=everyone,
    )  # fmt: skip
    assert result["killed"] == KILLS // 2


@pytest.mark.parametrize(
    ("mode", "executor"), [("client", "local:2"), ("worker", "local:2"), ("client", "processes"), ("worker", "processes")]
)
def test_other_executors_survive_too(source: str, mode: str, executor: str) -> None:
    before = {process.pid for process in psutil.process_iter()}
    result = drive(mode, source, executor, kills=2, params={"pause": 0.05})
    assert result["killed"] >= 1
    left = [p for p in psutil.process_iter() if p.pid not in before and is_worker(p)]
    _, alive = psutil.wait_procs(left, timeout=20)
    assert not alive, "workers outlive the process that began them"


def is_worker(process: psutil.Process) -> bool:
    try:
        return process.ppid() in (1, os.getpid()) and any("multiprocessing" in part for part in process.cmdline())
    except psutil.Error:
        return False


def test_eight_processes_make_eight_versions(source: str) -> None:
    assert drive("eight", source, "threads")["radii"] == list(range(8))
