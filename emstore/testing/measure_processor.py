"""What memory a processor's functions take, measured in a process of its own: ``python -m emstore.testing.measure_processor``.

The job is JSON on standard input: the module, file and name of a `ProcessorConformance` subclass, and which of its cases. The
answer is JSON, the last line printed. Linux only: the peak resident size is reset before every block.
"""

import gc
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emstore.blocks.compute import Compute
from emstore.blocks.layout import lay_out
from emstore.operation import Operation
from emstore.testing import operations
from emstore.testing.loading import load

_HUGE = 1 << 45


def main() -> None:
    """Do the job on standard input."""
    job: dict[str, Any] = json.load(sys.stdin)
    warnings.simplefilter("ignore")
    sys.path[:0] = job["path"]
    suite = load(job["module"], job["file"], job["class"])()
    found = []
    for number in job["cases"]:
        case = suite.cases()[number]
        for voxels in (job["voxels"][0] // 64, *job["voxels"]):  # the first warms up: libraries, pools of threads
            volumes = operations.copying(suite.sized(case, voxels))
            operation = suite.plan(volumes, case.params)
            layout = lay_out(operation, volumes, None, memory=_HUGE, workers=1)
            held = max(_peaks(operation, volumes, layout.block))
            found.append({"case": case.name, "voxels": voxels, "held": held, "projected": layout.worker_bytes})
        del found[-len(job["voxels"]) - 1]
    print(json.dumps(found))  # noqa: T201 - this is the answer


def _peaks(operation: Operation, volumes: operations.Volumes, size: tuple[int, ...]) -> Iterator[int]:
    """Yield the most memory that each block took beyond what there was before."""
    compute = Compute(operation, "it", tuple(v.data for v in volumes))
    found = None
    if operation.reduction is not None:
        state = operation.reduction.start()
        for block in operations.blocks(operation, volumes, size):
            before = _begin()
            part = compute.map(block)
            yield _status("VmHWM") - before
            state = operation.reduction.add(state, block, part)
        found = operation.reduction.finish(state)
    if operation.result is not None:
        for block in operations.blocks(operation, volumes, size):
            before = _begin()
            compute.apply(block, found)
            yield _status("VmHWM") - before


def _begin() -> int:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    return _status("VmRSS")


def _status(key: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{key}:", 1)[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
