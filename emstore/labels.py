"""Volumes whose values are labels, though their source does not say so: masks kept as plain images."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.geometry import AxisKind
from emstore.volume import LazyArray, Region, ValueScale, Volume, VolumeKind

_COLOURS: Final = ({"r", "g", "b"}, {"red", "green", "blue"})
_SCALED: Final = 1e-3
"""A scaled value may be off a whole number by this much: slopes such as 1/255 are kept in 32 bits."""


@dataclass(frozen=True, eq=False)
class WholeNumbers:
    """The values of another array as int32 (booleans as uint8); refuses any that is no whole number. A `LazyArray`."""

    source: LazyArray
    scale: ValueScale | None
    dims: tuple[str, ...]
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return tuple(self.source.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the labels."""
        return np.dtype(np.uint8 if self.source.dtype.kind == "b" else np.int32)

    @property
    def block(self) -> tuple[int, ...]:
        """As the other array's."""
        return self.source.block

    @property
    def sequential(self) -> bool:
        """As the other array's."""
        return bool(getattr(self.source, "sequential", False))

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region.

        Raises
        ------
        InvalidInput
            A value is no whole number that a label can be; it is named with its place.
        """
        values = self.source[region]
        if values.dtype.kind == "b":
            return values.astype(self.dtype)
        out = np.empty(values.shape, self.dtype)
        starts = [s.indices(n)[0] for s, n in zip(region, self.shape, strict=True)]
        for index in np.ndindex(values.shape[:1]):  # in parts: they are several times larger on the way
            given = values[index].astype(np.float64)
            if self.scale is not None:
                given = given * self.scale.slope + self.scale.intercept
            whole = np.rint(given)
            limits = np.iinfo(self.dtype)
            with np.errstate(invalid="ignore"):
                off = np.abs(given - whole) > (0 if self.scale is None else _SCALED)
            wrong = off | ~np.isfinite(given) | (whole < limits.min) | (whole > limits.max)
            if wrong.any():
                at = np.argwhere(np.atleast_1d(wrong))[0][: wrong.ndim]
                place = [i + start for i, start in zip((*index, *at.tolist()), starts, strict=True)]
                where = ", ".join(f"{dim} {i}" for dim, i in zip(self.dims, place, strict=True))
                raise InvalidInput(
                    f"the value at {where} is {given[tuple(at)]:g}: not a whole number that a label can be",
                    where=self.name,
                    fix="ingest it without --labels, and make labels of it with a segment processor",
                )
            out[index] = whole
        return out


def as_labels(volume: Volume) -> Volume:
    """Return a volume whose values are labels: whole numbers, without scale or display range.

    Integers stay as they are; floats and scaled values become int32 and are checked when they are read, booleans uint8.

    Raises
    ------
    InvalidInput
        Its values are complex or colours.
    """
    if volume.kind is VolumeKind.LABELS:
        return volume
    for axis in volume.grid.axes:
        if axis.kind is AxisKind.CHANNEL and any(c <= {x.lower() for x in axis.labels or ()} for c in _COLOURS):
            raise InvalidInput("holds colours, not labels", where=volume.name, fix="save the mask with one number per label")
    if volume.dtype.kind == "c":
        raise InvalidInput("holds complex numbers, not labels", where=volume.name, fix="ingest it without --labels")
    scale = volume.scale
    scaled = scale is not None and (scale.slope, scale.intercept) != (1.0, 0.0)
    data = volume.data
    if scaled or volume.dtype.kind in "fb":
        data = WholeNumbers(data, scale if scaled else None, volume.grid.dims, volume.name)
    notes = (*volume.notes, "Taken as labels, as asked.")
    return replace(volume, data=data, kind=VolumeKind.LABELS, scale=None, window=None, notes=notes)
