"""Regions of arrays for tests: random ones, windows small enough to hold, walks over a whole array."""

import itertools
import math
from collections.abc import Iterator
from random import Random

from emstore.volume import LazyArray, Region


def random_region(shape: tuple[int, ...], chance: Random) -> Region:
    """Return a random non-empty region of an array; edges, single samples and whole axes come often."""
    region = []
    for size in shape:
        match chance.randrange(5):
            case 0:
                start, stop = 0, size
            case 1:
                start = chance.randrange(size)
                stop = start + 1
            case 2:
                start = chance.choice((0, size - 1))
                stop = start + 1 if start else chance.randint(1, size)
            case _:
                start = chance.randrange(size)
                stop = chance.randint(start + 1, size)
        region.append(slice(start, stop))
    return tuple(region)


def window(array: LazyArray, budget: int, chance: Random) -> Region:
    """Return the whole array, or a random region of whole blocks (one at least) of at most about `budget` bytes."""
    counts = [-(-size // block) for size, block in zip(array.shape, array.block, strict=True)]
    lengths = [1] * len(counts)
    room = max(1, budget // max(1, math.prod(array.block) * array.dtype.itemsize))
    for axis in reversed(range(len(counts))):
        lengths[axis] = min(counts[axis], max(1, room))
        room //= lengths[axis]
    region = []
    for size, block, count, length in zip(array.shape, array.block, counts, lengths, strict=True):
        first = chance.randint(0, count - length)
        region.append(slice(first * block, min(size, (first + length) * block)))
    return tuple(region)


def inside(outer: Region, inner: Region) -> Region:
    """Return `inner`, counted from the corner of `outer`, in the coordinates of the whole array."""
    return tuple(slice(o.start + i.start, o.start + i.stop) for o, i in zip(outer, inner, strict=True))


def extent(region: Region) -> tuple[int, ...]:
    """Return the shape of a region."""
    return tuple(part.stop - part.start for part in region)


def walk(array: LazyArray, budget: int) -> Iterator[Region]:
    """Go over a whole array in C order, in runs of whole blocks of at most about `budget` bytes each."""
    steps = list(array.block)
    room = max(1, budget // max(1, math.prod(steps) * array.dtype.itemsize))
    for axis in reversed(range(len(steps))):
        count = -(-array.shape[axis] // steps[axis])
        taken = min(count, max(1, room))
        steps[axis] *= taken
        room //= taken
    starts = [range(0, size, step) for size, step in zip(array.shape, steps, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(slice(at, min(at + step, size)) for at, step, size in zip(corner, steps, array.shape, strict=True))
