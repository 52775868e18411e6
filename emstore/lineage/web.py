"""The nodes and uses of a lineage, read from the cache when they are looked at: there may be a million.

A few are read at once. Of many, only the numbers are kept, in order, with a mark for each on which side of the root it is. As
a version never changes, what is read later is what it was; one whose store is purged meanwhile is a node that was never seen.
"""

import weakref
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, overload

import numpy as np

from emstore.lineage.index import Index
from emstore.lineage.parts import KEPT, Packed, join

ABOVE: Final = 1
"""Mark of the root and what it was made from."""
BELOW: Final = 2
"""Mark of the root and what was made from it."""
FEW: Final = 2000
"""As many nodes are read at once and kept."""
_UNSEEN: Final = "from node where n not in (select n from version)"


@dataclass(frozen=True)
class Node:
    """One version, or something that is cited but was never seen."""

    id: str
    """Version id, ``algorithm:hex``."""
    ref: str | None
    """DATASET/ARRAY/vN; what a citation calls it where it was never seen."""
    store: str | None
    """Id of the store it is in, or was cited to be in; ``None`` where nobody says."""
    store_name: str | None = None
    """Last part of that store's path or URL, where it is known."""
    kind: str = "unknown"
    """``image``, ``labels``, ``table``; ``model`` or ``unknown`` for what was never seen."""
    packed: Packed | None = None
    """The seal as the cache keeps it; ``None`` for what was never seen."""

    @property
    def known(self) -> bool:
        """Whether its seal was seen."""
        return self.packed is not None

    @cached_property
    def seal(self) -> Mapping[str, Any]:
        """What its seal says (``attributes.emstore``, positions of irregular slices left out); empty where never seen."""
        return {} if self.packed is None else join(self.packed)

    @property
    def record(self) -> Mapping[str, Any]:
        """How it came to be; empty where never seen."""
        record: Mapping[str, Any] = self.seal.get("record", {})
        return record

    @property
    def title(self) -> str:
        """What to call it: its reference, or where nobody gives one, the start of its id."""
        return self.ref or self.id[: len("blake3:") + 12]


@dataclass(frozen=True)
class Edge:
    """One version was used to make another."""

    child: str
    """Id of what was made."""
    parent: str
    """Id of what was used."""
    role: str


class Web:
    """The graph of a lineage by the cache's numbers.

    Parameters
    ----------
    path : Path
        The cache.
    ns : list of int
        Numbers of the nodes, in the order they are shown in.
    marks : bytearray
        By number: `ABOVE`, `BELOW`, both, or 0 for what is no part of it.
    """

    def __init__(self, path: Path, ns: list[int], marks: bytearray) -> None:
        self.path = path
        self.ns = ns
        self.marks = marks

    @cached_property
    def cache(self) -> Index:
        """The cache, opened when it is needed, for as long as somebody holds the lineage."""
        index = Index(self.path)
        weakref.finalize(self, index.close)
        return index

    def number(self, id_: str) -> int | None:
        """Return the number of a node by its id; ``None`` where it is no part of this."""
        row = self.cache.select("n", where="from node where id = ?", values=[id_]).fetchone()
        return int(row[0]) if row is not None and row[0] < len(self.marks) and self.marks[row[0]] else None

    def batches(self) -> Iterator[list[int]]:
        """Return the numbers, in order, some at a time."""
        return (self.ns[first : first + FEW] for first in range(0, len(self.ns), FEW))

    def stores(self) -> dict[str, str | None]:
        """Return the names of the stores the nodes are in, or were cited to be in, by id."""
        names = {store.n: (store.id, store.name) for store in self.cache.stores()}
        rows = self.cache.select("n, store", where="from place")
        places = np.fromiter(rows, [("n", np.int64), ("store", np.int64)])
        places = places[places["n"] < len(self.marks)]
        within = np.frombuffer(self.marks, np.uint8)[places["n"]] > 0
        unseen = [n for (n,) in self.cache.select("n", where=_UNSEEN) if n < len(self.marks) and self.marks[n]]
        others = {node.store: node.store_name for node in cited(self.cache, unseen).values() if node.store is not None}
        return dict(names[n] for n in np.unique(places["store"][within]).tolist()) | others

    def edges(self, cache: Index, ns: Iterable[int] | None = None, *, end: str = "child") -> Iterator[tuple[int, int, str]]:
        """Return child, parent and role of every use within, each once; or of those that end at some nodes."""
        rows = (
            cache.select("child, parent, role", where="from edge order by child, parent, role")
            if ns is None
            else cache.about(f"distinct child, parent, role from edge where {end} in", ns)
        )
        marks, size, last = self.marks, len(self.marks), None
        for row in rows:
            child, parent, _ = row
            if child < size and parent < size and marks[child] & marks[parent] and row != last:
                yield row
            last = row


