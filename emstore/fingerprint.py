"""Which raw files a version was made from: cheap marks to see a change, digests to prove it."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from emstore.errors import Kind, SourceUnreadable
from emstore.header import plain_text

BLOCK: Final = 1 << 20
"""Read at a time, bytes."""
SLACK: Final = 256 << 20
"""How far the hashing may run ahead of the reading, bytes."""


@dataclass(frozen=True)
class Fingerprint:
    """Size and time of one source file or folder; equal marks mean it was not written to in between."""

    path: Path
    name: str
    """Base name: what records show."""
    size: int
    """Bytes; of all files for a folder."""
    modified: int
    """Latest modification time, nanoseconds since the epoch."""

    @classmethod
    def of(cls, path: Path) -> "Fingerprint":
        """Look at a file or folder without reading it."""
        try:
            marks = [file.stat() for file in _files(path)]
        except OSError as error:
            raise SourceUnreadable(f"it went away while it was read: {error.strerror}", where=path.name) from error
        return cls(
            path,
            plain_text(path.name).replace("\\", "_"),
            sum(m.st_size for m in marks),
            max((m.st_mtime_ns for m in marks), default=0),
        )

    def check_unchanged(self) -> None:
        """Look again.

        Raises
        ------
        SourceUnreadable
            Kind ``source_changed``: somebody wrote to it meanwhile.
        """
        if Fingerprint.of(self.path) != self:
            raise SourceUnreadable(
                "it changed while it was read",
                where=self.name,
                fix="wait until the instrument has finished writing, then run the command again",
                kind=Kind.SOURCE_CHANGED,
            )


class Hasher:
    """Hashes source files in a thread, close behind the ingest that reads them, so that a cold disk is read only once.

    Readers take files in order and front to back; the ingest reports how far it is (`advance`), and the hasher follows within
    `SLACK` bytes, while the page cache still holds what was read. It keeps no more than one block in memory.
    """

    def __init__(self, paths: Sequence[Path], expected: int) -> None:
        """Start hashing `paths`; `expected` is the total that `advance` will count up to, bytes."""
        self._paths = paths
        self._total = max(1, sum(file.stat().st_size for path in paths for file in _files(path)))
        self._expected = max(1, expected)
        self._done = 0
        self._read = 0
        self._block = memoryview(bytearray(BLOCK))
        self._stopped = False
        self._state = threading.Condition()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="emstore-source")
        self._digests = self._pool.submit(lambda: [self._digest(path) for path in paths])

    def advance(self, count: int) -> None:
        """Say that the ingest got `count` bytes further."""
        with self._state:
            self._done += count
            self._state.notify()

    def result(self) -> list[str]:
        """Return ``blake3:hex`` of every path once all is hashed; for a folder, of its sorted file names and digests.

        Raises
        ------
        SourceUnreadable
            A file went away or cannot be read.
        """
        self._finish()
        return self._digests.result()

    def close(self) -> None:
        """Stop, also in the middle."""
        self._stopped = True
        self._finish()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _finish(self) -> None:
        with self._state:
            self._done = self._expected
            self._state.notify()

    def _digest(self, path: Path) -> str:
        if not path.is_dir():
            return f"blake3:{self._hash(path)}"
        whole = blake3()
        for file in _files(path):
            whole.update(f"{file.relative_to(path).as_posix()}\0{self._hash(file)}\n".encode())
        return f"blake3:{whole.hexdigest()}"

    def _hash(self, path: Path) -> str:
        hasher = blake3()
        try:
            with path.open("rb", buffering=0) as file:
                while not self._stopped and (count := file.readinto(self._block)):
                    hasher.update(self._block[:count])
                    self._read += count
                    with self._state:
                        self._state.wait_for(self._allowed)
        except OSError as error:
            raise SourceUnreadable(f"it cannot be read: {error.strerror}", where=path.name) from error
        return hasher.hexdigest()

    def _allowed(self) -> bool:
        return self._done >= self._expected or self._read <= self._done / self._expected * self._total + SLACK


def _files(path: Path) -> Sequence[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
