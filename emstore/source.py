"""What the user pointed at: files, folders and zips, as a flat list of items in natural order.

A folder that is itself one thing (a Zarr group) is one item. The rule about data that cannot be used also lives here,
once: `Source.skip` fails the whole read unless the user allowed a partial one, and then keeps the reason for the Record.
"""

import errno
import lzma
import re
import shutil
import stat
import struct
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
from emstore.header import plain_text

HEAD_BYTES: Final = 64 * 1024
"""Most that an adapter may look at to recognise a file, bytes."""

MAX_ITEMS: Final = 1_000_000
MAX_UNZIPPED: Final = 64 << 30
MAX_INFLATE: Final = 200
"""A zip may be this many times larger unpacked than packed: beyond it is a bomb."""
MAX_DIRECTORY: Final = 16 << 20
"""A zip's table of contents may take up this many bytes; `zipfile` keeps about ten times as much in memory."""
MAX_DEPTH: Final = 64
"""Folders may be nested this deep."""

_UNZIP_ERRORS: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises on archives that are damaged, encrypted, or packed in a way it does not know."""

_JUNK: Final = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_FOLDER_MARKS: Final = (".zgroup", ".zarray", "zarr.json")
_NION_MEMBERS: Final = {"data.npy", "metadata.json"}
"""A zip of these is a file format of its own, ``.ndata``."""


_WAY_ON: Final = "or pass --allow-partial to go on without it"


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
    def is_packed_zarr(self) -> bool:
        """Whether the file is a zip of a Zarr hierarchy; looks at the zip's table of contents."""
        if self.is_folder:
            return False
        try:
            with zipfile.ZipFile(self.path) as archive:
                return any(PurePosixPath(name).name in _FOLDER_MARKS for name in archive.namelist())
        except (OSError, *_UNZIP_ERRORS):
            return False

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
        for given in paths:
            path = Path(given)
            if not str(given):  # pathlib reads it as the current folder; a script meant a variable that was empty
                raise InvalidInput("an empty path was given as a source", fix="write . for the current folder")
            found = source._listed(path)
            if not found:
                raise NotFound("the folder holds no files", where=_shown(path))
            items += found
            if len(items) > MAX_ITEMS:
                raise Capacity(f"more than {MAX_ITEMS} files", where=_shown(path), fix="ingest it in parts")
        if not items:
            raise InvalidInput("no source was given")
        try:
            source.items = tuple(unpacked for item in items for unpacked in source._unzip(item))
        except BaseException:
            source.close()
            raise
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
            raise _with_way_on(error) if error else SourceUnreadable(reason, where=name, fix=f"repair or remove it, {_WAY_ON}")
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

    def _listed(self, path: Path) -> list[SourceItem]:
        """Return what one path stands for: itself, or the files in it."""
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                return self._walk(path)
        except EmstoreError:
            raise
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound("there is no such file or folder", where=_shown(path)) from error
        except OSError as error:
            raise SourceUnreadable(f"cannot be read: {error.strerror}", where=_shown(error.filename or path)) from error
        if not stat.S_ISREG(mode):
            raise SourceUnreadable("is a device, pipe or socket, not a file", where=_shown(path), fix="save it to a file first")
        return [SourceItem(path, _shown(path.name))]

    def _walk(self, root: Path) -> list[SourceItem]:
        """Return the items below a folder in natural order; say which entries are no files and cannot be used."""
        if _is_one_thing(root):
            return [SourceItem(root, _shown(root.name))]
        found: list[SourceItem] = []
        waiting = [root]
        while waiting:
            at = waiting.pop()
            if at.is_dir() and not at.is_symlink() and not (at != root and _is_one_thing(at)):
                depth = len(at.parts) - len(root.parts)
                if depth > MAX_DEPTH:
                    raise Capacity(f"folders nested more than {MAX_DEPTH} deep", where=_shown(root), fix="ingest it in parts")
                inside = [entry for entry in at.iterdir() if not _is_junk(entry)]
                waiting += sorted(inside, key=lambda p: natural_key(p.name), reverse=True)
                continue
            name = _shown(at.relative_to(root))
            if at.is_symlink():
                if at.exists() and at.resolve().is_relative_to(root.resolve()):
                    self.ignore(name, "a link to something in the same folder")
                else:
                    self.skip(name, "a link that leads out of the folder: not followed")
            elif at.is_dir() or at.is_file():
                found.append(SourceItem(at, name))
            else:
                self.ignore(name, "a device, pipe or socket, not a file")
        return found

    def _unzip(self, item: SourceItem) -> list[SourceItem]:
        """Replace a zip by the files in it; leave a zipped Zarr group or a Nion data item, which is one thing, alone."""
        if item.is_folder or not item.head.startswith(b"PK\x03\x04"):
            return [item]
        try:
            _check_directory(item)
            with zipfile.ZipFile(item.path) as archive:
                everything = [m for m in archive.infolist() if not m.is_dir()]
                members = [m for m in everything if not _is_junk(Path(m.filename))]
                one_thing = _NION_MEMBERS <= {m.filename for m in members}
                if not members or one_thing or any(Path(m.filename).name in _FOLDER_MARKS for m in everything):
                    return [item]
                if len(members) > MAX_ITEMS:
                    raise Capacity(f"holds more than {MAX_ITEMS} files", where=item.name, fix="ingest it in parts")
                packed, inflated = (sum(sizes) for sizes in zip(*((m.compress_size, m.file_size) for m in members), strict=True))
                packed = min(packed, item.size)  # members may overlap, and then promise more than the file holds
                if inflated > min(MAX_UNZIPPED, max(1 << 20, packed * MAX_INFLATE)):
                    raise Capacity(f"inflates to {inflated} bytes", where=item.name, fix="unpack it yourself first")
                if inflated > shutil.disk_usage(tempfile.gettempdir()).free:
                    raise _no_room(inflated, item)
                folder = Path(tempfile.mkdtemp(prefix="emstore-unzip-"))
                self._temporary.append(folder)
                members.sort(key=lambda m: natural_key(m.filename))
                return [_unpack(archive, member, folder, item) for member in members]
        except (OSError, *_UNZIP_ERRORS) as error:
            if isinstance(error, EmstoreError):
                raise
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room(inflated, item) from error
            if item.head[30:].startswith(b"data.npy"):  # a cut-off Nion data item: its adapter can say how much is good
                return [item]
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise SourceUnreadable(f"the zip cannot be opened: {reason}", where=item.name) from error


