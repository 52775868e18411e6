"""What the block engine's loop costs per task: 100,000 tasks that do nothing, through threads."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from emstore.blocks.runner import run
from emstore.blocks.work import Done, Task


def measure(root: Path, *, tasks: int = 100_000, workers: int = 2) -> dict[str, Any]:
    """Return milliseconds per task."""
    count = 0

    def done(answer: Done) -> None:
        nonlocal count
        count += 1

    with ThreadPoolExecutor(workers) as pool:
        start = time.perf_counter()
        run(
            (Task(number, (slice(0, 1),), None) for number in range(tasks)),
            lambda task: pool.submit(Done, task.number),
            done,
            window=lambda: 2 * workers,
        )
        seconds = time.perf_counter() - start
    assert count == tasks
    return {"tasks": tasks, "milliseconds_per_task": round(seconds / tasks * 1e3, 4), "wanted": 0.2}
