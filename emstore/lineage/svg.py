"""A lineage as a picture: a box for every version, lines from what was used to what was made, raw files on the left."""

from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from emstore.lineage.graph import Lineage, refuse_many
from emstore.lineage.layout import Layout, Name, Way, layout
from emstore.lineage.tree import made_by, sources
from emstore.lineage.web import Node

MOST: Final = 1000
"""Versions in one picture."""
WIDTH: Final = 230
BETWEEN: Final = 90
GAP: Final = 22
MARGIN: Final = 24
LINE: Final = 15
PAD: Final = 10
PORT: Final = 13
"""Least distance of two lines that end at one box, so that their names do not overlap."""

_FILL: Final = {
    "image": ("#e8f0fb", "#3569b5"),
    "labels": ("#e6f5ea", "#2e8049"),
    "table": ("#fdf2da", "#a9731b"),
    "model": ("#f1e9fa", "#7446ac"),
    "source": ("#f1f1ef", "#74736d"),
    "unknown": ("#ffffff", "#8a8a8a"),
}


@dataclass(frozen=True)
class _Box:
    lines: tuple[str, ...]
    """The first is its name."""
    style: str
    tip: str
    root: bool = False
    known: bool = True


def svg(lineage: Lineage) -> str:
    """Return a lineage as an SVG document.

    Raises
    ------
    InvalidInput
        There is too much to draw.
    """
    refuse_many(lineage, MOST, "a picture")
    boxes, edges = _graph(lineage)
    ends: dict[Name, list[Name]] = {}
    for start, end in edges:
        ends.setdefault(end, []).append(start)
    heights: dict[Name, float] = {
        name: max(2 * PAD + LINE * len(box.lines), PORT * (len(ends.get(name, ())) + 1)) for name, box in boxes.items()
    }
    where = layout(heights, list(edges), gap=GAP)
    columns = max(where.layer.values()) + 1
    width = 2 * MARGIN + columns * WIDTH + (columns - 1) * BETWEEN
    height = 2 * MARGIN + where.height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" viewBox="0 0 {width} {height:.0f}"'
        ' font-family="Helvetica, Arial, sans-serif" font-size="12">',
        f"<title>Lineage of {_text(lineage.nodes[lineage.root].title)}</title>",
        f'<rect width="{width}" height="{height:.0f}" fill="#ffffff"/>',
    ]
    for end, starts in ends.items():
        # Lines come in at the height they come from, so that they do not cross right before the box.
        starts.sort(key=lambda start, end=end: _before(where, start, end))  # type: ignore[misc]
        for k, start in enumerate(starts):
            y = where.middle[end] + heights[end] * ((k + 1) / (len(starts) + 1) - 0.5)
            parts += _line(where, start, end, y, edges[start, end])
    parts += [_drawn(box, *_corner(where, name, heights[name]), heights[name]) for name, box in boxes.items()]
    return "\n".join([*parts, "</svg>"])


def _graph(lineage: Lineage) -> tuple[dict[Name, _Box], dict[tuple[Name, Name], str]]:
    many = len(lineage.stores) > 1
    boxes: dict[Name, _Box] = {}
    edges: dict[tuple[Name, Name], str] = {}
    for node in lineage.nodes.values():
        boxes[node.id] = _box(node, many, root=node.id == lineage.root, cut=node.id in lineage.cut)
        files = sources(node)
        if files is not None:
            name, _, rest = files.partition(" (")
            together = ("source", *(file["digest"] for file in node.record["sources"]))
            boxes.setdefault(together, _Box((name, rest.rstrip(")").split(", blake3:")[0]), "source", files))
            edges[together, node.id] = ""
    for edge in lineage.edges:
        pair = (edge.parent, edge.child)
        roles = [*filter(None, [edges.get(pair)]), edge.role]
        edges[pair] = ", ".join(dict.fromkeys(roles))
    return boxes, edges


