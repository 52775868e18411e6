"""Showing a Volume as a lazy xarray array."""

from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from emstore.volume import LazyArray, Volume


class _LazyBackend(BackendArray):
    """Lets xarray index a `LazyArray`: any basic key becomes a step-1 region read, then a NumPy index of it."""

    def __init__(self, data: LazyArray) -> None:
        self.data = data
        self.shape = tuple(data.shape)
        self.dtype = np.dtype(data.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> Any:
        region: list[slice] = []
        within: list[int | slice] = []
        for part, size in zip(key, self.shape, strict=True):
            if isinstance(part, slice):
                picked = range(*part.indices(size))
                if len(picked) == 0:
                    return np.empty(
                        [len(range(*p.indices(s))) for p, s in zip(key, self.shape, strict=True) if isinstance(p, slice)],
                        self.dtype,
                    )
                low, high = min(picked[0], picked[-1]), max(picked[0], picked[-1])
                region.append(slice(low, high + 1))
                within.append(slice(None, None, picked.step))
            else:
                at = int(part) + size if part < 0 else int(part)
                region.append(slice(at, at + 1))
                within.append(0)
        return self.data[tuple(region)][tuple(within)]


def to_dataarray(volume: Volume) -> xr.DataArray:
    """Return the volume as a lazy DataArray named ``image`` with one coordinate per axis, in the axis's own unit."""
    coords: dict[str, Any] = {}
    for axis in volume.grid.axes:
        attributes = {} if axis.unit is None else {"units": axis.unit}
        if axis.labels is not None:
            attributes["labels"] = list(axis.labels)  # type: ignore[assignment]
        coords[axis.name] = (axis.name, axis.coordinates(), attributes)
    variable = xr.Variable(volume.grid.dims, indexing.LazilyIndexedArray(_LazyBackend(volume.data)))
    return xr.DataArray(variable, coords=coords, name="image")
