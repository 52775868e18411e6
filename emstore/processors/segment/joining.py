"""Parts of components, found in one block each, joined to whole components across blocks.

Two blocks meet at a plane between them. Of every block the plane's labels on its low side wait in the state until all blocks
on the high side have met them; with edges and corners connected, blocks that share only an edge or a corner meet too. Such
a pair is told by the first axis along which the two blocks differ, so each meets once. Parts that meet are joined at once, in a
forest of parts (R. E. Tarjan, J. ACM 22 (1975) 215-225, paths halved), so that no meeting is kept.
"""

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity
from emstore.operation import Block
from emstore.volume import Region

PART_BYTES: Final = 48
"""The most that one part takes in the state and while all are numbered, bytes."""
_LABEL_BYTES: Final = 4
"""The most that a voxel of a face that waits takes, its value not counted, bytes."""
_MEETING_BYTES: Final = 64
"""The most that a voxel of a face takes while two blocks meet there, bytes."""
_PIECE: Final = 1 << 18
"""Parts looked at together where that takes memory."""

State = dict[str, Any]
Place = tuple[int, ...]
Parts = npt.NDArray[np.int32]
"""Numbers of parts, from 0 in the order they were met."""


@dataclass(frozen=True)
class Joining:
    """What every step needs to know."""

    shape: tuple[int, ...]
    rank: int
    """Number of axes of space; the last ones."""
    connectivity: int
    minimum_size: int
    maximum_parts: int
    value_bytes: int
    """Size of a value that the voxels of a part have in common, bytes; 0 when all are one."""

    @property
    def axes(self) -> range:
        """Axes of space."""
        return range(len(self.shape) - self.rank, len(self.shape))

    @property
    def room(self) -> int:
        """Most parts that there can be and are kept."""
        return min(self.maximum_parts, prod(self.shape))

    def state_bytes(self, block: tuple[int, ...]) -> int:
        """Return the most memory that the state and what is found take, for blocks of a shape, bytes.

        Along every axis the faces of one layer of blocks wait while those of the next one come.
        """
        cut = [axis for axis in self.axes if block[axis] < self.shape[axis]]
        waiting = 2 * sum(prod(block[:axis]) * prod(self.shape[axis + 1 :]) for axis in cut)
        meeting = max((prod(block) // block[axis] for axis in cut), default=0)
        return PART_BYTES * self.room + (_LABEL_BYTES + self.value_bytes) * waiting + _MEETING_BYTES * meeting

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
            ``ids`` of the parts kept; their ``size`` and ``first`` voxel (index in the block); for every axis of space the faces
            ``low`` and ``high`` that touch another block, in parts kept counted from 1, each with its values or ``None``; how
            many parts were ``dropped``.
        """
        flat = labels.ravel()
        sizes = np.bincount(flat, minlength=count + 1).astype(np.uint32)
        keep = sizes >= self.minimum_size
        touching: list[tuple[str, int, int]] = []
        for axis in self.axes:
            if region[axis].start > 0:
                touching.append(("low", axis, 0))
            if region[axis].stop < self.shape[axis]:
                touching.append(("high", axis, -1))
        for _, axis, at in touching:
            keep[np.take(labels, at, axis)] = True
        keep[0] = False
        ids = np.flatnonzero(keep).astype(np.int32)
        sizes = sizes[ids]
        table = np.zeros(count + 1, np.min_scalar_type(len(ids)))
        table[ids] = np.arange(1, len(ids) + 1, dtype=table.dtype)
        faces: dict[str, dict[int, Any]] = {"low": {}, "high": {}}
        for side, axis, at in touching:
            face = table[np.take(labels, [at], axis)]
            if face.any():
                faces[side][axis] = face, None if values is None else np.take(values, [at], axis)
        del table
        first = np.searchsorted(np.maximum.accumulate(flat), ids).astype(np.uint32)
        return {"ids": ids, "size": sizes, "first": first, "dropped": count - len(ids), **faces}


def start(joining: Joining) -> State:
    """Return the state before the first block. There is room for all parts; it takes memory as it fills."""
    room = joining.room
    parts: State = {"ids": np.zeros(room, np.int32), "size": np.zeros(room, np.int64), "first": np.zeros(room, np.int64)}
    return parts | {"root": np.zeros(room, np.int32), "starts": [0], "dropped": 0, "waiting": {}, "before": {}}


def add(joining: Joining, state: State, block: Block, parts: dict[str, Any]) -> State:
    """Let a block meet those before it, and leave its own faces for those after it."""
    region, base = block.output, state["starts"][-1]
    assert block.number == len(state["starts"]) - 1, "blocks come in order"
    _append(joining, state, region, parts)
    for axis in joining.axes:
        rows = state["waiting"].setdefault(axis, {})
        row = (*(s.start for s in region[:axis]), region[axis].start)
        for passed in [other for other in rows if other < row]:
            del rows[passed]
        state["before"].setdefault(axis, {})[region[axis].stop] = region[axis].start
        if axis in parts["low"] and row in rows:
            own, others = _pairs(joining, state, region, axis, parts["low"][axis], rows[row])
            _unite(state["root"], own + np.int32(base - 1), others - np.int32(1))
        later = [a for a in joining.axes if a > axis]
        if row in rows:
            # This block is the last to meet what lies one before it along every later axis; at an array's end also beside it.
            ends = [[_neighbour(state, region, a, -1)] + [region[a].start] * (region[a].stop == joining.shape[a]) for a in later]
            for met in product(*ends):
                rows[row].pop(met, None)
        if axis in parts["high"]:
            row = (*row[:-1], region[axis].stop)
            rows.setdefault(row, {})[tuple(s.start for s in region[axis + 1 :])] = (base, *parts["high"][axis])
    return state


def _append(joining: Joining, state: State, region: Region, parts: dict[str, Any]) -> None:
    """Put a block's parts behind those of the blocks before, each a component of its own.

    Raises
    ------
    Capacity
        There are too many.
    """
    base = state["starts"][-1]
    end = base + len(parts["ids"])
    if end > joining.room:
        raise Capacity(
            f"there are more than {joining.maximum_parts} components, or parts of them in blocks",
            fix="remove noise before, raise minimum_size, or raise maximum_parts, which takes memory",
        )
    shape = [s.stop - s.start for s in region]
    for at in range(base, end, _PIECE):
        first = parts["first"][at - base : at - base + _PIECE]
        place = [one + s.start for one, s in zip(np.unravel_index(first, shape), region, strict=True)]
        state["first"][at : at + len(first)] = np.ravel_multi_index(place, joining.shape)
    state["ids"][base:end] = parts["ids"]
    state["size"][base:end] = parts["size"]
    state["root"][base:end] = np.arange(base, end, dtype=np.int32)
    state["starts"].append(end)
    state["dropped"] += parts["dropped"]


def _pairs(joining: Joining, state: State, region: Region, axis: int, near: Any, row: dict[Place, Any]) -> tuple[Parts, Parts]:
    """Return which parts of a face (counted from 1) meet which parts across it (counted from 1 in the whole), each pair once."""
    face, values = near
    others = [a for a in joining.axes if a != axis]
    later = [a for a in others if a > axis]
    frame = [n + 2 if a in others else n for a, n in enumerate(face.shape)]
    across = np.zeros(frame, np.int32)
    worth = None if values is None else np.zeros(frame, values.dtype)
    for steps in product((-1, 0, 1), repeat=len(later)):
        step = dict(zip(later, steps, strict=True))
        place = tuple(_neighbour(state, region, a, by) for a, by in step.items())
        if place not in row:
            continue
        base, labels, theirs = row[place]
        target, source = [], []
        for a in range(labels.ndim):
            by = step.get(a, 0)
            target.append({-1: slice(0, 1), 0: slice(1, -1) if a in others else slice(None), 1: slice(-1, None)}[by])
            source.append({-1: slice(-1, None), 0: slice(None), 1: slice(0, 1)}[by])
        piece = labels[tuple(source)].astype(np.int32)
        piece[piece > 0] += base
        across[tuple(target)] = piece
        if worth is not None:
            worth[tuple(target)] = theirs[tuple(source)]
    span = int(across.max()) + 1
    codes = np.zeros(0, np.int64)
    for offset in product((0, -1, 1), repeat=len(others)):
        if sum(map(abs, offset)) >= joining.connectivity:
            continue
        shift = dict(zip(others, offset, strict=True))
        view = tuple(slice(1 + shift[a], 1 + shift[a] + n) if a in shift else slice(None) for a, n in enumerate(face.shape))
        both = (face > 0) & (across[view] > 0)
        if worth is not None:
            both &= values == worth[view]
        codes = np.union1d(codes, face[both].astype(np.int64) * span + across[view][both])
    return (codes // span).astype(np.int32), (codes % span).astype(np.int32)


def _neighbour(state: State, region: Region, axis: int, step: int) -> int:
    """Return where the block before (-1), at (0) or after (1) this one along an axis starts; -1 when there is none before."""
    part = region[axis]
    return part.start if step == 0 else part.stop if step == 1 else int(state["before"][axis].get(part.start, -1))


def _unite(root: Parts, one: Parts, other: Parts) -> None:
    """Make one component of parts that meet, pair by pair. The lowest part of a component is its root."""
    while len(one):
        one, other = _roots(root, one), _roots(root, other)
        apart = one != other
        one, other = one[apart], other[apart]
        # Of several that a root meets it goes below the lowest; the others meet that one in the next round.
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))


def _roots(root: Parts, parts: Parts) -> Parts:
    """Return the roots of parts, and halve the ways there."""
    while True:
        above = root[parts]
        higher = root[above]
        if np.array_equal(above, higher):
            return above
        root[parts] = higher
        parts = higher


def finish(joining: Joining, state: State) -> dict[str, Any]:
    """Give the components their numbers.

    Returns
    -------
    dict
        ``starts``: for every block, by number, where its parts begin among all, and the end; ``ids`` and final ``numbers`` of the
        parts (0 for those dropped); ``count`` of components and how many were ``dropped``.
    """
    state["waiting"].clear()
    starts = np.asarray(state["starts"], np.int64)
    n = int(starts[-1])
    root, first = state.pop("root")[:n], state.pop("first")[:n]
    while not np.array_equal(root, above := root[root]):
        root = above
    size = np.zeros(n, np.int64)
    np.add.at(size, root, state.pop("size")[:n])
    roots = root == np.arange(n, dtype=np.int32)
    large = roots & (size >= joining.minimum_size)
    del size, above
    np.minimum.at(first, root, first)
    first[~large] = np.iinfo(np.int64).max  # those that get no number come last
    count = int(large.sum())
    numbers = np.zeros(n, np.uint32)
    numbers[np.argsort(first)[:count]] = np.arange(1, count + 1, dtype=np.uint32)
    return {
        "starts": starts,
        "ids": state.pop("ids")[:n],
        "numbers": numbers[root],
        "count": count,
        "dropped": state["dropped"] + int(roots.sum()) - count,
    }
