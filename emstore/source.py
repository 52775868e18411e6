"""What the user pointed at: files, folders and zips, as a flat list of items in natural order.

A folder that is itself one thing (a Zarr group) is one item. The rule about data that cannot be used also lives here,
once: `Source.skip` fails the whole read unless the user allowed a partial one, and then keeps the reason for the Record.
"""

import lzma
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Final

from emstore.errors import Capacity, EmstoreError, InvalidInput, Kind, NotFound, SourceUnreadable

HEAD_BYTES: Final = 64 * 1024
"""Most that an adapter may look at to recognise a file, bytes."""

MAX_ITEMS: Final = 1_000_000
MAX_UNZIPPED: Final = 64 << 30
MAX_INFLATE: Final = 200
"""A zip member may be this many times larger than its compressed size: beyond it is a bomb."""

_UNZIP_ERRORS: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises on archives that are damaged, encrypted, or packed in a way it does not know."""

_JUNK: Final = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_FOLDER_MARKS: Final = (".zgroup", ".zarray", "zarr.json")
_NION_MEMBERS: Final = {"data.npy", "metadata.json"}
"""A zip of these is a file format of its own, ``.ndata``."""


@dataclass(frozen=True)
class SourceItem:
    """One file, or one folder that is a single thing."""

    path: Path
    """Where it is."""
    name: str
    """Path relative to what the user pointed at, with ``/``; safe to show and to keep."""
    packed_in: Path | None = None
    """The zip it was unpacked from, if it was."""

    @cached_property
    def is_folder(self) -> bool:
        """Whether the item is a folder that is one thing, such as a Zarr group."""
        return self.path.is_dir()

    @cached_property
    def size(self) -> int:
        """Size of the file, bytes; of all its files for a folder."""
        if self.is_folder:
            return sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())
        return self.path.stat().st_size

    @cached_property
    def head(self) -> bytes:
        """The first `HEAD_BYTES` bytes of the file; empty for a folder."""
        if self.is_folder:
            return b""
        try:
            with self.path.open("rb") as file:
                return file.read(HEAD_BYTES)
        except OSError as error:
            raise SourceUnreadable(f"cannot be read: {error.strerror}", where=self.name) from error

    def forget_head(self) -> None:
        """Free the memory of `head`: a folder may hold very many files."""
        self.__dict__.pop("head", None)

    @property
    def extension(self) -> str:
        """The file's suffix in lower case, with a compression suffix kept: ``.dm3``, ``.nii.gz``."""
        suffixes = [s.lower() for s in self.path.suffixes]
        if suffixes and suffixes[-1] in (".gz", ".bz2") and len(suffixes) > 1:
            return "".join(suffixes[-2:])
        return suffixes[-1] if suffixes else ""


@dataclass(frozen=True)
class Skipped:
    """An item, or a part of one, that was not used."""

    name: str
    reason: str


