"""A version's objects in memory: both ends of the store's data path, for tests that need no disk."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from emstore.errors import NotFound


@dataclass
class MemorySink:
    """A `Sink` and a `ByteSource` over a dict. Creating a key twice is an error, as it is in a store."""

    objects: dict[str, bytes] = field(default_factory=dict)
    before: frozenset[str] = frozenset()
    """Keys an earlier attempt left."""
    puts: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def have(self, key: str) -> bool:
        return key in self.before

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        with self._lock:
            assert key not in self.objects, f"{key} was put twice"
            self.objects[key] = bytes(data)
            self.puts.append(key)

    def read(self, key: str) -> bytes:
        try:
            return self.objects[key]
        except KeyError:
            raise NotFound("there is no such object", where=key) from None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.read(key)[start : start + length]

    def get_suffix(self, key: str, length: int) -> bytes:
        return self.read(key)[-length:]

    def size(self, key: str) -> int:
        return len(self.read(key))

    def save(self, folder: Path) -> None:
        """Write all objects to a folder."""
        for key, data in self.objects.items():
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
