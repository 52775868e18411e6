"""What differs between two versions: objects by their digests first, then values, then what the seals say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.store import Version
from emstore.store.layout import TXN
from emstore.table import Column
from emstore.volume import LazyArray, Region

SLAB_BYTES = 64 << 20
"""About how much of each version is compared at a time, bytes."""


@dataclass(frozen=True)
class Difference:
    """Something that is not the same."""

    what: str
    """A scale level (``s0``), a table's column, an array of a model, another object's key, or what the seal says."""
    detail: str
    """How it differs, in words."""
    objects: tuple[str, ...] = ()
    """Keys of the objects that differ, are missing, or are there in addition."""
    values: int | None = None
    """Values that differ; 0 when only the way they are stored does, ``None`` when they cannot be compared one by one."""
    largest: float | None = None
    """Largest absolute difference of two finite values; ``None`` where there is none."""


def compare(one: Version, other: Version) -> tuple[Difference, ...]:
    """Return all that is not the same in two versions, but for their names, times and Records.

    Parameters
    ----------
    one, other : Version
        Images, labels, tables or models.

    Returns
    -------
    tuple of Difference
        Empty when every object has the same bytes and the seals say the same.
    """
    keys = _changed(one, other)
    found: list[Difference] = []
    if (one.is_table, one.is_model) != (other.is_table, other.is_model):
        return (Difference("kind", f"{one.info.volume.kind} and {other.info.volume.kind}", keys),)
    if one.is_table:
        found += _columns(one, other, keys)
    elif one.is_model:
        found += _arrays(one, other, keys)
    else:
        for level in range(max(one.levels, other.levels)):
            own = tuple(key for key in keys if key.startswith(f"s{level}/image/"))
            if own:
                found.append(_level(one, other, level, own))
    told = {key for difference in found for key in difference.objects}
    found += [Difference(key, _how(key, one, other), (key,)) for key in keys if key not in told]
    found += _seals(one, other)
    return tuple(found)


def _changed(one: Version, other: Version) -> tuple[str, ...]:
    """Return the keys of the objects that are not the same, those known to be empty included."""
    theirs = _objects(other)
    ours = _objects(one)
    return tuple(sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)))


def _objects(version: Version) -> dict[str, str]:
    manifest = version.manifest
    return {**{e.key: e.digest for e in manifest.objects if e.key != TXN}, **dict.fromkeys(manifest.empty, "empty")}


def _how(key: str, one: Version, other: Version) -> str:
    if key not in _objects(other):
        return "it did not come out"
    return "it has other bytes" if key in _objects(one) else "it came out in addition"


def _level(one: Version, other: Version, level: int, keys: tuple[str, ...]) -> Difference:
    what = f"s{level}"
    if level >= min(one.levels, other.levels):
        return Difference(what, f"there were {one.levels} scale levels, now {other.levels}", keys)
    a, b = one.array(level), other.array(level)
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return Difference(what, f"it was {a.dtype} {a.shape}, now {b.dtype} {b.shape}", keys)
    shards = [tuple(map(int, key.split("/")[3:])) for key in keys if key.startswith(f"{what}/image/c/")]
    everything = [tuple(slice(0, n) for n in a.shape)]
    same_cut = a.shard == b.shard
    parts = [_region(index, a.shard, a.shape) for index in shards] if same_cut else everything
    count, largest = _apart(a, b, parts)
    where = f"{len(shards)} shard{'s' * (len(shards) != 1)}" if same_cut else "cut into other shards"
    return Difference(what, f"{where}; {_words(count, largest, 'voxel')}", keys, count, largest)


def _columns(one: Version, other: Version, keys: tuple[str, ...]) -> Iterator[Difference]:
    ours, theirs = one.table().columns, other.table().columns
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        own = tuple(key for key in keys if key.startswith(f"s0/{name}/"))
        if not own:
            continue
        what = f"column {name}"
        if name not in ours or name not in theirs:
            yield Difference(what, "it did not come out" if name in ours else "it came out in addition", own)
            continue
        a, b = ours[name], theirs[name]
        if len(a.values) != len(b.values) or a.values.dtype.kind != b.values.dtype.kind:
            yield Difference(what, f"it had {_size(a)}, now {_size(b)}", own)
            continue
        count, largest = different(a.values, b.values)
        yield Difference(what, _words(count, largest, "row"), own, count, largest)


def _arrays(one: Version, other: Version, keys: tuple[str, ...]) -> Iterator[Difference]:
    ours, theirs = one.weights().arrays, other.weights().arrays
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        own = tuple(key for key in keys if key.startswith((f"s0/{name}/c", f"s0/{name}/zarr.json")))
        if not own:
            continue
        what = f"array {name}"
        if name not in ours or name not in theirs:
            yield Difference(what, "it did not come out" if name in ours else "it came out in addition", own)
            continue
        a, b = ours[name], theirs[name]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            yield Difference(what, f"it was {a.dtype} {a.shape}, now {b.dtype} {b.shape}", own)
            continue
        count, largest = different(a, b)
        yield Difference(what, _words(count, largest, "parameter"), own, count, largest)


def _size(column: Column) -> str:
    return f"{len(column.values)} rows of {column.values.dtype}"


def _seals(one: Version, other: Version) -> Iterator[Difference]:
    """Compare what the seals say of the data: its meaning, its place in space, its header."""
    a, b = one.info.volume.model_dump(mode="json"), other.info.volume.model_dump(mode="json")
    for name in a:
        if a[name] != b[name]:
            yield Difference(name, f"it was {_short(a[name])}, now {_short(b[name])}")
    if one.info.voxel != other.info.voxel:
        yield Difference("voxel", "the voxels lie elsewhere")
    if one.info.header.terms != other.info.header.terms:
        yield Difference("terms", f"it was {_short(dict(one.info.header.terms))}, now {_short(dict(other.info.header.terms))}")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _region(index: Sequence[int], shard: Sequence[int], shape: Sequence[int]) -> Region:
    return tuple(slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(index, shard, shape, strict=True))


def _apart(a: LazyArray, b: LazyArray, parts: Sequence[Region]) -> tuple[int, float | None]:
    """Return how many values differ in some regions, and by how much at most."""
    count, largest = 0, None
    for part in parts:
        row = prod(s.stop - s.start for s in part[1:]) * a.dtype.itemsize
        step = max(1, SLAB_BYTES // max(1, row))
        for start in range(part[0].start, part[0].stop, step):
            slab = (slice(start, min(start + step, part[0].stop)), *part[1:])
            n, apart = different(a[slab], b[slab])
            count += n
            largest = apart if largest is None or (apart is not None and apart > largest) else largest
    return count, largest


def different(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[int, float | None]:
    """Return how many values of two arrays of one shape differ, and the largest absolute difference of finite ones.

    Two NaN are the same; zeros of unlike sign are not.
    """
    if a.dtype.kind in "fc":
        floats = a.real.dtype if a.dtype.kind == "c" else a.dtype
        bits = np.dtype(f"u{floats.itemsize}") if floats.itemsize <= 8 else None
        pairs = [(np.ascontiguousarray(x), np.ascontiguousarray(y)) for x, y in _parts(a, b)]
        apart = np.zeros(a.shape, bool)
        for x, y in pairs:
            unequal = x != y if bits is None else x.view(bits) != y.view(bits)
            apart |= unequal & ~(np.isnan(x) & np.isnan(y))
        with np.errstate(all="ignore"):
            distance = np.abs(a[apart].astype(np.complex128) - b[apart].astype(np.complex128))
        finite = distance[np.isfinite(distance)]
        return int(apart.sum()), float(finite.max()) if finite.size else None
    unequal = a != b
    if a.dtype.kind not in "iu" or not unequal.any():
        return int(unequal.sum()), None
    # The difference of the larger and the smaller one always fits the unsigned type of the same size.
    span = (np.maximum(a, b) - np.minimum(a, b)).view(np.dtype(f"u{a.dtype.itemsize}"))
    return int(unequal.sum()), float(span.max())


def _parts(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    return [(a.real, b.real), (a.imag, b.imag)] if a.dtype.kind == "c" else [(a, b)]


def _words(count: int, largest: float | None, what: str) -> str:
    if not count:
        return "the values are equal, they are stored in other bytes"
    by = f", by {largest:.6g} at most" if largest is not None and isfinite(largest) else ""
    return f"{count} {what}{'s' * (count != 1)} differ{'s' * (count == 1)}{by}"
