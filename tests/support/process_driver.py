"""Kills real runs of processors and sees what they leave; run as a program by the engine's crash tests.

    python process_driver.py '{"mode": "client" | "worker" | "eight", "store": ..., "kills": ..., "seed": ..., ...}'

Every run is a forked child, a process of its own that can die at any moment without paying for a fresh interpreter. The last
line printed is the JSON result.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import psutil

import emstore
import emstore.processing
from crash_driver import in_child, visible
from emstore import registry
from emstore.blocks import executors, layout
from emstore.blocks.executors import Cluster, Executor, Processes, Threads
from emstore.store import chunking


def executor_of(job: dict[str, Any]) -> Executor:
    """Return where a job's runs are done."""
    kind = job["executor"]
    return Threads(2) if kind == "threads" else Processes(2) if kind == "processes" else Cluster(kind)


def process(job: dict[str, Any], array: str, executor: Executor | None = None) -> dict[str, Any]:
    """Process the source; return what the sealed version's arrays are."""
    made = emstore.processing.process(
        job["name"],
        [f"{job['store']}/in/a"],
        f"{job['store']}/lab/{array}",
        params=job["params"],
        executor=executor or executor_of(job),
        memory=4 << 30,
    )
    objects = {e.key: e.digest for e in made.version.manifest.objects if not e.key.startswith(".emstore/")}
    return {"objects": objects, "created": made.created, "version": made.version.place.version}


def rerun(job: dict[str, Any], array: str, expected: dict[str, str], problems: list[str], executor: Executor | None) -> None:
    """After a crash: nothing torn is visible, the rerun finishes, and its arrays equal the uninterrupted ones."""

    def work() -> list[str]:
        wrong = [f"visible after the crash: {text}" for text in visible(job, array)]
        made = process(job, array, executor)
        objects = made["objects"]
        differing = sorted(k for k in objects.keys() | expected.keys() if objects.get(k) != expected.get(k))
        if differing:
            wrong.append(f"the resumed result differs in {differing[:3]}")
        if made["version"] != 1:
            wrong.append(f"the rerun made v{made['version']} instead of resuming v1")
        return wrong + [f"after the rerun: {text}" for text in visible(job, array)]

    status, wrong = in_child(work)
    problems += [f"{array}: {text}" for text in (wrong if status == 0 else [f"the rerun failed with {status}"])]


def begun(job: dict[str, Any], array: str) -> int:
    """Begin a run in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            process(job, array)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not return into the parent's code
            traceback.print_exc()
            os._exit(1)
    return child


def kill_clients(job: dict[str, Any], expected: dict[str, str], seconds: float) -> dict[str, Any]:
    """Kill the process that runs at random moments, until so many were killed; resume each with threads."""
    chance = random.Random(job["seed"])
    problems: list[str] = []
    killed = runs = interrupted = 0
    while killed < job["kills"]:
        runs += 1
        array = f"m{runs}"
        child = begun(job, array)
        if runs % 2:  # however busy the machine is: every other one dies once its version was begun
            while not reserved(job, array) and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                time.sleep(0.005)
        time.sleep(chance.uniform(0, seconds / 2 if runs % 2 else seconds))
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == -signal.SIGKILL:
            killed += 1
        elif status:
            problems.append(f"{array}: exit {status}")
        interrupted += reserved(job, array) and not sealed(job, array)
        rerun(job, array, expected, problems, Threads(2))
    return {"killed": killed, "runs": runs, "interrupted": interrupted, "problems": problems}


def reserved(job: dict[str, Any], array: str) -> bool:
    """Say whether a version was begun."""
    return Path(job["store"], "lab", array, "v1/.emstore/txn.json").exists()


def sealed(job: dict[str, Any], array: str) -> bool:
    """Say whether a version is sealed."""
    return Path(job["store"], "lab", array, "v1/zarr.json").exists()


def kill_workers(job: dict[str, Any], expected: dict[str, str], seconds: float) -> dict[str, Any]:
    """Kill a worker at a random moment of every run; the run must survive."""
    chance = random.Random(job["seed"])
    problems: list[str] = []
    killed = 0
    for run in range(job["kills"]):
        array = f"w{run}"
        child = begun(job, array)
        time.sleep(chance.uniform(0, seconds))
        workers = workers_of(job, child)
        if workers:
            killed += 1
            for victim in workers if job.get("all") else [chance.choice(workers)]:
                victim.kill()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            problems.append(f"{array}: exit {status}")
            continue
        made: dict[str, str] = in_child(lambda array=array: process(job, array, Threads(1)))[1]["objects"]
        if made != expected:
            problems.append(f"{array}: the result differs")
    return {"killed": killed, "problems": problems}


def workers_of(job: dict[str, Any], client: int) -> list[psutil.Process]:
    """Return the processes that do blocks: children of the client, or of the nannies named in the job."""
    found = []
    for parent in job.get("nannies") or [client]:
        for process in psutil.Process(parent).children(recursive=True):
            try:
                command = process.cmdline()
            except psutil.Error:
                continue
            if any("spawn_main" in part for part in command):
                found.append(process)
    return found


def eight(job: dict[str, Any]) -> dict[str, Any]:
    """Have eight processes make eight different versions of one array at once."""
    problems: list[str] = []
    children = []
    for radius in range(8):
        child = os.fork()
        if child == 0:
            try:
                made = emstore.processing.process(
                    "engine.box",
                    [f"{job['store']}/in/a"],
                    f"{job['store']}/lab/eight",
                    params={"radius": radius},
                    executor=Threads(1),
                )
                os._exit(0 if made.created else 2)
            except BaseException:  # noqa: BLE001 - nor must this one
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    for child in children:
        if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            problems.append(f"exit {status}")
    made = [emstore.open(f"{job['store']}/lab/eight/v{n}").record.params["params"]["radius"] for n in range(1, 9)]
    return {"radii": sorted(made), "problems": problems}


def main() -> None:
    """Run one job."""
    job = json.loads(sys.argv[1])
    chunking.CHUNK_VOXELS, chunking.SHARD_VOXELS, layout.TABLE_BLOCK = 8**3, 16**3, 16  # type: ignore[misc]
    if job.get("scattered"):
        executors._INLINE = -1  # type: ignore[misc]
    for name in registry.processors():
        if name.startswith("engine."):
            registry.processor(name)
    if job["mode"] == "eight":
        print(json.dumps(eight(job)))
        return
    # Once to have everything imported, once for the time.
    in_child(lambda: process(job, "warm", Threads(2)))
    status, reference = in_child(lambda: process(job, "whole", Threads(2)))
    in_child(lambda: process(job, "warm2"))
    started = time.monotonic()
    status, _ = in_child(lambda: process(job, "timed"))
    seconds = time.monotonic() - started
    if reference is None or status:
        print(json.dumps({"problems": [f"the uninterrupted run failed ({status})"]}))
        return
    work = kill_clients if job["mode"] == "client" else kill_workers
    result = work(job, reference["objects"], seconds)
    print(json.dumps({**result, "objects": len(reference["objects"]), "seconds": seconds}))


if __name__ == "__main__":
    main()
