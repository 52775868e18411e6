"""Shards that are being put together from encoded chunks, which come in any order and from any thread."""

import threading
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy.typing as npt

from emstore.store.codecs import Encoded
from emstore.store.plan import Level

Shape = tuple[int, ...]


@dataclass(frozen=True)
class WholeShard:
    """A shard of which every chunk has come."""

    level: Level
    key: str
    """Relative to the version."""
    parts: list[Encoded | None]

    @property
    def empty(self) -> bool:
        """Whether it holds nothing but the fill value, and so need not exist."""
        return not any(self.parts)

    @property
    def nbytes(self) -> int:
        """Size of its chunks, bytes."""
        return sum(len(part[0]) for part in self.parts if part is not None)

    def join(self) -> bytes:
        """Return the object; the parts are given up."""
        data = self.level.codec.join(self.parts)
        self.parts.clear()
        assert data is not None
        return data


@dataclass
class _Shard:
    parts: list[Encoded | None]
    left: int


@dataclass
class Assembly:
    """Open shards."""

    _shards: dict[tuple[int, Shape], _Shard] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, level: Level, index: Shape, chunk: npt.NDArray[Any]) -> WholeShard | None:
        """Encode a chunk into its shard; return the shard when that was its last one."""
        codec = level.codec
        part = None if codec.chunks.is_fill(chunk) else codec.chunks.encode(chunk)
        at = level.shard_of(index)
        position = 0
        for i, g in zip(index, codec.grid, strict=True):
            position = position * g + i % g
        with self._lock:
            shard = self._shards.get((level.number, at))
            if shard is None:
                inside = prod(min(g, n - i * g) for i, g, n in zip(at, codec.grid, level.chunks, strict=True))
                shard = self._shards[level.number, at] = _Shard([None] * codec.count, inside)
            shard.parts[position] = part
            shard.left -= 1
            if shard.left:
                return None
            del self._shards[level.number, at]
        return WholeShard(level, level.shard_key(at), shard.parts)
