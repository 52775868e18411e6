"""The streaming writer: one pass over a volume, bounded memory, whole shards out.

A volume is read tile by tile; while one tile is encoded the next is read. Worker threads take the tile's chunks one at a
time, and carry each as far up as it goes: encode it, reduce it into its parent chunk of the next level, and when that was
the parent's last piece, go on with the parent. A shard is joined, hashed and sent as soon as its last chunk is there, while
the workers go on. Nothing else waits, so memory is what `VersionPlan.projected` says.

A rerun skips whatever already exists: a chunk is encoded only for a shard that is missing, reduced only if a shard above it
is, and a tile is read only if one of its chunks is needed. Every object's bytes depend on the data and the plan alone.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.errors import Interrupted, Kind, SourceUnreadable
from emstore.store import pyramid
from emstore.store.assembly import Assembly, WholeShard
from emstore.store.plan import BASELINE, PIECES, PUTS, READERS, Level, Schedule, VersionPlan
from emstore.store.sink import Sink
from emstore.store.tile import Tile
from emstore.store.virtual import VirtualSum
from emstore.volume import LazyArray

Shape = tuple[int, ...]
Region = tuple[slice, ...]


@dataclass
class _Parent:
    """A chunk of a coarser level that is being filled from the level below."""

    values: npt.NDArray[Any]
    left: int


@dataclass
class StreamWriter:
    """Writes the shards of every level of one volume."""

    data: LazyArray
    plan: VersionPlan
    sink: Sink
    advance: Callable[[int], None]
    cancelled: Callable[[], bool]
    virtual: VirtualSum | None = None
    """The virtual image to fill, when it is still missing; every tile is read then."""
    empty: list[str] = field(default_factory=list)
    """Keys of shards that hold nothing but the fill value and so were not written."""
    _parents: dict[tuple[int, Shape], _Parent] = field(default_factory=dict)
    _assembly: Assembly = field(default_factory=Assembly)
    _present: dict[tuple[int, Shape], bool] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Write everything that is missing.

        Raises
        ------
        Interrupted
            `cancelled` said so; what is written stays and a rerun goes on from there.
        SourceUnreadable
            From the source, or because it gave a block of another shape or type than it promised.
        StorageFailed
            From the sink.
        """
        plan = self.plan
        # What a host program held before is not ours to count, beyond what the plan allowed for.
        schedule = plan.schedule(plan.memory - BASELINE)
        in_flight = _Bytes(PUTS * max(level.codec.chunks.nbytes * level.codec.count for level in plan.levels))
        # An array that is best read front to back (a video, a compressed stream) may say so.
        one_reader = getattr(self.data, "sequential", False)
        readers = ThreadPoolExecutor(1 if one_reader else min(schedule.workers, READERS), "read")
        encoders = ThreadPoolExecutor(schedule.workers, "encode")
        putters = ThreadPoolExecutor(2 * PUTS, "put")
        try:
            self._stream(schedule, readers, encoders, _Putter(self.sink, putters, in_flight))
        finally:
            for pool in (readers, encoders, putters):
                pool.shutdown(wait=True, cancel_futures=True)

    def _stream(self, schedule: Schedule, readers: ThreadPoolExecutor, encoders: ThreadPoolExecutor, putter: "_Putter") -> None:
        tiles = [Tile(schedule.tile, self.plan.levels[0].chunk, self.plan.dtype) for _ in range(schedule.tiles)]
        full: Tile | None = None
        try:
            for number, region in enumerate(itertools.chain(self._needed_tiles(schedule.tile), [None])):
                tile = tiles[number % len(tiles)]
                if region is not None and tile is not full:
                    tile.take(region)
                # Where there is one tile only, readers wait with what they have read until that is encoded.
                reads = [] if region is None else [readers.submit(self._read, part, tile) for part in self._pieces(region)]
                if full is not None:
                    self._encode_tile(full, schedule.workers, encoders, putter)
                    self.advance(prod(s.stop - s.start for s in full.region) * self.plan.dtype.itemsize)
                self._check_cancelled()
                if region is not None and tile is full:
                    tile.take(region)
                for read in reads:
                    read.result()
                tile.hold()
                full = tile
        finally:
            for tile in tiles:
                tile.close()
        putter.finish()

    def _check_cancelled(self) -> None:
        if self.cancelled():
            raise Interrupted("writing was stopped", fix="run the same command again to go on from here")

    def _needed_tiles(self, tile: Shape) -> Iterator[Region]:
        """Yield the tiles to read; those that nothing missing depends on are reported as done at once."""
        for region in self.plan.tiles(tile):
            if self.virtual is not None or any(self._needed(0, index) for index in self._chunks(region)):
                yield region
            else:
                self.advance(prod(s.stop - s.start for s in region) * self.plan.dtype.itemsize)

    def _pieces(self, region: Region) -> list[Region]:
        """Cut a tile into parts to be read side by side, along its first axis that has several blocks of the source."""
        sizes = [s.stop - s.start for s in region]
        blocks = [-(-n // b) for n, b in zip(sizes, self.plan.block, strict=True)]
        axis = next((i for i, n in enumerate(blocks) if n > 1), 0)
        step = self.plan.block[axis] * -(-blocks[axis] // PIECES)
        # Cuts fall on the source's own block borders, also where the tile does not start on one.
        start, stop = region[axis].start, region[axis].stop
        cuts = [start, *range((start // step + 1) * step, stop, step), stop]
        return [(*region[:axis], slice(a, b), *region[axis + 1 :]) for a, b in itertools.pairwise(cuts)]

    def _read(self, region: Region, tile: Tile) -> None:
        values = self.data[region]
        shape = tuple(s.stop - s.start for s in region)
        if values.shape != shape or values.dtype.newbyteorder("=") != self.plan.dtype:
            raise SourceUnreadable(
                f"the source gave {values.dtype} {values.shape} where it promised {self.plan.dtype} {shape}",
                kind=Kind.SOURCE_INCONSISTENT,
            )
        tile.put(region, values)

    def _chunks(self, region: Region) -> Iterator[Shape]:
        """Yield the level-0 chunks of a tile, one shard after the other, so that shards are complete early."""
        level = self.plan.levels[0]
        in_shards = []
        for s, c, g in zip(region, level.chunk, level.codec.grid, strict=True):
            first, last = s.start // c, -(-s.stop // c)
            cuts = [first, *range((first // g + 1) * g, last, g), last]
            in_shards.append([range(a, b) for a, b in itertools.pairwise(cuts)])
        for block in itertools.product(*in_shards):
            yield from itertools.product(*block)

    def _encode_tile(self, tile: Tile, workers: int, encoders: ThreadPoolExecutor, putter: "_Putter") -> None:
        chunks = self._chunks(tile.region)
        lock = threading.Lock()
        failed = threading.Event()

        def work() -> None:
            try:
                while not failed.is_set():
                    with lock:
                        index = next(chunks, None)
                    if index is None:
                        return
                    self._encode_chunk(index, tile, putter)
            except BaseException:  # tells the other threads to stop; raised again here
                failed.set()
                raise

        futures = [encoders.submit(work) for _ in range(workers)]
        try:
            wait(futures)
            for future in futures:
                future.result()
        finally:
            failed.set()  # after Ctrl-C here the threads stop at their next chunk

    def _encode_chunk(self, index: Shape, tile: Tile, putter: "_Putter") -> None:
        """Carry one level-0 chunk as far up the pyramid as it goes."""
        level = self.plan.levels[0]
        if self.virtual is None and not self._needed(0, index):
            return
        extent = level.extent(index)
        chunk = tile.chunk(index, extent)
        if self.virtual is not None:
            self.virtual.add(index, extent, _valid(chunk, extent))
        while True:
            if not self._have(level, level.shard_of(index)):
                self._deliver(level, index, chunk, putter)
            if level.factors is None or not self._needed(level.number + 1, self._parent_of(level, index)):
                return
            small = pyramid.reduce(_valid(chunk, extent), level.factors, self.plan.how)
            parent = self._add_to_parent(level, index, extent, small)
            if parent is None:
                return
            index, level = self._parent_of(level, index), self.plan.levels[level.number + 1]
            chunk, extent = parent, level.extent(index)

    def _add_to_parent(self, level: Level, index: Shape, extent: Region, small: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """Put a reduced chunk in its place; return the parent when that was its last piece."""
        assert level.factors is not None
        above = self.plan.levels[level.number + 1]
        at = self._parent_of(level, index)
        key = (above.number, at)
        with self._lock:
            parent = self._parents.get(key)
            if parent is None:
                children = prod(
                    -(-min(s.stop * f, n) // c) - s.start * f // c
                    for s, f, c, n in zip(above.extent(at), level.factors, level.chunk, level.shape, strict=True)
                )
                parent = self._parents[key] = _Parent(np.zeros(above.chunk, self.plan.dtype), children)
        start = [s.start // f - i * c for s, f, i, c in zip(extent, level.factors, at, above.chunk, strict=True)]
        parent.values[tuple(slice(a, a + n) for a, n in zip(start, small.shape, strict=True))] = small
        with self._lock:
            parent.left -= 1
            if parent.left:
                return None
            del self._parents[key]
        return parent.values

    def _deliver(self, level: Level, index: Shape, chunk: npt.NDArray[Any], putter: "_Putter") -> None:
        """Encode a chunk into its shard; send the shard when that was its last one."""
        shard = self._assembly.add(level, index, chunk)
        if shard is None:
            return
        if shard.empty:
            self.empty.append(shard.key)
        else:
            putter.put(shard)

    def _needed(self, number: int, index: Shape) -> bool:
        """Say whether a chunk must be known: its shard is missing, or one above it."""
        level = self.plan.levels[number]
        while not self._missing(level, index):
            if level.factors is None:
                return False
            index, level = self._parent_of(level, index), self.plan.levels[level.number + 1]
        return True

    def _missing(self, level: Level, index: Shape) -> bool:
        return not self._have(level, level.shard_of(index))

    def _have(self, level: Level, shard: Shape) -> bool:
        """Say whether an earlier attempt left a shard, as it was when this one began."""
        key = (level.number, shard)
        known = self._present.get(key)
        if known is None:
            known = self._present.setdefault(key, self.sink.have(level.shard_key(shard)))
        return known

    def _parent_of(self, level: Level, index: Shape) -> Shape:
        assert level.factors is not None
        above = self.plan.levels[level.number + 1]
        return tuple(i * c // (f * p) for i, c, f, p in zip(index, level.chunk, level.factors, above.chunk, strict=True))


@dataclass
class _Bytes:
    """Bounds the bytes in flight; lets one item of any size through when nothing else is."""

    limit: int
    used: int = 0
    _free: threading.Condition = field(default_factory=threading.Condition)

    def acquire(self, n: int) -> None:
        with self._free:
            self._free.wait_for(lambda: self.used == 0 or self.used + n <= self.limit)
            self.used += n

    def release(self, n: int) -> None:
        with self._free:
            self.used -= n
            self._free.notify_all()


@dataclass
class _Putter:
    """Joins shards and sends them in the background."""

    sink: Sink
    pool: ThreadPoolExecutor
    in_flight: _Bytes
    _futures: list[Future[None]] = field(default_factory=list)

    def put(self, shard: WholeShard) -> None:
        """Send one shard; waits while too many bytes are on their way, and reports an earlier failure."""
        size = shard.nbytes
        self.in_flight.acquire(size)
        done = [future for future in list(self._futures) if future.done()]
        for future in done:
            future.result()
            self._futures.remove(future)
        self._futures.append(self.pool.submit(self._send, shard, size))

    def finish(self) -> None:
        """Wait until everything has arrived."""
        for future in self._futures:
            future.result()

    def _send(self, shard: WholeShard, size: int) -> None:
        try:
            self.sink.put(shard.key, shard.join())
        finally:
            self.in_flight.release(size)


def _valid(chunk: npt.NDArray[Any], extent: Region) -> npt.NDArray[Any]:
    """Return the part of a chunk that lies inside the array, C-contiguous."""
    shape = tuple(s.stop - s.start for s in extent)
    return chunk if shape == chunk.shape else np.ascontiguousarray(chunk[tuple(slice(n) for n in shape)])
