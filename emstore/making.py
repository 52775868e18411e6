"""What simulating and training share: a folder for what must outlive a stop, and calling code that may raise anything."""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import emstore
from emstore.errors import EmstoreError, Interrupted, ProcessingFailed, StorageFailed
from emstore.events import Listener, Reached
from emstore.lineage.home import home
from emstore.provenance import environment
from emstore.provenance.record import Software
from emstore.registry import PluginEntry
from emstore.store import Collected, Place, Store, Transaction, canonical, digest

MEMORY: Final = 4 << 30
"""Memory budget of the whole process unless the caller states one, bytes."""
ABANDONED: Final = timedelta(days=30)
"""Unfinished work that nobody went on with for so long is taken to be given up."""
BEAT: Final = 60.0
"""How often a folder that is worked in is touched, seconds: it is never old."""
T = TypeVar("T")


@contextmanager
def scratch(store: Store, place: Place, settings: str) -> Iterator[Path]:
    """Give the folder of one piece of work in the user's caches: found again by the same work, deleted once it is done.

    Raises
    ------
    StorageFailed
        It cannot be made.
    """
    folder = _folder(store, place, settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"the folder for unfinished work cannot be made: {error.strerror}", where=str(folder), fix="set EMSTORE_HOME"
        ) from error
    try:
        with _touched(folder):
            yield folder
    except BaseException:
        for each in (folder / "work", folder):
            with contextlib.suppress(OSError):
                each.rmdir()  # only if nothing is in it
        raise
    shutil.rmtree(folder, ignore_errors=True)


def forget(store: Store, place: Place, settings: str) -> None:
    """Delete the folder of a piece of work that is done, in case it was killed before it could."""
    shutil.rmtree(_folder(store, place, settings), ignore_errors=True)


@contextmanager
def _touched(folder: Path) -> Iterator[None]:
    """Keep a folder from growing old while it is worked in."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(folder)

    os.utime(folder)
    thread = threading.Thread(target=beat, name="emstore-scratch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def collect_scratch(*, dry_run: bool = False) -> list[Collected]:
    """Delete the user's folders of simulations and trainings that nobody went on with for `ABANDONED`.

    One that is worked in is left alone: it is touched all the time. Whoever comes back later begins anew.

    Raises
    ------
    StorageFailed
        One cannot be looked at or deleted.
    """
    root, found = home() / "scratch", []
    try:
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # done meanwhile
                last = datetime.fromtimestamp(folder.lstat().st_mtime, UTC)
                if datetime.now(UTC) - last <= ABANDONED:
                    continue
                size = sum(each.lstat().st_size for each in folder.rglob("*") if each.is_file())
                if not dry_run:
                    shutil.rmtree(folder)
                what = f"unfinished simulation or training, last worked on {last:%Y-%m-%d}"
                found.append(Collected(f"scratch/{folder.name}", what, size))
    except OSError as error:
        raise StorageFailed(f"unfinished work cannot be cleared: {error.strerror}", where=str(root)) from error
    return found


def _folder(store: Store, place: Place, settings: str) -> Path:
    key = digest(canonical([settings, store.id, str(place)])).partition(":")[2]
    return home() / "scratch" / key[:32]


def teller(task: str, listener: Listener) -> Callable[[float, str], None]:
    """Return what tells a listener how far a task is."""

    def tell(share: float, what: str) -> None:
        listener(Reached(task, min(max(float(share), 0.0), 1.0), what))

    return tell


def called(name: str, function: Callable[..., T], *arguments: Any) -> T:
    """Return what a plug-in's function gives.

    Raises
    ------
    ProcessingFailed
        It raised something that is not an error of ours.
    """
    try:
        return function(*arguments)
    except (MemoryError, EmstoreError, KeyboardInterrupt):
        raise
    except Exception as error:  # a plug-in may raise anything; the rest is in the cause
        raise ProcessingFailed(f"it raised {type(error).__name__}: {error}", where=name) from error


@contextmanager
def holding(task: str) -> Iterator[dict[str, Transaction]]:
    """Give a place for the transactions that are open: whatever ends the work, the same call resumes those still in it."""
    held: dict[str, Transaction] = {}
    try:
        yield held
    except BaseException as error:
        for transaction in held.values():
            transaction.release()
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("stopped on request", where=task, fix="run the same command again: it resumes") from error
        raise


def code_of(entry: PluginEntry, plugin: object) -> tuple[Software, ...]:
    """Return the programs that took part: emstore, the plug-in's package, and the libraries it names in ``libraries``."""
    us = Software(name="emstore", version=emstore.__version__)
    theirs = Software(name=entry.package, version=entry.package_version)
    names: Sequence[str] = getattr(plugin, "libraries", ())
    return ((us,) if theirs == us else (us, theirs)) + environment.software(*names)


def seed_of(params: Any) -> int | None:
    """Return the parameter called ``seed``, if there is one."""
    seed = getattr(params, "seed", None)
    return seed if isinstance(seed, int) else None
