"""A command run to its end in a process of its own: wall time from start to exit, and the peak memory of its whole tree.

The command is started by a small launcher (this file as a script), since on Linux the peak that `wait4` reports for a child
also counts the memory of the process it was forked from, and a benchmark holds much.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ran:
    """How a command went."""

    seconds: float
    """From start to exit, start-up included."""
    peak_MiB: float
    """Most resident memory: of the process, or of it and its children together where it has any."""
    code: int
    output: str
    """What it printed, both streams."""


def run(command: list[str], *, environment: dict[str, str] | None = None, check: bool = True) -> Ran:
    """Run a command and measure it.

    Parameters
    ----------
    command : list of str
        Program and arguments.
    environment : dict, optional
        Variables to set besides those that are set here.
    check : bool
        Whether a non-zero exit code is an error.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as it is installed
    launched = subprocess.run(
        [sys.executable, "-I", "-S", __file__, *command],
        capture_output=True,
        text=True,
        env={**kept, **(environment or {})},
        check=True,
    )
    found = Ran(**json.loads(launched.stdout))
    if check and found.code:
        raise RuntimeError(f"{' '.join(command)} ended with {found.code}\n{found.output[-4000:]}")
    return found


def emstore(*arguments: str) -> list[str]:
    """Return the command line of the installed ``emstore`` script."""
    return [str(Path(sys.executable).with_name("emstore")), *arguments]


def launch(command: list[str]) -> dict[str, object]:
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    output = b""
    together = 0
    while True:
        output += child.stdout.read() or b""
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        tree = resident(child.pid)
        if len(tree) > 1:
            together = max(together, sum(tree))
        time.sleep(0.005 if time.perf_counter() - start < 2 else 0.02)
    seconds = time.perf_counter() - start
    output += child.stdout.read() or b""
    child.returncode = os.waitstatus_to_exitcode(status)
    peak = max(usage.ru_maxrss * 1024, together)
    return {"seconds": seconds, "peak_MiB": peak / (1 << 20), "code": child.returncode, "output": output.decode(errors="replace")}


def resident(pid: int) -> list[int]:
    """Return the resident bytes of a process and of each of its descendants."""
    found = []
    try:
        found.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"))
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += resident(int(child))
    except OSError:
        pass  # it has just ended
    return found


if __name__ == "__main__":
    print(json.dumps(launch(sys.argv[1:])))
