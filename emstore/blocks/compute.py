"""One block of a result: read what it is made from, call the operation's function, check what it gives."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import EmstoreError, ProcessingFailed
from emstore.geometry import Grid
from emstore.operation import Array, Block, Operation
from emstore.table import Table
from emstore.volume import LazyArray, Region, Volume

Shape = tuple[int, ...]
Cuts = tuple[tuple[int, ...], ...]
"""For every axis the borders between blocks, both ends of the array included."""

CPU: Final = "cpu"


def cut(shape: Shape, *sizes: Shape) -> Cuts:
    """Return the borders of parts of the first size, each cut into parts of the next one, and so on."""
    cuts = []
    for axis, n in enumerate(shape):
        borders = [0, n]
        for size in sizes:
            borders = [*(at for a, b in pairwise(borders) for at in range(a, b, size[axis])), n]
        cuts.append(tuple(borders))
    return tuple(cuts)


@dataclass(frozen=True)
class Blocks:
    """All blocks of an operation, numbered in array order."""

    operation: Operation
    shapes: tuple[Shape, ...]
    """Shape of every input."""
    cuts: Cuts

    @property
    def counts(self) -> Shape:
        """Number of blocks along every axis."""
        return tuple(len(borders) - 1 for borders in self.cuts)

    @property
    def shape(self) -> Shape:
        """Shape of the whole."""
        return tuple(borders[-1] for borders in self.cuts)

    def __len__(self) -> int:
        return prod(self.counts)

    def at(self, index: Shape) -> Block:
        """Return the block with an index along every axis."""
        output = tuple(slice(borders[i], borders[i + 1]) for i, borders in zip(index, self.cuts, strict=True))
        number = 0
        for i, n in zip(index, self.counts, strict=True):
            number = number * n + i
        return Block(number, output, regions(self.operation, self.shapes, output))

    def __iter__(self) -> Iterator[Block]:
        for index in product(*(range(n) for n in self.counts)):
            yield self.at(index)

    def inside(self, region: Region) -> Iterator[Block]:
        """Yield the blocks that lie in a region made of whole blocks."""
        spans = []
        for borders, part in zip(self.cuts, region, strict=True):
            first, last = np.searchsorted(borders, [part.start, part.stop])
            spans.append(range(int(first), int(last)))
        for index in product(*spans):
            yield self.at(index)


def grid_of(operation: Operation, volumes: Sequence[Volume]) -> Grid:
    """Return the grid that is cut into blocks: the result's, or the first input's for a table."""
    return volumes[0].grid if operation.result is None else operation.result.grid


def regions(operation: Operation, shapes: Sequence[Shape], output: Region) -> tuple[Region, ...]:
    """Return what of every input a region of the result is made from, cut at the arrays' ends."""
    if operation.needs is not None:
        wanted = operation.needs(output)
    else:
        halo = operation.halo or (0,) * len(output)
        wanted = (tuple(slice(s.start - h, s.stop + h) for s, h in zip(output, halo, strict=True)),) * len(shapes)
    return tuple(
        tuple(slice(min(max(s.start, 0), n), max(min(s.stop, n), 0)) for s, n in zip(region, shape, strict=True))
        for region, shape in zip(wanted, operation.per_read(shapes), strict=True)
    )


