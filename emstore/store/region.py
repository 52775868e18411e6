"""Writing whole shards of one level, in any order and from anywhere: what a task of the block engine does.

Unlike `emstore.store.stream`, which reads a source once from front to back, this makes any region on its own, since versions
can be read anywhere. Coarser levels are made of the stored level below, when that is whole.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import product

import numpy as np

from emstore.store import metadata, pyramid
from emstore.store.assembly import Assembly
from emstore.store.plan import Level, VersionPlan
from emstore.store.reader import StoredArray
from emstore.store.sink import Sink
from emstore.store.tile import Tile
from emstore.volume import Region

Shape = tuple[int, ...]


def write_region(
    plan: VersionPlan,
    level: Level,
    region: Region,
    *,
    tile: Shape,
    wanted: Collection[Shape],
    fill: Callable[[Tile], None],
    sink: Sink,
) -> list[str]:
    """Write the shards of a region.

    Parameters
    ----------
    plan, level
        How the version is written, and which level of it.
    region : tuple of slice
        Whole shards, cut at the array's end.
    tile : tuple of int
        What is made at a time, in voxels: whole chunks.
    wanted : collection of tuple of int
        Indices of the shards to write; chunks of others are not made.
    fill : callable
        Puts the values of `Tile.region` into the tile.
    sink : Sink
        Where to.

    Returns
    -------
    list of str
        Keys of wanted shards that hold nothing and so were not written.
    """
    room = Tile(tuple(min(t, s.stop - s.start) for t, s in zip(tile, region, strict=True)), level.chunk, plan.dtype)
    assembly = Assembly()
    empty: list[str] = []
    for part in _parts(region, tile):
        chunks = [range(s.start // c, -(-s.stop // c)) for s, c in zip(part, level.chunk, strict=True)]
        indices = [index for index in product(*chunks) if level.shard_of(index) in wanted]
        if not indices:
            continue
        room.take(part)
        fill(room)
        for index in indices:
            shard = assembly.add(level, index, room.chunk(index, level.extent(index)))
            if shard is None:
                continue
            if shard.empty:
                empty.append(shard.key)
            else:
                sink.put(shard.key, shard.join())
    return empty


def stored_level(sink: Sink, level: Level, plan: VersionPlan, empty: Collection[str]) -> StoredArray:
    """Return a level of a version that is still being written; `empty` are the keys of its shards that hold nothing."""
    return StoredArray(
        sink, f"{level.group}/image", metadata.image_document(plan, level), known_empty=lambda: frozenset(empty), workers=1
    )


def reducer(plan: VersionPlan, level: Level, below: StoredArray) -> Callable[[Tile], None]:
    """Return what fills a tile of a coarser level from the stored level below it."""
    factors = plan.levels[level.number - 1].factors
    assert factors is not None

    def fill(tile: Tile) -> None:
        of = tuple(slice(s.start * f, min(s.stop * f, n)) for s, f, n in zip(tile.region, factors, below.shape, strict=True))
        tile.put(tile.region, pyramid.reduce(below[of], factors, plan.how))

    return fill


def shards_below(plan: VersionPlan, level: Level, region: Region) -> Iterator[str]:
    """Yield the keys of the shards that a region of a coarser level is made of."""
    below = plan.levels[level.number - 1]
    assert below.factors is not None
    spans = [
        range(s.start * f // d, -(-min(s.stop * f, n) // d))
        for s, f, n, d in zip(region, below.factors, below.shape, below.shard, strict=True)
    ]
    for index in product(*spans):
        yield below.shard_key(index)


def _parts(region: Region, tile: Shape) -> Iterator[Region]:
    counts = [-(-(s.stop - s.start) // t) for s, t in zip(region, tile, strict=True)]
    for index in np.ndindex(*counts):
        yield tuple(
            slice(s.start + i * t, min(s.start + (i + 1) * t, s.stop)) for i, s, t in zip(index, region, tile, strict=True)
        )
