"""A Volume: a lazy labelled array, its Grid and its Header. What adapters make and the store keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Grid
from emstore.header import Header

if TYPE_CHECKING:
    import xarray as xr

Region = tuple[slice, ...]


CARRIED: Final = ("quantity", "dose", "simulation")
"""Attributes that say what an image's values are and where they come from: they follow them from image to image."""


class VolumeKind(StrEnum):
    """What the values of a volume are."""

    IMAGE = "image"
    LABELS = "labels"
    TABLE = "table"
    MODEL = "model"


@runtime_checkable
class LazyArray(Protocol):
    """Five rules an adapter's array keeps.

    1. ``shape`` and ``dtype`` cost nothing and never change.
    2. ``array[region]`` takes one slice per axis, step 1, inside bounds, and returns a NumPy array of just that region.
    3. It reads only what the region needs and holds at most about twice the region in memory (see `block`).
    4. Missing or short data raises `SourceIncomplete` naming what is good; it never returns filler.
    5. Reading from several threads at once is safe.

    A sixth is optional. An array that is best read front to back (a packed stream, a video) says so by an attribute
    ``sequential`` that is true: a writer then reads it from one thread, in order.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        ...

    @property
    def block(self) -> tuple[int, ...]:
        """Shape of the smallest region that costs no more to read than a part of it, e.g. one whole slice."""
        ...

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region."""
        ...


@dataclass(frozen=True)
class ValueScale:
    """How stored values turn into physical ones: ``physical = slope * stored + intercept``. Stored values stay untouched."""

    slope: float = 1.0
    intercept: float = 0.0
    unit: str | None = None
    """Unit or quantity of the physical value as the source states it, e.g. ``HU``."""


@dataclass(frozen=True)
class Volume:
    """A lazy labelled array with its geometry and the instrument's metadata."""

    name: str
    """Name of this signal in its source, unique there: what ``--select`` takes."""
    data: LazyArray
    """The values, read on demand."""
    grid: Grid
    """Where every voxel is; one axis per array dimension. Axis order is ``t, c, z, y, x`` where these occur."""
    header: Header
    """What the instrument said."""
    kind: VolumeKind = VolumeKind.IMAGE
    """What the values are."""
    modality: str | None = None
    """Short modality word in lower case: ``stem``, ``tem``, ``sem``, ``fibsem``, ``ct``, ``mr``, ``xa``, ``us`` ..."""
    scale: ValueScale | None = None
    """Linear map from stored to physical values, if the source has one."""
    window: tuple[float, float] | None = None
    """Display range (low, high) in stored values, if the source states one."""
    files: tuple[Path, ...] = ()
    """Every file the values or the header are read from, so that the Record can cite them and none goes unnoticed."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Other facts the format keeps that a reader needs, JSON-safe, e.g. both NIfTI matrices and their codes."""
    notes: tuple[str, ...] = ()
    """Rules used and oddities met while reading, in sentences a user understands."""
    file_format: str | None = None
    """Format of `files` where the header is that of another one, as in an export that kept it."""
    origin: Mapping[str, Any] | None = None
    """The sealed version it was opened from, JSON-safe: ``{"id", "ref", "store", "record"}``, ref as DATASET/ARRAY/vN."""

    def __post_init__(self) -> None:
        if tuple(self.data.shape) != self.grid.shape:
            raise InvalidInput(f"array shape {tuple(self.data.shape)} does not fit its grid {self.grid.shape}", where=self.name)
        if self.data.dtype.kind not in "biufc":
            raise InvalidInput(
                f"values of type {self.data.dtype} cannot be stored; only numbers and booleans can",
                where=self.name,
                kind=Kind.SOURCE_UNSUPPORTED,
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return self.data.dtype

    @property
    def nbytes(self) -> int:
        """Uncompressed size, bytes."""
        size = self.dtype.itemsize
        for n in self.shape:
            size *= n
        return size

    def xarray(self) -> "xr.DataArray":
        """Return the volume as a lazy `xarray.DataArray` with coordinates; nothing is read until it is asked for."""
        from emstore._xarray import to_dataarray

        return to_dataarray(self)


@dataclass(frozen=True)
class MemoryArray:
    """A `LazyArray` over an array already in memory."""

    values: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.values.dtype

    @property
    def block(self) -> tuple[int, ...]:
        """Any region costs the same."""
        return (1,) * self.values.ndim

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Return the region itself, not a copy."""
        return self.values[region]
