"""Making one version: reserve a number, write whole objects, seal. Atomic, resumable, safe against zombies.

The protocol (layout 1) rests on one primitive, a put that creates or fails:

1. *Reserve*: create ``vN/.emstore/txn.json`` at the next free number. An unfinished version with equal settings is resumed
   instead, a finished one is returned; a pointer by settings digest finds both without reading every version.
2. *Write*: every object is created whole, once, hashed as it is sent. An object that exists is whole: that is the resume
   ledger. A zombie cannot replace anything.
3. *Manifest*: create it, naming every object with size and digest; make all durable; look at every key again.
4. *Seal*: create ``vN/zarr.json``. Before it nothing is visible, after it nothing changes. If the answer is lost, reading
   back tells.
5. *Abort*: create a tombstone at that same key, then delete the data: nobody can seal it any more, and numbers stay dense.
"""

import threading
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from emstore.errors import Conflict, Damaged, Kind, NotFound
from emstore.store import lease as leases
from emstore.store.backend import Backend, Buffer
from emstore.store.documents import ArrayInfo, DatasetInfo, Manifest, ManifestEntry, Tombstone, Txn, canonical, digest
from emstore.store.layout import LEASES, MANIFEST, NODE, SETTINGS, TXN, Place, version_number

_FLUSH_BYTES: Final = 1 << 20
"""Objects of at least this size are made durable as soon as they are written."""


@dataclass(frozen=True)
class Finished:
    """A sealed version with exactly the settings asked for is there already."""

    place: Place


class _Objects:
    """The objects of one version being written, by their keys in it."""

    def __init__(self, backend: Backend, place: Place) -> None:
        self.backend = backend
        self.place = place

    def read(self, key: str) -> bytes:
        """Return an object of this version."""
        return self.backend.get(self.place.prefix + key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return part of an object of this version."""
        return self.backend.get_range(self.place.prefix + key, start, length)

    def get_suffix(self, key: str, length: int) -> bytes:
        """Return the end of an object of this version."""
        return self.backend.get_suffix(self.place.prefix + key, length)

    def size(self, key: str) -> int:
        """Return the size of an object of this version, bytes."""
        return self.backend.size(self.place.prefix + key)


class Transaction(_Objects):
    """One version being written. Use `begin`; end with `seal`, `release` or `abort`. It is the writer's `Sink`."""

    def __init__(self, backend: Backend, place: Place, txn: Txn, lease: leases.HeldLease, store_id: str) -> None:
        super().__init__(backend, place)
        self.txn = txn
        self.store_id = store_id
        self._lease = lease
        self._lock = threading.Lock()
        self._entries: dict[str, ManifestEntry] = {}
        self._existing: set[str] = set()
        # Bytes go to the disk while the next ones are encoded, instead of all at once before the seal.
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="emstore-flush")
        self._flushes: dict[str, Future[None]] = {}

    @property
    def earlier(self) -> frozenset[str]:
        """Keys of the objects that an earlier attempt with equal settings wrote; `have` says whether one is to be believed."""
        return frozenset(self._existing)

    # -- the writer's sink -----------------------------------------------------------------------------------------

    def have(self, key: str) -> bool:
        """Whether an earlier attempt with equal settings wrote this object; it is hashed again before that is believed."""
        if key in self._entries:
            return True
        if key not in self._existing:
            return False
        self._note(key)
        return True

    def put(self, key: str, data: Buffer) -> None:
        """Create one whole object and remember its digest.

        Raises
        ------
        Conflict
            Other bytes are there: another program writes here, or the source changed without its size and time changing.
        """
        entry = _put_new(self.backend, self.place, key, data)
        with self._lock:
            self._entries[key] = entry
            if entry.size >= _FLUSH_BYTES:
                self._flushes[key] = self._flusher.submit(self.backend.flush, self.place.prefix + key)

    def adopt(self, entries: Iterable[ManifestEntry]) -> None:
        """Remember objects that an `Outpost` of this version put and made durable."""
        with self._lock:
            self._entries |= {entry.key: entry for entry in entries}

    # -- ending ----------------------------------------------------------------------------------------------------

    def seal(self, empty: Iterable[str], root_document: Callable[[tuple[ManifestEntry, ...], str], dict[str, Any]]) -> None:
        """Make the version visible, whole and for ever.

        Parameters
        ----------
        empty : iterable of str
            Shard keys left out because all their voxels have the fill value.
        root_document : callable
            Given the manifest's entries and digest, returns the version's root ``zarr.json`` document, its own digest included.

        Raises
        ------
        Damaged
            An object is gone or has another size than what was sent.
        Conflict
            The version was aborted meanwhile.
        """
        prefix = self.place.prefix
        self.backend.delete(self.backend.leftovers(prefix))
        self._note(TXN)
        entries = tuple(sorted(self._entries.values(), key=lambda e: e.key))
        manifest = canonical(Manifest(objects=entries, empty=tuple(sorted(empty))).model_dump(mode="json"))
        if not self.backend.put_new(prefix + MANIFEST, manifest):
            raise Damaged(
                "an unfinished attempt left another manifest",
                where=str(self.place),
                fix="run `emstore gc` on the array, then the command again",
            )
        self._recheck(entries)
        for flush in self._flushes.values():
            flush.result()
        flushed = {prefix + key for key in self._flushes}
        self.backend.sync([prefix + e.key for e in entries] + [prefix + MANIFEST], flushed=flushed)
        body = canonical(root_document(entries, digest(manifest)))
        if not self.backend.put_new(prefix + NODE, body):
            self._lost_seal()
        self.backend.sync([prefix + NODE])
        self._stop_flushing()
        self._lease.end(prefix)

    def release(self) -> None:
        """Stop without sealing; what was written stays and the next run with equal settings resumes it."""
        self._stop_flushing()
        self._lease.release()

    def abort(self, reason: str) -> None:
        """Give the version up: a tombstone takes its seal's place and the data is deleted."""
        self._stop_flushing()
        bury(self.backend, self.place, reason)
        self._lease.end(self.place.prefix)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _stop_flushing(self) -> None:
        self._flusher.shutdown(wait=True, cancel_futures=True)

    def _note(self, key: str) -> None:
        size, found = self.backend.digest(self.place.prefix + key)
        with self._lock:
            self._entries[key] = ManifestEntry(key=key, size=size, digest=found)

    def _recheck(self, entries: tuple[ManifestEntry, ...]) -> None:
        prefix = self.place.prefix
        there = {entry.key.removeprefix(prefix): entry.size for entry in self.backend.entries(prefix)}
        for entry in entries:
            if there.get(entry.key) != entry.size:
                raise Damaged(
                    f"it was written with {entry.size} bytes and now has {there.get(entry.key, 'none')}",
                    where=f"{self.place}/{entry.key}",
                    fix="check the disk, then run the same command again",
                )

    def _lost_seal(self) -> None:
        """Another root document is there: a twin that took over and finished, or a tombstone."""
        state = read_state(self.backend, self.place)
        if isinstance(state, Tombstone):
            self._lease.end(self.place.prefix)
            raise Conflict(
                f"the version was aborted meanwhile: {state.reason}", where=str(self.place), fix="run the command again"
            )