def _with_way_on(error: EmstoreError) -> EmstoreError:
    """Add to an error's fix that the rest may be taken without this item."""
    if "--allow-partial" not in (error.fix or ""):
        error.fix = f"{error.fix}, {_WAY_ON}" if error.fix else _WAY_ON.removeprefix("or ")
    return error


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that orders ``slice2`` before ``slice10``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.casefold()) for part in re.split(r"(\d+)", name) if part]


def _is_one_thing(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in _FOLDER_MARKS)


def _shown(path: Path | str) -> str:
    return plain_text(Path(path).as_posix())


def _is_junk(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _JUNK or "__MACOSX" in path.parts


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, item: SourceItem) -> SourceItem:
    """Unpack one member below `folder`, beside its companions."""
    inside = PurePosixPath(member.filename.replace("\\", "/"))
    if inside.is_absolute() or ".." in inside.parts:
        raise SourceUnreadable(
            f"the zip holds the path {member.filename!r}, which leads out of it", where=item.name, fix="do not trust this zip"
        )
    path = folder / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, path.open("xb") as out:
        _copy_bounded(packed.read, out.write, member.file_size)
    return SourceItem(path, f"{item.name}/{inside}", packed_in=item.path)


def _check_directory(item: SourceItem) -> None:
    """Refuse a zip whose table of contents alone would fill the memory (APPNOTE 4.3.14, 4.3.16)."""
    with item.path.open("rb") as file:
        file.seek(max(0, item.size - 22 - 0xFFFF - 76))
        tail = file.read()
    for mark, layout, at in ((b"PK\x05\x06", "<I", 12), (b"PK\x06\x06", "<Q", 40)):
        found = tail.rfind(mark)
        if found < 0 or found + at + struct.calcsize(layout) > len(tail):
            continue
        [size] = struct.unpack_from(layout, tail, found + at)
        if MAX_DIRECTORY < size != 0xFFFFFFFF:  # all ones: the 64-bit record says it
            raise Capacity("it lists more files than can be kept in memory", where=item.name, fix="unpack it yourself first")


def _no_room(needed: int, item: SourceItem) -> Capacity:
    return Capacity(
        f"unpacking takes {needed} bytes, more than is free in {tempfile.gettempdir()}",
        where=item.name,
        fix="free some space there, or set TMPDIR to a larger disk",
        kind=Kind.DISK_FULL,
    )


def _copy_bounded(read: Callable[[int], bytes], write: Callable[[bytes], int], limit: int) -> None:
    copied = 0
    while data := read(1 << 20):
        copied += len(data)
        if copied > limit:
            raise Capacity("the zip holds more than it says", kind=Kind.CAPACITY)
        write(data)
