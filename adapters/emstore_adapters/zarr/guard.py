"""The folder behind an array, with every stored chunk looked at before zarr-python gets it."""

from functools import cache
from pathlib import Path
from typing import Any, Final

from emstore.errors import Capacity, SourceIncomplete, SourceUnreadable
from emstore_adapters.zarr.frames import unpacked_size

__all__ = ["guarded_store"]

_DOCUMENTS: Final = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"})
_GROWTH: Final = 8
"""Filters before the last codec may make a chunk this much larger (delta codes of wider types)."""


def guarded_store(root: Path, *, codec: str | None = None, tail: int = 0, chunk: int = 0) -> Any:
    """Return a read-only zarr store over a folder that hands out only whole chunks that lie inside it.

    Parameters
    ----------
    root : Path
        The store's folder.
    codec : str or None
        Name of the codec that packs every chunk.
    tail : int
        Bytes of a checksum behind it.
    chunk : int
        Unpacked size of a chunk, bytes.
    """
    return _store_class()(root.resolve(), codec, tail, chunk)


@cache
def _store_class() -> type[Any]:
    """Build the class when zarr is first needed, so that importing this module stays cheap."""
    from zarr.abc.store import RangeByteRequest
    from zarr.storage import LocalStore

    class GuardedStore(LocalStore):
        def __init__(self, root: Path, codec: str | None, tail: int, chunk: int) -> None:
            super().__init__(root, read_only=True)
            self._codec, self._tail, self._chunk = codec, tail, chunk
            self._limit = max(_GROWTH * chunk, 64 << 20)

        def with_read_only(self, read_only: bool = False) -> Any:
            return type(self)(self.root, self._codec, self._tail, self._chunk)

        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            if not (self.root / key).resolve().is_relative_to(self.root):
                raise SourceUnreadable(f"{key!r} leads out of the store", where=self.root.name, fix="do not trust this store")
            found = await super().get(key, prototype, byte_range)
            if found is not None and key.rpartition("/")[2] not in _DOCUMENTS:
                wanted = byte_range.end - byte_range.start if isinstance(byte_range, RangeByteRequest) else 1
                self._check(key, found, wanted, whole=byte_range is None)
            return found

        async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
            return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

        def _check(self, key: str, found: Any, wanted: int, *, whole: bool) -> None:
            where = f"{self.root.name}/{key}"
            if len(found) < wanted:
                raise SourceIncomplete(
                    f"the chunk file is cut off: {len(found)} of {wanted} bytes", where=where, fix="copy it again"
                )
            if not whole or self._codec is None:
                return
            data = memoryview(found.as_numpy_array()).cast("B")
            try:
                size = unpacked_size(self._codec, data[: len(data) - self._tail], self._limit)
            except ValueError as error:
                raise SourceIncomplete(
                    f"{error}; none of this chunk is good, other chunks are not affected", where=where, fix="copy the store again"
                ) from error
            if size is not None and size > self._limit:
                raise Capacity(f"the chunk unpacks to more than the {self._limit} bytes it may have", where=where)

    return GuardedStore
