"""The same filter as a dask array: map_overlap over blocks of a shard, stored into sharded Zarr v3.

python gaussian_dask.py REF OUT.zarr
"""

import sys

import dask.array as da
import numpy as np
import zarr
from scipy.ndimage import gaussian_filter

import emstore

data = emstore.open(sys.argv[1]).dask()
shard = data.chunksize


def smooth(block: np.ndarray) -> np.ndarray:
    return np.rint(gaussian_filter(block.astype(np.float64), 1.0, truncate=4.0)).astype(np.uint8)


result = data.map_overlap(smooth, depth=4, boundary="reflect", dtype=np.uint8)
target = zarr.create_array(
    sys.argv[2], shape=data.shape, dtype=np.uint8, chunks=(64, 64, 64), shards=shard, compressors=zarr.codecs.ZstdCodec(level=1)
)
da.store(result, target, lock=False)
