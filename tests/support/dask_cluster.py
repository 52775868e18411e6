"""A Dask scheduler and workers as processes of their own, as on several machines, and work that says how it was done."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emstore.blocks.work import Done, Task


@dataclass(frozen=True)
class Started:
    """A running cluster."""

    address: str
    nannies: list[int]
    """Process ids of the nannies, whose children are the workers."""
    scheduler: int
    """Process id of the scheduler."""
    folder: Path

    @contextmanager
    def one_more(self, threads: int) -> Iterator[None]:
        """Have another worker join, and wait until it has."""
        from distributed import Client

        name = f"joined-{time.monotonic_ns()}"
        with _worker(self.folder, name, threads), Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self.nannies) + 1, timeout=60)
            yield


@contextmanager
def started(folder: Path, *, threads: Sequence[int] = (1, 1)) -> Iterator[Started]:
    """Run a scheduler and workers with so many threads while in use; processors on PYTHONPATH are there too."""
    pytest.importorskip("distributed")
    from distributed import Client

    file = folder / "scheduler.json"
    with ExitStack() as stack:
        scheduler = stack.enter_context(
            _running(
                "scheduler", "--scheduler-file", str(file), "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                log=folder / "s",
            )
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline, (folder / "s").read_text()
            time.sleep(0.05)
        nannies = [stack.enter_context(_worker(folder, f"w{n}", count)).pid for n, count in enumerate(threads)]
        address = json.loads(file.read_text())["address"]
        with Client(address, set_as_default=False) as client:
            if threads:
                client.wait_for_workers(len(threads), timeout=60)
        yield Started(address, nannies, scheduler.pid, folder)


def _worker(folder: Path, name: str, threads: int) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    return _running(
        "worker", "--scheduler-file", str(folder / "scheduler.json"), "--nthreads", str(threads), "--memory-limit", "0",
        "--no-dashboard", "--local-directory", str(folder), "--host", "127.0.0.1", log=folder / name,
    )  # fmt: skip


@contextmanager
def _running(*command: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:]], stdout=out, stderr=out
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True)
class Watched:
    """An order for work that notes in a folder, for every task, its process and how many it was doing."""

    folder: str
    found: Any = None
    device: str = "cpu"
    processor: str = "engine.box"
    pause: float = 0.1

    def open(self) -> "WatchedWork":
        Path(self.folder, f"opened-{os.getpid()}").touch()
        return WatchedWork(self)


class WatchedWork:
    """Work that waits."""

    def __init__(self, order: Watched) -> None:
        self.order = order
        self.lock = threading.Lock()
        self.doing = 0

    def perform(self, task: Task) -> Done:
        with self.lock:
            self.doing += 1
            Path(self.order.folder, f"task-{task.number}-{os.getpid()}-{self.doing}").touch()
        time.sleep(self.order.pause)
        with self.lock:
            self.doing -= 1
        return Done(task.number)


def at_most(folder: Path) -> dict[str, int]:
    """Return how many tasks each process did at once, at most."""
    most: dict[str, int] = {}
    for path in folder.glob("task-*"):
        _, _, process, count = path.name.split("-")
        most[process] = max(most.get(process, 0), int(count))
    return most
