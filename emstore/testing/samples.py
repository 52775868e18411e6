"""Sources to test an adapter with, and copies of them: renamed, linked elsewhere, truncated, corrupted."""

import os
import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PathLike = str | Path


@dataclass(frozen=True)
class Sample:
    """One source as a user would name it: a file, a folder, or several of them.

    A knob left ``None`` takes the value of the same name on the test class.
    """

    paths: tuple[Path, ...]
    """What the user would point at."""
    truncatable: bool | None = None
    """Whether a cut in its largest file can be noticed at all; rarely false."""
    random_access: bool | None = None
    """Whether a part can be read without reading what comes before it; false for gzip, bzip2 and most video."""
    raw_verbatim: bool | None = None
    """Whether every raw header stands in one piece in one of the files."""

    @classmethod
    def of(cls, source: "PathLike | Sequence[PathLike] | Sample") -> "Sample":
        """Take a path, several paths, or a sample as a sample."""
        if isinstance(source, Sample):
            return source
        paths = [source] if isinstance(source, str | Path) else list(source)
        return cls(tuple(Path(path) for path in paths))

    @property
    def name(self) -> str:
        """Short name for messages."""
        first = self.paths[0].name
        return first if len(self.paths) == 1 else f"{first} and {len(self.paths) - 1} more"


@dataclass(frozen=True)
class Copy:
    """A sample copied to another folder, companions included, with the layout kept."""

    root: Path
    """Folder everything was copied to."""
    origin: Path
    """Folder that `root` mirrors."""
    paths: tuple[Path, ...]
    """The sample's paths in the copy."""

    @property
    def largest(self) -> Path:
        """The sample's own largest file, where the values are; a companion may be text, which can end anywhere."""
        return max((file for path in self.paths for file in files_of(path)), key=lambda path: path.stat().st_size)


def files_of(path: Path) -> list[Path]:
    """Return the file itself, or every file below a folder, sorted."""
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def copy(sample: Sample, companions: Iterable[Path], to: Path) -> Copy:
    """Copy a sample and the companions beside it into an empty folder (hard links where the disk allows them).

    Parameters
    ----------
    sample : Sample
        What to copy.
    companions : iterable of Path
        Other files its volumes are read from; those not beside or below the sample are left where they are.
    to : Path
        The folder to fill.
    """
    origin = Path(os.path.commonpath([path.absolute().parent for path in sample.paths]))
    wanted = [file.absolute() for path in sample.paths for file in files_of(path)]
    wanted += [path.absolute() for path in companions if path.is_file() and path.absolute().is_relative_to(origin)]
    for file in dict.fromkeys(wanted):
        link(file, to / file.relative_to(origin))
    return Copy(to, origin, tuple(to / path.absolute().relative_to(origin) for path in sample.paths))


def link(source: Path, target: Path) -> None:
    """Put a file at another path without copying its bytes where that is possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def truncate(path: Path, size: int) -> None:
    """Replace a file by its first `size` bytes; a hard link elsewhere keeps the whole of it."""
    with path.open("rb") as file:
        kept = file.read(size)
    _replace(path, kept)


def corrupt(path: Path, seed: str) -> None:
    """Replace a file by one with a few damaged bytes, most of them near its start, where headers are."""
    chance = random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice((1, 2, 8))):
        reach = min(len(data), chance.choice((64, 512, 4096, len(data))))
        if not reach:
            break
        at = chance.randrange(reach)
        width = chance.choice((1, 1, 2, 4))
        damage = chance.choice((chance.randbytes(width), b"\xff" * width, b"\x00" * width, b"\x7f" * width))
        data[at : at + width] = damage[: len(data) - at]
    _replace(path, bytes(data))


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)