class Outpost(_Objects):
    """The sink of another process that works on somebody's transaction: it puts objects and says which; it cannot seal."""

    def __init__(self, backend: Backend, place: Place) -> None:
        super().__init__(backend, place)
        self._lock = threading.Lock()
        self._entries: list[ManifestEntry] = []

    def have(self, key: str) -> bool:
        """Whether the object is there already: the transaction's owner asks for missing ones only."""
        return False

    def put(self, key: str, data: Buffer) -> None:
        """Create one whole object, make it durable and remember its digest."""
        entry = _put_new(self.backend, self.place, key, data)
        self.backend.sync([self.place.prefix + key])
        with self._lock:
            self._entries.append(entry)

    def report(self) -> list[ManifestEntry]:
        """Return what was put since the last report, for `Transaction.adopt`."""
        with self._lock:
            entries, self._entries = self._entries, []
        return entries


def begin(
    backend: Backend, place: Place, *, settings: str, task: str, store_id: str, again: bool = False
) -> Transaction | Finished:
    """Start, resume or find the version of an array that has exactly these settings.

    Parameters
    ----------
    backend : Backend
        The store; `Backend.probe` must have passed.
    place : Place
        Dataset and array.
    settings : str
        Digest of all that shapes the result.
    task : str
        For people: what is being made.
    store_id : str
        Identity of the store.
    again : bool
        Make a new version even if a finished one has equal settings.

    Raises
    ------
    Conflict
        Kind ``busy``: another live process is writing the very same thing.
    """
    for path, info in ((place.dataset, DatasetInfo()), (f"{place.dataset}/{place.array}", ArrayInfo())):
        body = canonical({"zarr_format": 3, "node_type": "group", "attributes": {"emstore": info.model_dump(mode="json")}})
        if backend.find(f"{path}/{NODE}") != body and not backend.put_new(f"{path}/{NODE}", body):
            raise Conflict(f"there is something else called {path!r} in this store", where=backend.url, fix="choose another name")
    mine = f"urn:uuid:{uuid.uuid4()}"
    pointers = f"{place.prefix}{SETTINGS}{settings.partition(':')[2]}/"
    while True:
        for number in sorted(int(entry.key.rpartition("/v")[2]) for entry in backend.entries(pointers)):
            at = Place(place.dataset, place.array, number)
            txn = _txn(backend, at)
            if txn is None and (own := _reserve(backend, at, mine, settings, task, store_id)) is not None:
                return own  # whoever wanted it died before it was theirs
            if txn is None or txn.settings != settings:
                continue  # somebody else got that number
            found = _join(backend, at, txn, store_id)
            if isinstance(found, Transaction) or (found is not None and not again):
                return found
        at = Place(place.dataset, place.array, max(numbers(backend, place), default=0) + 1)
        # The pointer comes first: a reservation that dies right after its put can still be found and resumed.
        backend.put_new(f"{pointers}v{at.version}", b"")
        if (own := _reserve(backend, at, mine, settings, task, store_id)) is not None:
            return own


