"""Trying operations out in memory, for `ProcessorConformance`: inputs of every kind, and what comes of them.

The names of inputs say what was changed about them, since they stand in reports.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.blocks.compute import Blocks, Compute, cut, grid_of, regions
from emstore.geometry import Axis, Grid
from emstore.header import Header
from emstore.operation import Block, Operation
from emstore.table import Table
from emstore.volume import MemoryArray, Region, Volume

Volumes = tuple[Volume, ...]
Outcome = npt.NDArray[Any] | Table

NAMES: Final = "tczyx"


def volumes_of(entry: Any) -> Volumes:
    """Return the inputs that an entry of `ProcessorConformance.volumes` stands for: arrays or volumes, one per role."""
    parts = entry if isinstance(entry, tuple) else (entry,)
    return tuple(part if isinstance(part, Volume) else over(np.asarray(part)) for part in parts)


def over(values: npt.NDArray[Any]) -> Volume:
    """Return a volume over an array of up to five axes ``t, c, z, y, x``, of unknown spacing."""
    axes = tuple(Axis(name, size) for name, size in zip(NAMES[5 - values.ndim :], values.shape, strict=True))
    return Volume("made", MemoryArray(values), Grid(axes), Header("memory"))


def values_of(volume: Volume) -> npt.NDArray[Any]:
    """Return all values of a volume."""
    return volume.data[whole(volume.shape)]


def whole(shape: Sequence[int]) -> Region:
    """Return the region that is an array's all."""
    return tuple(slice(0, n) for n in shape)


def with_values(volume: Volume, values: npt.NDArray[Any]) -> Volume:
    """Return a volume with other values; axes of another length than before lose what is said of every sample."""
    axes = tuple(
        axis if axis.size == n else replace(axis, size=n, positions=None, labels=None)
        for axis, n in zip(volume.grid.axes, values.shape, strict=True)
    )
    return replace(volume, data=MemoryArray(values), grid=replace(volume.grid, axes=axes))


@dataclass(frozen=True)
class Untouchable:
    """An array that must not be read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    block: tuple[int, ...]

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Refuse."""
        raise AssertionError("the values were read")


def unread(volumes: Volumes) -> Volumes:
    """Return the volumes with arrays that must not be read."""
    return tuple(replace(v, data=Untouchable(v.shape, v.dtype, v.data.block)) for v in volumes)


@dataclass(frozen=True)
class Copies(MemoryArray):
    """An array that gives copies, as a store does."""

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Return a copy of a region."""
        return self.values[region].copy()


def copying(volumes: Volumes) -> Volumes:
    """Return the volumes with arrays that give copies."""
    return tuple(replace(v, data=Copies(values_of(v))) for v in volumes)


def repeated(volumes: Volumes, voxels: int) -> Volumes:
    """Return the volumes repeated along their axes until the first has about so many voxels; equal shapes stay equal."""
    times = [1] * len(volumes[0].shape)
    while np.prod(volumes[0].shape) * np.prod(times) < voxels:
        shape = [n * t for n, t in zip(volumes[0].shape, times, strict=True)]
        times[shape.index(min(shape))] += 1
    return tuple(with_values(v, np.tile(values_of(v), times)) if len(v.shape) == len(times) else v for v in volumes)


def odd(volumes: Volumes) -> Iterator[tuple[str, Volumes]]:
    """Yield the inputs in the types and shapes that are easily forgotten."""
    first = volumes[0].dtype
    if first.itemsize > 1:
        yield "big-endian", tuple(with_values(v, values_of(v).astype(v.dtype.newbyteorder(">"))) for v in volumes)
        yield "little-endian", tuple(with_values(v, values_of(v).astype(v.dtype.newbyteorder("<"))) for v in volumes)
    for kind in ("float16", "bool", "uint8", "int64", "float64"):
        if first != np.dtype(kind):
            yield (
                kind,
                tuple(with_values(v, _as(values_of(v), np.dtype(kind))) if v.dtype == first else v for v in volumes),
            )
    for axis, name in enumerate(volumes[0].grid.dims):
        thin = []
        for v in volumes:
            if name not in v.grid.dims:
                break
            at = v.grid.dims.index(name)
            thin.append(with_values(v, values_of(v)[(slice(None),) * at + (slice(0, 1),)]))
        if len(thin) == len(volumes) and volumes[0].shape[axis] > 1:
            yield f"one voxel thin along {name}", tuple(thin)


def extreme(volumes: Volumes) -> Iterator[tuple[str, Volumes]]:
    """Yield inputs of extreme values, none of them NaN."""
    for name, value in (("zeros", 0), ("ones", 1), ("the largest values", None)):
        yield (
            name,
            tuple(with_values(v, np.full(v.shape, _largest(v.dtype) if value is None else value, v.dtype)) for v in volumes),
        )


def without_nan(volumes: Volumes) -> bool:
    """Say whether no input has a NaN."""
    return not any(v.dtype.kind in "fc" and np.isnan(values_of(v)).any() for v in volumes)


def _as(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind == "b":
        return np.asarray(values, dtype=bool)
    real = values.real if values.dtype.kind == "c" else values
    if dtype.kind in "iu" and real.dtype.kind == "f":
        real = np.nan_to_num(real, posinf=0, neginf=0)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        real = np.clip(real.astype(np.float64), limits.min, min(limits.max, 1 << 53))
    with np.errstate(all="ignore"):
        changed: npt.NDArray[Any] = real.astype(dtype)
    return changed


def _largest(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return True
    # Not quite the largest number: sums of a few stay finite.
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else dtype.type(np.finfo(dtype).max / 1024)


def reduced(operation: Operation, volumes: Volumes, size: tuple[int, ...]) -> Any:
    """Return what an operation's reduction finds over blocks of a size, ``None`` where it has none."""
    if operation.reduction is None:
        return None
    compute = Compute(operation, "it", tuple(v.data for v in volumes))
    state = operation.reduction.start()
    for block in blocks(operation, volumes, size):
        state = operation.reduction.add(state, block, compute.map(block))
    return operation.reduction.finish(state)


