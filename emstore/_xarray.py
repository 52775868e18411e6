"""Showing a Volume as a lazy xarray array, and as one that NumPy-like callers can index."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from emstore.volume import LazyArray, Volume


class BasicIndexing:
    """Gives a `LazyArray` NumPy's basic indexing: integers and slices with any step become one step-1 read and a view of it."""

    def __init__(self, data: LazyArray) -> None:
        self.data = data
        self.shape = tuple(data.shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(data.dtype)

    def __getitem__(self, key: tuple[int | slice, ...]) -> npt.NDArray[Any]:
        region: list[slice] = []
        within: list[int | slice] = []
        empty = False
        for part, size in zip(key, self.shape, strict=True):
            if isinstance(part, slice):
                picked = range(*part.indices(size))
                empty = empty or not picked
                low, high = (min(picked[0], picked[-1]), max(picked[0], picked[-1])) if picked else (0, 0)
                region.append(slice(low, high + 1))
                within.append(slice(None, None, picked.step))
            else:
                at = int(part) + size if part < 0 else int(part)
                region.append(slice(at, at + 1))
                within.append(0)
        if empty:
            kept = [len(range(*p.indices(n))) for p, n in zip(key, self.shape, strict=True) if isinstance(p, slice)]
            return np.empty(kept, self.dtype)
        return self.data[tuple(region)][tuple(within)]


class _LazyBackend(BackendArray):
    """Lets xarray index a `LazyArray`."""

    def __init__(self, data: LazyArray) -> None:
        self._basic = BasicIndexing(data)
        self.shape = self._basic.shape
        self.dtype = self._basic.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._basic.__getitem__)


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
