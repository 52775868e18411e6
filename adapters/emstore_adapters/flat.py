"""Arrays that lie in a file as plain C-order bytes: read a region straight into the result, with nothing in between.

NIfTI volumes and uncompressed TIFF pages are such arrays. The bytes come from a `ByteSource`, which is either the file
itself (`PlainBytes`) or a gzip stream (`emstore_adapters.gzip_stream.GzipBytes`).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput, SourceIncomplete, SourceUnreadable
from emstore.volume import Region

ReadInto = Callable[[int, memoryview], None]
"""Fill a writable memoryview of bytes from a byte offset; raises `EndOfData` when the data stops short."""

SPAN_BYTES: Final = 1 << 20
"""Neighbouring short rows are read together, gaps included, in spans of at most this many bytes."""

CHEAP_BYTES: Final = 64 << 10
"""Below this size a read costs about the same however small it is, bytes."""


class EndOfData(Exception):
    """The data stop before what was asked for.

    Parameters
    ----------
    have : int
        Number of bytes there are, counted from the start of the (unpacked) file.
    """

    def __init__(self, have: int) -> None:
        self.have = have
        super().__init__(f"only {have} bytes")


class ByteSource(Protocol):
    """Bytes at offsets; safe to open from several threads at once."""

    def open(self) -> AbstractContextManager[ReadInto]:
        """Open for one series of reads."""
        ...


@dataclass(frozen=True)
class PlainBytes:
    """The bytes of a file as it is. Each `open` has its own handle, so threads never share a position."""

    path: Path
    name: str
    """What to call the file in messages."""

    @contextmanager
    def open(self) -> Iterator[ReadInto]:
        """Open the file for one series of reads."""
        try:
            with self.path.open("rb", buffering=0) as file:

                def read_into(offset: int, out: memoryview) -> None:
                    file.seek(offset)
                    done = 0
                    while done < len(out):
                        got = file.readinto(out[done:])
                        if not got:
                            raise EndOfData(offset + done)
                        done += got

                yield read_into
        except OSError as error:
            if isinstance(error, SourceUnreadable):
                raise
            raise SourceUnreadable(f"cannot be read: {error.strerror}", where=self.name) from error


def checked_region(region: Region, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the region with plain start and stop in bounds; anything but one step-1 slice per axis is an error."""
    if len(region) != len(shape):
        raise InvalidInput(f"a region of {len(shape)} slices is needed, got {len(region)}")
    plain = []
    for part, size in zip(region, shape, strict=True):
        start, stop, step = part.indices(size)
        if step != 1:
            raise InvalidInput(f"only slices of step 1 can be read, got {part}")
        plain.append(slice(start, max(start, stop)))
    return tuple(plain)


