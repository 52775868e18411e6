"""Which raw files a version was made from: cheap marks to see a change, digests to prove it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from emstore.errors import Kind, SourceUnreadable


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
        return cls(path, path.name, sum(m.st_size for m in marks), max((m.st_mtime_ns for m in marks), default=0))

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


def digest(path: Path) -> str:
    """Return ``blake3:hex`` of a file's bytes; of the sorted names and digests of its files for a folder."""
    if path.is_dir():
        whole = blake3()
        for file in _files(path):
            whole.update(f"{file.relative_to(path).as_posix()}\0{_hash(file)}\n".encode())
        return f"blake3:{whole.hexdigest()}"
    return f"blake3:{_hash(path)}"


def _hash(path: Path) -> str:
    return blake3().update_mmap(path).hexdigest()


def _files(path: Path) -> Iterable[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
