"""Peak memory of `emstore ingest`, whole process, for inputs much larger than its budget, in every format that streams."""

import shutil
from pathlib import Path
from typing import Any

from big_sources import MAKERS
from processes import emstore, run

SMALL = ("TIFF folder", "NIfTI .gz")
"""Also measured with little memory."""


def measure(root: Path, *, gigabytes: float = 6.0, names: tuple[str, ...] = tuple(MAKERS)) -> dict[str, Any]:
    """Return peak memory, seconds and whether the budget was kept, for every format and budget."""
    found: dict[str, Any] = {"input_GB": gigabytes}
    for name in names:
        folder = root / "source"
        folder.mkdir()
        source = MAKERS[name](folder, int(gigabytes * 1e9))
        for budget in (1024, 640) if name in SMALL else (1024,):
            found[f"{name}, {budget} MiB"] = one(root, source, budget)
        shutil.rmtree(folder)
    return found


def one(root: Path, source: Path, budget: int) -> dict[str, Any]:
    """Ingest one source; a failure is a result too."""
    run(emstore("init", str(root / "lab.zarr")))
    ran = run(emstore("ingest", str(source), f"{root}/lab.zarr/bench/big", "--memory", f"{budget}MiB"), check=False)
    shutil.rmtree(root / "lab.zarr")
    if ran.code:
        return {"failed": ran.output[-300:]}
    return {"peak_MiB": round(ran.peak_MiB), "kept": ran.peak_MiB <= budget, "seconds": round(ran.seconds, 1)}
