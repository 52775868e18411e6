"""Running the `emstore` command: for real in a process of its own, or, for the many small cases, in this one."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

EMSTORE = Path(sys.executable).with_name("emstore")


def emstore(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [EMSTORE, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in this process, which saves it from importing everything again."""
    from emstore.cli.app import main

    out, err = io.StringIO(), io.StringIO()
    code: object = None
    before, sys.argv = sys.argv, ["emstore", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the JSON objects of standard output, one a line."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def result(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """Call a command with ``--json``, check its exit code, and return the last object it printed."""
    done = call(*arguments, "--json")
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    last: dict[str, Any] = lines(done)[-1]
    if code:
        assert last.get("exit_code", code) == code
    return last
