"""Lazy arrays over raw frames in files: only the bytes of a region are read, straight into the result.

Every read opens its own file handle, so that reading from several threads at once is safe and nothing stays open.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity, SourceIncomplete, SourceUnreadable
from emstore.volume import LazyArray, Region

Array = npt.NDArray[Any]

MAX_DECODED = 1 << 30
"""Most bytes that a signal without ranged access may take once decoded."""


def lengths(region: Region) -> tuple[int, ...]:
    """Return the shape of a region."""
    return tuple(part.stop - part.start for part in region)


def empty(shape: Sequence[int], dtype: np.dtype[Any], name: str) -> Array:
    """Return an uninitialised array, or say that it does not fit in memory."""
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        raise Capacity(f"a region of shape {tuple(shape)} does not fit in memory", where=name) from error


@dataclass(frozen=True)
class FramesArray:
    """Equal frames of plain numbers at known places in one or more files.

    ``shape`` is the frames' own order followed by the shape of one frame, all in C order. A whole contiguous array is
    one frame (``frame_ndim == len(shape)``).
    """

    name: str
    """What to call the source in errors."""
    shape: tuple[int, ...]
    """Shape of the array, leading axes counting frames."""
    dtype: np.dtype[Any]
    """Type of the values as stored, byte order included."""
    frame_ndim: int
    """How many trailing axes one frame has."""
    locate: Callable[[int], tuple[Path, int]]
    """Maps a frame's number to its file and the offset of its first value, bytes."""
    flipped: bool = False
    """Whether frames are stored bottom row first (the last but one axis runs backwards)."""

    @property
    def block(self) -> tuple[int, ...]:
        """Runs along the last axis are contiguous."""
        return (1,) * (len(self.shape) - 1) + self.shape[-1:]

    def __getitem__(self, region: Region) -> Array:
        """Read one region; nothing outside it is touched."""
        split = len(self.shape) - self.frame_ndim
        frames, within = region[:split], list(region[split:])
        frame_shape = self.shape[split:]
        if self.flipped:
            rows, part = frame_shape[-2], within[-2]
            within[-2] = slice(rows - part.stop, rows - part.start)
        out = empty(lengths(region), self.dtype, self.name)
        if out.size == 0:
            return out
        raw = out.reshape(-1).view(np.uint8).reshape((*lengths(frames), -1))
        with ExitStack() as stack:
            files: dict[Path, BinaryIO] = {}
            for at in np.ndindex(lengths(frames)):
                number = 0
                for size, part, i in zip(self.shape, frames, at, strict=False):
                    number = number * size + part.start + i
                path, offset = self.locate(number)
                if path not in files:
                    files[path] = stack.enter_context(_open(path, self.name))
                self._read_frame(files[path], offset, frame_shape, within, raw[at])
        if self.flipped:
            out = out[..., ::-1, :]
        # Any non-zero byte is true, but NumPy only promises that for bytes it wrote itself.
        return out.view(np.uint8) != 0 if self.dtype == np.bool_ else out

    def _read_frame(
        self, file: BinaryIO, offset: int, shape: tuple[int, ...], region: Sequence[slice], out: npt.NDArray[np.uint8]
    ) -> None:
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        # The run: the last axis that is cut, with everything behind it, is contiguous in the file.
        axis = len(shape) - 1
        while axis > 0 and region[axis] == slice(0, shape[axis]):
            axis -= 1
        run = (region[axis].stop - region[axis].start) * strides[axis] * self.dtype.itemsize
        rows = out.reshape(-1, run)
        leading = tuple(region[:axis])
        first = region[axis].start * strides[axis]
        for row, at in zip(rows, np.ndindex(lengths(leading)), strict=True):
            start = first + sum((part.start + i) * stride for part, i, stride in zip(leading, at, strides, strict=False))
            read_into(file, offset + start * self.dtype.itemsize, row, self.name)


@dataclass(frozen=True)
class View:
    """Another array with its axes reordered and some held at their first sample."""

    base: LazyArray
    order: tuple[int, ...]
    """Axis of `base` behind each axis of this one; axes left out are held at sample 0."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return tuple(self.base.shape[axis] for axis in self.order)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.base.dtype

    @property
    def block(self) -> tuple[int, ...]:
        """The base's, reordered."""
        return tuple(self.base.block[axis] for axis in self.order)

    def __getitem__(self, region: Region) -> Array:
        """Read one region of the base and turn it."""
        inner = [slice(0, 1)] * len(self.base.shape)
        for axis, part in zip(self.order, region, strict=True):
            inner[axis] = part
        held = tuple(axis for axis in range(len(inner)) if axis not in self.order)
        values = self.base[tuple(inner)].transpose(self.order + held)
        return values[(...,) + (0,) * len(held)] if held else values


