"""Reading Zarr arrays block by block through zarr-python, with hostile stores kept at bay.

A chunk that is not stored reads as the fill value: that is what the Zarr specification says (v3, "Chunks"), and writers
rely on it for empty space. How many are missing is noted, since in a copied store it may also mean a loss.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity, EmstoreError, Kind, SourceUnreadable
from emstore.volume import Region
from emstore_adapters.flat import checked_region, native
from emstore_adapters.zarr.guard import guarded_store
from emstore_adapters.zarr.nodes import Node

MAX_CHUNK: Final = 1 << 30
"""A chunk is decoded whole; a larger one is refused, bytes."""
MAX_COUNTED: Final = 10_000
"""Chunk files are looked for, to note missing ones, up to this many."""
_REFUSED_CODECS: Final = frozenset({"pickle"})


@dataclass(frozen=True)
class ZarrArray:
    """One Zarr array as a `LazyArray`."""

    array: Any
    """The open ``zarr.Array``; it holds no file handle."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """In this machine's byte order."""
    block: tuple[int, ...]
    """Shape of a chunk; of an inner chunk where shards are used."""
    where: str

    @classmethod
    def of(cls, node: Node) -> "ZarrArray":
        """Open the array at a node.

        Raises
        ------
        SourceUnreadable
            Damaged metadata, a codec that is not installed (named), or values that are not numbers.
        Capacity
            Chunks larger than `MAX_CHUNK`.
        """
        where = f"{node.where}/{node.path}".rstrip("/")
        _check_codecs(node, where)
        _check_chunks(node, where)
        with translated(where):
            import zarr

            kind: Any = node.format
            array = zarr.open_array(guarded_store(node.root), path=node.path, mode="r", zarr_format=kind)
            shape, dtype = tuple(int(n) for n in array.shape), np.dtype(array.dtype)
            chunks = tuple(int(n) for n in array.chunks)
            if dtype.kind in "biufc" and array.shards is None:
                codec, tail = _packing(node)
                store = guarded_store(node.root, codec=codec, tail=tail, chunk=math.prod(chunks) * dtype.itemsize)
                array = zarr.open_array(store, path=node.path, mode="r", zarr_format=kind)
        if dtype.kind not in "biufc":
            raise SourceUnreadable(f"values of type {dtype} are not numbers", where=where, kind=Kind.SOURCE_UNSUPPORTED)
        if math.prod(chunks) * dtype.itemsize > MAX_CHUNK:
            raise Capacity(f"chunks of {chunks} values are too large to decode", where=where, fix="rechunk it")
        block = tuple(max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True))
        return cls(array, shape, dtype.newbyteorder("="), block, where)

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region."""
        region = checked_region(region, self.shape)
        with translated(self.where):
            if self._parts(region) == 1 or self._covers(region):
                return native(np.ascontiguousarray(self.array[region]))
            # Chunks that lie mostly outside the region are decoded one after the other, not all at once.
            out = np.empty(tuple(part.stop - part.start for part in region), self.dtype)
            for part in self._by_chunk(region):
                inner = tuple(slice(p.start - r.start, p.stop - r.start) for p, r in zip(part, region, strict=True))
                out[inner] = self.array[part]
            return out

    def missing(self) -> tuple[int, int, Any]:
        """Return how many chunk files are not there, of how many, and the fill value; (0, 0, fill) if too many to count."""
        with translated(self.where):
            fill = self.array.fill_value
            stored = self.array.shards or self.array.chunks
            counts = [-(-n // c) for n, c in zip(self.shape, stored, strict=True)]
            if math.prod(counts) > MAX_COUNTED:
                return 0, 0, fill
            folder = self.array.store.root / self.array.path
            keys = (self.array.metadata.encode_chunk_key(at) for at in itertools.product(*map(range, counts)))
            return sum(not (folder / key).is_file() for key in keys), math.prod(counts), fill

    def _parts(self, region: tuple[slice, ...]) -> int:
        return math.prod(
            max(1, -(-part.stop // size) - part.start // size) for part, size in zip(region, self.array.chunks, strict=True)
        )

    def _covers(self, region: tuple[slice, ...]) -> bool:
        """Say whether the chunks a region touches hold little more than the region, or little at all."""
        chunks = self.array.chunks
        touched = int(self._parts(region) * math.prod(chunks) * self.dtype.itemsize)
        wanted = math.prod(part.stop - part.start for part in region) * self.dtype.itemsize
        return bool(touched <= max(wanted, 8 << 20))

    def _by_chunk(self, region: tuple[slice, ...]) -> Iterator[tuple[slice, ...]]:
        pieces = []
        for part, size in zip(region, self.array.chunks, strict=True):
            edges = [part.start, *range((part.start // size + 1) * size, part.stop, size), part.stop]
            pieces.append([slice(a, b) for a, b in itertools.pairwise(edges)])
        return itertools.product(*pieces)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn whatever zarr-python and its codecs throw into one clear error."""
    import warnings
    import zlib

    try:
        with warnings.catch_warnings():
            # Types without a stable v3 name warn; they are refused or read right, and the user can do nothing about it.
            warnings.simplefilter("ignore")
            yield
    except EmstoreError:
        raise
    except (
        OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, EOFError,
        AssertionError, zlib.error,
    ) as error:  # fmt: skip
        text = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        raise SourceUnreadable(f"Zarr cannot read it: {text}", where=where, fix="copy the store again") from error


