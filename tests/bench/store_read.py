"""One random aligned 64^3 block of an opened version, against tensorstore on the same files, neither keeping a chunk cache."""

import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import tifffile
from stored import em_slices

import emstore


def measure(root: Path, *, shape: tuple[int, int, int] = (256, 1024, 1024), blocks: int = 400) -> dict[str, Any]:
    """Return the median time of one block for both readers, milliseconds, and their ratio."""
    values = np.stack(list(em_slices(*shape)))
    tifffile.imwrite(root / "stack.tif", values, metadata={"axes": "ZYX"}, bigtiff=True)
    emstore.create_store(f"{root}/lab.zarr")
    emstore.ingest([root / "stack.tif"], f"{root}/lab.zarr/bench/read", pyramid=False)
    ours = emstore.open(f"{root}/lab.zarr/bench/read").array()
    path = f"{root}/lab.zarr/bench/read/v1/s0/image/"
    theirs = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}},
        context=tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}}),
        open=True,
    ).result()
    # A second handle may keep shard indices, as ours does, but is read so that no chunk is asked for twice.
    kept = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}, "recheck_cached_data": False},
        context=tensorstore.Context({"cache_pool": {"total_bytes_limit": 8 << 20}}),
        open=True,
    ).result()
    rng = np.random.default_rng(1)
    times: dict[str, list[float]] = {"emstore": [], "tensorstore": [], "tensorstore with an index cache": []}
    starts = rng.permutation(np.array(list(np.ndindex(*(n // 64 for n in shape)))))[:blocks] * 64
    for turn in range(2):  # the first turn warms files, indices and code paths
        for z, y, x in starts.tolist():
            region = (slice(z, z + 64), slice(y, y + 64), slice(x, x + 64))
            for name in times:
                start = time.perf_counter()
                if name == "emstore":
                    block = ours[region]
                else:
                    block = (theirs if name == "tensorstore" else kept)[region].read().result()
                took = time.perf_counter() - start
                if turn:
                    times[name].append(took)
                else:
                    np.testing.assert_array_equal(block, values[region])
    shutil.rmtree(root / "lab.zarr")
    medians = {name: statistics.median(each) * 1e3 for name, each in times.items()}
    return {
        "milliseconds": {name: round(each, 3) for name, each in medians.items()},
        "ratio_to_tensorstore": round(medians["emstore"] / medians["tensorstore"], 3),
        "ratio_to_tensorstore_with_an_index_cache": round(medians["emstore"] / medians["tensorstore with an index cache"], 3),
        "blocks": len(starts),
    }
