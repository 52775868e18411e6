"""Opening HDF5 files and reading their datasets lazily.

A file is opened anew for every read, without a lock of its own: nothing stays open between reads, so that no other
program is kept waiting, and no handle is shared between threads or processes (libhdf5 serialises calls anyway, and opening
costs well under a millisecond against a block's worth of data).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity, EmstoreError, Kind, SourceIncomplete, SourceUnreadable
from emstore.volume import LazyArray, Region
from emstore_adapters.flat import cheap_block, checked_region, native

if TYPE_CHECKING:
    import h5py

MAX_CHUNK: Final = 1 << 30
"""A chunk is decoded whole; a larger one is refused, bytes."""

_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_TRUNCATED = re.compile(r"eof = (\d+).*?stored_eof = (\d+)")


def has_signature(head: bytes) -> bool:
    """Say whether the bytes start an HDF5 file.

    The signature is at 0, 512, 1024, 2048 ... ("HDF5 File Format Specification 3.0", II.A: a user block may come first).
    """
    at = 0
    while at + len(_SIGNATURE) <= len(head):
        if head.startswith(_SIGNATURE, at):
            return True
        at = at * 2 or 512
    return False


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn whatever h5py throws at damaged or odd files into one clear error."""
    try:
        yield
    except EmstoreError:
        raise
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise _failure(error, where) from error


@contextmanager
def opened(path: Path, where: str) -> Iterator["h5py.File"]:
    """Open a file for reading and close it again.

    Raises
    ------
    SourceIncomplete
        The file ends before its own header says it does.
    SourceUnreadable
        Anything else libhdf5 objects to.
    """
    import h5py

    with translated(where):
        file = h5py.File(path, "r", locking=False)
    try:
        yield file
    finally:
        with translated(where):
            file.close()


def _failure(error: Exception, where: str) -> EmstoreError:
    text = str(error)
    if "truncated file" in text:
        sizes = _TRUNCATED.search(text)
        there = "" if sizes is None else f": {sizes[1]} of {sizes[2]} bytes are there"
        return SourceIncomplete(
            f"the HDF5 file is cut off{there}; libhdf5 opens no part of a cut-off file, so nothing of it is good",
            where=where,
            fix="copy the file again from the instrument",
        )
    text = text.strip("'\"").splitlines()[0] if text else type(error).__name__
    return SourceUnreadable(f"HDF5 cannot read it: {text}", where=where, fix="check the file with h5dump, or copy it again")


@dataclass(frozen=True)
class H5Array:
    """One dataset, read on demand; a `LazyArray` where its values are plain numbers."""

    path: Path
    dataset: str
    """Full path inside the file."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """In this machine's byte order, whatever the file's is."""
    block: tuple[int, ...]
    """The chunk shape; a cheap read of a dataset that is not chunked."""
    where: str
    """Name for errors."""

    @classmethod
    def of(cls, path: Path, dataset: "h5py.Dataset", where: str) -> "H5Array":
        """Describe a dataset of an open file.

        Raises
        ------
        Capacity
            A chunk is larger than `MAX_CHUNK`.
        SourceUnreadable
            A compression filter is not installed; its id is named.
        """
        name = dataset.name.strip("/")
        where = f"{where}:{name}"
        shape = tuple(int(n) for n in dataset.shape)
        chunks = dataset.chunks
        if chunks is not None and int(np.prod(chunks, dtype=object)) * dataset.dtype.itemsize > MAX_CHUNK:
            raise Capacity(f"chunks of {chunks} values are too large to decode", where=where, fix="repack it with h5repack")
        _check_filters(dataset, where)
        block = cheap_block(shape, dataset.dtype.itemsize) if chunks is None else tuple(map(min, chunks, shape))
        return cls(path, name, shape, _native_type(dataset.dtype), block, where)

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region."""
        region = checked_region(region, self.shape)
        with opened(self.path, self.where) as file, translated(self.where):
            values = np.asarray(file[self.dataset][region])
        return values if self.dtype.kind == "V" else native(values)


def _native_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    # Built anew, so that HDF5's notes on enumerations do not travel along.
    return dtype if dtype.kind == "V" else np.dtype(dtype.str).newbyteorder("=")


def _check_filters(dataset: "h5py.Dataset", where: str) -> None:
    import h5py

    plist = dataset.id.get_create_plist()
    for i in range(plist.get_nfilters()):
        code, _, _, name = plist.get_filter(i)
        if not (h5py.h5z.filter_avail(code) or (_load_plugins() and h5py.h5z.filter_avail(code))):
            raise SourceUnreadable(
                f"its values are packed with HDF5 filter {code} ({name.decode(errors='replace')}), which is not installed",
                where=where,
                fix="pip install hdf5plugin, or unpack the file with h5repack -f NONE",
                kind=Kind.SOURCE_UNSUPPORTED,
            )


def _load_plugins() -> bool:
    """Register the filters of hdf5plugin where a user has it; it is no dependency."""
    try:
        import hdf5plugin  # noqa: F401  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return False
    return True


@dataclass(frozen=True)
class ChannelArray:
    """Colour values packed into one element (a struct, or a 32-bit word), spread over a ``c`` axis in front of y, x."""

    base: H5Array
    count: int
    channel: np.dtype[Any]
    """Type of one channel; `count` of them fill one element of the base."""

    @property
    def _at(self) -> int:
        return max(len(self.base.shape) - 2, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis, the channels included."""
        return (*self.base.shape[: self._at], self.count, *self.base.shape[self._at :])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one channel."""
        return self.channel

    @property
    def block(self) -> tuple[int, ...]:
        """All channels of the base's block."""
        return (*self.base.block[: self._at], self.count, *self.base.block[self._at :])

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region."""
        at = self._at
        region = checked_region(region, self.shape)
        packed = np.ascontiguousarray(self.base[(*region[:at], *region[at + 1 :])])
        values = packed.view(self.channel).reshape(*packed.shape, self.count)
        return np.moveaxis(values[..., region[at]], -1, at)


@dataclass(frozen=True)
class PermutedArray:
    """An array with its axes in another order, e.g. trailing colours moved in front of y, x."""

    base: LazyArray
    order: tuple[int, ...]
    """For every axis, which axis of the base it is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return tuple(self.base.shape[i] for i in self.order)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.base.dtype

    @property
    def block(self) -> tuple[int, ...]:
        """The base's block, reordered."""
        return tuple(self.base.block[i] for i in self.order)

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region."""
        inner = [slice(None)] * len(self.order)
        for part, axis in zip(region, self.order, strict=True):
            inner[axis] = part
        return self.base[tuple(inner)].transpose(self.order)
