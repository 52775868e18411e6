"""Clearing what unfinished work left behind. Sealed versions are never touched."""

from dataclasses import dataclass

from emstore.store.layout import LEASES, Place
from emstore.store.listing import State, places, versions
from emstore.store.store import Store
from emstore.store.transaction import bury


@dataclass(frozen=True)
class Collected:
    """One thing that was, or would be, cleared."""

    key: str
    """Version prefix or object key, relative to the store."""
    what: str
    nbytes: int


def collect(store: Store, place: Place, *, dry_run: bool = False) -> list[Collected]:
    """Abort unfinished versions whose writer is gone, and delete temporaries of killed writers.

    A version that a live process is writing is left alone, and so is one that was sealed and is damaged. An aborted
    version keeps its number: a tombstone takes its place.

    Parameters
    ----------
    store, place : Store, Place
        Where to clear up.
    dry_run : bool
        Only say what would be done.
    """
    backend = store.backend
    found: list[Collected] = []
    busy: list[str] = []
    for version in versions(store, place):
        prefix = version.place.prefix
        if version.state is State.WRITING:
            busy.append(prefix)
            continue
        if version.state is State.DAMAGED:
            continue  # it was sealed: what is left of it may be repaired from a copy
        if version.state is State.SEALED:
            stale = [e for e in backend.entries(prefix + LEASES)]
            found += [Collected(e.key, "lease of a finished writer", e.size) for e in stale]
            if not dry_run:
                backend.delete([e.key for e in stale])
            continue
        data = [e for e in backend.entries(prefix) if e.key.removeprefix(prefix) not in (".emstore/txn.json", "zarr.json")]
        if version.state is State.ABORTED and not data:
            continue
        found.append(Collected(prefix, "unfinished version", sum(e.size for e in data)))
        if not dry_run:
            bury(backend, version.place, "its writer died or was stopped, and gc cleared it")
    roots = [""] if not place.prefix else [p.prefix for p in places(store, place)] if place.version is None else [place.prefix]
    for root in roots:
        for key in backend.leftovers(root):
            path = backend.path(key)
            if path is None or path.is_symlink() or any(key.startswith(prefix) for prefix in busy):
                continue
            found.append(Collected(key, "temporary of a killed writer", path.stat().st_size))
            if not dry_run:
                backend.delete([key])
    return found