@dataclass
class Source:
    """A flat list of items in natural order, plus what became of those that could not be used."""

    items: tuple[SourceItem, ...]
    allow_partial: bool = False
    skipped: list[Skipped] = field(default_factory=list)
    """Data that should have been read but could not be; only ever filled with ``allow_partial``."""
    ignored: list[Skipped] = field(default_factory=list)
    """Items that hold no array data, such as notes and indexes."""
    _temporary: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, paths: Sequence[str | Path], *, allow_partial: bool = False) -> "Source":
        """List files, walk folders (links are not followed), and unpack zips that are not one thing, in natural order.

        Raises
        ------
        NotFound
            A path does not exist, or a folder holds no files.
        Capacity
            More than a million items, or a zip that inflates beyond reason.
        """
        source = cls((), allow_partial=allow_partial)
        items: list[SourceItem] = []
        for path in map(Path, paths):
            if not path.exists():
                raise NotFound("there is no such file or folder", where=str(path))
            found = list(_walk(path)) if path.is_dir() else [SourceItem(path, path.name)]
            if not found:
                raise NotFound("the folder holds no files", where=str(path))
            items += found
            if len(items) > MAX_ITEMS:
                raise Capacity(f"more than {MAX_ITEMS} files", where=str(path), fix="ingest it in parts")
        if not items:
            raise InvalidInput("no source was given")
        source.items = tuple(unpacked for item in items for unpacked in source._unzip(item))
        return source

    def subset(self, items: Iterable[SourceItem]) -> "Source":
        """Return a source of some of the items that shares this one's policy and lists."""
        return Source(tuple(items), self.allow_partial, self.skipped, self.ignored)

    def skip(self, name: str, reason: str, error: EmstoreError | None = None) -> None:
        """Leave data out: fail unless the user allowed a partial read, else remember why.

        Parameters
        ----------
        name : str
            Item, or part of one (``scan.tif page 7``).
        reason : str
            Why it cannot be used.
        error : EmstoreError, optional
            What to raise; a `SourceUnreadable` by default.
        """
        if not self.allow_partial:
            raise error or SourceUnreadable(
                reason, where=name, fix="repair or remove it, or pass --allow-partial to go on without it"
            )
        self.skipped.append(Skipped(name, reason))

    def ignore(self, name: str, reason: str) -> None:
        """Note an item that holds no array data; never an error."""
        self.ignored.append(Skipped(name, reason))

    def close(self) -> None:
        """Delete what was unpacked."""
        while self._temporary:
            shutil.rmtree(self._temporary.pop(), ignore_errors=True)

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _unzip(self, item: SourceItem) -> list[SourceItem]:
        """Replace a zip by the files in it; leave a zipped Zarr group or a Nion data item, which is one thing, alone."""
        if item.is_folder or not item.head.startswith(b"PK\x03\x04"):
            return [item]
        try:
            with zipfile.ZipFile(item.path) as archive:
                everything = [m for m in archive.infolist() if not m.is_dir()]
                members = [m for m in everything if not _is_junk(Path(m.filename))]
                one_thing = _NION_MEMBERS <= {m.filename for m in members}
                if not members or one_thing or any(Path(m.filename).name in _FOLDER_MARKS for m in everything):
                    return [item]
                if len(members) > MAX_ITEMS:
                    raise Capacity(f"holds more than {MAX_ITEMS} files", where=item.name, fix="ingest it in parts")
                packed, inflated = (sum(sizes) for sizes in zip(*((m.compress_size, m.file_size) for m in members), strict=True))
                if inflated > min(MAX_UNZIPPED, max(1 << 20, packed * MAX_INFLATE)):
                    raise Capacity(f"inflates to {inflated} bytes", where=item.name, fix="unpack it yourself first")
                folder = Path(tempfile.mkdtemp(prefix="emstore-unzip-"))
                self._temporary.append(folder)
                members.sort(key=lambda m: natural_key(m.filename))
                return [_unpack(archive, member, folder, item) for member in members]
        except EmstoreError:
            self.close()
            raise
        except (OSError, *_UNZIP_ERRORS) as error:
            if item.head[30:].startswith(b"data.npy"):  # a cut-off Nion data item: its adapter can say how much is good
                return [item]
            self.close()
            raise SourceUnreadable(f"the zip cannot be opened: {error}", where=item.name) from error


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that orders ``slice2`` before ``slice10``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.casefold()) for part in re.split(r"(\d+)", name) if part]


def _walk(folder: Path) -> Iterable[SourceItem]:
    root = folder
    if any((folder / mark).exists() for mark in _FOLDER_MARKS):
        yield SourceItem(folder, folder.name)
        return

    def visit(at: Path) -> Iterable[SourceItem]:
        entries = sorted(at.iterdir(), key=lambda p: natural_key(p.name))
        for entry in entries:
            if entry.is_symlink() or _is_junk(entry):
                continue
            name = entry.relative_to(root).as_posix()
            if entry.is_dir():
                if any((entry / mark).exists() for mark in _FOLDER_MARKS):
                    yield SourceItem(entry, name)
                else:
                    yield from visit(entry)
            elif entry.is_file():
                yield SourceItem(entry, name)

    yield from visit(folder)


def _is_junk(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _JUNK or "__MACOSX" in path.parts


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, item: SourceItem) -> SourceItem:
    """Unpack one member below `folder`, beside its companions."""
    inside = PurePosixPath(member.filename.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts:
        raise SourceUnreadable(f"the zip holds the path {member.filename!r}, which leads out of it", where=item.name)
    path = folder / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, path.open("xb") as out:
        _copy_bounded(packed.read, out.write, member.file_size)
    return SourceItem(path, f"{item.name}/{inside}", packed_in=item.path)


def _copy_bounded(read: Callable[[int], bytes], write: Callable[[bytes], int], limit: int) -> None:
    copied = 0
    while data := read(1 << 20):
        copied += len(data)
        if copied > limit:
            raise Capacity("the zip holds more than it says", kind=Kind.CAPACITY)
        write(data)
