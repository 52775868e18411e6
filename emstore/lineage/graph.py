"""The lineage of a version: what it was made from, and what was made from it, as a small graph."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from emstore.errors import EmstoreError, InvalidInput, NotFound
from emstore.lineage.index import Index, KnownStore, unpack
from emstore.store import open_store, open_version
from emstore.store.url import is_remote

_ID: Final = re.compile(r"(?:blake3|sha256):[0-9a-f]{8,64}")


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
    packed: bytes | None = None
    """The seal as the cache keeps it; ``None`` for what was never seen."""

    @property
    def known(self) -> bool:
        """Whether its seal was seen."""
        return self.packed is not None

    @cached_property
    def seal(self) -> Mapping[str, Any]:
        """What its seal says (``attributes.emstore``, positions of irregular slices left out); empty where never seen."""
        return {} if self.packed is None else unpack(self.packed)

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


@dataclass(frozen=True)
class Lineage:
    """A version with what it was made from, and what was made from it."""

    root: str
    """Id of the version that was asked about."""
    up: bool
    """Whether what it was made from is here."""
    down: bool
    """Whether what was made from it is here."""
    nodes: Mapping[str, Node]
    """By id, the root first, then by distance from it."""
    edges: tuple[Edge, ...]
    """Between these nodes."""
    cut: frozenset[str]
    """Ids of nodes that have more inputs, or more made from them, beyond the depth that was asked for."""
    notes: tuple[str, ...] = ()
    """What could not be looked at, in sentences."""

    def __repr__(self) -> str:
        return f"<emstore.Lineage of {self.nodes[self.root].title}: {len(self.nodes)} versions, {len(self.edges)} uses>"

    def __str__(self) -> str:
        return self.tree()

    @cached_property
    def inputs(self) -> Mapping[str, tuple[Edge, ...]]:
        """Edges by child, each in the order of role and reference."""
        return self._by("child", "parent")

    @cached_property
    def uses(self) -> Mapping[str, tuple[Edge, ...]]:
        """Edges by parent, in the order of reference."""
        return self._by("parent", "child")

    def _by(self, one: str, other: str) -> Mapping[str, tuple[Edge, ...]]:
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(getattr(edge, one), []).append(edge)

        def order(edge: Edge) -> tuple[str, str, str]:
            far = getattr(edge, other)
            return edge.role, self.nodes[far].title, far

        return {id_: tuple(sorted(some, key=order)) for id_, some in found.items()}

    def tree(self) -> str:
        """Return it as lines of text."""
        from emstore.lineage.tree import tree

        return tree(self)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON document: nodes, edges, stores."""
        from emstore.lineage.tree import to_json

        return to_json(self)

    def svg(self) -> str:
        """Return it as a picture."""
        from emstore.lineage.svg import svg

        return svg(self)

    def _repr_svg_(self) -> str | None:
        from emstore.lineage.svg import MOST

        return self.svg() if len(self.nodes) <= MOST else None  # a notebook then shows the words

    def prov(self) -> str:
        """Return it as W3C PROV-JSON. Needs the extra ``share``."""
        from emstore.lineage.prov import prov

        return prov(self)

    def crate(self, folder: str | Path) -> None:
        """Write it as an RO-Crate 1.2, a Process Run Crate, into a new folder. Needs the extra ``share``."""
        from emstore.lineage.crate import crate

        crate(self, Path(folder))


