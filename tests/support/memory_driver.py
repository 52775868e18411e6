"""Carry out one processor on inputs of several sizes and tell what memory each took: ``python memory_driver.py``.

The job is JSON on standard input: `name`, `params`, `memory` (bytes), `store` for the results, and `inputs`, for each size a list
of REFs. The answer is JSON: for each size the peak resident size of the process while it was done, and what was projected.
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

from emstore.blocks.executors import Threads
from emstore.events import Event, Started
from emstore.processing import process


def main() -> None:
    """Do the job on standard input."""
    job: dict[str, Any] = json.load(sys.stdin)
    found = []
    for size, refs in enumerate(job["inputs"]):
        projected: list[int | None] = []

        def listen(event: Event, told: list[int | None] = projected) -> None:
            if isinstance(event, Started):
                told.append(event.memory)

        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        target = f"{job['store']}/made/{job['name'].replace('.', '-')}-{size}"
        how = {"memory": job["memory"], "executor": Threads(2), "again": True}
        process(job["name"], refs, target, params=job["params"], listener=listen, **how)
        status = Path("/proc/self/status").read_text()
        [most] = projected
        found.append({"peak": int(status.split("VmHWM:", 1)[1].split()[0]) * 1024, "projected": most})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
