"""A lineage in words: lines of text for people."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from emstore.lineage.graph import Lineage
from emstore.lineage.records import settings
from emstore.lineage.web import Edge, Node

SETTINGS_SHOWN: Final = 4
"""Most parameters named on a line."""


def tree(lineage: Lineage, *, most: int | None) -> str:
    """Return a lineage as lines, each version once; where it is met again, a line points back."""
    lines: list[str] = []
    seen: set[str] = set()
    room = len(lineage.nodes) * 1000 if most is None else most
    if lineage.up or not lineage.down:
        lines += islice(_lines(lineage, lineage.inputs, "parent", seen), room)
    if lineage.down:
        if lineage.up:
            lines += ["", "and made from it:"]
        lines += islice(_lines(lineage, lineage.uses, "child", seen), room)
    left = len(lineage.nodes) - len(seen)
    if left:
        lines.append(f"... and {left:,} more versions; give a depth, or write it all as JSON")
    return "\n".join(lines)


def _lines(lineage: Lineage, edges: Mapping[str, tuple[Edge, ...]], far: str, shown: set[str]) -> Iterator[str]:
    many = len(lineage.stores) > 1
    seen: set[str] = set()
    # (what to draw, what stands before its line, what stands before the lines below it); a list, for chains are long
    waiting: list[tuple[Edge | str | None, str, str]] = [(None, "", "")]
    while waiting:
        what, lead, below = waiting.pop()
        if isinstance(what, str):
            yield f"{lead}{what}"
            continue
        node = lineage.nodes[lineage.root if what is None else getattr(what, far)]
        role = "" if what is None else f"{what.role}: "
        again = node.id in seen
        shown.add(node.id)
        yield f"{lead}{role}{_name(node, many)}{' (see above)' if again else _what(node)}"
        if again:
            continue
        seen.add(node.id)
        children: list[Edge | str] = list(edges.get(node.id, ()))
        if node.id in lineage.cut:
            children.append("... more beyond this depth")
        if far == "parent" and (files := sources(node)) is not None:
            children.append(f"source: {files}")
        for k, child in reversed(list(enumerate(children))):
            last = k == len(children) - 1
            waiting.append((child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))


def _name(node: Node, with_store: bool) -> str:
    if node.ref is None:
        return node.id
    if not with_store or node.store is None:
        return node.ref
    return f"{node.store_name or node.store}/{node.ref}"


def _what(node: Node) -> str:
    if not node.known:
        return f"  {'weights' if node.kind == 'model' else 'in a store that is not known'}  {node.id}"
    activity = node.record["activity"]
    return f"  {node.kind}  {made_by(node)}  {activity['ended'][:10]}  {short(node.id)}"


def made_by(node: Node) -> str:
    """Return what made a version, with its first settings: ``denoise.gaussian sigma=1.5``."""
    record = node.record
    activity = record["activity"]
    if activity["type"] != "process":
        return f"{activity['type']} {activity['name']}"
    shown = [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in settings(record).items()
        if value is not None and not isinstance(value, dict | list)
    ]
    return " ".join([activity["name"], *shown[:SETTINGS_SHOWN]])


def short(id_: str) -> str:
    """Return the start of an id, enough for people to tell versions apart."""
    return id_[: id_.index(":") + 13]


def sources(node: Node) -> str | None:
    """Return the raw files a version was made from in a few words, ``None`` without any."""
    files = node.record.get("sources", ())
    if not files:
        return None
    first = files[0]
    if len(files) == 1:
        return f"{first['name']} ({first['format']}, {first['size']:,} bytes, {short(first['digest'])})"
    return f"{first['name']} and {len(files) - 1} more ({first['format']}, {sum(f['size'] for f in files):,} bytes)"
