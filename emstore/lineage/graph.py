"""The lineage of a version: what it was made from, and what was made from it, as a graph."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from emstore.errors import EmstoreError, InvalidInput, NotFound
from emstore.lineage.index import Index, KnownStore
from emstore.lineage.web import ABOVE, BELOW, FEW, Edge, Edges, Ends, Nodes, Web, describe, ids, ordered
from emstore.store import open_store, open_version
from emstore.store.url import is_remote

LINES: Final = 2000
"""Most lines of a tree that nobody asked more of."""
_ID: Final = re.compile(r"(?:blake3|sha256):[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Lineage:
    """A version with what it was made from, and what was made from it."""

    root: str
    """Id of the version that was asked about."""
    up: bool
    """Whether what it was made from is here."""
    down: bool
    """Whether what was made from it is here."""
    nodes: Nodes
    """By id, the root first, then by distance from it."""
    edges: Sequence[Edge]
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
        return self._by("child")

    @cached_property
    def uses(self) -> Mapping[str, tuple[Edge, ...]]:
        """Edges by parent, in the order of reference."""
        return self._by("parent")

    def _by(self, end: str) -> Mapping[str, tuple[Edge, ...]]:
        if self.nodes.few is None:
            return Ends(self.nodes, end)
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(getattr(edge, end), []).append(edge)
        return {id_: ordered(self.nodes, some, end) for id_, some in found.items()}

    @cached_property
    def stores(self) -> Mapping[str, str | None]:
        """Names of the stores that the nodes are in, or were cited to be in, by id; ``None`` for one that is not known."""
        if self.nodes.few is None:
            return self.nodes.web.stores()
        return {node.store: node.store_name for node in self.nodes.values() if node.store is not None}

    def tree(self, *, most: int | None = LINES) -> str:
        """Return it as lines of text; where there are more than `most`, the last says how many versions are left out."""
        from emstore.lineage.tree import tree

        return tree(self, most=most)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON document: nodes, edges, stores."""
        document: dict[str, Any] = json.loads("".join(self.json()))
        return document

    def json(self) -> Iterator[str]:
        """Return the text of `to_json` in pieces, a node or use each, for a million need not be held at once."""
        from emstore.lineage.written import written

        return written(self)

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


def refuse_many(lineage: Lineage, most: int, what: str) -> None:
    """Refuse a form for which there is too much.

    Raises
    ------
    InvalidInput
        There are more than `most` versions.
    """
    count = len(lineage.nodes)
    if count > most:
        fix = f"give a depth, or write it as JSON; {most:,} versions are the most"
        raise InvalidInput(f"{count:,} versions are too many for {what}", fix=fix)


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
    found: dict[int, int] = {}
    sides = []
    for wanted, mark in ((up, ABOVE), (down, BELOW)):
        if wanted:
            reached, steps = (part.tolist() for part in cache.reach([root], up=mark == ABOVE, depth=depth))
            found = dict(zip(reached, steps, strict=True)) | found
            sides.append((mark, reached))
    ns = list(found) if len(sides) == 1 else sorted(found, key=lambda n: (found[n], n))
    marks = bytearray(max(ns) + 1)
    for mark, reached in sides:
        for n in reached:
            marks[n] |= mark
    web = Web(cache.path, ns, marks)
    few = None
    edges: Sequence[Edge] = Edges(web)
    if len(ns) <= FEW:
        few = {node.id: node for node in describe(cache, ns).values()}
        names = dict(zip(ns, few, strict=True))
        uses = dict.fromkeys(edge for end in ("child", "parent") for edge in web.edges(cache, ns, end=end))
        edges = tuple(Edge(names[child], names[parent], role) for child, parent, role in uses)
    nodes = Nodes(web, few)
    (id_,) = ids(cache, [root]).values()
    made = Lineage(id_, up, down, nodes, edges, frozenset(_cut(cache, sides, marks) if depth else ()))
    return replace(made, notes=tuple(notes)) if notes and (down or len(made.stores) > 1) else made


def _cut(cache: Index, sides: list[tuple[int, list[int]]], marks: bytearray) -> Iterator[str]:
    """Return the ids of nodes that lead on to others beyond those that were reached."""
    for mark, reached in sides:
        near, far = ("child", "parent") if mark == ABOVE else ("parent", "child")
        rows = cache.about(f"{near}, {far} from edge where {near} in", reached)
        yield from ids(cache, {n for n, beyond in rows if beyond >= len(marks) or not marks[beyond] & mark}).values()
