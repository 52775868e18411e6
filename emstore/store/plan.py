"""How one volume will be written: levels, chunk and shard shapes, the order of reading, and the memory it takes.

A volume is read once, tile by tile, in array order. A tile is a whole number of level-0 chunks. Everything that waits for
later tiles stays in memory: half-filled chunks of coarser levels, and the encoded chunks of shards that are not complete.
How much that can be at worst follows from the shapes alone (`VersionPlan.projected`), so shapes are chosen to fit the memory
budget before anything is read: first shallower shards, then shallower chunks.

What goes into the settings hash (`VersionPlan.to_json`) depends on the volume and the budget only, never on the machine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from emstore.errors import Capacity, Kind
from emstore.geometry import AxisKind, Grid
from emstore.store import chunking
from emstore.store.codecs import ChunkCodec
from emstore.store.ome import ome_axes
from emstore.store.pyramid import cumulative, level_factors, reduction
from emstore.store.shards import ShardCodec
from emstore.store.tile import Tile
from emstore.store.virtual import VirtualPlan
from emstore.volume import Volume

MEMORY: Final = 1 << 30
"""Default memory budget of a whole process, bytes."""
BASELINE: Final = 256 << 20
"""What a process is taken to use before any data is read (interpreter, libraries), bytes."""
TILE_BYTES: Final = 64 << 20
"""Tiles are not made larger than this without need: larger ones read no faster."""
PUTS: Final = 2
"""Objects that may be joined and on their way at once (in sizes of the largest shard)."""
READERS: Final = 4
"""Most threads that read from the source at once."""
MAX_AXIS: Final = 1 << 22
"""Longest axis: coordinates are kept whole in memory, for every level."""
PIECES: Final = 16
"""A tile is read in about this many pieces, where the source's blocks allow."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Level:
    """One level of the pyramid."""

    number: int
    grid: Grid
    """Where its voxels are."""
    codec: ShardCodec
    voxel: Shape
    """Size of one voxel of this level in level-0 voxels."""
    factors: Shape | None
    """Factors to the next level; ``None`` for the last."""

    @property
    def group(self) -> str:
        """Name of the level's group."""
        return f"s{self.number}"

    @property
    def shape(self) -> Shape:
        """Size of every axis."""
        return self.grid.shape

    @property
    def chunk(self) -> Shape:
        """Shape of a chunk."""
        return self.codec.chunks.shape

    @property
    def shard(self) -> Shape:
        """Shape of a shard."""
        return self.codec.shape

    @property
    def chunks(self) -> Shape:
        """Number of chunks along every axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True))

    @property
    def shards(self) -> Shape:
        """Number of shards along every axis."""
        return tuple(-(-n // s) for n, s in zip(self.shape, self.shard, strict=True))

    def shard_of(self, index: Shape) -> Shape:
        """Return the shard that a chunk is in."""
        return tuple(i // g for i, g in zip(index, self.codec.grid, strict=True))

    def extent(self, index: Shape) -> tuple[slice, ...]:
        """Return the region that a chunk covers, cut at the array's end."""
        return tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(index, self.chunk, self.shape, strict=True))

    def shard_key(self, index: Shape) -> str:
        """Return the key of one shard, relative to the version."""
        return f"{self.group}/image/c/{'/'.join(map(str, index))}"


@dataclass(frozen=True)
class Schedule:
    """How the work is done on this machine; the objects written do not depend on it."""

    tile: Shape
    """What is read and encoded at a time."""
    workers: int
    """Encoding threads."""
    tiles: int
    """Tiles in memory at once: 2, so that one is filled while the other is encoded, or 1 where memory is short."""


