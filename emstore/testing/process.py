"""Running `emstore.testing.measure` and reading its answer, whatever becomes of the process."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emstore.adapter import Adapter


def run(adapter: type[Adapter], task: str, samples: Sequence[dict[str, Any]], folder: Path, seconds: float) -> dict[str, Any]:
    """Do one task for some samples in a fresh process and return its answer; fail the test when it dies or hangs.

    Parameters
    ----------
    adapter : type
        The adapter's class; imported by name there, or from its source file.
    task : str
        ``costs`` or ``corrupt``.
    samples : sequence of dict
        ``name``, ``paths`` and ``files`` of each sample, and ``turns`` for ``corrupt``.
    folder : Path
        Where the answer may be kept.
    seconds : float
        Most that the process may take.
    """
    answer = folder / f"{task}.json"
    job = {
        "task": task,
        "module": adapter.__module__,
        "class": adapter.__qualname__,
        "file": inspect.getfile(adapter),
        "path": [entry for entry in sys.path if entry],
        "answer": str(answer),
        "samples": list(samples),
    }
    command = [sys.executable, "-m", "emstore.testing.measure"]
    # A fixed threshold makes the allocator give freed arrays back, so that the next peak shows them again.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"}
    try:
        done = subprocess.run(
            command, input=json.dumps(job), capture_output=True, text=True, timeout=seconds, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"{_where(answer)} it took more than {seconds:.0f} s", pytrace=False)
    if done.returncode:
        pytest.fail(f"{_where(answer)} the process ended with {done.returncode}\n{done.stderr[-2000:]}", pytrace=False)
    result: dict[str, Any] = json.loads(answer.read_text())
    return result


def _where(answer: Path) -> str:
    return f"at {json.loads(answer.read_text()).get('at')}:" if answer.exists() else "before the first file:"
