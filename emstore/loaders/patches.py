"""The plan of a dataset: which patches of which versions, in which cells. Numbers only, so that it travels to other processes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Final

import numpy as np

from emstore.errors import Capacity, InvalidInput, Kind
from emstore.loaders.inputs import Cut, Form, Item, form_of, open_items, per_axis, per_role
from emstore.loaders.order import Order, run_of
from emstore.loaders.tiling import Edge, Numbers, Shape, Tiling
from emstore.provenance.record import Input
from emstore.store import Version, canonical, digest

MEMORY: Final = 256 << 20
"""Default bound on decoded chunks in memory, bytes per reading process."""
MIX: Final = 8
"""Default number of cells that are shuffled together."""
_BYTES_PER_PATCH: Final = 32
"""What the shuffled order of one window takes for every patch of it."""


@dataclass(frozen=True, eq=False)
class Patches:
    """All patches of some versions, numbered item by item in array order."""

    items: tuple[tuple[Cut, ...], ...]
    """Inputs of every item; the first has all axes."""
    forms: Mapping[str, Form]
    """How the patches of every input are given, by role."""
    plain: bool
    """A sample is one array, not one per role."""
    patch: Shape
    """Size of a patch along the axes of the first input."""
    tilings: tuple[Tiling, ...]
    """The patches of every item."""
    order: Order
    settings: Mapping[str, Any]
    """All that decides which patches come in which order, JSON-safe."""
    memory: int
    versions: Mapping[str, Version] = field(repr=False, compare=False)
    """Those that are open, by ref; another process opens its own."""

    @classmethod
    def of(
        cls,
        refs: Item | Sequence[Item],
        *,
        patch: Sequence[int] | Mapping[str, int],
        stride: Sequence[int] | Mapping[str, int] | None = None,
        level: int = 0,
        axes: Sequence[str | None] | None = None,
        edge: Edge = "shift",
        dtype: str | Mapping[str, str] | None = None,
        normalise: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None,
        seed: int | None = None,
        mix: int = MIX,
        memory: int = MEMORY,
    ) -> "Patches":
        """Plan; opens the versions and reads no values. The settings are those of `emstore.torch_dataset`.

        Raises
        ------
        InvalidInput
            The settings and the versions do not fit each other.
        NotFound
            No such version.
        Capacity
            One window of patches would take more than `memory`.
        """
        items, versions, plain = open_items(refs, level)
        _check_numbers(seed=seed, mix=mix, memory=memory)
        if edge not in ("shift", "drop"):
            raise InvalidInput(f"edge={edge!r} makes no sense", fix="use 'shift' or 'drop'")
        sizes = _same("patches", items, [_patch_of(item[0], patch) for item in items])
        main = items[0][0]
        steps = sizes if stride is None else per_axis(stride, main, "stride", dict(zip(main.dims, sizes, strict=True)))
        forms = _forms(items, sizes, axes, dtype, normalise)
        # A window of `mix` cells must fit; where everything fits, so does any window.
        everything = _all_bytes(items, sizes, steps)
        budget = memory if everything <= memory else memory // mix
        cells = [_cell(item, sizes, steps, edge, budget) for item in items]
        tilings = tuple(Tiling.of(item[0].shape, sizes, steps, edge, cell) for item, cell in zip(items, cells, strict=True))
        needed = min(everything, mix * max(_cell_bytes(item, sizes, tiling) for item, tiling in zip(items, tilings, strict=True)))
        if needed > memory:
            raise Capacity(
                f"patches of {mix} places take {needed / 1e6:.1f} MB, more than the {memory / 1e6:.1f} MB allowed",
                fix=f"use memory={needed} or more, or a smaller mix, or smaller patches",
                kind=Kind.MEMORY_BUDGET,
            )
        settings = {
            "versions": [[[cut.role, cut.id, cut.level] for cut in item] for item in items],
            "patch": sizes,
            "stride": steps,
            "edge": edge,
            "cells": cells,
            "seed": seed,
            "mix": mix,
        }
        order = Order(np.concatenate([tiling.patches_per_cell() for tiling in tilings]), seed, mix)
        return cls(tuple(items), forms, plain, sizes, tilings, order, settings, memory, versions)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "versions": {}}  # open stores do not travel

    def __len__(self) -> int:
        return sum(map(len, self.tilings))

    @property
    def cited(self) -> tuple[Input, ...]:
        """The versions, each once per role, as a Record cites its inputs."""
        return tuple(dict.fromkeys(cut.cited for item in self.items for cut in item))

    @property
    def identity(self) -> str:
        """Digest of the settings: equal ones serve equal patches in equal order."""
        return digest(canonical(self.settings))

    @cached_property
    def _before(self) -> Numbers:
        """Number of the first patch of every item, and of one more."""
        return np.cumsum([0, *map(len, self.tilings)], dtype=np.int64)

    def located(self, numbers: Numbers) -> Iterator[tuple[tuple[Cut, ...], tuple[Numbers, ...]]]:
        """Yield, for every item that some patches are of, its inputs and the patches' first voxels on the axes of the first."""
        of = np.searchsorted(self._before, numbers, side="right") - 1
        for item in np.unique(of):
            yield self.items[item], self.tilings[item].begin(numbers[of == item] - self._before[item])

    def locate(self, number: int) -> tuple[tuple[Cut, ...], Shape]:
        """Return the inputs a patch is cut from, and its first voxel on the axes of the first one."""
        item = int(np.searchsorted(self._before, number, side="right")) - 1
        start = self.tilings[item].begin(np.asarray([number - self._before[item]]))
        return self.items[item], tuple(int(along[0]) for along in start)

    def region(self, cut: Cut, of: Cut, start: Shape) -> tuple[slice, ...]:
        """Return the region of an input that a patch covers, from its first voxel on the axes of the item's first input `of`."""
        along = {name: slice(a, a + n) for name, a, n in zip(of.dims, start, self.patch, strict=True)}
        return tuple(along[name] for name in cut.dims)

    def run(self, rank: int = 0, ranks: int = 1, worker: int = 0, workers: int = 1) -> range:
        """Return the places in an epoch's row of patches that one worker of one rank serves.

        Raises
        ------
        InvalidInput
            There is no such rank.
        """
        if not 0 <= rank < ranks:
            raise InvalidInput(f"there is no rank {rank} of {ranks}", fix=f"ranks count from 0 to {ranks - 1}")
        of_rank = run_of(len(self), rank, ranks)
        of_worker = run_of(len(of_rank), worker, workers)
        return range(of_rank.start + of_worker.start, of_rank.start + of_worker.stop)

    def epoch(self, epoch: int, run: range) -> Iterator[Numbers]:
        """Yield the numbers of the patches of a run of an epoch, window by window, in the order they are served."""
        offsets = np.cumsum([0, *(tiling.cells for tiling in self.tilings)])
        for spans, shuffled in self.order.windows(epoch, run):
            parts = []
            for cell, some in spans:
                item = int(np.searchsorted(offsets, cell, side="right")) - 1
                parts.append(self._before[item] + self.tilings[item].in_cell(cell - int(offsets[item]), some))
            numbers = np.concatenate(parts)
            yield numbers if shuffled is None else numbers[shuffled]


