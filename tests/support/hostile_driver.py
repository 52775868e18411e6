"""Runs the real command on many hostile files, each in a process of its own, and watches what becomes of it.

    python hostile_driver.py JOBS.json RESULTS.json

A job is ``{"name", "arguments", "folder"}``; its result ``{"code", "out", "err", "peak", "seconds", "left"}``. The children
are forked from here with everything imported, so that hundreds of them take seconds; each has its own temporary folder, and
is killed once it has run a minute or taken more than a gigabyte.
"""

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_BYTES = 1 << 30
LIMIT_SECONDS = 60.0
ATONCE = 2


@dataclass
class Running:
    """One command on its way."""

    job: dict[str, Any]
    child: int
    started: float
    peak: int = 0
    killed: str | None = None

    @classmethod
    def start(cls, job: dict[str, Any]) -> "Running":
        """Fork a child that becomes the command."""
        (Path(job["folder"]) / "tmp").mkdir(parents=True)
        child = os.fork()
        if child == 0:
            _become(job["arguments"], Path(job["folder"]))
        return cls(job, child, time.monotonic())

    def look(self) -> dict[str, Any] | None:
        """Return the result once the command has ended; end it at its limits."""
        pid, status, used = os.wait4(self.child, os.WNOHANG)
        seconds = time.monotonic() - self.started
        if not pid:
            self.peak = max(self.peak, _resident(self.child))
            if self.killed is None and (seconds > LIMIT_SECONDS or self.peak > LIMIT_BYTES):
                self.killed = "time" if seconds > LIMIT_SECONDS else "memory"
                os.kill(self.child, signal.SIGKILL)
            return None
        folder = Path(self.job["folder"])
        return {
            "code": os.waitstatus_to_exitcode(status),
            "killed": self.killed,
            "out": (folder / "out").read_text(errors="surrogateescape"),
            "err": (folder / "err").read_text(errors="surrogateescape"),
            "peak": max(self.peak, used.ru_maxrss * 1024),
            "seconds": seconds,
            "left": sorted(p.name for p in (folder / "tmp").iterdir()),
        }


def _become(arguments: list[str], folder: Path) -> None:
    """Be the command, in the forked child; never returns."""
    code = 1
    try:
        os.dup2(os.open(folder / "out", os.O_WRONLY | os.O_CREAT, 0o600), 1)
        os.dup2(os.open(folder / "err", os.O_WRONLY | os.O_CREAT, 0o600), 2)
        os.environ["TMPDIR"] = str(folder / "tmp")
        tempfile.tempdir = None
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["emstore", *(os.fsdecode(bytes.fromhex(text)) for text in arguments)]
        from emstore.cli.app import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever it is, it must not return into the code of the parent
        traceback.print_exc()
        code = 99
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


def main() -> None:
    """Run all jobs."""
    import emstore.ingestion
    import emstore.registry
    import emstore.store

    for name in emstore.registry.adapters():
        emstore.registry.adapter(name)
    for name in ("h5py", "nibabel", "pydicom", "tifffile", "mrcfile", "zarr", "imagecodecs", "av", "PIL.Image"):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    jobs = json.loads(Path(sys.argv[1]).read_text())
    results: dict[str, Any] = {}
    waiting, running = list(reversed(jobs)), []
    while waiting or running:
        while waiting and len(running) < ATONCE:
            running.append(Running.start(waiting.pop()))
        for one in list(running):
            result = one.look()
            if result is not None:
                results[one.job["name"]] = result
                running.remove(one)
        time.sleep(0.003)
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
