"""How an operation is cut up: tasks of whole shards, blocks within them, and the memory one worker takes.

A task is what is done and retried on its own: the shards of a region, one shard where the operation may be cut anywhere,
all shards along an axis it needs whole. Within it, blocks are made one after the other; they are as large as memory allows,
since a halo is read again for every block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

from emstore.blocks.compute import Blocks, Shape, cut, grid_of, regions
from emstore.errors import Capacity, Kind
from emstore.operation import Block, Operation
from emstore.store.plan import Level, VersionPlan
from emstore.store.reader import INDEX_CACHE_BYTES
from emstore.volume import Volume

BASELINE: Final = 320 << 20
"""What a process with the processors' libraries takes before any data is read, bytes."""
TORCH: Final = 320 << 20
"""What PyTorch takes on top, bytes."""
INDEX_BYTES: Final = 16
"""What is kept of every chunk of an input: where it lies in its shard, bytes."""
WASTE: Final = 2.0
"""Blocks may be so small that this many times the voxels of a block are read before fewer workers are tried."""
TABLE_BLOCK: Final = 256
"""Edge of a block where nothing is written, voxels."""


@dataclass(frozen=True)
class Layout:
    """An operation cut up for a number of workers."""

    blocks: Blocks
    block: Shape
    """Shape of a block, those at the ends excepted."""
    tile: Shape
    """What is encoded at a time: whole chunks that hold a block."""
    task: Shape
    """Whole shards: what one task writes."""
    workers: int
    worker_bytes: int
    """The most memory one worker takes, bytes."""
    device_bytes: int
    """The most memory a block takes on an accelerator, bytes; 0 on the CPU."""
    process_bytes: int
    """What the process takes besides, bytes."""

    @property
    def projected(self) -> int:
        """The most memory the whole process takes, bytes."""
        return self.process_bytes + self.workers * self.worker_bytes


def lay_out(
    operation: Operation,
    volumes: Sequence[Volume],
    plan: VersionPlan | None,
    *,
    memory: int,
    workers: int,
    device_memory: int | None = None,
) -> Layout:
    """Cut an operation up so that `workers` at once, or fewer, keep within a memory budget. Pure arithmetic.

    Parameters
    ----------
    operation : Operation
        What to do.
    volumes : sequence of Volume
        Its inputs.
    plan : VersionPlan, optional
        How the result is written; none for a table.
    memory : int, bytes
        Budget of the whole process.
    workers : int
        Tasks at once, at most.
    device_memory : int, bytes, optional
        Free memory of the accelerator; ``None`` on the CPU.

    Raises
    ------
    Capacity
        Kind ``memory_budget``: not even one worker with the smallest block fits; says what would.
    """
    best: Layout | None = None
    for count in range(workers, 0, -1):
        layout = _largest(operation, volumes, plan, count, memory, device_memory)
        if layout is None:
            continue
        if _waste(layout.blocks) <= WASTE:
            return layout
        if best is None or _waste(layout.blocks) < 0.75 * _waste(best.blocks):
            best = layout
    if best is not None:
        return best
    grid = grid_of(operation, volumes)
    least = tuple(n if name in operation.whole else 1 for n, name in zip(grid.shape, grid.dims, strict=True))
    needed = _layout(operation, volumes, plan, least, 1, device_memory is not None)
    if device_memory is not None and needed.device_bytes > device_memory:
        raise Capacity(
            f"one block takes {_mebibytes(needed.device_bytes)} MiB on the device, which has {device_memory >> 20} MiB free",
            fix="use --device cpu",
            kind=Kind.MEMORY_BUDGET,
        )
    raise Capacity(
        f"it takes at least {_mebibytes(needed.projected)} MiB of memory, more than the {memory >> 20} MiB allowed",
        fix=f"allow more, e.g. --memory {_mebibytes(needed.projected)}MiB",
        kind=Kind.MEMORY_BUDGET,
    )


