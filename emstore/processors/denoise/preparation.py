"""From stored values to what a network takes: electrons, or values in [0, 1]."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emstore.errors import InvalidInput
from emstore.operation import Array, Block, Reduction
from emstore.volume import Region

Preparation = Callable[[Array, Any, Region], Array]
"""Returns float32 values as a network takes them, of stored ones, what a pass before found, and the region they were read of."""


def floats(values: Array) -> Array:
    """Return values as float32: of a NumPy array or a torch tensor.

    Raises
    ------
    InvalidInput
        One is not finite: a network would spread it over its neighbourhood.
    """
    if isinstance(values, np.ndarray):
        values = values.astype(np.float32)
        finite = bool(np.isfinite(values).all())
    else:
        import torch

        values = values.to(torch.float32)
        finite = bool(torch.isfinite(values).all())
    if not finite:
        raise InvalidInput("holds NaN or infinity, which a network would spread over its neighbourhood", fix="fill them first")
    return values


@dataclass(frozen=True)
class Electrons:
    """Puts values into electrons."""

    gain: float
    offset: float

    def __call__(self, values: Array, found: Any, read: Region) -> Array:
        """See `Preparation`."""
        values = floats(values)
        if (self.gain, self.offset) != (1.0, 0.0):
            values = (values - self.offset) / self.gain
        return values


@dataclass(frozen=True)
class AsTheyAre:
    """Takes values in [0, 1]."""

    def __call__(self, values: Array, found: Any, read: Region) -> Array:
        """See `Preparation`."""
        values = floats(values)
        if values.min() < 0 or values.max() > 1:
            raise InvalidInput("holds analog values outside [0, 1]", fix="use scale=image")
        return values


@dataclass(frozen=True)
class PerImage:
    """Puts every image to [0, 1] by its least and largest value, found in a pass before."""

    shape: tuple[int, ...]
    axes: tuple[int, int]
    """Those of an image."""

    def reduction(self) -> Reduction:
        """Return the pass: least and largest value per image."""
        lead = tuple(1 if axis in self.axes else n for axis, n in enumerate(self.shape))

        def add(state: Any, block: Block, part: Any) -> Any:
            where = self._where(block.inputs[0])
            state[0][where] = np.minimum(state[0][where], part[0])
            state[1][where] = np.maximum(state[1][where], part[1])
            return state

        return Reduction(self._extremes, lambda: (np.full(lead, np.inf), np.full(lead, -np.inf)), add, lambda state: state)

    def _extremes(self, block: Block, arrays: Sequence[Array]) -> Any:
        values = floats(arrays[0])
        if not isinstance(values, np.ndarray):
            values = values.cpu().numpy()
        return values.min(self.axes, keepdims=True), values.max(self.axes, keepdims=True)

    def _where(self, region: Region) -> Region:
        return tuple(slice(None) if axis in self.axes else part for axis, part in enumerate(region))

    def __call__(self, values: Array, found: Any, read: Region) -> Array:
        """See `Preparation`."""
        where = self._where(read)
        low, high = (np.asarray(each[where], np.float32) for each in found)
        span = np.where(high > low, high - low, np.float32(1))
        values = floats(values)
        if isinstance(values, np.ndarray):
            return (values - low) / span
        import torch

        return (values - torch.from_numpy(low).to(values.device)) / torch.from_numpy(span).to(values.device)