def blocks(operation: Operation, volumes: Volumes, size: tuple[int, ...]) -> Iterator[Block]:
    """Yield the blocks of a size, in array order; axes needed whole are never cut."""
    grid = grid_of(operation, volumes)
    full = tuple(
        n if name in operation.whole else max(1, min(b, n)) for b, n, name in zip(size, grid.shape, grid.dims, strict=True)
    )
    yield from Blocks(operation, tuple(v.shape for v in volumes), cut(grid.shape, full))


def poisoned(operation: Operation, volumes: Volumes, block: Block) -> Volumes:
    """Return the volumes with everything changed that a block says it does not need."""
    kept = [np.zeros(v.shape, bool) for v in volumes]
    for mask, region in zip(operation.per_read(kept), block.inputs, strict=True):
        mask[region] = True
    changed = []
    for volume, mask in zip(volumes, kept, strict=True):
        values = values_of(volume)
        other = ~values if values.dtype.kind == "b" else (values.max() - values if values.size else values)
        changed.append(with_values(volume, np.where(mask, values, other).astype(values.dtype)))
    return tuple(changed)


def everything(operation: Operation, volumes: Volumes) -> Block:
    """Return the block that is the whole result."""
    output = whole(grid_of(operation, volumes).shape)
    return Block(0, output, regions(operation, tuple(v.shape for v in volumes), output))


def differ(one: Outcome, two: Outcome, tolerance: float) -> str | None:
    """Say how two outcomes differ by more than a tolerance in parts of their range; ``None`` when they do not."""
    if isinstance(one, Table) or isinstance(two, Table):
        return _tables_differ(one, two, tolerance)
    if one.shape != two.shape or one.dtype != two.dtype:
        return f"one is {one.dtype} {one.shape}, the other {two.dtype} {two.shape}"
    if not tolerance:
        wrong = (_bytes(one) != _bytes(two)).any(axis=-1)
        return _where(one, two, wrong) if wrong.any() else None
    exact = one.astype(np.complex128 if one.dtype.kind == "c" else np.float64)
    other = two.astype(exact.dtype)
    finite = np.isfinite(exact) & np.isfinite(other)
    span = float(np.ptp(np.abs(exact[finite]))) if finite.any() else 0.0
    wrong = ~((exact == other) | (np.isnan(exact) & np.isnan(other)))
    wrong[finite] &= np.abs(exact - other)[finite] > tolerance * span
    return _where(one, two, wrong) if wrong.any() else None


def _bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(values.tobytes(), np.uint8).reshape(*values.shape, values.dtype.itemsize)


def _where(one: npt.NDArray[Any], two: npt.NDArray[Any], wrong: npt.NDArray[np.bool_]) -> str:
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{int(wrong.sum())} of {one.size} values differ, e.g. {one[at]} and {two[at]} at {at}"


def _tables_differ(one: Outcome, two: Outcome, tolerance: float) -> str | None:
    if not isinstance(one, Table) or not isinstance(two, Table):
        return "one is a table, the other is not"
    if list(one.columns) != list(two.columns) or one.rows != two.rows:
        return f"one has {one.rows} rows of {list(one.columns)}, the other {two.rows} of {list(two.columns)}"
    for name, column in one.columns.items():
        mine, theirs = column.values, two.columns[name].values
        same = (
            np.allclose(mine, theirs, rtol=tolerance, atol=0, equal_nan=True)
            if mine.dtype.kind == "f"
            else np.array_equal(mine, theirs)
        )
        if not same:
            return f"column {name} differs"
    return _figures_differ(one.summary, two.summary, tolerance)


def _figures_differ(one: Mapping[str, Any], two: Mapping[str, Any], tolerance: float) -> str | None:
    if list(one) != list(two):
        return f"one tells {list(one)}, the other {list(two)}"
    for name, value in one.items():
        other = two[name]
        numbers = isinstance(value, float) and isinstance(other, float)
        if value != other and not (numbers and np.isclose(value, other, rtol=tolerance, atol=0, equal_nan=True)):
            return f"figure {name} is {value} or {other}"
    return None