@dataclass(frozen=True)
class Compute:
    """Makes blocks of one operation on one device."""

    operation: Operation
    name: str
    """The processor's, for errors."""
    arrays: tuple[LazyArray, ...]
    device: str = CPU
    slots: contextlib.AbstractContextManager[Any] = field(default_factory=contextlib.nullcontext)
    """Held while a block is on the device: as many at once as its memory takes, while other threads read and encode."""

    def map(self, block: Block) -> Any:
        """Return what a block adds to the reduction."""
        assert self.operation.reduction is not None
        arrays = self._read(block)
        with self.slots:
            return self._call(block, self.operation.reduction.map, block, self._given(arrays))

    def apply(self, block: Block, found: Any) -> npt.NDArray[Any]:
        """Return a block of the result.

        Raises
        ------
        ProcessingFailed
            The function raised, or gave another shape or type than promised, or NaN where none went in.
        """
        assert self.operation.apply is not None
        assert self.operation.result is not None
        arrays = self._read(block)
        with self.slots:
            values = self._call(block, self.operation.apply, block, self._given(arrays), found)
            if self.operation.arrays == "torch":
                values = values.detach().cpu().numpy()
        shape = tuple(s.stop - s.start for s in block.output)
        promised = self.operation.result.dtype
        if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype != promised:
            got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise self._failed(block, f"gave {got} where it promised {promised} {shape}")
        if not self.operation.nan and values.dtype.kind in "fc" and np.isnan(values).any() and not any(map(_has_nan, arrays)):
            raise self._failed(block, "gave NaN where none went in")
        return values

    def _read(self, block: Block) -> list[npt.NDArray[Any]]:
        arrays = [array[region] for array, region in zip(self.operation.per_read(self.arrays), block.inputs, strict=True)]
        return [values.astype(values.dtype.newbyteorder("="), copy=False) for values in arrays]

    def _given(self, arrays: list[npt.NDArray[Any]]) -> list[Array]:
        """Return what the operation's functions get."""
        if self.operation.arrays == "numpy":
            return arrays
        import torch

        return [torch.from_numpy(np.require(values, requirements=["C", "W"])).to(self.device) for values in arrays]

    def _call(self, block: Block, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (MemoryError, EmstoreError, KeyboardInterrupt):
            raise
        except Exception as error:  # a processor may raise anything; the block is named, the rest is in the cause
            raise self._failed(block, f"raised {type(error).__name__}: {error}") from error

    def _failed(self, block: Block, what: str) -> ProcessingFailed:
        dims = ["?"] * len(block.output) if self.operation.result is None else self.operation.result.grid.dims
        return ProcessingFailed(f"{self.name} {what}", where=f"block {where(block.output, dims)}")


def where(region: Region, dims: Sequence[str]) -> str:
    """Return a region for people, e.g. ``z 0:256, y 256:512``."""
    return ", ".join(f"{name} {part.start}:{part.stop}" for name, part in zip(dims, region, strict=True))


def _has_nan(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind in "fc" and bool(np.isnan(values).any())


def evaluate(operation: Operation, volumes: Sequence[Volume], *, block: Shape | None = None) -> npt.NDArray[Any] | Table:
    """Carry an operation out in memory, cut into blocks: what the runner must give, whatever the blocks.

    Parameters
    ----------
    operation : Operation
        From a processor's `plan` for `volumes`.
    volumes : sequence of Volume
        Its inputs.
    block : tuple of int, optional
        Shape of a block (of the result, or of the first input for a table); everything at once by default. Axes the operation
        needs whole are never cut.

    Returns
    -------
    ndarray or Table
    """
    grid = grid_of(operation, volumes)
    shape = grid.shape
    size = tuple(
        n if name in operation.whole else max(1, min(b, n)) for b, n, name in zip(block or shape, shape, grid.dims, strict=True)
    )
    blocks = Blocks(operation, tuple(v.shape for v in volumes), cut(shape, size))
    compute = Compute(operation, "the operation", tuple(v.data for v in volumes))
    found = None
    if operation.reduction is not None:
        state = operation.reduction.start()
        for each in blocks:
            state = operation.reduction.add(state, each, compute.map(each))
        found = operation.reduction.finish(state)
    if operation.result is None:
        assert isinstance(found, Table)
        return found
    out = np.empty(shape, operation.result.dtype)
    for each in blocks:
        out[each.output] = compute.apply(each, found)
    return out


__all__ = ["CPU", "Blocks", "Compute", "Cuts", "cut", "evaluate", "grid_of", "regions", "where"]