def _check_codecs(node: Node, where: str) -> None:
    """Refuse, by name, a codec that is not installed or not safe."""
    for name in _codec_names(node):
        known = name not in _REFUSED_CODECS and name.removeprefix("numcodecs.") not in _REFUSED_CODECS
        if not (known and (_has_v3_codec(name) if node.format == 3 else _has_v2_codec(name))):
            raise SourceUnreadable(
                f"its chunks are packed with codec {name!r}, which is {'not installed' if known else 'not safe to read'}",
                where=where,
                fix="rewrite it with a standard codec such as zstd or blosc",
                kind=Kind.SOURCE_UNSUPPORTED,
            )


def _check_chunks(node: Node, where: str) -> None:
    """Refuse chunks that hold nothing; zarr 3.4 would take them for chunks of one and read nothing but the fill value."""
    grids = [node.metadata.get("chunk_grid"), *_listed(node.metadata.get("codecs"))]
    inner = [grid.get("configuration") for grid in grids if isinstance(grid, Mapping)]
    shapes = [node.metadata.get("chunks"), *(each.get("chunk_shape") for each in inner if isinstance(each, Mapping))]
    for size in itertools.chain.from_iterable(map(_listed, shapes)):
        if isinstance(size, int) and size < 1:
            raise SourceUnreadable(f"its chunks are {size} long, which holds nothing", where=where, fix="copy the store again")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _codec_names(node: Node) -> list[str]:
    document = node.metadata
    if node.format == 2:
        filters = document.get("filters")
        entries = [document.get("compressor"), *(filters if isinstance(filters, list) else ())]
        return [str(entry.get("id")) for entry in entries if isinstance(entry, Mapping)]
    names: list[str] = []
    pending: list[Any] = [document.get("codecs")]
    while pending:
        listed = pending.pop()
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, Mapping):
                names.append(str(entry.get("name")))
                inner = entry.get("configuration")
                if isinstance(inner, Mapping) and len(names) < 64:
                    pending += [inner.get("codecs"), inner.get("index_codecs")]
            else:
                names.append(str(entry))
    return names


def _packing(node: Node) -> tuple[str | None, int]:
    """Return the codec whose frame a chunk file is, ``None`` when nothing packs it, and the bytes of a checksum behind it."""
    if node.format == 2:
        compressor = node.metadata.get("compressor")
        return (str(compressor.get("id")) if isinstance(compressor, Mapping) else None), 0
    names = _codec_names(node)
    tail = 4 if names[-1:] == ["crc32c"] else 0
    packed = names[:-1] if tail else names
    return (packed[-1] if packed and packed[-1] != "bytes" else None), tail


def _has_v3_codec(name: str) -> bool:
    from zarr.registry import get_codec_class

    with translated("codecs"):
        try:
            get_codec_class(name)
        except (KeyError, ValueError):  # zarr 3.4 raises the second
            return False
    return True


def _has_v2_codec(name: str) -> bool:
    from numcodecs.registry import get_codec

    try:
        get_codec({"id": name})
    except (ValueError, KeyError, ImportError):
        return False
    except TypeError:
        return True  # there, but it wants its parameters
    return True
