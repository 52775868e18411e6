"""The few array operations that NumPy and torch spell differently, so that one fit serves both.

Everything else in this package is written in what the two have in common: indexing, ``matmul``, ``einsum``, ``exp`` and so
on, found through `namespace`. All of it is done in double precision.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.operation import Array

_CPU_PIXELS: Final = 1 << 17
"""Pixels of columns' windows that are worked on at a time: what stays in a processor's cache."""
_DEVICE_PIXELS: Final = 1 << 22


def namespace(values: Array) -> Any:
    """Return the module whose functions take these values: ``numpy``, or ``torch`` for a tensor."""
    if isinstance(values, np.ndarray):
        return np
    import torch

    return torch


def like(values: npt.ArrayLike, other: Array) -> Array:
    """Return NumPy values as an array of the kind and on the device of another; numbers become double precision."""
    found = np.asarray(values)
    found = found.astype(np.float64) if found.dtype.kind == "f" else found
    if isinstance(other, np.ndarray):
        return found
    return namespace(other).as_tensor(np.ascontiguousarray(found), device=other.device)


def to_numpy(values: Array) -> npt.NDArray[Any]:
    """Return values as a NumPy array."""
    return values if isinstance(values, np.ndarray) else np.asarray(values.detach().cpu().numpy())


def zeros(shape: tuple[int, ...], other: Array) -> Array:
    """Return zeros in double precision, of the kind and on the device of another array."""
    return like(np.zeros(shape), other)


def double(values: Array) -> Array:
    """Return values in double precision."""
    return values.astype(np.float64) if isinstance(values, np.ndarray) else values.double()


def sums(index: Array, values: Array, size: int) -> Array:
    """Return for each of `size` places the sum of the values that have it as index, both of any one shape."""
    if isinstance(values, np.ndarray):
        return np.bincount(index.ravel(), values.ravel(), size)
    total = zeros((size,), values)
    return total.index_put_((index.reshape(-1),), values.reshape(-1), accumulate=True)


def true(values: Array) -> Array:
    """Return where values of one dimension are true, int64."""
    return np.flatnonzero(values) if isinstance(values, np.ndarray) else values.nonzero()[:, 0]


def maximum(values: Array, least: float) -> Array:
    """Return values, none below `least`."""
    return np.maximum(values, least) if isinstance(values, np.ndarray) else values.clamp(min=least)


def window_pixels(values: Array) -> int:
    """Return how many pixels of windows are worked on at a time."""
    return _CPU_PIXELS if isinstance(values, np.ndarray) or values.device.type == "cpu" else _DEVICE_PIXELS