def read_state(backend: Backend, place: Place) -> dict[str, Any] | Tombstone | None:
    """Return a version's ``attributes.emstore``, its tombstone, or ``None`` while it has neither.

    Raises
    ------
    Damaged
        The root document is there but is not one of ours.
    """
    import json

    body = backend.find(place.prefix + NODE)
    if body is None:
        return None
    try:
        info = json.loads(body)["attributes"]["emstore"]
        if info["kind"] == "aborted":
            return Tombstone.model_validate(info)
        if info["kind"] == "version":
            return dict(info)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged("the seal cannot be read", where=f"{backend.url}/{place}/{NODE}") from error
    raise Damaged("the root document is not a seal", where=f"{backend.url}/{place}/{NODE}")


def bury(backend: Backend, place: Place, reason: str) -> bool:
    """Put a tombstone where the seal would go, then delete the data. ``False`` when the version was sealed meanwhile."""
    stone = Tombstone(reason=reason, when=datetime.now(UTC))
    body = {"zarr_format": 3, "node_type": "group", "attributes": {"emstore": stone.model_dump(mode="json")}}
    if not backend.put_new(place.prefix + NODE, canonical(body)) and not isinstance(read_state(backend, place), Tombstone):
        return False
    backend.sync([place.prefix + NODE])
    keep = {place.prefix + NODE, place.prefix + TXN}
    backend.delete([e.key for e in backend.entries(place.prefix) if e.key not in keep])
    backend.delete(backend.leftovers(place.prefix))
    return True


def numbers(backend: Backend, place: Place) -> list[int]:
    """Return the version numbers that were ever reserved in an array, ascending."""
    return sorted(n for name in backend.children(place.prefix) if (n := version_number(name)) is not None)


def _reserve(backend: Backend, place: Place, mine: str, settings: str, task: str, store_id: str) -> Transaction | None:
    """Take a free version number; ``None`` when somebody has it."""
    if backend.find(place.prefix + NODE) is not None:
        return None
    txn = Txn(txn=mine, settings=settings, task=task, created=datetime.now(UTC))
    if not backend.put_new(place.prefix + TXN, canonical(txn.model_dump(mode="json"))):
        return None
    lease = leases.HeldLease(backend, place.prefix, 1, store_id)
    return Transaction(backend, place, txn, lease, store_id) if lease.acquire() else None


def _put_new(backend: Backend, place: Place, key: str, data: Buffer) -> ManifestEntry:
    entry = ManifestEntry(key=key, size=memoryview(data).nbytes, digest=digest(data))
    if not backend.put_new(place.prefix + key, data):
        raise Conflict(
            "an unfinished attempt left other bytes here",
            where=f"{place}/{key}",
            fix="run `emstore gc` on the array, then the command again",
        )
    return entry


def _txn(backend: Backend, place: Place) -> Txn | None:
    body = backend.find(place.prefix + TXN)
    try:
        return None if body is None else Txn.model_validate_json(body)
    except ValidationError:
        return None


def _join(backend: Backend, place: Place, txn: Txn, store_id: str) -> Transaction | Finished | None:
    """Resume an unfinished version with equal settings, or say that it is finished; ``None`` when it was aborted."""
    state = read_state(backend, place)
    if isinstance(state, Tombstone):
        return None
    if state is not None:
        return Finished(place)
    number, holder = leases.latest(backend, place.prefix)
    if leases.alive(holder, store_id):
        raise Conflict(
            "another process is writing exactly this version now",
            where=f"{backend.url}/{place}",
            fix="wait for it to finish; `emstore status` shows it",
            kind=Kind.BUSY,
        )
    lease = leases.HeldLease(backend, place.prefix, number + 1, store_id)
    if not lease.acquire():
        raise Conflict("another process has just resumed this version", where=f"{backend.url}/{place}", kind=Kind.BUSY)
    transaction = Transaction(backend, place, txn, lease, store_id)
    prefix = place.prefix
    there = {entry.key.removeprefix(prefix) for entry in backend.entries(prefix)}
    written = {key for key in there if key not in (TXN, NODE) and not key.startswith(LEASES)}
    if backend.root is not None and not leases.same_boot(holder, store_id):
        # The machine went down since, or it was another one: what was not flushed to this disk may be torn.
        backend.delete([prefix + key for key in written])
        written = set()
    transaction._existing = written - {MANIFEST}
    return transaction


def require(backend: Backend, key: str) -> bytes:
    """Return an object that must be there once its version is sealed.

    Raises
    ------
    Damaged
        It is gone.
    """
    try:
        return backend.get(key)
    except NotFound as error:
        raise Damaged("a sealed object is gone", where=f"{backend.url}/{key}") from error
