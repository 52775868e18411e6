"""The loop a careful user would write on emstore's own engine: read a shard with its halo, filter, encode, write, on every core.

python gaussian_loop.py REF OUT_FOLDER

It writes level 0 only, and pays for no digests, no Record, no checks, no resuming and no sealing; it does fsync.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

import emstore
from emstore.store.plan import cpu_count, plan_version

SIGMA, HALO = 1.0, 4
version = emstore.open(sys.argv[1])
out = Path(sys.argv[2])
out.mkdir(parents=True)
level = plan_version(version.volume(), pyramid=False).levels[0]
source = version.array(workers=1)
codec = level.codec


def one(index: tuple[int, ...]) -> None:
    region = [(i * s, min((i + 1) * s, n)) for i, s, n in zip(index, codec.shape, level.shape, strict=True)]
    read = [(max(0, a - HALO), min(n, b + HALO)) for (a, b), n in zip(region, level.shape, strict=True)]
    values = source[tuple(slice(a, b) for a, b in read)].astype(np.float64)
    values = gaussian_filter(values, SIGMA, truncate=4.0)
    inside = tuple(slice(a - ra, b - ra) for (a, b), (ra, _) in zip(region, read, strict=True))
    result = np.rint(values[inside]).astype(np.uint8)
    parts = []
    for at in np.ndindex(*codec.grid):
        chunk = np.zeros(codec.chunks.shape, np.uint8)
        part = result[tuple(slice(i * c, (i + 1) * c) for i, c in zip(at, codec.chunks.shape, strict=True))]
        if part.size == 0:
            parts.append(None)
            continue
        chunk[tuple(slice(n) for n in part.shape)] = part
        parts.append(codec.chunks.encode(chunk))
    data = codec.join(parts)
    with (out / ".".join(map(str, index))).open("xb") as file:
        file.write(data or b"")
        file.flush()
        os.fsync(file.fileno())


with ThreadPoolExecutor(cpu_count()) as pool:
    list(pool.map(one, product(*map(range, level.shards))))
