"""Chunk and shard shapes: pure functions of an array's axes and element size.

A chunk is what one small read fetches: 64^3 voxels in a volume, 512^2 in an image, about 256 KiB to 1 MiB. A shard is one
object: 4 chunks along each axis of a volume (256^3), 8 for very large ones (512^3), and as many voxels for other shapes.
Time axes and other series of images (crops, thicknesses) get short chunks, channel axes chunks of one. Data whose samples are
themselves arrays (a diffraction pattern or a spectrum at every scan point) keep a sample whole where it fits, and few scan
points per chunk.

Every chunk size is a power of two, or the whole axis: so a chunk of one pyramid level always falls inside one chunk of the
next.
"""

from collections.abc import Mapping
from math import log2, prod
from typing import Final

from emstore.geometry import AxisKind, Grid

CHUNK_VOXELS: Final = 64**3
CHUNK_BYTES: Final = 1 << 20
SMALL_CHUNK_BYTES: Final = 1 << 18
SHARD_VOXELS: Final = 256**3
LARGE_SHARD_VOXELS: Final = 512**3
SHARD_BYTES: Final = 128 << 20
LARGE_BYTES: Final = 1 << 38
"""Arrays of at least this size get the larger shards, so that the number of objects stays manageable."""

Shape = tuple[int, ...]


def chunk_shape(grid: Grid, itemsize: int, *, limits: Mapping[int, int] | None = None) -> Shape:
    """Return the chunk shape of an array.

    Parameters
    ----------
    grid : Grid
        The array's axes.
    itemsize : int
        Size of one value, bytes.
    limits : mapping of int to int, optional
        Largest chunk size along some axes (powers of two): how a plan makes slabs shallower to save memory.

    Returns
    -------
    tuple of int
        At most `CHUNK_BYTES`; along each axis a power of two or the whole axis.
    """
    limits = limits or {}
    sizes = [min(n, limits.get(i, n)) for i, n in enumerate(grid.shape)]
    kinds = [axis.kind for axis in grid.axes]
    chunk = [1] * len(sizes)
    voxels = max(1, min(CHUNK_VOXELS, CHUNK_BYTES // itemsize))
    space = [i for i, kind in enumerate(kinds) if kind is AxisKind.SPACE]
    # What stands before the axes of space numbers whole images, as time does; what stands after them is a sample's own.
    time = [i for i, k in enumerate(kinds) if k is AxisKind.TIME or (k is AxisKind.OTHER and i < min(space, default=0))]
    sample = [i for i, k in enumerate(kinds) if k not in (AxisKind.SPACE, AxisKind.TIME, AxisKind.CHANNEL) and i not in time]
    if sample:
        _fill(chunk, sizes, grid.shape, sample, max(1, CHUNK_BYTES // itemsize))
        while prod(chunk) * itemsize > CHUNK_BYTES:
            _halve(chunk, sample)
        voxels = max(1, SMALL_CHUNK_BYTES // itemsize)
        scan = space + time
        for axis in sorted(scan, reverse=True):
            # Few scan points: at least two along the scan's last axes where samples are small, none more than 32.
            room = max(1, voxels // prod(chunk))
            chunk[axis] = _whole_or_power(min(room, 32, sizes[axis]), grid.shape[axis])
        return tuple(chunk)
    _fill(chunk, sizes, grid.shape, space or ([] if time else list(range(len(sizes)))), voxels)
    while prod(chunk) * itemsize > CHUNK_BYTES and space:
        _halve(chunk, space)
    for axis in time:
        room = max(1, SMALL_CHUNK_BYTES // (prod(chunk) * itemsize))
        chunk[axis] = _whole_or_power(min(room if space else voxels, sizes[axis]), grid.shape[axis])
    return tuple(chunk)


def shard_shape(shape: Shape, chunk: Shape, kinds: tuple[AxisKind, ...], itemsize: int, *, large: bool = False) -> Shape:
    """Return the shard shape of an array: chunks doubled evenly, axis by axis, to the size of an object.

    Channel axes are not grown: channels are read apart. No axis grows beyond the first size that covers it.
    """
    voxels = LARGE_SHARD_VOXELS if large else SHARD_VOXELS
    budget = min(voxels, SHARD_BYTES // itemsize)
    times = [1] * len(shape)

    def growable(axis: int) -> bool:
        return kinds[axis] is not AxisKind.CHANNEL and chunk[axis] * times[axis] < shape[axis]

    while 2 * prod(chunk) * prod(times) <= budget:
        axes = [axis for axis in range(len(shape)) if growable(axis)]
        if not axes:
            break
        times[min(axes, key=lambda axis: (times[axis], -axis))] *= 2
    return tuple(c * t for c, t in zip(chunk, times, strict=True))


def level_chunk(shape: Shape, chunk: Shape) -> Shape:
    """Return the chunk shape of a coarser level: level 0's, or the whole axis where that has become shorter."""
    return tuple(min(n, c) for n, c in zip(shape, chunk, strict=True))


def _fill(chunk: list[int], sizes: list[int], whole: Shape, axes: list[int], voxels: int) -> None:
    """Share `voxels` out over some axes as evenly as their sizes allow, short axes first."""
    left = sorted(axes, key=lambda axis: (sizes[axis], -axis))
    while left:
        axis = left.pop(0)
        share = (voxels / prod(chunk[a] for a in axes)) ** (1 / (len(left) + 1))
        chunk[axis] = _whole_or_power(min(sizes[axis], 1 << max(0, round(log2(max(1.0, share))))), whole[axis])


def _whole_or_power(size: int, whole: int) -> int:
    """Return the whole axis, or the largest power of two up to `size`."""
    return whole if size >= whole else 1 << (size.bit_length() - 1)


def _halve(chunk: list[int], axes: list[int]) -> None:
    """Make the longest chunk axis shorter: the next power of two below."""
    longest = max(axes, key=lambda axis: (chunk[axis], -axis))
    chunk[longest] = 1 << ((chunk[longest] - 1).bit_length() - 1)
