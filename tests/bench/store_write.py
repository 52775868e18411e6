"""Streaming a slice folder into a version, against the physical limit measured beside it in the same run.

The limit reads every byte, encodes every level's chunks once with the same codec on all cores, and writes and fsyncs the
result: no layout, no checksums, no digests, no reduction. Both start from files in the page cache.
"""

import os
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stored import FolderSink, SliceFiles, volume, write_slices

from emstore.store.plan import VersionPlan, cpu_count
from emstore.store.pyramid import reduce
from emstore.store.writer import plan_version, write_version_data
from emstore.volume import Volume


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def ours(each: Volume, plan: VersionPlan, folder: Path) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    sink = FolderSink(folder)

    def run() -> None:
        write_version_data(each, plan, sink)
        sink.sync()

    return seconds(run)


def levels_of(data: SliceFiles, plan: VersionPlan) -> list[npt.NDArray[Any]]:
    """Every level above the first, whole in memory (not part of any time measured)."""
    arrays = [data[tuple(slice(0, n) for n in data.shape)]]
    for level in plan.levels[:-1]:
        assert level.factors is not None
        arrays.append(reduce(arrays[-1], level.factors, plan.how))
    return arrays[1:]


def limit(data: SliceFiles, plan: VersionPlan, higher: list[npt.NDArray[Any]], folder: Path) -> dict[str, float]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cores = cpu_count()
    arrays: list[npt.NDArray[Any]] = []
    encoded: list[bytes] = []

    def read() -> None:
        whole = np.empty(data.shape, data.dtype)

        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(data.read, data.paths, whole))
        arrays.append(whole)

    def encode() -> None:
        codec = plan.levels[0].codec.chunks
        parts = []
        for array, level in zip([*arrays, *higher], plan.levels, strict=True):
            chunk = level.chunk
            for start in product(*(range(0, n, c) for n, c in zip(array.shape, chunk, strict=True))):
                parts.append(array[tuple(slice(a, a + c) for a, c in zip(start, chunk, strict=True))])
        with ThreadPoolExecutor(cores) as pool:
            encoded.extend(pool.map(lambda part: codec.encode(np.ascontiguousarray(part))[0], parts))

    def write() -> None:
        """Files as large as the shards, on all cores."""
        size = max(1, sum(map(len, encoded)) // (16 << 20))
        groups = np.array_split(np.arange(len(encoded)), size)

        def one(number: int) -> None:
            with (folder / str(number)).open("xb") as file:
                file.writelines(encoded[i] for i in groups[number])
                file.flush()
                os.fsync(file.fileno())

        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(one, range(len(groups))))

    times = {"read": seconds(read), "encode": seconds(encode), "write": seconds(write)}
    return {**times, "total": sum(times.values())}


def measure(root: Path, *, shape: tuple[int, int, int] = (400, 2048, 1024), rounds: int = 3) -> dict[str, Any]:
    """Return times, rates and the ratio to the limit, with and without pyramid (medians of alternating rounds)."""
    data = write_slices(root / "slices", *shape)
    each = volume(data)
    found: dict[str, Any] = {"bytes": each.nbytes}
    for name, pyramid in (("with pyramid", True), ("without pyramid", False)):
        plan = plan_version(each, pyramid=pyramid)
        higher = levels_of(data, plan)
        ours(each, plan, root / "ours")  # warms the page cache
        written = sum(path.stat().st_size for path in (root / "ours").rglob("*") if path.is_file())
        pairs = [(limit(data, plan, higher, root / "limit"), ours(each, plan, root / "ours")) for _ in range(rounds)]
        best = statistics.median(a["total"] for a, _ in pairs)
        mine = statistics.median(b for _, b in pairs)
        found[name] = {
            "seconds": round(mine, 3),
            "MB/s": round(each.nbytes / mine / 1e6),
            "limit_seconds": round(best, 3),
            "limit_parts": {k: round(statistics.median(a[k] for a, _ in pairs), 3) for k in ("read", "encode", "write")},
            "ratio_to_limit": round(best / mine, 3),
            "compression": round(each.nbytes / written, 3),
            "all_seconds": [round(b, 3) for _, b in pairs],
            "all_limits": [round(a["total"], 3) for a, _ in pairs],
        }
    for name in ("ours", "limit", "slices"):
        shutil.rmtree(root / name)
    return found
