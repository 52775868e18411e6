"""A lineage as a JSON document, in pieces: whoever writes them to a file never holds a million versions at once."""

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from emstore.lineage.graph import Lineage
from emstore.lineage.index import PARTS_HELD
from emstore.lineage.parts import KEPT, load
from emstore.lineage.records import settings
from emstore.lineage.web import FEW, Node, cited, seen

_TOLD: Final = ("volume", "setup", "sources", "tools")
_text = json.JSONEncoder(allow_nan=False).encode
_word = lru_cache(1024)(_text)


def written(lineage: Lineage) -> Iterator[str]:
    """Return the pieces, some nodes or uses each; every node and every use is on a line of its own."""
    nodes, uses = (_few if lineage.nodes.few is not None else _many)(lineage)
    yield f'{{"root": {_text(lineage.root)}, "up": {_text(lineage.up)}, "down": {_text(lineage.down)},\n"nodes": ['
    yield from _listed(nodes)
    yield '],\n"edges": ['
    yield from _listed(uses)
    stores = [{"id": id_, "name": name} for id_, name in lineage.stores.items()]
    yield f'],\n"stores": {_text(stores)},\n"notes": {_text(lineage.notes)}}}\n'


def _few(lineage: Lineage) -> tuple[Iterator[list[str]], Iterator[list[str]]]:
    nodes = [_of(node, node.id in lineage.cut) for node in lineage.nodes.values()]
    return iter([nodes]), iter([[_use(edge.child, edge.parent, edge.role) for edge in lineage.edges]])


def _many(lineage: Lineage) -> tuple[Iterator[list[str]], Iterator[list[str]]]:
    """Read the columns that are told, without making a `Node` of each."""
    web, cut = lineage.nodes.web, lineage.cut
    cache = web.cache
    stores = {store.n: store.id for store in cache.stores()}
    names: dict[int, str] = {}

    @lru_cache(PARTS_HELD)
    def said(*parts: int) -> str:
        return _said(*map(cache.body, parts))

    def nodes() -> Iterator[list[str]]:
        for batch in web.batches():
            told: dict[int, str] = {}
            for n, id_, at, dataset, array, number, kind, *parts, step in seen(cache, batch, (*_TOLD, "step")):
                if n not in told:
                    names[n] = id_
                    told[n] = _node(id_, f"{dataset}/{array}/v{number}", stores[at], kind, id_ in cut, said(*parts), step)
            for n, node in cited(cache, [n for n in batch if n not in told]).items():
                names[n], told[n] = node.id, _of(node, node.id in cut)
            yield [told[n] for n in batch]

    def uses() -> Iterator[list[str]]:
        edges = web.edges(cache)
        while some := list(islice(edges, FEW)):
            yield [_use(names[child], names[parent], role) for child, parent, role in some]

    return nodes(), uses()


def _listed(items: Iterable[list[str]]) -> Iterator[str]:
    between = "\n"
    for some in filter(None, items):
        yield between + ",\n".join(some)
        between = ",\n"


def _use(child: str, parent: str, role: str) -> str:
    return f'{{"child": "{child}", "parent": "{parent}", "role": {_word(role)}}}'


def _of(node: Node, more: bool) -> str:
    if node.packed is None:
        return _node(node.id, node.ref, node.store, node.kind, more)
    said = dict(zip(KEPT, node.packed, strict=True))
    return _node(node.id, node.ref, node.store, node.kind, more, _said(*(said[name] for name in _TOLD)), said["step"])


def _node(id_: str, ref: str | None, store: str | None, kind: str, more: bool, said: str = "", step: Any = None) -> str:
    rest = f', {said}, "activity": {step}' if step else ""
    known = "true" if step else "false"
    return (
        f'{{"id": "{id_}", "ref": {_text(ref)}, "store": {_word(store)}, "kind": "{kind}", "known": {known},'
        f' "more": {_word(more)}{rest}}}'
    )


def _said(*parts: bytes | str) -> str:
    """Return what is told of the parts of a document."""
    return ", ".join(map(_told, _TOLD, parts))


@lru_cache(PARTS_HELD)
def _told(name: str, kept: bytes | str) -> str:
    """Return what is told of one part: for many nodes the same."""
    part = load(kept)
    match name:
        case "volume":
            told = {key: part["volume"][key] for key in ("modality", "shape", "dtype")}
        case "setup":
            told = {"params": settings(part)}
        case "tools":
            told = {"models": part["models"]}
        case _:
            told = part
    return _text(told)[1:-1]
