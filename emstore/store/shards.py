"""A shard: one object that holds many chunks and, at its end, an index of where each one is.

The layout is the ``sharding_indexed`` codec of Zarr v3 (ZEP 2): chunks in C order, back to back, then for each chunk its
offset and length as little-endian uint64 (both 2^64-1 for a chunk that is all fill value and so left out), then the crc32c
of the index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt

from emstore.errors import Damaged
from emstore.store.codecs import CHECKSUM_BYTES, ChunkCodec, Encoded

MISSING: Final = 2**64 - 1
"""Offset and length of a chunk that is not stored."""

_INDEX_CODECS: Final = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]

Index = npt.NDArray[np.uint64]
"""Offset and length of every chunk of a shard, shape (chunks, 2), C order."""


@dataclass(frozen=True)
class ShardCodec:
    """Joins encoded chunks into shards and finds them again."""

    chunks: ChunkCodec
    """Codec of one chunk."""
    shape: tuple[int, ...]
    """Shape of a shard in voxels; a whole number of chunks along every axis."""

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks of a shard along every axis."""
        return tuple(s // c for s, c in zip(self.shape, self.chunks.shape, strict=True))

    @property
    def count(self) -> int:
        """Number of chunks of a shard."""
        return prod(self.grid)

    @property
    def index_bytes(self) -> int:
        """Size of the index with its checksum, bytes."""
        return 16 * self.count + CHECKSUM_BYTES

    def join(self, parts: Sequence[Encoded | None]) -> bytes | None:
        """Return the object of a shard, or ``None`` when no chunk of it needs storing.

        Parameters
        ----------
        parts : sequence
            Every chunk of the shard in C order; ``None`` for one that is all fill value or outside the array.
        """
        sizes = np.array([0 if part is None else len(part[0]) + len(part[1]) for part in parts], dtype=np.uint64)
        if not sizes.any():
            return None
        index = np.empty((len(parts), 2), dtype="<u8")
        index[:, 1] = sizes
        index[:, 0] = np.cumsum(sizes) - sizes
        index[sizes == 0] = MISSING
        tail = index.tobytes()
        pieces = [piece for part in parts if part is not None for piece in part]
        return b"".join([*pieces, tail, int(google_crc32c.value(tail)).to_bytes(CHECKSUM_BYTES, "little")])

    def index(self, tail: bytes, size: int, where: str) -> Index:
        """Check and return a shard's index.

        Parameters
        ----------
        tail : bytes
            The last `index_bytes` bytes of the shard.
        size : int
            Size of the whole object, bytes.
        where : str
            The shard's key, for errors.

        Raises
        ------
        Damaged
            The object is too short, the index's checksum does not fit, or it points outside the object.
        """
        fix = "run `emstore verify --data`; restore the object from a copy"
        if len(tail) != self.index_bytes or size < self.index_bytes:
            raise Damaged(f"the shard is only {size} bytes long", where=where, fix=fix)
        body = tail[:-CHECKSUM_BYTES]
        if google_crc32c.value(body) != int.from_bytes(tail[-CHECKSUM_BYTES:], "little"):
            raise Damaged("the checksum of the shard's index does not fit", where=where, fix=fix)
        index = np.frombuffer(body, dtype="<u8").reshape(-1, 2)
        stored = index[(index != MISSING).any(axis=1)]
        end = np.uint64(size - self.index_bytes)
        if ((stored[:, 0] > end) | (stored[:, 1] > end - np.minimum(stored[:, 0], end))).any():
            raise Damaged("the shard's index points outside the shard", where=where, fix=fix)
        return index

    def decode_one(self, data: bytes, number: int, where: str) -> npt.NDArray[Any] | None:
        """Decode one chunk of a whole shard, by its number in C order; ``None`` for one that is all fill value."""
        index = self.index(data[-self.index_bytes :], len(data), where)
        offset, length = (int(v) for v in index[number])
        if offset == MISSING:
            return None
        return self.chunks.decode(data[offset : offset + length], f"{where} chunk {number}")

    def to_json(self) -> list[dict[str, Any]]:
        """Return the ``codecs`` list of Zarr v3 metadata."""
        configuration = {
            "chunk_shape": list(self.chunks.shape),
            "codecs": self.chunks.to_json(),
            "index_codecs": _INDEX_CODECS,
            "index_location": "end",
        }
        return [{"name": "sharding_indexed", "configuration": configuration}]

    @classmethod
    def from_json(cls, codecs: Sequence[Mapping[str, Any]], dtype: np.dtype[Any], shape: tuple[int, ...]) -> "ShardCodec":
        """Rebuild the codec that `to_json` described.

        Raises
        ------
        Damaged
            Codecs emstore does not write, or shapes that do not fit each other.
        """
        match [dict(codec) for codec in codecs]:
            case [
                {
                    "name": "sharding_indexed",
                    "configuration": {"chunk_shape": chunk_shape, "codecs": inner, "index_codecs": index_codecs, **rest},
                }
            ] if index_codecs == _INDEX_CODECS and rest.get("index_location", "end") == "end":
                chunk = tuple(int(n) for n in chunk_shape)
            case _:
                raise Damaged("the array's codecs are not ones emstore writes", where="zarr.json")
        if len(chunk) != len(shape) or any(c < 1 or s < 1 or s % c for c, s in zip(chunk, shape, strict=True)):
            raise Damaged(f"chunks {chunk} do not tile shards {shape}", where="zarr.json")
        codec = cls(ChunkCodec.from_json(inner, dtype, chunk), shape)
        if codec.count > 1 << 22:
            raise Damaged(f"the array's shards claim {codec.count} chunks each", where="zarr.json")
        return codec
