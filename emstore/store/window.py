"""How bright to show an image: read back from what was stored, so that a resumed write gives the same answer.

The window runs from the 1st to the 99.8th percentile of the coarsest level; its limits are those of the type, or of that
level for floats. Large coarsest levels are sampled at fixed places. A window the instrument states wins; colour images are
shown as they are.
"""

from collections.abc import Collection, Iterator
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.geometry import AxisKind
from emstore.store import ome
from emstore.store.metadata import Windows, virtual_codec, virtual_key
from emstore.store.ome import Window
from emstore.store.plan import VersionPlan
from emstore.store.shards import ShardCodec
from emstore.store.sink import Sink
from emstore.volume import Volume, VolumeKind

LOW, HIGH = 1.0, 99.8
_SHARDS: Final = 4
_CHUNKS: Final = 16
_VALUES: Final = 1 << 20
"""Most shards of a channel, chunks of a shard, and values of a channel that are looked at."""

Values = npt.NDArray[Any]


def windows(volume: Volume, plan: VersionPlan, sink: Sink, empty: Collection[str]) -> Windows:
    """Return the display windows of the images just written.

    Parameters
    ----------
    volume : Volume
        What was written.
    plan : VersionPlan
        How.
    sink : Sink
        Where to; the coarsest level is read back.
    empty : collection of str
        Keys of shards that hold only zeros and so do not exist.
    """
    image: list[Window] = []
    if volume.kind is VolumeKind.IMAGE and ome.ome_axes(volume.grid) is not None:
        level = plan.levels[-1]
        axis = next((i for i, a in enumerate(volume.grid.axes) if a.kind is AxisKind.CHANNEL), None)
        for channel in range(ome.channel_count(volume.grid)):
            if ome.is_rgb(volume.grid) and plan.dtype == np.uint8:
                image.append(Window(0, 255, 0, 255))
                continue
            shards = [range(n) if i != axis else range(channel, channel + 1) for i, n in enumerate(level.shards)]
            keys = [(index, level.shard_key(index)) for index in _spread(list(product(*shards)), _SHARDS)]
            values = _sample(keys, level.codec, level.shape, sink, empty)
            image.append(window(values, plan.dtype, volume.window))
    virtual: tuple[Window, ...] = ()
    if plan.virtual is not None:
        zero = (0,) * len(plan.virtual.grid.axes)
        values = _sample([(zero, virtual_key(plan))], virtual_codec(plan), plan.virtual.grid.shape, sink, empty)
        virtual = (window(values, np.dtype(np.float64), None),)
    return Windows(tuple(image), virtual)


def window(values: Values, dtype: np.dtype[Any], stated: tuple[float, float] | None) -> Window:
    """Return the window for some values of an image of one type; `stated` is the instrument's own."""
    if np.iscomplexobj(values):
        values = np.abs(values)
    values = values[np.isfinite(values)]
    if values.size == 0:
        values = np.zeros(1, values.dtype)
    limits = ome.type_window(dtype)
    if limits is None:
        limits = float(values.min()), float(values.max())
    if stated is not None:
        start, end = stated
    elif dtype.kind == "b":
        start, end = 0, 1
    else:
        start, end = (float(v) for v in np.percentile(values, [LOW, HIGH], method="nearest"))
    if end <= start:
        end = start + 1
    low, high = limits
    if dtype.kind not in "iub":
        low, high = min(low, start), max(high, end)
    return Window(low, high, start, end)


def _sample(
    keys: list[tuple[tuple[int, ...], str]], codec: ShardCodec, shape: tuple[int, ...], sink: Sink, empty: Collection[str]
) -> Values:
    parts = [part for index, key in keys for part in _parts(index, key, codec, shape, sink, empty)]
    values = np.concatenate(parts)
    return values[:: -(-values.size // _VALUES)]


def _parts(
    index: tuple[int, ...], key: str, codec: ShardCodec, shape: tuple[int, ...], sink: Sink, empty: Collection[str]
) -> Iterator[Values]:
    """Yield the values of some chunks of a shard, without those beyond the array's end."""
    data = None if key in empty else sink.read(key)
    for position in _spread(list(np.ndindex(*codec.grid)), _CHUNKS):
        starts = [i * s + p * c for i, s, p, c in zip(index, codec.shape, position, codec.chunks.shape, strict=True)]
        inside = tuple(slice(min(c, n - a)) for a, c, n in zip(starts, codec.chunks.shape, shape, strict=True))
        if any(a >= n for a, n in zip(starts, shape, strict=True)):
            continue
        number = int(np.ravel_multi_index(position, codec.grid))
        chunk = None if data is None else codec.decode_one(data, number, key)
        yield np.zeros([s.stop for s in inside], codec.chunks.dtype).ravel() if chunk is None else chunk[inside].ravel()


def _spread(items: list[Any], most: int) -> list[Any]:
    """Return at most `most` items, evenly spread."""
    if len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]
