"""How long it takes until something happens: importing emstore, and the commands that should answer at once."""

import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from processes import emstore, run


def measure(root: Path, *, rounds: int = 11) -> dict[str, Any]:
    """Return medians in seconds of whole processes, interpreter included, and of the bare interpreter beside them."""
    tifffile.imwrite(root / "image.tif", np.arange(1 << 16, dtype=np.uint16).reshape(256, 256))
    run(emstore("init", str(root / "lab.zarr")))
    run(emstore("ingest", str(root / "image.tif"), f"{root}/lab.zarr/bench/image"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import emstore": [sys.executable, "-c", "import emstore"],
        "emstore --help": emstore("--help"),
        "emstore ls": emstore("ls", str(root / "lab.zarr")),
        "emstore info": emstore("info", f"{root}/lab.zarr/bench/image"),
        "emstore inspect": emstore("inspect", str(root / "image.tif")),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(run(command).seconds)
    loaded = run([sys.executable, "-c", LOADED, str(root / "lab.zarr" / "bench" / "image")]).output.split()
    return {
        "median": {name: round(statistics.median(all_), 3) for name, all_ in times.items()},
        "best": {name: round(min(all_), 3) for name, all_ in times.items()},
        "heavy modules a reader loads": loaded,
    }


LOADED = """
import sys, emstore
emstore.open(sys.argv[1]).array()[0:64, 0:64]
print(*sorted({"dask", "xarray", "zarr", "scipy", "pandas"} & set(sys.modules)))
"""
