"""Peak memory of a whole process that writes 6 GB, generated on the fly, within a stated budget."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MIB = 1 << 20


def measure(
    root: Path, *, shape: tuple[int, int, int] = (1500, 2048, 2048), budgets: tuple[int, ...] = (1024, 640)
) -> dict[str, Any]:
    """Return the peak resident memory of a fresh process for each budget, MiB."""
    found = {}
    for budget in budgets:
        command = [sys.executable, __file__, str(root / "memory"), str(budget), *map(str, shape)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{budget} MiB"] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(folder: str, budget: str, *shape: str) -> None:
    import shutil

    from stored import FolderSink, Synthetic, em_slices, volume

    from emstore.store.plan import project
    from emstore.store.writer import plan_version, write_version_data

    size = tuple(int(n) for n in shape)
    each = volume(Synthetic(size, list(em_slices(1, *size[1:]))))
    plan = plan_version(each, memory=int(budget) * MIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    write_version_data(each, plan, FolderSink(Path(folder)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {
        "peak_MiB": round(peak),
        "before_MiB": round(before),
        "projected_MiB": project(plan) // MIB,
        "budget_MiB": int(budget),
        "seconds": round(time.perf_counter() - start, 1),
        "bytes": each.nbytes,
        "shard": list(plan.levels[0].shard),
        "kept": peak <= int(budget),
    }
    shutil.rmtree(folder)
    print(json.dumps(result))


if __name__ == "__main__":
    child(*sys.argv[1:])