@dataclass(frozen=True)
class Stack:
    """Arrays of one shape and type, one behind the other along a new first axis."""

    parts: tuple[LazyArray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of parts, then the shape of one."""
        return (len(self.parts), *self.parts[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.parts[0].dtype

    @property
    def block(self) -> tuple[int, ...]:
        """One part's block."""
        return (1, *self.parts[0].block)

    def __getitem__(self, region: Region) -> Array:
        """Read the region part by part."""
        out = empty(lengths(region), self.dtype, "stack")
        for row, number in enumerate(range(region[0].start, region[0].stop)):
            out[row] = self.parts[number][region[1:]]
        return out


@dataclass(frozen=True)
class ColourArray:
    """RGBA pixels: bytes stored as (y, x, 4) read as (4, y, x) in the order red, green, blue, alpha."""

    base: FramesArray
    """Shape (..., y, x, 4), uint8."""
    channels: tuple[int, int, int, int]
    """Position of red, green, blue and alpha in a stored pixel."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channel first."""
        return (4, *self.base.shape[:-1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always uint8."""
        return self.base.dtype

    @property
    def block(self) -> tuple[int, ...]:
        """All four channels of a row cost as much as one of them."""
        return (4, *self.base.block[:-2], self.base.shape[-2])

    def __getitem__(self, region: Region) -> Array:
        """Read whole pixels and keep the channels asked for."""
        pixels = self.base[(*region[1:], slice(0, 4))]
        return np.moveaxis(pixels[..., np.asarray(self.channels)[region[0]]], -1, 0)


@dataclass(frozen=True)
class HalfPlaneArray:
    """Fourier transforms of real images, of which the file keeps only half of every row (Gatan data types 27 and 28).

    A row of ``nx`` values is made of ``nx / 2 + 1`` stored ones: these backwards, then the conjugates of the inner ones,
    which is how rosettasciio (reference) unpacks them.
    """

    base: FramesArray
    """The stored half, shape (ny, nx / 2 + 1), complex."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (ny, nx)."""
        return (self.base.shape[0], 2 * (self.base.shape[1] - 1))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.base.dtype

    @property
    def block(self) -> tuple[int, ...]:
        """A whole row."""
        return (1, self.shape[1])

    def __getitem__(self, region: Region) -> Array:
        """Unpack the region row by row."""
        out = empty(lengths(region), self.dtype, self.base.name)
        stored = self.base.shape[1]
        for row, y in enumerate(range(region[0].start, region[0].stop)):
            half = self.base[slice(y, y + 1), slice(0, stored)][0]
            out[row] = np.concatenate([half[::-1], np.conjugate(half[1:-1])])[region[1]]
        return out


@dataclass(frozen=True)
class DecodedArray:
    """A signal that can only be decoded whole: every slice decodes it, so it is bounded by `MAX_DECODED`."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    decode: Callable[[], Array]

    @property
    def block(self) -> tuple[int, ...]:
        """The whole array."""
        return self.shape

    def __getitem__(self, region: Region) -> Array:
        """Decode all, return the region."""
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > MAX_DECODED:
            raise Capacity(
                f"can only be decoded whole, and takes {size} bytes", where=self.name, fix="export it as plain data first"
            )
        return self.decode()[region].copy()


def contiguous(path: Path, name: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> FramesArray:
    """Return the array that lies in one piece at `offset` bytes of a file, C order."""
    return FramesArray(name, shape, dtype, len(shape), lambda _: (path, offset))


def read_into(file: BinaryIO, offset: int, out: npt.NDArray[np.uint8], name: str) -> None:
    """Fill `out` (uint8, contiguous) from `offset` bytes of an unbuffered file.

    Raises
    ------
    SourceIncomplete
        The file ends before.
    """
    view = out.data
    done = 0
    try:
        file.seek(offset)
        while done < len(view):
            got = file.readinto(view[done:])  # type: ignore[attr-defined]  # BinaryIO lacks it, raw files have it
            if not got:
                raise SourceIncomplete(
                    f"ends at byte {offset + done}, inside its pixel data", where=name, fix="copy it again from the instrument"
                )
            done += got
    except SourceIncomplete:
        raise
    except OSError as error:
        raise SourceUnreadable(f"cannot be read: {error}", where=name) from error


def _open(path: Path, name: str) -> BinaryIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise SourceUnreadable(f"cannot be opened: {error.strerror}", where=name, fix="put it back where it was") from error
