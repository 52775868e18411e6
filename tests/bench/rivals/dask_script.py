"""What a user writes: slices through tifffile and dask into sharded Zarr v3, each scale level the mean of the one before.

python dask_script.py FOLDER OUT.zarr [--no-pyramid]
"""

import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import tifffile
import zarr

files = sorted(Path(sys.argv[1]).glob("*.tif"))
first = tifffile.imread(files[0])
read = dask.delayed(tifffile.imread)
data = da.stack([da.from_delayed(read(file), first.shape, first.dtype) for file in files])
group = zarr.open_group(sys.argv[2], mode="w")
compressor = zarr.codecs.ZstdCodec(level=1)
for level in range(1 if "--no-pyramid" in sys.argv else 5):
    if level:
        finer = da.from_zarr(f"{sys.argv[2]}/{level - 1}", chunks=(128, 512, 512))
        data = da.coarsen(np.mean, finer, {0: 2, 1: 2, 2: 2}, trim_excess=True).round().astype(first.dtype)
    shards = (128, 512, 512)
    target = group.create_array(
        str(level), shape=data.shape, dtype=data.dtype, chunks=(64, 64, 64), shards=shards, compressors=compressor
    )
    da.store(data.rechunk(shards), target, lock=False)