def read_region(
    read_into: ReadInto,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    region: tuple[slice, ...],
    out: npt.NDArray[Any],
) -> None:
    """Read a region of the C-order array of `shape` and `dtype` that starts at byte `offset` into `out`.

    Parameters
    ----------
    read_into : callable
        Where the bytes come from.
    offset : int
        Byte offset of the array's first element.
    shape : tuple of int
        Shape of the whole array.
    dtype : numpy.dtype
        Its type, in the file's byte order.
    region : tuple of slice
        Checked region (see `checked_region`).
    out : numpy.ndarray, shape of the region, same dtype
        C-contiguous; filled.
    """
    sizes = tuple(part.stop - part.start for part in region)
    if not math.prod(sizes):
        return
    target = out.reshape(-1).view(np.uint8).data
    item = dtype.itemsize
    partial = [axis for axis, size in enumerate(sizes) if size != shape[axis]]
    last = partial[-1] if partial else 0
    strides = [item * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    run = sizes[last] * strides[last]
    skip = region[last].start * strides[last]
    row = strides[last - 1] if last else run
    # Rows much shorter than their stride are read one by one; else several at once with what lies between them.
    rows_at_once = max(1, SPAN_BYTES // row) if last and (row <= 4 * run or row <= CHEAP_BYTES) else 1
    done = 0
    for index in np.ndindex(sizes[: max(last - 1, 0)]):
        base = offset + sum((part.start + i) * step for part, i, step in zip(region, index, strides, strict=False))
        if not last:
            read_into(base + skip, target[:run])
            return
        first, count = region[last - 1].start, sizes[last - 1]
        for at in range(0, count, rows_at_once):
            n = min(rows_at_once, count - at)
            begin = base + (first + at) * row + skip
            if n == 1:
                read_into(begin, target[done : done + run])
            else:
                span = np.empty((n, row), np.uint8)
                # The last row ends with its own run: what follows may lie beyond the end of the file.
                read_into(begin, span.reshape(-1).data[: (n - 1) * row + run])
                np.frombuffer(target, np.uint8)[done : done + n * run].reshape(n, run)[:] = span[:, :run]
            done += n * run


def native(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the same numbers in this machine's byte order, swapping in place."""
    if values.dtype.isnative:
        return values
    return values.byteswap(inplace=True).view(values.dtype.newbyteorder("="))


@dataclass(frozen=True)
class FlatArray:
    """A `LazyArray` over plain bytes, its axes in any order.

    Values come in this machine's byte order, whatever the file's is.
    """

    source: ByteSource
    name: str
    """What to call the file in messages."""
    offset: int
    """Byte offset of the first element."""
    disk_shape: tuple[int, ...]
    """Shape as the bytes lie, slowest axis first."""
    disk_dtype: np.dtype[Any]
    """Type as the bytes lie."""
    order: tuple[int, ...]
    """Which axis of `disk_shape` each axis of the array is."""
    slow_axis: int = 0
    """Axis of `disk_shape` whose items are counted when data are missing."""
    noun: str = "slices"
    """What those items are called."""
    whole: tuple[int, ...] | None = None
    """`block` where it is not simply a cheap read, e.g. whole slices of a gzip stream; array order."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return tuple(self.disk_shape[axis] for axis in self.order)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, native byte order."""
        return self.disk_dtype.newbyteorder("=")

    @cached_property
    def block(self) -> tuple[int, ...]:
        """As many of the fastest rows as make one cheap read, or whole slices for a gzip stream."""
        if self.whole is not None:
            return self.whole
        sizes = cheap_block(self.disk_shape, self.disk_dtype.itemsize)
        return tuple(sizes[axis] for axis in self.order)

    @property
    def sequential(self) -> bool:
        """Whether the bytes are best read front to back: so it is with packed streams, whose block is whole slices."""
        return self.whole is not None

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region.

        Raises
        ------
        SourceIncomplete
            The bytes stop before the region ends; says how many slices are good.
        """
        checked = checked_region(region, self.shape)
        on_disk = tuple(checked[self.order.index(axis)] for axis in range(len(self.order)))
        out = np.empty(tuple(part.stop - part.start for part in on_disk), self.disk_dtype)
        try:
            with self.source.open() as read_into:
                read_region(read_into, self.offset, self.disk_shape, self.disk_dtype, on_disk, out)
        except EndOfData as error:
            raise self.incomplete(error.have) from None
        return native(out).transpose(self.order)

    def good(self, have: int) -> int:
        """Return how many items of the slow axis the first `have` bytes of the file hold."""
        each = self.disk_dtype.itemsize * math.prod(self.disk_shape[self.slow_axis + 1 :])
        return min(max(have - self.offset, 0) // each, self.disk_shape[self.slow_axis])

    def incomplete(self, have: int) -> SourceIncomplete:
        """Return the error for a file that holds only `have` bytes."""
        want = self.offset + self.disk_dtype.itemsize * math.prod(self.disk_shape)
        good, total = self.good(have), self.disk_shape[self.slow_axis]
        return SourceIncomplete(
            f"the data stop after {have} of {want} bytes: {good} of {total} {self.noun} are good",
            where=self.name,
            fix="copy the file again, or pass --allow-partial to keep the good part",
        )


def cheap_block(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the largest trailing block of a C-order array that is one cheap read."""
    left = max(1, CHEAP_BYTES // itemsize)
    sizes = []
    for size in reversed(shape):
        take = min(size, max(1, left))
        sizes.append(take)
        left = left // size
    return tuple(reversed(sizes))
