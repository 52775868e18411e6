"""What is in a store, and what state it is in."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import ValidationError

from emstore.errors import Damaged, NotFound
from emstore.store import lease as leases
from emstore.store.documents import Tombstone, Txn, VersionInfo
from emstore.store.layout import LEASES, MANIFEST, NODE, TXN, Place
from emstore.store.store import Store
from emstore.store.transaction import numbers
from emstore.store.version import parse_seal


class State(StrEnum):
    """What became of a version number."""

    SEALED = "sealed"
    WRITING = "writing"
    UNFINISHED = "unfinished"
    ABORTED = "aborted"
    DAMAGED = "damaged"
    """Its seal or its reservation cannot be read, or its seal is gone: see `verify`."""


@dataclass(frozen=True)
class VersionState:
    """One version number of an array."""

    place: Place
    state: State
    info: VersionInfo | None = None
    """The seal, when sealed."""
    task: str | None = None
    """What was or is being made, when not sealed."""
    since: datetime | None = None
    """When the number was reserved or the version aborted."""
    reason: str | None = None
    """Why it was aborted, or what is damaged."""


def places(store: Store, place: Place) -> list[Place]:
    """Return every array at or below a place, sorted.

    Raises
    ------
    NotFound
        There is nothing at `place`.
    """
    backend = store.backend
    if place.prefix and place.version is None and backend.find(place.prefix + NODE) is None:
        raise NotFound("there is nothing by that name", where=f"{store.url}/{place}", fix="see `emstore ls`")
    datasets = [place.dataset] if place.dataset else _groups(store, "")
    return [
        Place(dataset, array)
        for dataset in datasets
        for array in ([place.array] if place.array else _groups(store, f"{dataset}/"))
    ]


def versions(store: Store, place: Place) -> list[VersionState]:
    """Return every version number at or below a place with its state, in order."""
    if place.version is not None:
        return [state(store, place)]
    found = []
    for array in places(store, place):
        for number in numbers(store.backend, array):
            try:
                found.append(state(store, Place(array.dataset, array.array, number)))
            except NotFound:
                continue  # a folder by that name, but nothing of ours in it: a writer was killed in its very first put
    return found


def state(store: Store, place: Place) -> VersionState:
    """Return the state of one version number."""
    backend = store.backend
    body = backend.find(place.prefix + NODE)
    if body is not None:
        try:
            _, info = parse_seal(body, f"{store.url}/{place}")
        except Damaged as error:
            return VersionState(place, State.DAMAGED, reason=error.what)
        if isinstance(info, Tombstone):
            return VersionState(place, State.ABORTED, since=info.when, reason=info.reason)
        return VersionState(place, State.SEALED, info, since=info.record.activity.ended)
    reserved = backend.find(place.prefix + TXN)
    if reserved is None:
        raise NotFound("there is no such version", where=f"{store.url}/{place}", fix="see `emstore ls`")
    if seal_is_gone(store, place):
        return VersionState(place, State.DAMAGED, reason="its seal is gone")
    try:
        txn = Txn.model_validate_json(reserved)
    except ValidationError:
        return VersionState(place, State.DAMAGED, reason="its reservation cannot be read")
    _, lease = leases.latest(backend, place.prefix)
    running = leases.alive(lease, store.id)
    return VersionState(place, State.WRITING if running else State.UNFINISHED, task=txn.task, since=txn.created)


def seal_is_gone(store: Store, place: Place) -> bool:
    """Whether a version without a seal had one.

    The manifest is written before the seal, and leases are deleted after it: unfinished work keeps its lease.
    """
    backend = store.backend
    if next(backend.entries(place.prefix + LEASES), None) is not None or backend.find(place.prefix + MANIFEST) is None:
        return False
    return backend.find(place.prefix + NODE) is None


def _groups(store: Store, prefix: str) -> list[str]:
    """Return the child groups that are ours; anything else in the folder is left alone."""
    return [
        name
        for name in store.backend.children(prefix)
        if not name.startswith(".") and store.backend.find(f"{prefix}{name}/{NODE}") is not None
    ]
