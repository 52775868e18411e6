"""Measure the figures of the project: `python tests/bench/run.py [NAME...]` prints a table and, last, one line of JSON.

Run it on an idle machine. Data is generated in a temporary folder (set TMPDIR to choose the disk; 15 GB are enough).
"""

import argparse
import datetime
import importlib
import json
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

NAMES = ("startup", "store_read", "ingest", "store_write", "store_memory", "lineage", "cluster", "columns")
"""What is measured when nothing is named."""
LONG = ("denoise", "ingest_memory", "process", "process_memory", "runner", "simulate", "vacancies")
"""What has to be asked for: most of it takes a quarter of an hour or more."""


def hardware() -> dict[str, Any]:
    """Say what was measured on, without naming the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next((x.split(":")[1].strip() for x in cpuinfo.read_text().splitlines() if x.startswith("model name")), model)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": model,
        "cores": psutil.cpu_count(),
        "memory_GiB": round(psutil.virtual_memory().total / (1 << 30)),
        "python": platform.python_version(),
        "load_before": round(psutil.getloadavg()[0], 2),
    }


def rows(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested results into lines of a table."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from rows(value, f"{path}/{key}" if path else key)
    else:
        yield path, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help=f"some of: {', '.join((*NAMES, *LONG))}")
    parser.add_argument("--gigabytes", type=float, default=6.0, help="size of each input of ingest_memory (6)")
    asked = parser.parse_args()
    results: dict[str, Any] = {"hardware": hardware()}
    for name in asked.names:
        options = {"gigabytes": asked.gigabytes} if name == "ingest_memory" else {}
        with tempfile.TemporaryDirectory(prefix="emstore-bench-") as folder:
            results[name] = importlib.import_module(name).measure(Path(folder), **options)
    for path, value in rows(results):
        print(f"{path:60} {value}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
