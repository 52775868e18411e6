"""Apply a method to one slice, or one whole volume, after the other: whatever its filtered axes span."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emstore.operation import Array, Block
from emstore.processors.denoise.noise import UnitNoise
from emstore.processors.denoise.values import Floats, to_floats, to_stored


@dataclass(frozen=True)
class Unitwise:
    """Makes a block from units that the method sees one at a time, their noise brought to a standard deviation of 1."""

    method: Callable[[Floats], Floats]
    """Gets values with a noise of 1, any shape over `axes`; returns as many, denoised."""
    axes: tuple[int, ...]
    """Array axes a unit spans, in array order. Along the others the block has no halo."""
    noise: UnitNoise
    work: np.dtype[Any]
    """Type to compute in."""
    dtype: np.dtype[Any]
    """Type of the result."""

    def __call__(self, block: Block, arrays: Sequence[Array], found: Any) -> Array:
        """Return the block; see `Operation.apply`."""
        last = tuple(range(-len(self.axes), 0))
        source = np.moveaxis(arrays[0], self.axes, last)
        out = np.empty(tuple(part.stop - part.start for part in block.output), self.dtype)
        target = np.moveaxis(out, self.axes, last)
        own = tuple(
            slice(block.output[a].start - block.inputs[0][a].start, block.output[a].stop - block.inputs[0][a].start)
            for a in self.axes
        )
        level = self.noise.level(found)
        for index in np.ndindex(source.shape[: -len(self.axes)]):
            values = to_floats(source[index], self.work, finite=True)
            if level > 0:  # else nothing to take out
                values = self.noise.back(self.method(self.noise.forward(values, level))[own], level)
            else:
                values = values[own]
            target[index] = to_stored(values, self.dtype)
        return out