class Nodes(Mapping[str, Node]):
    """Nodes by id, in the order they are shown in."""

    def __init__(self, web: Web, few: dict[str, Node] | None) -> None:
        self.web = web
        self.few = few
        self.recent = lru_cache(FEW)(self._read)

    def __len__(self) -> int:
        return len(self.web.ns)

    def __getitem__(self, id_: str) -> Node:
        if self.few is not None:
            return self.few[id_]
        return self.recent(id_)

    def _read(self, id_: str) -> Node:
        n = self.web.number(id_)
        if n is None:
            raise KeyError(id_)
        return describe(self.web.cache, [n])[n]

    def __iter__(self) -> Iterator[str]:
        if self.few is not None:
            return iter(self.few)
        return (id_ for batch in self.web.batches() for id_ in ids(self.web.cache, batch).values())

    def each(self) -> Iterator[Node]:
        """Return every node, reading some at a time."""
        if self.few is not None:
            return iter(self.few.values())
        return (node for batch in self.web.batches() for node in describe(self.web.cache, batch).values())

    def values(self) -> ValuesView[Node]:
        """Return every node, reading some at a time."""
        return _Values(self)

    def items(self) -> ItemsView[str, Node]:
        """Return every node with its id, reading some at a time."""
        return _Items(self)


class _Values(ValuesView[Node]):
    def __init__(self, nodes: Nodes) -> None:
        super().__init__(nodes)
        self.nodes = nodes

    def __iter__(self) -> Iterator[Node]:
        return self.nodes.each()


class _Items(ItemsView[str, Node]):
    def __init__(self, nodes: Nodes) -> None:
        super().__init__(nodes)
        self.nodes = nodes

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        return ((node.id, node) for node in self.nodes.each())


class Edges(Sequence[Edge]):
    """Every use, by what was made."""

    def __init__(self, web: Web) -> None:
        self.web = web

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self.web.edges(self.web.cache))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Edge]:
        names = dict(pair for batch in self.web.batches() for pair in ids(self.web.cache, batch).items())
        return (Edge(names[child], names[parent], role) for child, parent, role in self.web.edges(self.web.cache))

    @overload
    def __getitem__(self, at: int) -> Edge: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Edge]: ...
    def __getitem__(self, at: int | slice) -> Edge | Sequence[Edge]:
        return tuple(self)[at]


class Ends(Mapping[str, tuple[Edge, ...]]):
    """Uses by the id of one of their ends, in the order of role and of what is at the other end."""

    def __init__(self, nodes: Nodes, end: str) -> None:
        self.nodes = nodes
        self.end = end

    def __getitem__(self, id_: str) -> tuple[Edge, ...]:
        web = self.nodes.web
        n = web.number(id_)
        found = [] if n is None else list(web.edges(web.cache, [n], end=self.end))
        if not found:
            raise KeyError(id_)
        names = ids(web.cache, {n for child, parent, _ in found for n in (child, parent)})
        return ordered(self.nodes, [Edge(names[child], names[parent], role) for child, parent, role in found], self.end)

    def __iter__(self) -> Iterator[str]:
        return (id_ for id_ in self.nodes if id_ in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def ordered(nodes: Mapping[str, Node], edges: Iterable[Edge], end: str) -> tuple[Edge, ...]:
    """Return uses of one node in the order of role and of what is at the other end."""

    def order(edge: Edge) -> tuple[str, str, str]:
        far = edge.parent if end == "child" else edge.child
        return edge.role, nodes[far].title, far

    return tuple(sorted(edges, key=order))


def ids(cache: Index, ns: Iterable[int]) -> dict[int, str]:
    """Return the ids of nodes by number, in the order asked for."""
    order = list(ns)
    found = dict(cache.about("n, id from node where n in", order))
    return {n: found[n] for n in order}


def describe(cache: Index, ns: Iterable[int]) -> dict[int, Node]:
    """Return nodes of the cache by number, in the order asked for."""
    stores = {store.n: (store.id, store.name) for store in cache.stores()}
    order = list(ns)
    found: dict[int, Node] = {}
    for n, id_, at, dataset, array, number, kind, *kept in seen(cache, order, KEPT):
        if n not in found:
            found[n] = Node(id_, f"{dataset}/{array}/v{number}", *stores[at], kind, cache.packed(kept))
    found |= cited(cache, [n for n in order if n not in found])
    return {n: found[n] for n in order}


def seen(cache: Index, ns: Iterable[int], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Return number, id, place, kind and other columns of those whose seals were seen; a version copied as it is, repeatedly."""
    # The store that was pointed at first comes first, and stands for all.
    return cache.about(
        f"n, id, store, dataset, array, number, kind, {','.join(columns)} from place join version using (n)"
        " join node using (n) where n in",
        ns,
    )


def cited(cache: Index, ns: list[int]) -> dict[int, Node]:
    """Return nodes by number whose seals were never seen, as who cites them says."""
    names = {store.id: store.name for store in cache.stores()} if ns else {}
    known = ids(cache, ns)
    found: dict[int, Node] = {}
    for n, role, ref, store in cache.about("parent, role, ref, store from edge where parent in", ns):
        if n not in found:
            where: tuple[Any, ...] = (None, None, "model") if role == "model" else (store, names.get(store))
            found[n] = Node(known[n], ref, *where)
    return {n: found.get(n) or Node(known[n], None, None) for n in ns}
