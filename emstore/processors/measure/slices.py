"""The slices of a volume along one axis: a table's rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.geometry import Axis
from emstore.operation import Block
from emstore.processor import Params
from emstore.table import Column
from emstore.volume import Volume


class SliceParams(Params):
    """Parameters of what is measured slice by slice."""

    axis: str | None = Field(
        default=None,
        description="Axis to go along, one row per slice; left out: the first axis, or one row for all of an image of two axes.",
    )


@dataclass(frozen=True)
class Slices:
    """The rows of a table: the slices along an axis, or everything as one."""

    axis: Axis | None
    """The axis gone along; ``None`` when everything is one slice."""
    place: int
    """Its number among the volume's axes; -1 without one."""

    @classmethod
    def of(cls, volume: Volume, axis: str | None) -> "Slices":
        """Return the slices along the axis a user named, or the rule's axis when none was.

        Raises
        ------
        InvalidInput
            The volume has no such axis.
        """
        if axis is None and len(volume.shape) <= 2:
            return cls(None, -1)
        chosen = volume.grid.axes[0] if axis is None else volume.grid.axis(axis)
        return cls(chosen, volume.grid.dims.index(chosen.name))

    @property
    def count(self) -> int:
        """Number of slices."""
        return 1 if self.axis is None else self.axis.size

    def rows(self, block: Block) -> range:
        """Return the slices that a block has a part of."""
        if self.axis is None:
            return range(1)
        part = block.output[self.place]
        return range(part.start, part.stop)

    def parts(self, *values: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
        """Yield a block's part of every slice, for several arrays of the block at once."""
        if self.axis is None:
            yield values
        else:
            yield from zip(*(np.moveaxis(one, self.place, 0) for one in values), strict=True)

    def across(self, volume: Volume) -> tuple[str, ...]:
        """Return the axes that lie in a slice."""
        return tuple(name for name in volume.grid.dims if self.axis is None or name != self.axis.name)

    def columns(self) -> dict[str, Column]:
        """Return the columns that say which slice a row is about: none for a single one."""
        if self.axis is None:
            return {}
        at = self.axis.coordinates() if self.axis.known else np.full(self.count, np.nan)
        return {
            "slice": Column(np.arange(self.count), None, f"index along {self.axis.name}"),
            "position": Column(at, self.axis.unit if self.axis.known else None, f"position along {self.axis.name}"),
        }


def real(volume: Volume) -> None:
    """Refuse complex values, which have no order.

    Raises
    ------
    InvalidInput
        The volume is complex.
    """
    if volume.dtype.kind == "c":
        raise InvalidInput("its values are complex numbers", where=volume.name, fix="measure their magnitude or phase")


def plain(value: float) -> float | None:
    """Return a figure as a summary holds it: ``None`` where it is not a finite number."""
    return float(value) if np.isfinite(value) else None
