"""Reading any region of one stored array straight from its shards.

Every chunk's checksum is verified before it is decoded, sizes are checked before memory is taken, and a shard that is
missing without being known as empty is damage, never zeros.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import prod
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from emstore.errors import Damaged, InvalidInput, NotFound
from emstore.store.codecs import data_type
from emstore.store.shards import MISSING, Index, ShardCodec
from emstore.volume import Region

MAX_DIMENSIONS: Final = 32
INDEX_CACHE_BYTES: Final = 64 << 20
"""The most that is kept of shards' indices, per array, bytes."""
_PARALLEL: Final = 4
"""Regions of at least this many chunks are decoded in threads."""


class ByteSource(Protocol):
    """Reads parts of objects. Thread-safe. A key that is not there raises `NotFound`."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes of an object from `start`; fewer where it ends."""
        ...

    def get_suffix(self, key: str, length: int) -> bytes:
        """Return the last `length` bytes of an object, or all of a shorter one."""
        ...

    def size(self, key: str) -> int:
        """Return an object's size, bytes."""
        ...


class StoredArray:
    """A `LazyArray` over one array of a version. Values come out as stored, in native byte order.

    Parameters
    ----------
    source : ByteSource
        Where the objects are.
    path : str
        Key of the array's folder in `source`, e.g. ``s0/image``.
    document : mapping
        The array's Zarr v3 document.
    known_empty : callable, optional
        Returns the keys of shards known to hold only zeros; asked once, when a shard is missing. Any other is damage.
    workers : int
        Most threads for one region.

    Raises
    ------
    Damaged
        The document is not one emstore writes.
    """

    def __init__(
        self,
        source: ByteSource,
        path: str,
        document: Mapping[str, Any],
        *,
        known_empty: Callable[[], Collection[str]] = frozenset,
        workers: int = 4,
    ) -> None:
        self._source = source
        self.path = path
        self._known_empty = known_empty
        self._workers = workers
        self._empty: Collection[str] | None = None
        self._indices: OrderedDict[str, Index | None] = OrderedDict()
        self._lock = threading.Lock()
        self.shape, self._codec = _understand(document, f"{path}/zarr.json")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self._codec.chunks.dtype

    @property
    def block(self) -> tuple[int, ...]:
        """Shape of a chunk."""
        return self._codec.chunks.shape

    @property
    def shard(self) -> tuple[int, ...]:
        """Shape of a shard: what one object holds."""
        return self._codec.shape

    @property
    def nbytes(self) -> int:
        """Uncompressed size, bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region: one slice per axis, step 1, inside bounds.

        Raises
        ------
        Damaged
            Naming the shard and chunk that is not as it was written.
        InvalidInput
            The region is not inside the array.
        """
        bounds = self._bounds(region)
        chunk = self._codec.chunks.shape
        wanted = [range(a // c, -(-b // c)) for (a, b), c in zip(bounds, chunk, strict=True)]
        if all(len(r) == 1 and b - a == c and a % c == 0 for r, (a, b), c in zip(wanted, bounds, chunk, strict=True)):
            # Exactly one whole chunk: decode it into what is returned.
            values = self._chunk(tuple(r.start for r in wanted))
            return np.zeros(chunk, self.dtype) if values is None else values
        out = np.empty([b - a for a, b in bounds], self.dtype)
        indices = list(product(*wanted))
        if len(indices) < _PARALLEL or self._workers < 2:
            for index in indices:
                self._copy(index, bounds, out)
        else:
            with ThreadPoolExecutor(min(self._workers, len(indices)), "decode") as pool:
                for _ in pool.map(lambda index: self._copy(index, bounds, out), indices):
                    pass
        return out

    def _bounds(self, region: Region) -> list[tuple[int, int]]:
        if len(region) != len(self.shape):
            raise InvalidInput(f"an array of {len(self.shape)} axes needs as many slices, not {len(region)}", where=self.path)
        bounds = []
        for part, size in zip(region, self.shape, strict=True):
            start = 0 if part.start is None else part.start
            stop = size if part.stop is None else part.stop
            if not 0 <= start <= stop <= size or part.step not in (None, 1):
                raise InvalidInput(f"region {region} is not inside an array of shape {self.shape}", where=self.path)
            bounds.append((start, stop))
        return bounds

    def _copy(self, index: tuple[int, ...], bounds: list[tuple[int, int]], out: npt.NDArray[Any]) -> None:
        """Put the wanted part of one chunk in its place."""
        chunk = self._codec.chunks.shape
        into, of = [], []
        for i, c, (a, b) in zip(index, chunk, bounds, strict=True):
            start, stop = max(i * c, a), min((i + 1) * c, b)
            into.append(slice(start - a, stop - a))
            of.append(slice(start - i * c, stop - i * c))
        target = out[tuple(into)]
        if target.shape == chunk and target.flags.c_contiguous:
            if self._chunk(index, target) is None:
                target[...] = 0
            return
        values = self._chunk(index)
        target[...] = 0 if values is None else values[tuple(of)]

    def _chunk(self, index: tuple[int, ...], out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any] | None:
        """Return one decoded chunk, ``None`` when it is all zeros."""
        grid = self._codec.grid
        key = f"{self.path}/c/{'/'.join([str(i // g) for i, g in zip(index, grid, strict=True)])}"
        table = self._indices[key] if key in self._indices else self._index(key)
        if table is None:
            return None
        number = 0
        for i, g in zip(index, grid, strict=True):
            number = number * g + i % g
        offset, length = int(table[number, 0]), int(table[number, 1])
        if offset == MISSING:
            return None
        where = f"{key} chunk {'/'.join(map(str, index))}"
        try:
            data = self._source.get_range(key, offset, length)
        except NotFound as error:
            raise _missing(key) from error
        return self._codec.chunks.decode(data, where, out)

    def _index(self, key: str) -> Index | None:
        """Read a shard's index and keep it; ``None`` for a shard that is known to hold nothing."""
        table: Index | None = None
        try:
            table = self._codec.index(self._source.get_suffix(key, self._codec.index_bytes), self._source.size(key), key)
        except NotFound as error:
            if self._empty is None:
                self._empty = self._known_empty()
            if key not in self._empty:
                raise _missing(key) from error
        with self._lock:
            self._indices[key] = table
            while len(self._indices) > max(1, INDEX_CACHE_BYTES // self._codec.index_bytes):
                self._indices.popitem(last=False)
        return table


def _understand(document: Mapping[str, Any], where: str) -> tuple[tuple[int, ...], ShardCodec]:
    """Return shape and codec of an array from its document."""
    try:
        shape = tuple(int(n) for n in document["shape"])
        shard = tuple(int(n) for n in document["chunk_grid"]["configuration"]["chunk_shape"])
        if (
            document["zarr_format"] != 3
            or document["node_type"] != "array"
            or not 0 < len(shape) <= MAX_DIMENSIONS
            or len(shard) != len(shape)
            or min(shape) < 1
            or document["chunk_key_encoding"] != {"name": "default", "configuration": {"separator": "/"}}
        ):
            raise Damaged("the array's document is not one emstore writes", where=where)
        return shape, ShardCodec.from_json(document["codecs"], data_type(document["data_type"]), shard)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged("the array's document cannot be understood", where=where) from error


def _missing(key: str) -> Damaged:
    return Damaged("the object is missing", where=key, fix="run `emstore verify`; restore the object from a copy")
