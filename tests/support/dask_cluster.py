"""A Dask scheduler and workers as processes of their own, as on several machines."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Started:
    """A running cluster."""

    address: str
    nannies: list[int]
    """Process ids of the nannies, whose children are the workers."""


@contextmanager
def started(folder: Path, *, workers: int, threads: int = 1) -> Iterator[Started]:
    """Run a scheduler and so many workers while in use; processors on PYTHONPATH are there too."""
    pytest.importorskip("distributed")
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        common = ["--scheduler-file", str(file)]
        stack.enter_context(
            _running("scheduler", *common, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", log=folder / "s")
        )
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline, (folder / "s").read_text()
            time.sleep(0.05)
        nannies = [
            stack.enter_context(
                _running(
                    "worker", *common, "--nthreads", str(threads), "--memory-limit", "0", "--no-dashboard",
                    "--local-directory", str(folder), "--host", "127.0.0.1", log=folder / f"w{n}",
                )
            ).pid
            for n in range(workers)
        ]  # fmt: skip
        import json

        from distributed import Client

        address = json.loads(file.read_text())["address"]
        with Client(address) as client:
            client.wait_for_workers(workers, timeout=60)
        yield Started(address, nannies)


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
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
