"""Versions as PyTorch datasets."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, overload

from emstore.errors import InvalidInput, Kind
from emstore.loaders.inputs import Item
from emstore.loaders.patches import MEMORY, MIX, Patches
from emstore.loaders.tiling import Edge

if TYPE_CHECKING:
    from emstore.loaders.torch_datasets import IterablePatches, MapPatches


@overload
def torch_dataset(
    refs: Item | Sequence[Item],
    *,
    patch: Sequence[int] | Mapping[str, int],
    stride: Sequence[int] | Mapping[str, int] | None = ...,
    level: int = ...,
    axes: Sequence[str | None] | None = ...,
    edge: Edge = ...,
    dtype: str | Mapping[str, str] | None = ...,
    normalise: tuple[float, float] | Mapping[str, tuple[float, float]] | None = ...,
    memory: int = ...,
    iterable: Literal[False] = ...,
) -> "MapPatches": ...
@overload
def torch_dataset(
    refs: Item | Sequence[Item],
    *,
    patch: Sequence[int] | Mapping[str, int],
    stride: Sequence[int] | Mapping[str, int] | None = ...,
    level: int = ...,
    axes: Sequence[str | None] | None = ...,
    edge: Edge = ...,
    dtype: str | Mapping[str, str] | None = ...,
    normalise: tuple[float, float] | Mapping[str, tuple[float, float]] | None = ...,
    memory: int = ...,
    iterable: Literal[True],
    seed: int | None = ...,
    mix: int | None = ...,
    rank: int = ...,
    ranks: int = ...,
) -> "IterablePatches": ...
def torch_dataset(
    refs: Item | Sequence[Item],
    *,
    patch: Sequence[int] | Mapping[str, int],
    stride: Sequence[int] | Mapping[str, int] | None = None,
    level: int = 0,
    axes: Sequence[str | None] | None = None,
    edge: Edge = "shift",
    dtype: str | Mapping[str, str] | None = None,
    normalise: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
    memory: int = MEMORY,
    iterable: bool = False,
    seed: int | None = None,
    mix: int | None = None,
    rank: int = 0,
    ranks: int = 1,
) -> "MapPatches | IterablePatches":
    """Return versions as a PyTorch dataset of patches.

    Use ``multiprocessing_context="spawn"`` (or ``"forkserver"``) in a DataLoader with workers: the storage library's threads do
    not survive a fork, and a forked dataset refuses to read.

    Parameters
    ----------
    refs : ref, mapping of role to ref, or sequence of either
        The versions: ``STORE/DATASET/ARRAY[/vN]`` or opened ones. Several inputs of one sample, on the same grid, go by roles,
        e.g. ``{"image": ..., "labels": ...}``; the first must have all axes. A sequence joins such items into one dataset.
    patch : sequence of int, or mapping of axis name to int
        Size of a patch in voxels of the level: one per axis in array order, or by name, where axes left out come whole.
    stride : sequence or mapping of int, optional
        Distance between patches, likewise; the patch's size where left out, so that patches do not overlap.
    level : int
        Scale level.
    axes : sequence of (axis name or None), optional
        Axes of a sample in order; ``None`` makes a new one of size 1, as for a channel. An axis along which patches have size 1
        may be left out. In array order when left out.
    edge : {"shift", "drop"}
        What becomes of the rest of an axis where no whole step fits: a patch that ends at the end, overlapping, or nothing.
    dtype : str, or mapping of role to str, optional
        Type to turn values into, e.g. ``float32``; the stored type when left out. Never rescales.
    normalise : (float, float), or mapping of role to that, optional
        (a, b): values become ``(stored - a) / b``, ``float32`` unless `dtype` says another. Without it they are as stored.
    memory : int
        Most bytes of decoded voxels in memory, in every process that reads.
    iterable : bool
        An iterable dataset, which shuffles by itself and reads every chunk few times, rather than one with random access.
    seed : int, optional
        Only iterable: shuffle by this seed and the epoch; in array order when left out. `emstore.loaders.order` states how random
        the order is.
    mix : int, optional
        Only iterable: number of places (cells, at most a shard each) whose patches are shuffled together, 8 when left out. More
        of them mix better and are smaller, so that chunks at their borders are read more often.
    rank, ranks : int
        Only iterable: which part to serve of how many, for training on several devices. Parts share no patch, lose none, and
        differ by at most one.

    Returns
    -------
    MapPatches or IterablePatches
        Gives tensors, or dicts of tensors by role where versions were given by role. ``versions`` says what to cite.

    Examples
    --------
    ::

        dataset = emstore.torch_dataset({"image": ..., "labels": ...}, patch=(32, 64, 64), iterable=True, seed=1)
        loader = DataLoader(dataset, batch_size=8, num_workers=4, multiprocessing_context="spawn", persistent_workers=True)
        for epoch in range(10):
            dataset.set_epoch(epoch)
            for batch in loader:
                train(batch["image"], batch["labels"])

    Raises
    ------
    InvalidInput
        The settings and the versions do not fit each other. Kind ``missing_extra``: PyTorch is not installed.
    NotFound
        No such version.
    Capacity
        The patches do not fit in `memory`.
    """
    if find_spec("torch") is None:
        raise InvalidInput("PyTorch is not installed", fix="pip install 'emstore[torch]'", kind=Kind.MISSING_EXTRA)
    from emstore.loaders.torch_datasets import IterablePatches, MapPatches

    if not iterable and (seed, mix, rank, ranks) != (None, None, 0, 1):
        raise InvalidInput(
            "seed, mix, rank and ranks are for iterable datasets; with random access a sampler decides the order",
            fix="use iterable=True, or a torch sampler",
        )
    patches = Patches.of(
        refs,
        patch=patch,
        stride=stride,
        level=level,
        axes=axes,
        edge=edge,
        dtype=dtype,
        normalise=normalise,
        seed=seed,
        mix=(MIX if mix is None else mix) if iterable else 1,
        memory=memory,
    )
    return IterablePatches(patches, rank, ranks) if iterable else MapPatches(patches)
