"""Values that do not lie in the file as NumPy types, and bytes inside bzip2."""

import bz2
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.errors import SourceUnreadable
from emstore.volume import Region
from emstore_adapters.flat import EndOfData, FlatArray, ReadInto, checked_region


@dataclass(frozen=True)
class PairArray:
    """Mode 3: complex numbers stored as pairs of int16, read as complex64 (every value is exact)."""

    parts: FlatArray
    """The numbers as they lie, in file order, shape (..., columns, 2)."""
    order: tuple[int, ...]
    """Which axis of the file each axis of the array is."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return tuple(self.parts.shape[axis] for axis in self.order)

    @property
    def dtype(self) -> np.dtype[Any]:
        """complex64."""
        return np.dtype(np.complex64)

    @property
    def block(self) -> tuple[int, ...]:
        """As the numbers lie."""
        return tuple(self.parts.block[axis] for axis in self.order)

    @property
    def sequential(self) -> bool:
        """As the numbers lie."""
        return self.parts.sequential

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region."""
        checked = checked_region(region, self.shape)
        on_disk = tuple(checked[self.order.index(axis)] for axis in range(len(self.order)))
        pairs = self.parts[(*on_disk, slice(0, 2))]
        values = np.empty(pairs.shape[:-1], np.complex64)
        values.real, values.imag = pairs[..., 0], pairs[..., 1]
        return values.transpose(self.order)


@dataclass(frozen=True)
class NibbleArray:
    """Mode 101: two 4-bit values in a byte, the first in the low half; every row begins with a new byte."""

    bytes_: FlatArray
    """The bytes as they lie, in file order, shape (..., rows, ceil(columns / 2))."""
    columns: int
    order: tuple[int, ...]
    """Which axis of the file each axis of the array is."""

    @cached_property
    def _disk_shape(self) -> tuple[int, ...]:
        return (*self.bytes_.shape[:-1], self.columns)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return tuple(self._disk_shape[axis] for axis in self.order)

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, values 0 to 15."""
        return np.dtype(np.uint8)

    @property
    def block(self) -> tuple[int, ...]:
        """As the bytes lie."""
        sizes = (*self.bytes_.block[:-1], min(self.columns, 2 * self.bytes_.block[-1]))
        return tuple(sizes[axis] for axis in self.order)

    @property
    def sequential(self) -> bool:
        """As the bytes lie."""
        return self.bytes_.sequential

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region."""
        checked = checked_region(region, self.shape)
        *outer, x = (checked[self.order.index(axis)] for axis in range(len(self.order)))
        packed = self.bytes_[(*outer, slice(x.start // 2, -(-x.stop // 2)))]
        values = np.empty((*packed.shape, 2), np.uint8)
        np.bitwise_and(packed, 15, out=values[..., 0])
        np.right_shift(packed, 4, out=values[..., 1])
        flat = values.reshape(*packed.shape[:-1], -1)
        first = x.start % 2
        return flat[..., first : first + x.stop - x.start].transpose(self.order)


class Bzip2Bytes:
    """The unpacked bytes of a bzip2 file, as a `ByteSource`: one forward stream; going back starts again.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        What to call it in messages.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._lock = threading.Lock()
        self._stream: bz2.BZ2File | None = None
        self._at = 0

    @contextmanager
    def open(self) -> Iterator[ReadInto]:
        """Take the stream for one series of reads; other threads wait."""
        with self._lock:
            try:
                yield self._read_into
            except EOFError:
                self._close()
                raise EndOfData(self._at) from None
            except (OSError, ValueError) as error:
                self._close()
                if isinstance(error, SourceUnreadable):
                    raise
                raise SourceUnreadable(
                    f"the bzip2 stream is damaged near unpacked byte {self._at}: {error}",
                    where=self._name,
                    fix="copy the file again",
                ) from error

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read_into(self, offset: int, out: memoryview) -> None:
        if self._stream is None or offset < self._at:
            self._close()
            self._stream, self._at = bz2.BZ2File(self._path), 0
        waste = bytearray(1 << 20)
        while self._at < offset:
            self._take(memoryview(waste)[: min(len(waste), offset - self._at)])
        done = 0
        while done < len(out):
            done += self._take(out[done:])

    def _take(self, out: memoryview) -> int:
        assert self._stream is not None
        got = self._stream.readinto(out)
        if not got:
            at = self._at
            self._close()
            raise EndOfData(at)
        self._at += got
        return got