def _mebibytes(size: int) -> int:
    return -(-size // (1 << 20))


def _task(operation: Operation, volumes: Sequence[Volume], plan: VersionPlan | None) -> Shape:
    grid = grid_of(operation, volumes)
    unit = tuple(min(n, TABLE_BLOCK) for n in grid.shape) if plan is None else plan.levels[0].shard
    return tuple(n if name in operation.whole else min(n, u) for n, name, u in zip(grid.shape, grid.dims, unit, strict=True))


def _layout(
    operation: Operation,
    volumes: Sequence[Volume],
    plan: VersionPlan | None,
    block: Shape,
    workers: int,
    on_device: bool,
) -> Layout:
    shape = grid_of(operation, volumes).shape
    task = _task(operation, volumes, plan)
    chunk = (1,) * len(shape) if plan is None else plan.levels[0].chunk
    tile = tuple(min(t, -(-b // c) * c) for b, c, t in zip(block, chunk, task, strict=True))
    blocks = Blocks(operation, tuple(v.shape for v in volumes), cut(shape, task, tile, block))
    host, device = _bytes(operation, volumes, plan, blocks, task, tile)
    besides = _process_bytes(operation, volumes, plan, block)
    return Layout(blocks, block, tile, task, workers, host, device if on_device else 0, besides)


def _largest(
    operation: Operation,
    volumes: Sequence[Volume],
    plan: VersionPlan | None,
    workers: int,
    memory: int,
    device_memory: int | None,
) -> Layout | None:
    """Return the layout of the largest block that fits, ``None`` when not even one voxel's does."""
    grid = grid_of(operation, volumes)
    task = _task(operation, volumes, plan)
    block = task
    while True:
        layout = _layout(operation, volumes, plan, block, workers, device_memory is not None)
        if layout.projected <= memory and (device_memory is None or layout.device_bytes <= device_memory):
            return layout
        # The longest side, the slowest of equal ones: long rows are read and worked on best.
        longest = max(
            (n for n, name in zip(block, grid.dims, strict=True) if name not in operation.whole and n > 1), default=None
        )
        if longest is None:
            return None
        axis = next(
            i for i, (n, name) in enumerate(zip(block, grid.dims, strict=True)) if n == longest and name not in operation.whole
        )
        half = -(-longest // 2)
        chunk = 1 if plan is None else plan.levels[0].chunk[axis]
        block = (*block[:axis], -(-half // chunk) * chunk if half > chunk else half, *block[axis + 1 :])


def _process_bytes(operation: Operation, volumes: Sequence[Volume], plan: VersionPlan | None, block: Shape) -> int:
    """Return what a process takes besides its workers, bytes."""
    total = BASELINE + (TORCH if operation.arrays == "torch" else 0)
    if operation.reduction is not None and operation.reduction.state_bytes is not None:
        total += operation.reduction.state_bytes(block)
    for volume in volumes:
        chunks = prod(-(-n // c) for n, c in zip(volume.shape, volume.data.block, strict=True))
        total += min(INDEX_CACHE_BYTES, INDEX_BYTES * chunks)
    if plan is not None and plan.virtual is not None:
        total += 2 * plan.virtual.nbytes
    return total


def _bytes(
    operation: Operation, volumes: Sequence[Volume], plan: VersionPlan | None, blocks: Blocks, task: Shape, tile: Shape
) -> tuple[int, int]:
    """Return the most memory a worker takes, and a block on the device, bytes."""
    most = on_device = 0
    for block in _typical(blocks):
        sizes = [prod(s.stop - s.start for s in region) for region in block.inputs]
        read = sum(n * v.dtype.itemsize for n, v in zip(sizes, operation.per_read(volumes), strict=True))
        out = prod(s.stop - s.start for s in block.output)
        result = 0 if operation.result is None else out * operation.result.dtype.itemsize
        work = int(operation.work_bytes * max([*sizes, out if operation.result is not None else 0]))
        on_device = max(on_device, read + result + work)
        # Looking for NaN takes a flag per value, when the work is done.
        work = max(work, *sizes, out)
        # A chunk that a region cuts is decoded whole beside it, from its encoded bytes.
        beside = 2 * max(prod(v.data.block) * v.dtype.itemsize for v in volumes)
        most = max(most, read + result + work + beside)
    if plan is not None:
        tiles = prod(-(-t // c) * c for t, c in zip(tile, plan.levels[0].chunk, strict=True)) * plan.dtype.itemsize
        most += tiles + _writing_bytes(plan, plan.levels[0], task)
        most = max([most, *(_reducing_bytes(plan, above) for above in plan.levels[1:])])
    return most + most // 20, on_device


def _writing_bytes(plan: VersionPlan, level: Level, task: Shape) -> int:
    """Return the most memory that encoding a task takes besides its tile, bytes.

    Encoded chunks that wait for the rest of their shards, one shard being joined, one on its way.
    """
    item = plan.dtype.itemsize
    shard = prod(min(s, n) for s, n in zip(level.shard, level.shape, strict=True)) * item
    waiting = prod(min(-(-t // s) * s, n) for t, s, n in zip(task, level.shard, level.shape, strict=True)) * item
    return waiting + 2 * shard + 4 * level.codec.chunks.nbytes


def _reducing_bytes(plan: VersionPlan, level: Level) -> int:
    """Return the most memory that a task of a coarser level takes: what a chunk is made of, and its reduction, bytes."""
    below = plan.levels[level.number - 1]
    assert below.factors is not None
    read = prod(min(c * f, n) for c, f, n in zip(level.chunk, below.factors, below.shape, strict=True))
    item = plan.dtype.itemsize
    reducing = read * max(5 * item, 2 * item + 12)  # votes of labels; means in double precision
    return reducing + level.codec.chunks.nbytes + 2 * below.codec.chunks.nbytes + _writing_bytes(plan, level, level.shard)


def _typical(blocks: Blocks) -> list[Block]:
    """Return blocks of which none other reads more: at the beginning, in the middle and at the end along every axis.

    Several in the middle, since what a new sample between old ones is made from depends on where it falls.
    """
    counts = blocks.counts
    middle = {tuple(min(n // 2 + k, n - 1) for n in counts) for k in range(4)}
    return [blocks.at(index) for index in {(0,) * len(counts), tuple(n - 1 for n in counts)} | middle]


def _waste(blocks: Blocks) -> float:
    """Return how many times the voxels of the middle block are read of the first input for it."""
    middle = blocks.at(tuple(n // 2 for n in blocks.counts))
    whole = tuple(slice(0, n) for n in (b[-1] for b in blocks.cuts))
    every = prod(s.stop - s.start for s in regions(blocks.operation, blocks.shapes, whole)[0])
    share = prod(s.stop - s.start for s in middle.output) / prod(s.stop for s in whole)
    return float(prod(s.stop - s.start for s in middle.inputs[0]) / max(1.0, every * share))
