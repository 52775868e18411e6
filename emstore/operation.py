"""What a processor does, told so that it can be done block by block: pure functions of arrays and a small description.

A block is a part of the result. Its function gets, of every input, the region the block is made from, and returns the
block. Regions end where the volume ends: a filter applied to what it gets therefore meets the volume's true border with the
filter's own border rule, and a cut between blocks with `halo` voxels to spare, which `Block.crop` takes away again. So the
result does not depend on how the volume was cut.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import numpy as np

from emstore.errors import InvalidInput
from emstore.geometry import Grid
from emstore.provenance.record import Model
from emstore.table import Table
from emstore.volume import Region, ValueScale, Volume, VolumeKind

Array = Any
"""A NumPy array, or a torch tensor where `Operation.arrays` says so."""

Input = TypeVar("Input")

WORK_BYTES: Final = 16.0


@dataclass(frozen=True)
class Block:
    """One part of the result, and the parts of the inputs it is made from."""

    number: int
    """Its place among all blocks, in array order; a reduction meets the same blocks as the pass after it."""
    output: Region
    """Where it lies in the result."""
    inputs: tuple[Region, ...]
    """What was read of every input (or as `Operation.reads` says): what the operation needs, cut at the array's ends."""

    def crop(self, values: Array, *, of: int = 0) -> Array:
        """Cut the halo off: of values on the grid of an input, as far as it was read, return those of this block."""
        region = self.inputs[of]
        return values[tuple(slice(o.start - i.start, o.stop - i.start) for o, i in zip(self.output, region, strict=True))]


@dataclass(frozen=True)
class Result:
    """What comes out: a volume but for its values."""

    grid: Grid
    dtype: np.dtype[Any]
    kind: VolumeKind = VolumeKind.IMAGE
    modality: str | None = None
    scale: ValueScale | None = None
    window: tuple[float, float] | None = None
    terms: Mapping[str, Any] | None = None
    """Facts about the instrument and sample (`Header.terms`); those of the first input when left out."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def like(cls, volume: Volume, **changes: Any) -> "Result":
        """Return a result on a volume's own grid with its type and meaning, but for `changes` (fields of this class).

        Attributes and notes, which say how the source was read, are not taken over.
        """
        same: dict[str, Any] = {
            "grid": volume.grid,
            "dtype": volume.dtype.newbyteorder("="),
            "kind": volume.kind,
            "modality": volume.modality,
            "scale": volume.scale,
            "window": volume.window,
        }
        return cls(**{**same, **changes})


@dataclass(frozen=True)
class Reduction:
    """A pass over all blocks that finds one small thing, e.g. a histogram. Blocks are added in order, one at a time."""

    map: Callable[[Block, Sequence[Array]], Any]
    """What one block adds: small, NumPy arrays and plain values only, since it may travel between machines."""
    start: Callable[[], Any]
    """The empty state."""
    add: Callable[[Any, Block, Any], Any]
    """Return the state with what a block adds. State stays small however many blocks there are."""
    finish: Callable[[Any], Any]
    """What the pass finds: for `Operation.apply`, or the Table that is the result."""
    state_bytes: Callable[[tuple[int, ...]], int] | None = None
    """Most memory that state and finding take at any time, for blocks of a shape, bytes. Left out: a few megabytes."""


@dataclass(frozen=True)
class Operation:
    """One processor with its parameters, on its inputs."""

    result: Result | None
    """What comes out; ``None`` when that is the Table `reduction` finds."""
    apply: Callable[[Block, Sequence[Array], Any], Array] | None = None
    """Makes a block, of exactly its shape and the result's type, from its inputs' regions and what `reduction` found. Pure."""
    reduction: Reduction | None = None
    """A pass before, over the same blocks (for a Table: blocks of the first input's grid)."""
    tell: Callable[[Any], Mapping[str, Any]] | None = None
    """Facts about what `reduction` found that belong to the result, JSON-safe, e.g. a threshold: they join its attributes."""
    halo: tuple[int, ...] = ()
    """Voxels needed beyond a block, both ways, along every axis; empty for none."""
    whole: tuple[str, ...] = ()
    """Axes along which a block is never cut, e.g. ``("y", "x")`` for what only works on whole slices."""
    needs: Callable[[Region], tuple[Region, ...]] | None = None
    """Region of every input for a region of the result, may reach beyond the arrays. Left out: the same region with the halo."""
    reads: tuple[int, ...] = ()
    """Which input each region is of, where `needs` takes several of one, e.g. ``(0, 0)`` for a slice and the one it is compared
    with. Left out: one of every input, in order."""
    work_bytes: float = WORK_BYTES
    """Working memory per voxel of the largest array that `apply` or `map` gets or gives, these not counted, bytes."""
    arrays: Literal["numpy", "torch"] = "numpy"
    """What the functions get. Torch tensors are on the device the user chose."""
    tolerance: float = 0.0
    """Largest difference that cutting into blocks may make, in parts of the result's range; 0 = none."""
    deterministic: bool = True
    """Same inputs and parameters, same bytes, on the same machine."""
    seed: int | None = None
    models: tuple[Model, ...] = ()
    """Weights that take part."""
    nan: bool = False
    """NaN may come out though none went in."""

    def __post_init__(self) -> None:
        if (self.result is None) == (self.apply is not None) or (self.apply is None and self.reduction is None):
            raise InvalidInput("an operation makes a result block by block, or finds a table by its reduction")
        if self.tell is not None and (self.reduction is None or self.result is None):
            raise InvalidInput("an operation can only tell what a reduction found for its result")
        if self.reads and self.needs is None:
            raise InvalidInput("an operation that reads several regions of one input says which they are, in needs")
        if self.result is not None and (unknown := set(self.whole) - set(self.result.grid.dims)):
            raise InvalidInput(f"the result has no axis {', '.join(sorted(unknown))}")

    def per_read(self, inputs: Sequence[Input]) -> Sequence[Input]:
        """Return, of something there is one of per input, one per region that is read."""
        return [inputs[i] for i in self.reads] if self.reads else inputs


__all__ = ["Array", "Block", "Operation", "Reduction", "Result", "Table"]
