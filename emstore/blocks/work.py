"""What a worker does with a task, in this process or in another one.

A task is a pure description; doing it twice gives the same objects, and objects are created whole and once, so a task may
be repeated, and a worker may die, at any moment.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from emstore import registry
from emstore.blocks.compute import CPU, Blocks, Compute, Cuts, Shape
from emstore.blocks.weights import planned, reopened
from emstore.errors import Conflict
from emstore.operation import Operation
from emstore.store import Outpost, Place, open_store, open_version
from emstore.store.documents import ManifestEntry
from emstore.store.plan import Level, VersionPlan
from emstore.store.region import reducer, shards_below, stored_level, write_region
from emstore.store.sink import Sink
from emstore.store.tile import Tile
from emstore.volume import Region


@dataclass(frozen=True)
class Task:
    """What is done, and repeated, on its own."""

    number: int
    region: Region
    """Of the level it writes; of the blocks' grid where it only reduces."""
    level: int | None
    """Scale level whose shards it writes; ``None`` for a reduction's pass."""
    shards: tuple[Shape, ...] = ()
    """Indices of the shards to write."""
    empty: tuple[str, ...] = ()
    """Keys of the shards it reads of the level below that hold nothing."""


@dataclass(frozen=True)
class Done:
    """What became of a task."""

    number: int
    partial: Any = None
    """What its block adds to the reduction."""
    entries: tuple[ManifestEntry, ...] = ()
    """Objects it put, where it has no transaction of its own."""
    empty: tuple[str, ...] = ()
    """Keys of its shards that hold nothing and were not written."""
    nbytes: int = 0
    """Uncompressed size of what it made, bytes."""


@dataclass
class Work:
    """Everything a task needs."""

    compute: Compute
    blocks: Blocks
    plan: VersionPlan | None
    tile: Shape
    sink: Sink | None
    found: Any = None
    """What the reduction found, once it has."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set to have tasks end at their next block."""

    def perform(self, task: Task) -> Done:
        """Do a task."""
        if task.level is None:
            [block] = self._going_on(task.region)
            return Done(task.number, partial=self.compute.map(block), nbytes=prod(s.stop - s.start for s in task.region))
        assert self.plan is not None
        assert self.sink is not None
        level = self.plan.levels[task.level]
        fill: Callable[[Tile], None] = self._fill
        tile = self.tile
        if level.number:
            below = stored_level(self.sink, self.plan.levels[level.number - 1], self.plan, task.empty)
            fill, tile = reducer(self.plan, level, below), level.chunk
        empty = write_region(self.plan, level, task.region, tile=tile, wanted=frozenset(task.shards), fill=fill, sink=self.sink)
        entries = tuple(self.sink.report()) if isinstance(self.sink, Outpost) else ()
        size = prod(s.stop - s.start for s in task.region) * self.plan.dtype.itemsize
        return Done(task.number, entries=entries, empty=tuple(empty), nbytes=size)

    def _fill(self, tile: Tile) -> None:
        for block in self._going_on(tile.region):
            tile.put(block.output, self.compute.apply(block, self.found))

    def _going_on(self, region: Region) -> Iterator[Any]:
        for block in self.blocks.inside(region):
            if self.stopped.is_set():
                raise Stopped
            yield block


class Stopped(Exception):
    """A task ended because all of them were asked to."""


@dataclass(frozen=True)
class Order:
    """All that another process needs to do the same `Work`; holds no values and no credentials."""

    processor: str
    params: Mapping[str, Any]
    inputs: tuple[tuple[str, str, str], ...]
    """Of every input: store, its place as DATASET/ARRAY/vN, and version id."""
    target: tuple[str, str] | None
    """Store of the version being made, and its place."""
    plan: VersionPlan | None
    cuts: Cuts
    tile: Shape
    device: str = CPU
    weights: tuple[str, str] | None = None
    """Where the weights are that the processor works with, and their digest."""
    found: Any = None

    def open(self) -> Work:
        """Open everything, in the process that will do the work."""
        processor = registry.processor(self.processor)
        versions = [open_version(f"{url}/{place}") for url, place, _ in self.inputs]
        for version, (_, _, sealed) in zip(versions, self.inputs, strict=True):
            if version.id != sealed:
                raise Conflict("it is not the version that was asked for", where=version.ref)
        inputs = [version.table() if version.is_table else version.volume() for version in versions]
        used = None if self.weights is None else reopened(self.weights)
        operation = planned(processor, inputs, processor.params.model_validate(self.params), used)
        assert isinstance(operation, Operation)  # where it is a table, no work goes to other processes
        arrays = tuple(version.array(workers=1) for version in versions if not version.is_table)
        compute = Compute(operation, self.processor, arrays, self.device)
        sink = None
        if self.target is not None:
            url, place = self.target
            sink = Outpost(open_store(url).backend, Place.parse(tuple(place.split("/"))))
        return Work(compute, Blocks(operation, tuple(a.shape for a in arrays), self.cuts), self.plan, self.tile, sink, self.found)


def mapping(blocks: Blocks) -> Iterator[Task]:
    """Yield the tasks of a reduction's pass: one per block, in array order."""
    for block in blocks:
        yield Task(block.number, block.output, None)


def writing(plan: VersionPlan, level: Level, task: Shape, sink: Sink, empty: set[str]) -> Iterator[Task]:
    """Yield the tasks that write the missing shards of a level; `empty` are the keys known to hold nothing."""
    counts = [-(-n // t) for n, t in zip(level.shape, task, strict=True)]
    for number, index in enumerate(product(*map(range, counts))):
        region = tuple(slice(i * t, min((i + 1) * t, n)) for i, t, n in zip(index, task, level.shape, strict=True))
        spans = [range(s.start // d, -(-s.stop // d)) for s, d in zip(region, level.shard, strict=True)]
        missing = tuple(at for at in product(*spans) if not sink.have(level.shard_key(at)))
        below = tuple(key for key in shards_below(plan, level, region) if key in empty) if level.number and missing else ()
        yield Task(number, region, level.number, missing, below)
