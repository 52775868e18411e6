"""Median filter."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Array, Block, Operation, Result
from emstore.processor import Params
from emstore.processors.denoise.selection import AxesParams, filtered, only, over_all, per_axis
from emstore.processors.denoise.values import beyond_exact
from emstore.volume import Volume

LARGEST: Final = 100_000
"""Voxels a window may hold: each is looked at again for every voxel of the result."""


class MedianParams(AxesParams):
    """Parameters of `Median`."""

    size: int | tuple[int, ...] = Field(
        3, description="width of the window, voxels, odd; one, or one per filtered axis in array order; 1 leaves an axis alone"
    )


class Median:
    """Replace every value by the median of the box around it: `scipy.ndimage.median_filter`, border rule ``reflect``.

    The result has the input's type and holds only values of the input: it is exact. A window with a NaN gives NaN.
    """

    name: ClassVar[str] = "denoise.median"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Replace every value by the median of the box around it"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = MedianParams

    def plan(self, volumes: Sequence[Volume], params: MedianParams) -> Operation:
        """Say what to do; see `emstore.processor.Processor.plan`."""
        volume = only(volumes, masks=True)
        axes = filtered(volume, params.axes)
        sizes = per_axis(params.size, len(axes), "size")
        if any(size < 1 or size % 2 == 0 for size in sizes):
            raise InvalidInput(f"size is {params.size}; a window has an odd number of voxels, so that it has a centre")
        if math.prod(sizes) > LARGEST:
            raise InvalidInput(
                f"size is {params.size}; a window of {math.prod(sizes)} voxels is too large, at most {LARGEST} are not"
            )
        window = tuple(n or 1 for n in over_all(volume, axes, sizes))
        result = Result.like(volume)
        return Operation(result, _Middle(window), halo=tuple(n // 2 for n in window), work_bytes=_work_bytes(volume.dtype))


@dataclass(frozen=True)
class _Middle:
    window: tuple[int, ...]

    def __call__(self, block: Block, arrays: Sequence[Array], found: Any) -> Array:
        from scipy.ndimage import maximum_filter, median_filter

        values = arrays[0]
        dtype = values.dtype.newbyteorder("=")
        values = values.astype(np.float32 if dtype == np.float16 else dtype, copy=False)  # float16: scipy.ndimage has none
        if beyond_exact(values):  # scipy compares in float64; places in the order of values fit there
            ordered, places = np.unique(values, return_inverse=True)
            middle = _median(median_filter, places.reshape(values.shape), self.window)
            return np.asarray(ordered[block.crop(middle)])
        unknown = np.isnan(values) if dtype.kind == "f" else None
        if unknown is None or not unknown.any():
            return block.crop(_median(median_filter, values, self.window)).astype(dtype, copy=False)
        middle = _median(median_filter, np.where(unknown, 0, values).astype(values.dtype, copy=False), self.window)
        middle[maximum_filter(unknown, size=self.window, mode="reflect")] = np.nan
        return block.crop(middle).astype(dtype, copy=False)


def _work_bytes(dtype: np.dtype[Any]) -> float:
    match dtype.kind, dtype.itemsize:
        case "f", 2:
            return 13.0  # copies in float32, the places of NaN
        case "f", size:
            return 2.0 * size + 3
        case _, 8:
            return 72.0  # the order of values beyond 2^53
        case _, size:
            return size + 1.0


def _median(median_filter: Any, values: Array, window: tuple[int, ...]) -> Array:
    # Lines alone take another path in scipy, with running windows; an axis of one keeps every shape on the same path.
    return median_filter(values[None], size=(1, *window), mode="reflect")[0]