def lineage(ref: str, *, up: bool = True, down: bool = False, depth: int | None = None, index: Path | None = None) -> Lineage:
    """Return what a version was made from, and what was made from it, across stores.

    The version's own store and every store on a disk that was ever pointed at are looked at anew (only versions that are new
    are read); one on a server is taken as it was last seen, unless it is the version's own.

    Parameters
    ----------
    ref : str
        ``STORE/DATASET/ARRAY[/vN]``, the latest version when vN is left out; or the id of a version (its start is enough).
    up, down : bool
        Which way to look: to what it was made from, to what was made from it.
    depth : int, optional
        Most steps to take; all when left out.
    index : Path, optional
        Another file for the cache than the user's own.

    Raises
    ------
    NotFound
        No such version.
    InvalidInput
        Not a reference to a version, or a depth below 1.
    """
    if depth is not None and depth < 1:
        raise InvalidInput(f"a depth of {depth} shows nothing", fix="give 1 or more, or leave it out")
    with Index(index) as cache:
        if _ID.fullmatch(ref):
            notes = refresh_all(cache)
            root = cache.number(ref)
            if root is None:
                raise NotFound(
                    "no version of this id is known, or several start so",
                    where=ref,
                    fix="name its store once, e.g. with `emstore find '' STORE`, or give the whole id",
                )
        else:
            version = open_version(ref)
            web = version.store.url.startswith(("http://", "https://"))  # cannot be listed
            own = cache.follow(version.store, version.place) if web else cache.refresh(version.store)
            notes = [*own, *refresh_all(cache, but=version.store.id)]
            root = cache.number(version.id)
            assert root is not None
        return gather(cache, root, up=up, down=down, depth=depth, notes=notes)


def refresh_all(cache: Index, *, but: str | None = None) -> list[str]:
    """Look anew at every store on a disk that was ever pointed at; return what could not be looked at, in sentences."""
    notes = []
    for known in cache.stores():
        if known.id == but:
            continue
        if is_remote(known.url):
            notes.append(_as_last_seen(known))
            continue
        try:
            notes += cache.refresh(open_store(known.url))
        except EmstoreError:
            notes.append(_as_last_seen(known))
    return notes


def _as_last_seen(known: KnownStore) -> str:
    return f"store {known.name} was not looked at; its versions are shown as they were on {known.seen:%Y-%m-%d %H:%M} UTC"


def gather(cache: Index, root: int, *, up: bool, down: bool, depth: int | None, notes: list[str]) -> Lineage:
    """Return the lineage of a node of the cache."""
    found: dict[int, int] = {root: 0}
    edges: dict[tuple[int, int, str], None] = {}
    cut: set[int] = set()
    for wanted, towards in ((up, True), (down, False)):
        if not wanted:
            continue
        here = "child" if towards else "parent"
        reached = cache.reach([root], up=towards, depth=depth)
        for child, parent, role in cache.about(f"child, parent, role from edge where {here} in", reached):
            if (parent if towards else child) in reached:
                edges[child, parent, role] = None
            else:
                cut.add(child if towards else parent)
        for n, steps in reached.items():
            found.setdefault(n, steps)
    nodes = describe(cache, sorted(found, key=lambda n: (found[n], n)))
    stores = {node.store for node in nodes.values()}
    return Lineage(
        root=nodes[root].id,
        up=up,
        down=down,
        nodes={node.id: node for node in nodes.values()},
        edges=tuple(Edge(nodes[child].id, nodes[parent].id, role) for child, parent, role in edges),
        cut=frozenset(nodes[n].id for n in cut),
        notes=tuple(notes) if len(stores) > 1 or down else (),
    )


def describe(cache: Index, ns: list[int]) -> dict[int, Node]:
    """Return nodes of the cache by number, in the order asked for."""
    stores = {store.n: store for store in cache.stores()}
    names = {store.id: store.name for store in stores.values()}
    ids = dict(cache.about("n, id from node where n in", ns))
    found: dict[int, Node] = {}
    for n, at, dataset, array, number in cache.about("n, store, dataset, array, number from place where n in", ns):
        # A version that was copied as it is lies in several stores; the one it says it was made in comes first.
        if n not in found:
            found[n] = Node(ids[n], f"{dataset}/{array}/v{number}", stores[at].id, stores[at].name)
    for n, kind, packed in cache.about("n, kind, document from version where n in", ns):
        node = found[n]
        found[n] = Node(node.id, node.ref, node.store, node.store_name, kind, packed)
    unseen = [n for n in ns if n not in found]
    for n, role, ref, store in cache.about("parent, role, ref, store from edge where parent in", unseen):
        found.setdefault(n, _unseen(ids[n], role, ref, store, names))
    return {n: found[n] for n in ns}


def _unseen(id_: str, role: str, ref: str, store: str, names: Mapping[str, str]) -> Node:
    if role == "model":
        return Node(id_, ref, None, None, "model")
    return Node(id_, ref, store, names.get(store))