def _box(node: Node, with_store: bool, *, root: bool, cut: bool) -> _Box:
    lines = [node.title]
    if with_store and node.store is not None:
        lines.append(f"in {node.store_name or node.store}")
    if node.known:
        volume = node.seal["volume"]
        shape = " × ".join(map(str, volume["shape"]))
        lines += [made_by(node), f"{node.kind} {shape}, {node.record['activity']['ended'][:10]}"]
    else:
        lines.append("weights" if node.kind == "model" else "in a store that is not known")
    if cut:
        lines.append("... more beyond this depth")
    style = node.kind if node.kind in _FILL else "unknown"
    return _Box(tuple(lines), style, f"{node.title}\n{node.id}", root, node.known or node.kind == "model")


def _before(where: Layout, start: Name, end: Name) -> float:
    """Return the height at which an edge stands in the layer before its end."""
    k = where.layer[end] - 1
    return where.middle[start if where.layer[start] == k else Way(start, end, k)]


def _left(k: int) -> float:
    return MARGIN + k * (WIDTH + BETWEEN)


def _corner(where: Layout, name: Name, height: float) -> tuple[float, float]:
    return _left(where.layer[name]), MARGIN + where.middle[name] - height / 2


def _line(where: Layout, start: Name, end: Name, y: float, role: str) -> list[str]:
    first, last = where.layer[start], where.layer[end]
    at = (_left(first) + WIDTH, MARGIN + where.middle[start])
    path = [f"M{at[0]:.0f} {at[1]:.1f}"]
    for k in range(first + 1, last + 1):
        to = (_left(k), MARGIN + (y if k == last else where.middle[Way(start, end, k)]))
        half = BETWEEN / 2
        path.append(f"C{at[0] + half:.0f} {at[1]:.1f} {to[0] - half:.0f} {to[1]:.1f} {to[0]:.0f} {to[1]:.1f}")
        at = to
        if k < last:
            at = (to[0] + WIDTH, to[1])
            path.append(f"H{at[0]:.0f}")
    x, y = at
    parts = [
        f'<path d="{"".join(path)}" fill="none" stroke="#9aa3ad" stroke-width="1.4"/>',
        f'<path d="M{x - 7:.0f} {y - 3.5:.1f}L{x:.0f} {y:.1f}L{x - 7:.0f} {y + 3.5:.1f}Z" fill="#7d8792"/>',
    ]
    if role:
        shown = escape(_fitted(role, BETWEEN - 20, 10))
        parts.append(
            f'<text x="{x - 9:.0f}" y="{y - 3:.1f}" text-anchor="end" font-size="10" fill="#5d6670" stroke="#ffffff"'
            f' stroke-width="3" paint-order="stroke">{shown}</text>'
        )
    return parts


def _drawn(box: _Box, x: float, y: float, height: float) -> str:
    fill, stroke = _FILL[box.style]
    dash = "" if box.known else ' stroke-dasharray="5 4"'
    lines = [f"<title>{_text(box.tip)}</title>"]
    lines.append(
        f'<rect x="{x:.0f}" y="{y:.1f}" width="{WIDTH}" height="{height:.1f}" rx="6" fill="{fill}" stroke="{stroke}"'
        f' stroke-width="{2.5 if box.root else 1.2}"{dash}/>'
    )
    top = y + (height - LINE * len(box.lines)) / 2 + LINE - 4
    for k, line in enumerate(box.lines):
        style = 'font-weight="bold" fill="#1d2329"' if k == 0 else 'font-size="11" fill="#4a525a"'
        size = 12.6 if k == 0 else 11
        shown = escape(_fitted(line, WIDTH - 2 * PAD, size))
        lines.append(f'<text x="{x + PAD:.0f}" y="{top + k * LINE:.1f}" {style}>{shown}</text>')
    return f"<g>{''.join(lines)}</g>"


def _fitted(text: str, width: float, size: float) -> str:
    """Return text cut in its middle where it would not fit, by the mean width of letters, 0.55 of their size."""
    most = int(width / (0.55 * size))
    plain = _printable(text)
    return plain if len(plain) <= most else f"{plain[: most // 2 - 1]}…{plain[-(most - most // 2) :]}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def _text(text: str) -> str:
    return escape(_printable(text))