@dataclass(frozen=True)
class VersionPlan:
    """How one volume will be written."""

    grid: Grid
    dtype: np.dtype[Any]
    """Native-order type of the stored values."""
    levels: tuple[Level, ...]
    how: str
    """Reduction between levels: ``mean`` or ``mode``."""
    virtual: VirtualPlan | None
    """The scan image to compute on the way, for data OME-Zarr cannot hold."""
    block: Shape
    """The source's cheapest block."""
    memory: int
    """Budget of the whole process, bytes."""
    workers: int
    """Encoding threads."""

    @property
    def nbytes(self) -> int:
        """Uncompressed size of level 0, bytes."""
        return prod(self.grid.shape) * self.dtype.itemsize

    @property
    def least_bytes(self) -> int:
        """Size below which the stored objects will hardly stay, bytes: what data that compresses very well would take."""
        total = sum(prod(level.shape) for level in self.levels) * self.dtype.itemsize
        return total // (1000 if self.how == "mode" else 20)

    def schedule(self, available: int) -> "Schedule":
        """Return how to go about it with `available` bytes of memory for data."""
        tile = smallest_tile(self.grid.shape, self.levels[0].chunk, self.block)
        workers = self.workers
        while workers > 1 and self.projected(tile, workers, 1) > available:
            workers -= 1
        tiles = 2 if self.projected(tile, workers, 2) <= available else 1
        for axis in reversed(range(len(tile))):
            while tile[axis] < self.grid.shape[axis]:
                wider = (*tile[:axis], min(2 * tile[axis], self.grid.shape[axis]), *tile[axis + 1 :])
                if prod(wider) * self.dtype.itemsize > TILE_BYTES or self.projected(wider, workers, tiles) > available:
                    return Schedule(tile, workers, tiles)
                tile = wider
        return Schedule(tile, workers, tiles)

    def projected(self, tile: Shape, workers: int, tiles: int) -> int:
        """Return the most memory that writing with so many tiles can take on top of the process itself, bytes.

        Pure arithmetic on shapes. Worst case: data that does not compress at all.
        """
        item = self.dtype.itemsize
        total = tiles * Tile.nbytes(tile, self.levels[0].chunk, item)
        # What each reader holds: a piece, and as much again inside the source.
        total += 2 * min(workers, READERS) * max(prod(tile) // PIECES, prod(self.block)) * item
        total += workers * 6 * self.levels[0].codec.chunks.nbytes
        largest = 0
        for level in self.levels:
            if level.number:
                total += self._open(level.chunk, level, tile)[0] * item
            shard = min(prod(level.shard), prod(level.shape)) * item
            largest = max(largest, shard)
            voxels, spread = self._open(level.shard, level, tile)
            # Chunks are taken shard by shard, so a level-0 shard that lies within a tile is soon complete.
            total += voxels * item if spread or level.number else min(voxels * item, (workers + 1) * shard)
        total += 2 * PUTS * largest
        if self.virtual is not None:
            total += 2 * self.virtual.nbytes
        return total + total // 20  # the allocator's own losses

    def _open(self, extent: Shape, level: Level, tile: Shape) -> tuple[int, bool]:
        """Return how many of a level's voxels lie in objects of one extent that are open at once, and if for several tiles."""
        voxels = 1
        spread = False
        for size, n, voxel, step, whole in zip(level.shape, extent, level.voxel, tile, self.grid.shape, strict=True):
            voxels *= size if spread else min(size, max(n, -(-step // voxel)))
            spread = spread or (step < whole and n * voxel > step)
        return voxels, spread

    def tiles(self, tile: Shape) -> Iterator[tuple[slice, ...]]:
        """Yield the level-0 region of every tile, in array order."""
        counts = [-(-n // t) for n, t in zip(self.grid.shape, tile, strict=True)]
        for index in np.ndindex(*counts):
            yield tuple(slice(i * t, min((i + 1) * t, n)) for i, t, n in zip(index, tile, self.grid.shape, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return all that decides the bytes of the objects, for the settings hash."""
        return {
            "data_type": self.dtype.name,
            "reduction": self.how,
            "levels": [
                {
                    "shape": list(level.shape),
                    "voxel": list(level.voxel),
                    "shards": list(level.shard),
                    "codecs": level.codec.to_json(),
                }
                for level in self.levels
            ],
            "virtual": None if self.virtual is None else self.virtual.to_json(),
            "voxel": self.grid.to_json(),
        }

    def too_small(self, needed: int) -> Capacity:
        """Return the error that says how much memory this plan needs."""
        return Capacity(
            f"writing {self.grid.shape} {self.dtype.name} takes at least {-(-needed // (1 << 20))} MiB of memory, "
            f"more than the {self.memory >> 20} MiB allowed",
            fix=f"allow more, e.g. --memory {-(-needed // (1 << 20))}MiB",
            kind=Kind.MEMORY_BUDGET,
        )


def plan_version(volume: Volume, *, pyramid: bool = True, memory: int = MEMORY, workers: int | None = None) -> VersionPlan:
    """Choose how to write a volume within a memory budget. Reads nothing.

    Parameters
    ----------
    volume : Volume
        What to write.
    pyramid : bool
        Whether to write coarser levels (of data OME-Zarr can hold).
    memory : int, bytes
        Budget of the whole process.
    workers : int, optional
        Encoding threads; all cores by default.

    Raises
    ------
    Capacity
        Kind ``memory_budget``: not even the smallest plan fits; says what would. Also an axis beyond `MAX_AXIS`.
    InvalidInput
        Values or axes that cannot be stored.
    """
    for axis in volume.grid.axes:
        if axis.size > MAX_AXIS:
            raise Capacity(
                f"axis {axis.name} has {axis.size} samples, more than {MAX_AXIS}", where=volume.name, fix="ingest it in parts"
            )
    leanest: tuple[int, VersionPlan] | None = None
    for limits, halvings in _attempts(volume):
        plan = _build(volume, pyramid, memory, workers or cpu_count(), limits, halvings)
        needed = project(plan)
        if needed <= memory:
            return plan
        if leanest is None or needed < leanest[0]:
            leanest = needed, plan
    assert leanest is not None
    raise leanest[1].too_small(leanest[0])


def same_plan(volume: Volume, told: Mapping[str, Any], *, memory: int = MEMORY) -> VersionPlan | None:
    """Return the plan of a volume that a Record tells (`VersionPlan.to_json`); ``None`` when it would not be planned so any more.

    The budget it was chosen for is not in the Record: every plan that there can be is looked at. `memory` is the one to write
    it with.
    """
    for pyramid in (True, False):
        for limits, halvings in _attempts(volume):
            plan = _build(volume, pyramid, memory, cpu_count(), limits, halvings)
            if plan.to_json() == told:
                return plan
    return None


def project(plan: VersionPlan) -> int:
    """Return the memory the whole process is allowed for when a plan is chosen, bytes: its smallest tile, few threads.

    Does not depend on the machine, so that the same volume and budget give the same plan everywhere.
    """
    return BASELINE + plan.projected(smallest_tile(plan.grid.shape, plan.levels[0].chunk, plan.block), READERS, 1)


def smallest_tile(shape: Shape, chunk: Shape, block: Shape) -> Shape:
    """Return the smallest tile of whole chunks that reads no block of the source twice (unless blocks straddle chunks)."""
    tile = []
    for size, n, cheap in zip(shape, chunk, block, strict=True):
        times = 1
        while times * n < min(cheap, size):
            times *= 2
        tile.append(min(size, times * n))
    return tuple(tile)


def cpu_count() -> int:
    """Return the number of cores this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _attempts(volume: Volume) -> Iterator[tuple[Mapping[int, int], int]]:
    """Yield chunk limits and how often to halve the shards' depth: the best layout first, the leanest last."""
    for halvings in range(8):
        yield {}, halvings
    space = [i for i, axis in enumerate(volume.grid.axes) if axis.kind is AxisKind.SPACE]
    if len(space) == 3:  # a volume's slabs can be shallower; an image's rows are cheap as they are
        for depth in (32, 16, 8, 4, 2):
            yield {space[0]: depth}, 8


def _build(
    volume: Volume, with_pyramid: bool, memory: int, workers: int, limits: Mapping[int, int], halvings: int
) -> VersionPlan:
    grid, dtype = volume.grid, volume.dtype.newbyteorder("=")
    kinds = tuple(axis.kind for axis in grid.axes)
    block = tuple(max(1, min(b, n)) for b, n in zip(volume.data.block, grid.shape, strict=True))
    chunk = chunking.chunk_shape(grid, dtype.itemsize, limits=limits)
    tile = smallest_tile(grid.shape, chunk, block)
    large = volume.nbytes >= chunking.LARGE_BYTES
    factors = level_factors(grid) if with_pyramid and ome_axes(grid) else ()
    levels: list[Level] = []
    at = grid
    for number, voxel in enumerate(cumulative(factors, len(kinds))):
        if number:
            at = at.coarsened(factors[number - 1])
        shape = at.shape
        own = chunking.level_chunk(shape, chunk)
        shard = chunking.shard_shape(shape, own, kinds, dtype.itemsize, large=large)
        shard = _shallower(shard, own, voxel, tile, grid.shape, halvings)
        codec = ShardCodec(ChunkCodec.choose(dtype, own, volume.kind), shard)
        levels.append(Level(number, at, codec, voxel, factors[number] if number < len(factors) else None))
    how = reduction(volume.kind, dtype)
    return VersionPlan(grid, dtype, tuple(levels), how, VirtualPlan.of(volume), block, memory, workers)


def _shallower(shard: Shape, chunk: Shape, voxel: Shape, tile: Shape, whole: Shape, halvings: int) -> Shape:
    """Halve a shard up to `halvings` times along the first axis where it waits for more than one tile."""
    times = [s // c for s, c in zip(shard, chunk, strict=True)]
    for _ in range(halvings):
        waiting = [i for i, t in enumerate(times) if t > 1 and tile[i] < whole[i] and t * chunk[i] * voxel[i] > tile[i]]
        if not waiting:
            break
        times[waiting[0]] //= 2
    return tuple(c * t for c, t in zip(chunk, times, strict=True))
