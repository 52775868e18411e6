"""Taking a version out again as a file other programs read.

An exporter is registered under the entry-point group ``emstore.exporters``. It writes to the path it is given; `export`
gives it a temporary one beside the target and renames only a finished file, so a failed export leaves nothing behind.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar, Final, Protocol, runtime_checkable

from emstore.errors import Capacity, Conflict, EmstoreError, InvalidInput, Kind, NotFound, StorageFailed
from emstore.events import Advanced, Listener, Noted, Started, silent
from emstore.table import Table
from emstore.volume import Volume
from emstore.weights import Weights

_SPARE_BYTES: Final = 16 << 20
"""Room that must stay free on the disk besides the file itself: headers, indexes, other writers."""


@runtime_checkable
class Exporter(Protocol):
    """Writes volumes in one file format."""

    name: ClassVar[str]
    """Lower-case name, the same as the entry point's."""
    extensions: ClassVar[tuple[str, ...]]
    """File extensions it writes, lower case with the dot; the longest match wins (``.ome.tif`` before ``.tif``).

    Those of them whose files are compressed may be named in a second attribute, ``compressed``: nobody knows their size
    beforehand, so that the disk is not asked for room for all the voxels.
    """

    def write(self, volume: Volume, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write the volume to `path` (which ends in one of `extensions`), reading it block by block.

        Parameters
        ----------
        volume : Volume
            What to write; values are written as stored, scale and geometry in the format's own terms.
        path : Path
            A path that does not exist yet.
        advance : callable
            Called with the number of bytes of voxels written since the last call.

        Returns
        -------
        tuple of str
            What the format could not hold, in sentences for the user; empty when nothing was lost.

        Raises
        ------
        InvalidInput
            The format cannot hold this volume at all (axes, type); says what would work.
        """
        ...


@runtime_checkable
class TableExporter(Protocol):
    """Writes tables in one file format. A class may keep both contracts."""

    name: ClassVar[str]
    """Lower-case name, the same as the entry point's."""
    extensions: ClassVar[tuple[str, ...]]
    """File extensions it writes, lower case with the dot."""

    def write_table(self, table: Table, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write the table to `path`, which does not exist yet and ends in one of `extensions`.

        Parameters
        ----------
        table : Table
            What to write.
        path : Path
            A path that does not exist yet.
        advance : callable
            Called with the number of bytes of values written since the last call.

        Returns
        -------
        tuple of str
            What the format could not hold, in sentences for the user; empty when nothing was lost.
        """
        ...


@runtime_checkable
class WeightsExporter(Protocol):
    """Writes the weights of a network in one file format."""

    name: ClassVar[str]
    """Lower-case name, the same as the entry point's."""
    extensions: ClassVar[tuple[str, ...]]
    """File extensions it writes, lower case with the dot."""

    def write_weights(self, weights: Weights, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write the weights to `path`; otherwise as `TableExporter.write_table`."""
        ...


def export(
    subject: Volume | Table | Weights,
    path: str | Path,
    *,
    force: bool = False,
    listener: Listener = silent,
    task: str | None = None,
) -> tuple[str, ...]:
    """Write a volume, a table or weights to a file, whole or not at all.

    The exporter whose longest extension ends the file name writes a temporary file in the same folder; it is flushed to
    disk and renamed once it is complete, and removed when anything goes wrong, Ctrl-C included.

    Parameters
    ----------
    subject : Volume, Table or Weights
        What to write.
    path : str or Path
        Where to; its extension chooses the format.
    force : bool
        Replace a file that is already there.
    listener : callable
        Told of progress (bytes of values) and of every note.
    task : str, optional
        Name of this work in events; the file's name by default.

    Returns
    -------
    tuple of str
        What the format could not hold, in sentences; empty when nothing was lost.

    Raises
    ------
    InvalidInput
        No exporter writes this into such a file, or the format cannot hold the volume.
    NotFound
        The folder does not exist.
    Conflict
        The file exists and `force` was not given.
    Capacity
        Kind ``disk_full``: the disk has not enough room, before or while writing.
    StorageFailed
        The disk failed.
    """
    from emstore.registry import exporter_for, table_exporter_for, weights_exporter_for  # the registry knows the contracts above

    target = Path(path)
    exporter: Exporter | TableExporter | WeightsExporter
    if isinstance(subject, Table):
        exporter = table_exporter_for(target.name)
        nbytes, write = sum(column.values.nbytes for column in subject.columns.values()), partial(exporter.write_table, subject)
    elif isinstance(subject, Weights):
        exporter = weights_exporter_for(target.name)
        nbytes, write = sum(values.nbytes for values in subject.arrays.values()), partial(exporter.write_weights, subject)
    else:
        exporter = exporter_for(target.name)
        nbytes, write = subject.nbytes, partial(exporter.write, subject)
    check_target(target, force=force)
    extension = max((e for e in exporter.extensions if target.name.lower().endswith(e)), key=len)
    _check_room(target, 0 if extension in getattr(exporter, "compressed", ()) else nbytes)
    name = task or target.name
    listener(Started(name, nbytes))
    with whole_file(target, extension, force=force) as temporary:
        notes = write(temporary, lambda count: listener(Advanced(name, count)))
    for note in notes:
        listener(Noted(name, note))
    return notes


def check_target(target: Path, *, force: bool) -> None:
    """Refuse a file that cannot be written, before any work is done for it.

    Raises
    ------
    NotFound
        The folder does not exist.
    InvalidInput
        It is a folder.
    Conflict
        The file exists and `force` was not given.
    """
    if not target.parent.is_dir():
        raise NotFound("there is no such folder", where=str(target.parent), fix="create it first")
    _refuse_existing(target, force)


@contextmanager
def whole_file(target: Path, extension: str, *, force: bool) -> Iterator[Path]:
    """Give the path of a temporary file in the target's folder; once it is written it is flushed to disk and renamed.

    It is removed when anything goes wrong, Ctrl-C included.

    Raises
    ------
    Conflict
        The file exists by now and `force` was not given.
    Capacity
        Kind ``disk_full``.
    StorageFailed
        The disk failed.
    """
    # The suffix stays, since exporters and their libraries choose the variant by it; the stem is hidden and unguessable.
    temporary = target.with_name(f".{target.name[: -len(extension)]}.{secrets.token_hex(4)}.part{extension}")
    try:
        yield temporary
        _fsync(temporary)
        _publish(temporary, target, force)
        _fsync(target.parent)
    except EmstoreError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Capacity(
                f"the disk became full: {error.strerror}",
                where=str(target),
                fix="free some space and repeat",
                kind=Kind.DISK_FULL,
            ) from error
        raise StorageFailed(f"could not be written: {error.strerror or error}", where=str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_existing(target: Path, force: bool) -> None:
    if target.is_dir():
        raise InvalidInput("is a folder", where=str(target), fix="give a file name")
    if not force and os.path.lexists(target):
        raise Conflict("the file exists", where=str(target), fix="choose another name, or replace it with --force")


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed + _SPARE_BYTES:
        raise Capacity(
            f"the disk has {free / 1e9:.2f} GB free and the file takes {needed / 1e9:.2f} GB"
            if needed
            else f"the disk has only {free / 1e6:.0f} MB free",
            where=str(target),
            fix="free some space or write to another disk",
            kind=Kind.DISK_FULL,
        )


def _publish(temporary: Path, target: Path, force: bool) -> None:
    """Give the finished file its name in one step; without `force` never over a file that appeared meanwhile."""
    if force:
        temporary.replace(target)
        return
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        _refuse_existing(target, force)
        raise
    except OSError:  # some file systems have no hard links: fall back to check, then rename
        _refuse_existing(target, force)
        temporary.rename(target)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
