"""Writing all of a version but its seal: shards, coordinates and every document below the root."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emstore.store import metadata
from emstore.store.metadata import Windows, virtual_key
from emstore.store.plan import VersionPlan, plan_version
from emstore.store.region import stored_level
from emstore.store.sink import Sink
from emstore.store.stream import StreamWriter
from emstore.store.virtual import VirtualSum
from emstore.store.window import windows
from emstore.volume import Volume

__all__ = ["VersionPlan", "WriteResult", "plan_version", "root_document", "write_version_data"]


@dataclass(frozen=True)
class WriteResult:
    """What the seal needs to know of the data."""

    empty: tuple[str, ...]
    """Keys of shards that hold nothing but the fill value and so do not exist, sorted."""
    windows: Windows
    """Display windows for the ``ome`` block."""


def write_version_data(
    volume: Volume,
    plan: VersionPlan,
    sink: Sink,
    *,
    advance: Callable[[int], None] = lambda done: None,
    cancelled: Callable[[], bool] = lambda: False,
    levels: Callable[[], Collection[str]] | None = None,
) -> WriteResult:
    """Write every object of a version below its root document.

    Parameters
    ----------
    volume : Volume
        What to write; read once, in array order.
    plan : VersionPlan
        How, from `emstore.store.plan.plan_version` for this volume.
    sink : Sink
        Where to. What it already has is not written again.
    advance : callable
        Called with the number of level-0 bytes done (or found done) since the last call.
    cancelled : callable
        Asked between tiles; true stops the work.
    levels : callable, optional
        Writes the shards of every level in another way than by streaming `volume`, and returns the keys of those that hold
        nothing.

    Returns
    -------
    WriteResult
        For `root_document` and the manifest.

    Raises
    ------
    Interrupted
        `cancelled` said so; the same call goes on from there.
    InvalidInput
        An axis name that cannot be stored.
    SourceUnreadable, StorageFailed
        From the source and the sink.
    """
    metadata.check_axes(volume.grid)
    total = None
    virtual_shard = None
    if plan.virtual is not None:
        virtual_shard = virtual_key(plan)
        if not sink.have(virtual_shard):
            total = VirtualSum(plan.virtual, plan.levels[0].chunks)
    if levels is None:
        writer = StreamWriter(volume.data, plan, sink, advance, cancelled, total)
        writer.run()
        empty = list(writer.empty)
    else:
        empty = list(levels())
        if total is not None:
            _add_all(total, plan, sink, empty)
    if total is not None and virtual_shard is not None:
        empty += _write_virtual(plan, total, virtual_shard, sink)
    found = windows(volume, plan, sink, set(empty))
    objects = metadata.coordinates(plan)
    objects |= {f"{path}/zarr.json": metadata.encode(doc) for path, doc in metadata.children(plan, found).items()}
    for key, data in objects.items():
        if not sink.have(key):
            sink.put(key, data)
    return WriteResult(tuple(sorted(empty)), found)


def root_document(volume: Volume, plan: VersionPlan, result: WriteResult, emstore: Mapping[str, Any]) -> dict[str, Any]:
    """Return the root document of a version: OME block, the given ``emstore`` attribute, all other documents inline.

    ``emstore.voxel`` is the level-0 grid (`Grid.to_json`) unless the caller gives one.
    """
    return metadata.root(volume, plan, result.windows, emstore)


def _add_all(total: VirtualSum, plan: VersionPlan, sink: Sink, empty: Collection[str]) -> None:
    """Add up the virtual image of what is stored already."""
    level = plan.levels[0]
    stored = stored_level(sink, level, plan, empty)
    for index in np.ndindex(*level.chunks):
        extent = level.extent(index)
        total.add(index, extent, stored[extent])


def _write_virtual(plan: VersionPlan, total: VirtualSum, key: str, sink: Sink) -> list[str]:
    """Send the virtual image; return its key when it holds nothing."""
    codec = metadata.virtual_codec(plan)
    parts = []
    for position in np.ndindex(*codec.grid):
        start = [p * c for p, c in zip(position, codec.chunks.shape, strict=True)]
        values = total.image[tuple(slice(a, a + c) for a, c in zip(start, codec.chunks.shape, strict=True))]
        chunk = np.zeros(codec.chunks.shape, values.dtype)
        chunk[tuple(slice(n) for n in values.shape)] = values
        parts.append(None if codec.chunks.is_fill(chunk) else codec.chunks.encode(chunk))
    data = codec.join(parts)
    if data is None:
        return [key]
    sink.put(key, data)
    return []