def _check_numbers(*, seed: int | None, mix: int, memory: int) -> None:
    for name, value, least in (("seed", seed, 0), ("mix", mix, 1), ("memory", memory, 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise InvalidInput(f"{name}={value!r} makes no sense; it must be a whole number, {least} or more")


def _patch_of(main: Cut, patch: Sequence[int] | Mapping[str, int]) -> Shape:
    """Return the patch on an item's axes; axes that are not named come whole."""
    sizes = per_axis(patch, main, "patch", dict(zip(main.dims, main.shape, strict=True)))
    for name, size, most in zip(main.dims, sizes, main.shape, strict=True):
        if size > most:
            raise InvalidInput(
                f"a patch of {size} along {name} is larger than the array, which has {most}",
                where=main.ref,
                fix="use a smaller patch",
            )
    return sizes


def _forms(
    items: list[tuple[Cut, ...]],
    sizes: Shape,
    axes: Sequence[str | None] | None,
    dtype: str | Mapping[str, str] | None,
    normalise: tuple[float, float] | Mapping[str, tuple[float, float]] | None,
) -> dict[str, Form]:
    roles = [cut.role for cut in items[0]]
    dtypes, numbers = per_role(dtype, roles, "dtype"), per_role(normalise, roles, "normalise")
    if axes is not None and (unknown := [name for name in axes if name is not None and name not in items[0][0].dims]):
        raise InvalidInput(f"axes names {unknown[0]}; the axes are {', '.join(items[0][0].dims)}", where=items[0][0].ref)
    forms = {}
    for at, role in enumerate(roles):
        patch = dict(zip(items[0][0].dims, sizes, strict=True))
        each = [form_of(item[at], patch, axes, dtypes.get(role), numbers.get(role)) for item in items]
        forms[role] = _same(f"samples of {role}", items, each)
    return forms


def _same(what: str, items: list[tuple[Cut, ...]], found: list[Any]) -> Any:
    """Return what is the same for all items.

    Raises
    ------
    InvalidInput
        It is not, or their axes differ.
    """
    for item, one in zip(items, found, strict=True):
        if one != found[0] or [cut.dims for cut in item] != [cut.dims for cut in items[0]]:
            raise InvalidInput(
                f"its {what} differ from those of {items[0][0].place} in axes, size or type",
                where=item[0].ref,
                fix="give every axis a size in `patch`, name a `dtype`, or use datasets of their own",
            )
    return found[0]


def _cell(item: tuple[Cut, ...], patch: Shape, stride: Shape, edge: Edge, budget: int) -> Shape:
    """Return the largest cell within the budget: a shard of the first input, halved until it fits, one chunk at least."""
    main = item[0]
    chunk = [min(c, n) for c, n in zip(main.chunk, main.shape, strict=True)]
    count = [-(-min(s, n) // c) for s, n, c in zip(main.shard, main.shape, chunk, strict=True)]
    while max(count) > 1:
        cell = tuple(n * c for n, c in zip(count, chunk, strict=True))
        if _cell_bytes(item, patch, Tiling.of(main.shape, patch, stride, edge, cell)) <= budget:
            return cell
        longest = max(range(len(count)), key=lambda axis: count[axis])
        count[longest] = -(-count[longest] // 2)
    return tuple(chunk)


def _all_bytes(items: list[tuple[Cut, ...]], patch: Shape, stride: Shape) -> int:
    """Return the memory that all inputs take, and the order of all patches."""
    inputs = {cut.ref: prod(cut.shape) * cut.dtype.itemsize for item in items for cut in item}
    patches = sum(prod((n - p) // s + 2 for n, p, s in zip(item[0].shape, patch, stride, strict=True)) for item in items)
    return sum(inputs.values()) + _BYTES_PER_PATCH * patches


def _cell_bytes(item: tuple[Cut, ...], patch: Shape, tiling: Tiling) -> int:
    """Return the most memory that the patches of one cell can take, chunks of all inputs and their order."""
    dims = item[0].dims
    total = _BYTES_PER_PATCH * prod(int(counts.max()) for counts in tiling.counts)
    for cut in item:
        chunks = prod(
            tiling.most_chunks(dims.index(name), patch[dims.index(name)], chunk)
            for name, chunk in zip(cut.dims, cut.chunk, strict=True)
        )
        total += chunks * prod(map(min, cut.chunk, cut.shape)) * cut.dtype.itemsize
    return total
