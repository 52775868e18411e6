"""What memory a processor's functions take, measured in a process of its own: ``python -m emstore.testing.measure_processor``.

The definition is the one a whole process is held to (see `emstore.blocks.layout`): a block takes no more than a worker is
projected to take, and the state of a reduction, with what is found from it, no more than the reduction says.

The job is JSON on standard input: the module, file and name of a `ProcessorConformance` subclass, and which of its cases. The
answer is JSON, the last line printed. Linux only: the peak resident size is reset before every step.
"""

import gc
import json
import sys
import warnings
from pathlib import Path
from typing import Any

from emstore.blocks.compute import Compute
from emstore.blocks.layout import lay_out
from emstore.operation import Operation
from emstore.testing import operations
from emstore.testing.loading import load

STATE = 8 << 20
"""What a reduction's state may take that says nothing of it, bytes."""
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
            block, state = _peaks(operation, volumes, layout.block)
            here = {"case": case.name, "voxels": voxels}
            found.append({**here, "what": "a block", "by": "work_bytes", "held": block, "projected": layout.worker_bytes})
            if operation.reduction is not None:
                said = operation.reduction.state_bytes
                projected = STATE if said is None else said(layout.block)
                found.append({**here, "what": "the state", "by": "state_bytes", "held": state, "projected": projected})
        found = [one for one in found if one["voxels"] in job["voxels"]]
    print(json.dumps(found))  # noqa: T201 - this is the answer


def _peaks(operation: Operation, volumes: operations.Volumes, size: tuple[int, ...]) -> tuple[int, int]:
    """Return the most memory that a block took beyond what there was before, and that a reduction kept."""
    compute = Compute(operation, "it", tuple(v.data for v in volumes))
    most = kept = 0
    found = None
    if operation.reduction is not None:
        outset = _begin()
        state = operation.reduction.start()
        for block in operations.blocks(operation, volumes, size):
            before = _begin()
            part = compute.map(block)
            most = max(most, _peak() - before)
            travels = _begin() - before  # not the state's: the block's, until it is added
            state = operation.reduction.add(state, block, part)
            kept = max(kept, _peak() - outset - travels)
            del part
        _begin()
        found = operation.reduction.finish(state)
        kept = max(kept, _peak() - outset)
    if operation.result is not None:
        for block in operations.blocks(operation, volumes, size):
            before = _begin()
            compute.apply(block, found)
            most = max(most, _peak() - before)
    return most, kept


def _begin() -> int:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    return _status("VmRSS") - _status("RssFile")


def _peak() -> int:
    """Return the most memory since `_begin`, less the pages of files that are mapped by now.

    These are libraries' code, read when something is first called (10 MB for a first convolution): the process's, not a block's.
    """
    return _status("VmHWM") - _status("RssFile")


def _status(key: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{key}:", 1)[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
