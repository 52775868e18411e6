"""Parts of components, found in one block each, joined to whole components across blocks.

Two blocks meet at a plane between them. Of every block the plane's labels on its low side wait in the state until all blocks
on the high side have met them; with edges and corners connected, blocks that share only an edge or a corner meet too. Such
a pair is told by the first axis along which the two blocks differ, so each meets once.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity
from emstore.operation import Block
from emstore.volume import Region

MAX_PARTS: Final = 1 << 24
"""Most parts, and most meetings of parts, that are kept; about 30 bytes each."""

State = dict[str, Any]
Place = tuple[int, ...]


@dataclass(frozen=True)
class Joining:
    """What every step needs to know."""

    shape: tuple[int, ...]
    rank: int
    """Number of axes of space; the last ones."""
    connectivity: int
    minimum_size: int

    @property
    def axes(self) -> range:
        """Axes of space."""
        return range(len(self.shape) - self.rank, len(self.shape))

    def parts(self, region: Region, labels: npt.NDArray[np.int32], count: int, values: npt.NDArray[Any] | None) -> dict[str, Any]:
        """Return what matters beyond its block: parts that are large enough or touch another block, and faces.

        Parameters
        ----------
        region : Region
            The block's place.
        labels : ndarray of int32, shape of the block
            Numbered from 1 in array order of their first voxels.
        count : int
            Highest label.
        values : ndarray, shape of the block, or None
            What the labels are connected by, where not all are one.

        Returns
        -------
        dict
            ``ids`` of the parts kept; their ``size``, ``first`` voxel (index in the whole array) and ``values``; for every axis
            of space the faces ``low`` and ``high`` that touch another block, in parts kept counted from 1; how many were
            ``dropped``.
        """
        flat = labels.ravel()
        sizes = np.bincount(flat, minlength=count + 1)
        keep = sizes >= self.minimum_size
        faces: dict[str, dict[int, npt.NDArray[Any]]] = {"low": {}, "high": {}}
        for axis in self.axes:
            if region[axis].start > 0:
                faces["low"][axis] = np.take(labels, [0], axis)
            if region[axis].stop < self.shape[axis]:
                faces["high"][axis] = np.take(labels, [-1], axis)
        for face in (*faces["low"].values(), *faces["high"].values()):
            keep[face.ravel()] = True
        keep[0] = False
        ids = np.flatnonzero(keep).astype(np.int32)
        first = np.searchsorted(np.maximum.accumulate(flat), ids)
        table = np.zeros(count + 1, np.min_scalar_type(len(ids)))
        table[ids] = np.arange(1, len(ids) + 1)
        place = [at + s.start for at, s in zip(np.unravel_index(first, labels.shape), region, strict=True)]
        return {
            "ids": ids,
            "size": sizes[ids],
            "first": np.ravel_multi_index(place, self.shape),
            "values": None if values is None else values.ravel()[first],
            "dropped": count - len(ids),
            **{side: {axis: table[face] for axis, face in sides.items() if face.any()} for side, sides in faces.items()},
        }


def start() -> State:
    """Return the state before the first block."""
    parts: State = {"ids": [], "size": [], "first": [], "values": [], "dropped": 0, "starts": [0]}
    return parts | {"meetings": [], "met": 0, "waiting": {}, "before": {}}


def add(joining: Joining, state: State, block: Block, parts: dict[str, Any]) -> State:
    """Let a block meet those before it, and leave its own faces for those after it."""
    region, base = block.output, state["starts"][-1]
    assert block.number == len(state["starts"]) - 1, "blocks come in order"
    for axis in joining.axes:
        rows = state["waiting"].setdefault(axis, {})
        row = (*(s.start for s in region[:axis]), region[axis].start)
        for passed in [other for other in rows if other < row]:
            del rows[passed]
        state["before"].setdefault(axis, {})[region[axis].stop] = region[axis].start
        if axis in parts["low"] and row in rows:
            pairs = _pairs(joining, state, region, axis, parts["low"][axis], rows[row])
            if len(pairs):
                state["meetings"].append(pairs + np.asarray([base - 1, -1]))
                state["met"] += len(pairs)
        later = [a for a in joining.axes if a > axis]
        if row in rows:
            # This block is the last to meet what lies one before it along every later axis; at an array's end also beside it.
            ends = [[_neighbour(state, region, a, -1)] + [region[a].start] * (region[a].stop == joining.shape[a]) for a in later]
            for met in product(*ends):
                rows[row].pop(met, None)
        if axis in parts["high"]:
            row = (*row[:-1], region[axis].stop)
            rows.setdefault(row, {})[tuple(s.start for s in region[axis + 1 :])] = (base, parts["high"][axis])
    for name in ("ids", "size", "first", "values"):
        state[name].append(parts[name])
    state["dropped"] += parts["dropped"]
    state["starts"].append(base + len(parts["ids"]))
    if max(state["starts"][-1], state["met"]) > MAX_PARTS:
        raise Capacity(
            f"there are more than {MAX_PARTS} components, parts of them in blocks, or places where these meet",
            fix="remove noise before, or raise minimum_size",
        )
    return state


def _pairs(
    joining: Joining, state: State, region: Region, axis: int, face: npt.NDArray[Any], row: dict[Place, Any]
) -> npt.NDArray[np.int64]:
    """Return which parts of a face (counted from 1) meet which parts across it (counted from 1 in the whole), shape (n, 2)."""
    others = [a for a in joining.axes if a != axis]
    later = [a for a in others if a > axis]
    across = np.zeros([n + 2 if a in others else n for a, n in enumerate(face.shape)], np.int64)
    for steps in product((-1, 0, 1), repeat=len(later)):
        near = dict(zip(later, steps, strict=True))
        place = tuple(_neighbour(state, region, a, step) for a, step in near.items())
        if place not in row:
            continue
        base, labels = row[place]
        target, source = [], []
        for a in range(labels.ndim):
            step = near.get(a, 0)
            target.append({-1: slice(0, 1), 0: slice(1, -1) if a in others else slice(None), 1: slice(-1, None)}[step])
            source.append({-1: slice(-1, None), 0: slice(None), 1: slice(0, 1)}[step])
        piece = labels[tuple(source)].astype(np.int64)
        across[tuple(target)] = np.where(piece > 0, piece + base, 0)
    span = int(across.max()) + 1
    found = []
    for offset in product((0, -1, 1), repeat=len(others)):
        if sum(map(abs, offset)) >= joining.connectivity:
            continue
        shift = dict(zip(others, offset, strict=True))
        view = across[
            tuple(slice(1 + shift[a], 1 + shift[a] + n) if a in shift else slice(None) for a, n in enumerate(face.shape))
        ]
        both = (face > 0) & (view > 0)
        found.append(np.unique(face[both].astype(np.int64) * span + view[both]))
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // span, codes % span], axis=1)


def _neighbour(state: State, region: Region, axis: int, step: int) -> int:
    """Return where the block before (-1), at (0) or after (1) this one along an axis starts; -1 when there is none before."""
    part = region[axis]
    return part.start if step == 0 else part.stop if step == 1 else int(state["before"][axis].get(part.start, -1))


def finish(joining: Joining, state: State) -> dict[str, Any]:
    """Join the parts and number the components.

    Returns
    -------
    dict
        ``starts``: for every block, by number, where its parts begin among all, and the end; ``ids`` and final ``numbers`` of the
        parts (0 for those dropped); ``count`` of components and how many were ``dropped``.
    """
    from scipy import sparse

    state["waiting"].clear()
    starts = np.asarray(state["starts"], np.int64)
    n = int(starts[-1])
    if n == 0:
        nothing = np.zeros(0, np.uint32)
        return {"starts": starts, "ids": nothing.astype(np.int32), "numbers": nothing, "count": 0, "dropped": state["dropped"]}
    meetings = np.concatenate([np.zeros((0, 2), np.int64), *state.pop("meetings")])
    if any(values is not None for values in state["values"]):
        values = np.concatenate(state.pop("values"))
        meetings = meetings[values[meetings[:, 0]] == values[meetings[:, 1]]]
    graph = sparse.coo_array((np.ones(len(meetings), bool), (meetings[:, 0], meetings[:, 1])), shape=(n, n))
    count, component = sparse.csgraph.connected_components(graph, directed=False)
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, component, np.concatenate(state.pop("first")))
    size = np.zeros(count, np.int64)
    np.add.at(size, component, np.concatenate(state.pop("size")))
    large = np.flatnonzero(size >= joining.minimum_size)
    numbers = np.zeros(count, np.uint32)
    numbers[large[np.argsort(first[large])]] = np.arange(1, len(large) + 1)
    return {
        "starts": starts,
        "ids": np.concatenate(state.pop("ids")),
        "numbers": numbers[component],
        "count": len(large),
        "dropped": state["dropped"] + count - len(large),
    }
