"""Where to draw the boxes of a graph without cycles: in layers from left to right, with few crossings and short lines.

After Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", IEEE Trans. SMC 11 (1981):
every box to the right of all it comes from, long edges through places of their own in the layers between, the order within
the layers from the mean of the neighbours' places. Heights minimise squared distances to the neighbours, exactly, under the
order found (pool adjacent violators).
"""

from bisect import bisect_right, insort
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

SWEEPS: Final = 12

Name = Hashable


@dataclass(frozen=True)
class Way:
    """An edge through a place of its own in a layer between its ends."""

    start: Name
    end: Name
    layer: int


@dataclass(frozen=True)
class Layout:
    """Where everything is."""

    layer: Mapping[Name, int]
    """Column of every box and `Way`, from 0."""
    middle: Mapping[Name, float]
    """Height of the middle of every box and `Way`, >= half its own height."""
    height: float
    """Of the whole."""


def layout(heights: Mapping[Name, float], edges: Sequence[tuple[Name, Name]], *, gap: float) -> Layout:
    """Lay out a graph without cycles.

    Parameters
    ----------
    heights : mapping
        Height of every box, in the order in which boxes that nothing tells apart are drawn.
    edges : sequence of (start, end)
        Each pair once.
    gap : float
        Least distance of two boxes in a layer, in the unit of the heights.
    """
    layer = _layers(list(heights), edges)
    size: dict[Name, float] = dict(heights)
    before: dict[Name, list[Name]] = {name: [] for name in heights}
    after: dict[Name, list[Name]] = {name: [] for name in heights}
    for start, end in edges:
        at = start
        for k in range(layer[start] + 1, layer[end]):
            way = Way(start, end, k)
            layer[way], size[way], before[way], after[way] = k, 0.0, [at], []
            after[at].append(way)
            at = way
        before[end].append(at)
        after[at].append(end)
    columns: list[list[Name]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name, k in layer.items():
        columns[k].append(name)
    columns = _ordered(columns, before, after)
    middle = _heights(columns, before, after, size, gap)
    top = min((middle[name] - size[name] / 2 for name in middle), default=0.0)
    bottom = max((middle[name] + size[name] / 2 for name in middle), default=0.0)
    return Layout(layer, {name: y - top for name, y in middle.items()}, bottom - top)


def _layers(names: list[Name], edges: Sequence[tuple[Name, Name]]) -> dict[Name, int]:
    """Return a column for every box: as far left as what it comes from allows; what comes from nothing beside its first use."""
    ends: dict[Name, list[Name]] = {name: [] for name in names}
    waiting = dict.fromkeys(names, 0)
    for start, end in edges:
        ends[start].append(end)
        waiting[end] += 1
    layer = dict.fromkeys(names, 0)
    first = [name for name in names if not waiting[name]]
    ready = list(first)
    while ready:
        name = ready.pop()
        for end in ends[name]:
            layer[end] = max(layer[end], layer[name] + 1)
            waiting[end] -= 1
            if not waiting[end]:
                ready.append(end)
    for name in first:
        if ends[name]:
            layer[name] = min(layer[end] for end in ends[name]) - 1
    return layer


def _ordered(columns: list[list[Name]], before: Mapping[Name, list[Name]], after: Mapping[Name, list[Name]]) -> list[list[Name]]:
    best, fewest = columns, _crossings(columns, after)
    for sweep in range(SWEEPS):
        columns = [list(column) for column in columns]
        forward = sweep % 2 == 0
        neighbours = before if forward else after
        steps = range(1, len(columns)) if forward else range(len(columns) - 2, -1, -1)
        for k in steps:
            beside = {name: i for i, name in enumerate(columns[k - 1 if forward else k + 1])}
            own = {name: i for i, name in enumerate(columns[k])}

            def place(name: Name, beside: dict[Name, int] = beside, own: dict[Name, int] = own) -> tuple[float, int]:
                found = [beside[near] for near in neighbours[name] if near in beside]  # noqa: B023 - used at once
                return (sum(found) / len(found) if found else own[name]), own[name]

            columns[k].sort(key=place)
        crossings = _crossings(columns, after)
        if crossings < fewest:
            best, fewest = columns, crossings
    return best


def _crossings(columns: list[list[Name]], after: Mapping[Name, list[Name]]) -> int:
    total = 0
    for column, following in pairwise(columns):
        at = {name: i for i, name in enumerate(following)}
        seen: list[int] = []
        for name in column:
            ends = sorted(at[end] for end in after[name] if end in at)
            total += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return total


def _heights(
    columns: list[list[Name]],
    before: Mapping[Name, list[Name]],
    after: Mapping[Name, list[Name]],
    size: Mapping[Name, float],
    gap: float,
) -> dict[Name, float]:
    middle: dict[Name, float] = {}
    for column in columns:
        y = 0.0
        for name in column:
            middle[name] = y + size[name] / 2
            y += size[name] + gap
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wanted = []
            for name in column:
                near = [*before[name], *after[name]]
                wanted.append(sum(middle[each] for each in near) / len(near) if near else middle[name])
            apart = [(size[one] + size[two]) / 2 + gap for one, two in pairwise(column)]
            middle.update(zip(column, _apart(wanted, apart), strict=True))
    return middle


def _apart(wanted: Sequence[float], least: Sequence[float]) -> list[float]:
    """Return the places nearest to those wanted (least squares) that keep their order and their least distances."""
    offset = [0.0]
    for distance in least:
        offset.append(offset[-1] + distance)
    pools: list[tuple[float, int]] = []  # mean and number
    for want, shift in zip(wanted, offset, strict=False):
        mean, count = want - shift, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + shift for mean, shift in zip(means, offset, strict=False)]
