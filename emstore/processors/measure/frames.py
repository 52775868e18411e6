"""The frames of a volume, one image of y and x after another: each is measured whole and by itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.geometry import Axis
from emstore.operation import Array, Block, Reduction
from emstore.processors.measure.slices import real
from emstore.table import Column, Table
from emstore.volume import ValueScale, Volume

Part = TypeVar("Part")
"""What one frame says: small, since those of all frames are held at once."""


@dataclass(frozen=True)
class Frames:
    """The images along a volume's last two axes, numbered in the order of the axes before."""

    leading: tuple[int, ...]
    """Sizes of the axes before y and x."""
    axes: tuple[Axis, Axis]
    """y and x."""
    scale: ValueScale
    """What turns stored values into those that are measured."""

    @classmethod
    def of(cls, volume: Volume) -> "Frames":
        """Return a volume's frames.

        Raises
        ------
        InvalidInput
            Its values are complex, or its last two axes are not y and x.
        """
        real(volume)
        if volume.grid.dims[-2:] != ("y", "x"):
            raise InvalidInput(f"its axes are {', '.join(volume.grid.dims)}; the last two must be y and x", where=volume.name)
        down, across = volume.grid.axes[-2:]
        return cls(volume.shape[:-2], (down, across), volume.scale or ValueScale())

    @property
    def count(self) -> int:
        """Number of frames."""
        return prod(self.leading)

    def reduction(self, measure: Callable[..., Part], finish: Callable[[list[Part]], Table], *, part_bytes: float) -> Reduction:
        """Return the pass that measures every frame and makes a table of what all of them say.

        Parameters
        ----------
        measure : callable
            From a frame's number and its values in every input (float64, of the kind of array that a block has) to what it says.
        finish : callable
            From what all frames say, in order, to the table.
        part_bytes : float
            Most that one frame says, bytes.
        """
        work = _Pass(self, measure, finish)
        # What all say, the same in one piece, and the table made of it.
        return Reduction(work.map, list, _add, work.finish, state_bytes=lambda _: int(3 * part_bytes * self.count) + (1 << 20))

    def places(
        self, what: str, frame: npt.NDArray[Any], y_index: npt.NDArray[Any], x_index: npt.NDArray[Any]
    ) -> dict[str, Column]:
        """Return the columns that say where a table's rows are: number of the frame, position, fractional pixels."""
        down, across = self.axes
        return {
            "frame": Column(frame.astype(np.int64), None, "number of the frame, in the order of the axes before y and x"),
            "y": Column(_position(down, y_index), unit_of(down), f"position of the {what} along y"),
            "x": Column(_position(across, x_index), unit_of(across), f"position of the {what} along x"),
            "y_index": Column(y_index, None, "row, pixels; the centre of the first pixel is 0"),
            "x_index": Column(x_index, None, "column of pixels; the centre of the first pixel is 0"),
        }


@dataclass(frozen=True)
class _Pass(Generic[Part]):
    """The pass over all frames."""

    frames: Frames
    measure: Callable[..., Part]
    of_all: Callable[[list[Part]], Table]

    def map(self, block: Block, arrays: Sequence[Array]) -> list[tuple[int, Part]]:
        """Return what the frames of a block say, with their numbers."""
        found = []
        for index in np.ndindex(*arrays[0].shape[:-2]):
            place = tuple(part.start + i for part, i in zip(block.output[:-2], index, strict=True))
            number = int(np.ravel_multi_index(place, self.frames.leading)) if place else 0
            found.append((number, self.measure(number, *(_scaled(values[index], self.frames.scale) for values in arrays))))
        return found

    def finish(self, state: list[tuple[int, Part]]) -> Table:
        """Return the table."""
        return self.of_all([part for _, part in sorted(state, key=lambda one: one[0])])


def _scaled(values: Array, scale: ValueScale) -> Array:
    values = values.astype(np.float64) if isinstance(values, np.ndarray) else values.double()
    return values * scale.slope + scale.intercept


def _add(state: list[Any], block: Block, part: list[Any]) -> list[Any]:
    return state + part


def unit_of(axis: Axis) -> str | None:
    """Return the unit of positions along an axis; ``None`` where they are pixels."""
    return axis.unit if axis.known else None


def _position(axis: Axis, index: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if axis.positions is not None:
        return np.asarray(np.interp(index, np.arange(axis.size), axis.coordinates()))
    return axis.origin + (1.0 if axis.spacing is None else axis.spacing) * index


__all__ = ["Frames", "unit_of"]
