"""A cache of what the seals of all the user's stores say, to ask across them.

It holds nothing that a seal does not, but for the places of the stores, and is made again from them at any time. A sealed
version never changes, so only versions that are new are ever read; one whose seal is gone, or became a tombstone, leaves.
What is cited but was never seen (an input in a store nobody pointed at, a network's weights) is a node too: its id and
whoever cites it.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np

from emstore.errors import Damaged, InvalidInput, NotFound, StorageFailed
from emstore.lineage.closure import Numbers, levels
from emstore.lineage.database import Unusable, connect, renew
from emstore.lineage.home import INDEX, home
from emstore.lineage.parts import KEPT, PARTS, Packed, compress, split
from emstore.lineage.records import citations
from emstore.store import Place, Store, places
from emstore.store.documents import Tombstone
from emstore.store.layout import NODE
from emstore.store.transaction import numbers
from emstore.store.url import is_remote, local_path
from emstore.store.version import parse_seal

FEW: Final = 2000
"""As many nodes are followed one query a step; more are searched all at once in memory."""
AT_ONCE: Final = 16
"""Seals asked for at the same time."""
PARTS_HELD: Final = 1 << 16
"""Parts of documents held in memory."""
_BATCH: Final = 2000


@dataclass(frozen=True)
class KnownStore:
    """A store the user pointed at."""

    n: int
    id: str
    """``urn:uuid:...``."""
    url: str
    """Absolute path or URL, without credentials."""
    seen: datetime
    """When its versions were last looked at."""

    @property
    def name(self) -> str:
        """The last part of its path or URL."""
        return named(self.url)


@dataclass(frozen=True)
class Seal:
    """What one seal says, as far as questions are asked about it."""

    place: Place
    stamp: str
    """`Backend.stamp` of the seal as stored: a tombstone in its place, or what was made after it was deleted, has another."""
    id: str
    document: dict[str, Any]
    """``attributes.emstore`` of the seal, whole: what it leaves out has its default."""


class Index:
    """The cache, opened.

    Parameters
    ----------
    path : Path, optional
        Where it is; ``lineage.sqlite`` in `home` when left out. What is there but cannot be used is replaced.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = home() / INDEX if path is None else path
        self._db = self._open()
        self.body = lru_cache(PARTS_HELD)(self._body)
        self._part = lru_cache(PARTS_HELD)(self._entered)
        self._functions = count()
        self._loose = False
        """Whether parts may be left that no version has any more."""

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- filling ---------------------------------------------------------------------------------------------------

    def refresh(self, store: Store) -> list[str]:
        """Bring the cache up to date with a store, reading only seals that are new.

        Returns
        -------
        list of str
            What could not be read, in sentences.
        """
        known = {
            Place(dataset, array, number): stamp
            for dataset, array, number, stamp in self._db.execute(
                "select dataset, array, number, stamp from place join store on store.n = place.store where id = ?", (store.id,)
            )
        }
        there = [
            Place(array.dataset, array.array, number)
            for array in places(store, Place())
            for number in numbers(store.backend, array)
        ]
        notes: list[str] = []

        def look(place: Place) -> Seal | Place | None:
            """Return the seal if it has to be read, its place if it is as known, ``None`` if there is none."""
            try:
                stamp = store.backend.stamp(place.prefix + NODE)
            except NotFound:
                return None
            return place if known.get(place) == stamp else _read(store, place, stamp, notes)

        with ThreadPoolExecutor(AT_ONCE) as threads:
            looked = list(threads.map(look, there))
        new = [seal for seal in looked if isinstance(seal, Seal)]
        gone = known.keys() - {seen for seen in looked if isinstance(seen, Place)}
        with self.transaction():
            n = self._note_store(store)
            self._remove(n, gone)
            self.add(n, new)
            self._sweep()
        return sorted(notes)

    def follow(self, store: Store, place: Place) -> list[str]:
        """Enter a version and what it was made from in its own store, where the store cannot be listed (a web server).

        Returns
        -------
        list of str
            What could not be read, in sentences.
        """
        notes: list[str] = []
        waiting, seen = [place], {place}
        while waiting:
            at = waiting.pop()
            try:
                seal = _read(store, at, store.backend.stamp(at.prefix + NODE), notes)
            except NotFound:
                continue
            if seal is None:
                continue
            with self.transaction():
                n = self._note_store(store)
                self._remove(n, [at])
                self.add(n, [seal])
            for _, ref, _, elsewhere in citations(seal.document["record"]):
                used = _place(ref)
                if used is not None and elsewhere in (None, store.id) and used not in seen:
                    seen.add(used)
                    waiting.append(used)
        with self.transaction():
            self._sweep()
        return sorted(notes)

    def add(self, store: int, seals: Iterable[Seal]) -> None:
        """Enter versions of a store; the caller holds the transaction."""
        for seal in seals:
            record, volume = seal.document["record"], seal.document["volume"]
            n = self._number(seal.id)
            *parts, step, own = split(seal.document)
            activity = record["activity"]
            columns = (n, _instant(activity["ended"]), volume["kind"], volume.get("modality"), activity["type"], activity["name"])
            self._db.execute(
                f"insert or ignore into version values ({','.join('?' * (len(columns) + len(KEPT)))})",
                (*columns, *map(self._part, parts), step, own),
            )
            place = seal.place
            self._db.execute(
                "insert or replace into place values (?, ?, ?, ?, ?, ?)",
                (store, place.dataset, place.array, place.version, n, seal.stamp),
            )
            for role, ref, cited, elsewhere in citations(record):
                self._db.execute(
                    "insert or ignore into edge values (?, ?, ?, ?, ?)",
                    (n, self._number(cited), role, ref, elsewhere or seal.document["store_id"]),
                )

    def forget(self) -> None:
        """Empty the cache but for the places of the stores, and the numbers of nodes."""
        with self.transaction():
            for table in ("version", "place", "edge", "part"):
                self._db.execute(f"delete from {table}")

    # -- asking ----------------------------------------------------------------------------------------------------

    def stores(self) -> list[KnownStore]:
        """Return every store the user pointed at."""
        rows = self._db.execute("select n, id, url, seen from store order by n")
        return [KnownStore(n, id_, url, datetime.fromisoformat(seen)) for n, id_, url, seen in rows]

    def number(self, id_: str) -> int | None:
        """Return the number of a node by its id, or by the start of its id where that is enough to tell.

        A node counts only while there is such a version, or one that cites it.
        """
        rows = self._db.execute(
            "select n from node where id >= ? and id < ? and (n in (select n from version) or n in (select parent from edge))"
            " limit 2",
            (id_, id_ + "g"),
        ).fetchall()
        return int(rows[0][0]) if len(rows) == 1 else None

    def at(self, dataset: str, array: str, number: int | None = None, *, store: str | None = None) -> list[int]:
        """Return the numbers of the versions at a place, in one store or in all."""
        where, values = ["dataset = ?", "array = ?"], [dataset, array]
        if number is not None:
            where.append(f"number = {number:d}")
        if store is not None:
            where.append("store = (select n from store where id = ?)")
            values.append(store)
        return [n for (n,) in self._db.execute(f"select n from place where {' and '.join(where)}", values)]

    def select(self, columns: str, *, where: str = "", values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Ask the tables; `columns` and `where` are ours, never the user's."""
        return self._db.execute(f"select {columns} {where}", values)

    def function(self, function: Callable[..., bool]) -> str:
        """Let conditions that are asked of the tables call a function; return its name."""
        name = f"asked_{next(self._functions)}"
        self._db.create_function(name, -1, function, deterministic=True)
        return name

    def about(self, columns: str, ns: Iterable[int]) -> Iterator[tuple[Any, ...]]:
        """Ask for some nodes: `columns` ends in ``X in`` and gets the numbers."""
        wanted = sorted(ns)
        for first in range(0, len(wanted), _BATCH):
            batch = wanted[first : first + _BATCH]
            yield from self._db.execute(f"select {columns} ({','.join(map(str, batch))})")

    def packed(self, columns: Sequence[Any]) -> Packed:
        """Return a document by what the columns `KEPT` of a version hold."""
        return (*map(self.body, columns[: len(PARTS)]), *columns[len(PARTS) :])

    def reach(self, roots: Sequence[int], *, up: bool, depth: int | None = None) -> tuple[Numbers, Numbers]:
        """Return every node that can be reached from some, and in how many steps.

        Parameters
        ----------
        roots : sequence of int
            Where to begin; part of the answer, at 0 steps.
        up : bool
            Towards what a version was made from, or down towards what was made from it.
        depth : int, optional
            Most steps to take.

        Returns
        -------
        reached : ndarray, shape (n,), int64
            Numbers of nodes, by steps and then by number.
        steps : ndarray, shape (n,), int64
        """
        here, there = ("child", "parent") if up else ("parent", "child")
        found = dict.fromkeys(sorted(set(roots)), 0)
        frontier, steps = list(found), 0
        while frontier and (depth is None or steps < depth):
            steps += 1
            reached = {n for (n,) in self.about(f"{there} from edge where {here} in", frontier)}
            frontier = sorted(reached - found.keys())
            if len(found) + len(frontier) > FEW:
                return self.closure(roots, up=up, depth=depth)
            found.update(dict.fromkeys(frontier, steps))
        return np.array(list(found), np.int64), np.array(list(found.values()), np.int64)

    def closure(self, roots: Sequence[int], *, up: bool, depth: int | None = None) -> tuple[Numbers, Numbers]:
        """Return what `reach` does, by a search of all edges at once."""
        pairs = np.fromiter(self._db.execute("select child, parent from edge"), [("child", np.int64), ("parent", np.int64)])
        start, end = (pairs["child"], pairs["parent"]) if up else (pairs["parent"], pairs["child"])
        return levels(start, end, np.asarray(roots, np.int64), depth=depth)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(Unusable):
                return connect(self.path)
            return renew(self.path)
        except (OSError, sqlite3.Error, Unusable) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise StorageFailed(
                f"the lineage cache cannot be kept: {why}",
                where=str(self.path),
                fix="set EMSTORE_HOME to a folder that can be written",
            ) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all that is done within at once, or nothing of it."""
        self._db.execute("begin immediate")
        self._part.cache_clear()  # what was entered before, another process may have taken out
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def _note_store(self, store: Store) -> int:
        """Enter or update where a store is, and take out another one that was at the same place before."""
        url = store.url if is_remote(store.url) else str(local_path(store.url))
        for (n,) in self._db.execute("select n from store where url = ? and id <> ?", (url, store.id)).fetchall():
            at = self._db.execute("select dataset, array, number from place where store = ?", (n,)).fetchall()
            self._remove(n, {Place(*each) for each in at})
            self._db.execute("delete from store where n = ?", (n,))
        row = self._db.execute(
            "insert into store (id, url, seen) values (?, ?, ?)"
            " on conflict (id) do update set url = excluded.url, seen = excluded.seen returning n",
            (store.id, url, datetime.now(UTC).isoformat()),
        ).fetchone()
        return int(row[0])

    def _remove(self, store: int, gone: Iterable[Place]) -> None:
        for place in gone:
            at = (store, place.dataset, place.array, place.version)
            key = "store = ? and dataset = ? and array = ? and number = ?"
            for (n,) in self._db.execute(f"select n from place where {key}", at).fetchall():
                self._db.execute(f"delete from place where {key}", at)
                if self._db.execute("select 1 from place where n = ?", (n,)).fetchone() is None:
                    self._db.execute("delete from version where n = ?", (n,))
                    self._db.execute("delete from edge where child = ?", (n,))
                    self._loose = True

    def _sweep(self) -> None:
        """Take out the parts that only versions had which are gone."""
        if self._loose:
            used = " union all ".join(f"select {name} from version" for name in PARTS)
            self._db.execute(f"delete from part where n not in ({used})")
            self._part.cache_clear()
            self._loose = False

    def _entered(self, text: str) -> int:
        """Return the number of a part, entering it where it is new."""
        digest = blake2b(text.encode(), digest_size=16).digest()
        row = self._db.execute("select n from part where digest = ?", (digest,)).fetchone()
        if row is None:
            new = "insert into part (digest, body) values (?, ?) returning n"
            row = self._db.execute(new, (digest, compress(text))).fetchone()
        return int(row[0])

    def _body(self, part: int) -> bytes:
        """Return a part as it is kept."""
        return bytes(self._db.execute("select body from part where n = ?", (part,)).fetchone()[0])

    def _number(self, id_: str) -> int:
        self._db.execute("insert or ignore into node (id) values (?)", (id_,))
        return int(self._db.execute("select n from node where id = ?", (id_,)).fetchone()[0])


def _read(store: Store, place: Place, stamp: str, notes: list[str]) -> Seal | None:
    """Return a seal, ``None`` where there is none; `notes` gets what is wrong with a damaged one."""
    body = store.backend.find(place.prefix + NODE)
    if body is None:
        return None
    try:
        _, info = parse_seal(body, str(place))
    except Damaged as error:
        notes.append(f"{place} is left out: {error.what}; see `emstore verify`")
        return None
    if isinstance(info, Tombstone):
        return None
    return Seal(place, stamp, info.seal, info.model_dump(mode="json"))


def _place(ref: str) -> Place | None:
    """Return the place a citation means, ``None`` where it is no reference (the name of weights)."""
    try:
        place = Place.parse(tuple(ref.split("/")))
    except InvalidInput:
        return None
    return place if place.version is not None else None


def named(url: str) -> str:
    """Return the last part of a store's path or URL."""
    return url.rstrip("/").rpartition("/")[2] or url


def _instant(text: str) -> str:
    """Return a time in the one form that sorts by time: UTC, ISO 8601, microseconds."""
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds")
