"""Processors for the engine's tests: one of every shape of operation, and faults on demand.

They join through real entry points, which `registered` writes into a folder, so that every process that inherits
``sys.path`` or PYTHONPATH, workers included, finds them like an installed package's.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore import registry
from emstore.errors import StorageFailed
from emstore.operation import Block, Operation, Reduction, Result
from emstore.processor import Params
from emstore.table import Column, Table
from emstore.volume import Region, Volume, VolumeKind
from planted_entry_points import planted

Arrays = Sequence[npt.NDArray[Any]]


def box(values: npt.NDArray[Any], radius: int) -> npt.NDArray[np.int64]:
    """Return the sum over a box round every voxel, borders repeated: whole numbers, so exact in any order."""
    from scipy import ndimage

    total = np.asarray(values).astype(np.int64)
    for axis in range(total.ndim):
        total = ndimage.correlate1d(total, np.ones(2 * radius + 1, np.int64), axis=axis, mode="nearest", output=np.int64)
    return total


class BoxParams(Params):
    """Parameters of a box."""

    radius: int = Field(1, ge=0, le=8, description="reach of the box, voxels")
    pause: float = Field(0.0, description="wait in every block, seconds")


@dataclass(frozen=True)
class MakeBox:
    radius: int
    pause: float

    def __call__(self, block: Block, arrays: Arrays, found: Any) -> npt.NDArray[Any]:
        time.sleep(self.pause)
        return block.crop(box(arrays[0], self.radius))


class Box:
    """A finite support with whole-number output."""

    name: ClassVar[str] = "engine.box"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Sum over a box"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = BoxParams

    def plan(self, volumes: Sequence[Volume], params: BoxParams) -> Operation:
        image = volumes[0]
        halo = (params.radius,) * len(image.shape)
        return Operation(
            Result.like(image, dtype=np.dtype("i8"), scale=None, window=None),
            MakeBox(params.radius, params.pause),
            halo=halo,
            work_bytes=24,
        )


def mean_free(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return slices (last two axes) less their own mean."""
    exact = values.astype(np.float64)
    return exact - exact.mean(axis=(-2, -1), keepdims=True)


def _slices(block: Block, arrays: Arrays, found: Any) -> npt.NDArray[Any]:
    return np.stack([mean_free(part) for part in arrays[0]]) if len(arrays[0]) else arrays[0].astype("f8")


class Slices:
    """What works on whole slices only."""

    name: ClassVar[str] = "engine.slices"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Slices less their mean"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = Params

    def plan(self, volumes: Sequence[Volume], params: Params) -> Operation:
        image = volumes[0]
        return Operation(
            Result.like(image, dtype=np.dtype("f8"), kind=VolumeKind.IMAGE), _slices, whole=image.grid.dims[-2:], work_bytes=24
        )


def pairs(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the larger of every two neighbours along the first axis, a last one left over included."""
    return np.stack([values[2 * k : 2 * k + 2].max(axis=0) for k in range(-(-len(values) // 2))])


@dataclass(frozen=True)
class Halve:
    """Every block of the result is made of twice as much of the first axis."""

    def needs(self, region: Region) -> tuple[Region, ...]:
        first = slice(2 * region[0].start, 2 * region[0].stop)
        return ((first, *region[1:]),)

    def apply(self, block: Block, arrays: Arrays, found: Any) -> npt.NDArray[Any]:
        return pairs(arrays[0])


class Pairs:
    """What changes the grid."""

    name: ClassVar[str] = "engine.pairs"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "The larger of two neighbours along the first axis"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = Params

    def plan(self, volumes: Sequence[Volume], params: Params) -> Operation:
        image = volumes[0]
        axis = replace(image.grid.axes[0], size=-(-image.shape[0] // 2), positions=None, labels=None, spacing=None)
        work = Halve()
        return Operation(
            Result.like(image, grid=replace(image.grid, axes=(axis, *image.grid.axes[1:]), affine=None)),
            work.apply,
            needs=work.needs,
            work_bytes=float(image.dtype.itemsize),
        )


@dataclass(frozen=True)
class Flip:
    """Every block of the result lies at the other end of the input."""

    shape: tuple[int, ...]

    def needs(self, region: Region) -> tuple[Region, ...]:
        return (tuple(slice(n - s.stop, n - s.start) for s, n in zip(region, self.shape, strict=True)),)

    def apply(self, block: Block, arrays: Arrays, found: Any) -> npt.NDArray[Any]:
        return np.flip(arrays[0])


class Turned:
    """What reads from far away."""

    name: ClassVar[str] = "engine.turned"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Turned about its centre"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = Params

    def plan(self, volumes: Sequence[Volume], params: Params) -> Operation:
        image = volumes[0]
        work = Flip(image.shape)
        return Operation(Result.like(image), work.apply, needs=work.needs)


class AboveParams(Params):
    """Parameters of a threshold."""

    pause: float = Field(0.0, description="wait in every block, seconds")


def _nothing() -> tuple[Any, ...]:
    return (0, 0, ())


@dataclass(frozen=True)
class Mean:
    """Total, count, and in which order blocks came."""

    pause: float = 0.0

    def map(self, block: Block, arrays: Arrays) -> Any:
        time.sleep(self.pause)
        return int(arrays[0].astype(np.int64).sum()), arrays[0].size

    def add(self, state: Any, block: Block, part: Any) -> Any:
        return state[0] + part[0], state[1] + part[1], (*state[2][-3:], block.number)

    def finish(self, state: Any) -> Any:
        assert list(state[2]) == sorted(state[2]), f"blocks came in the order {state[2]}"
        return state[0] / state[1]


def _above(block: Block, arrays: Arrays, found: Any) -> npt.NDArray[Any]:
    return arrays[0] > found


class Above:
    """A reduction and a pass after it."""

    name: ClassVar[str] = "engine.above"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Above the mean"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = AboveParams

    def plan(self, volumes: Sequence[Volume], params: AboveParams) -> Operation:
        mean = Mean(params.pause)
        return Operation(
            Result.like(volumes[0], dtype=np.dtype(bool), kind=VolumeKind.LABELS, scale=None, window=None),
            _above,
            Reduction(mean.map, _nothing, mean.add, mean.finish),
            _told,
        )


def _told(found: Any) -> dict[str, Any]:
    return {"mean": found}


def _count(block: Block, arrays: Arrays) -> Any:
    return np.unique(np.concatenate([a.ravel() for a in arrays]), return_counts=True)


def _none() -> dict[Any, int]:
    return {}


def _more(state: Any, block: Block, part: Any) -> Any:
    for value, count in zip(*part, strict=True):
        state[value.item()] = state.get(value.item(), 0) + int(count)
    return state


def _counts(state: Any) -> Table:
    values = sorted(state)
    return Table(
        "counts",
        {"value": Column(np.array(values)), "count": Column(np.array([state[v] for v in values], np.int64))},
        {"voxels": sum(state.values())},
    )


class Counts:
    """A table."""

    name: ClassVar[str] = "engine.counts"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "How often every value occurs"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = Params

    def plan(self, volumes: Sequence[Volume], params: Params) -> Operation:
        return Operation(None, None, Reduction(_count, _none, _more, _counts))


def _difference(block: Block, arrays: Arrays, found: Any) -> npt.NDArray[Any]:
    return arrays[0].astype(np.int64) - arrays[1].astype(np.int64)


class Difference:
    """Two inputs."""

    name: ClassVar[str] = "engine.difference"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "One less the other"
    inputs: ClassVar[tuple[str, ...]] = ("image", "reference")
    params: ClassVar[type[Params]] = Params

    def plan(self, volumes: Sequence[Volume], params: Params) -> Operation:
        return Operation(Result.like(volumes[0], dtype=np.dtype("i8"), scale=None, window=None), _difference)


class FaultParams(Params):
    """What goes wrong, where and how often."""

    fault: str = Field("", description="what goes wrong")
    first: int = Field(0, description="first index of the block on the first axis where it does")
    times: int = Field(1 << 30, description="how often it does")
    folder: str = Field("", description="where to count")
    pause: float = Field(0.0, description="wait in every block, seconds")


@dataclass(frozen=True)
class MakeFault:
    """Copies its input, but for one block."""

    params: FaultParams

    def again(self) -> bool:
        """Count one more time, over all processes; say whether it is still to go wrong."""
        for number in range(self.params.times):
            try:
                os.close(os.open(f"{self.params.folder}/{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return True
        return False

    def __call__(self, block: Block, arrays: Arrays, found: Any) -> npt.NDArray[Any]:
        time.sleep(self.params.pause)
        values = arrays[0].copy()
        if block.output[0].start <= self.params.first < block.output[0].stop and self.again():
            match self.params.fault:
                case "raise":
                    raise ZeroDivisionError("a planted fault")
                case "nan":
                    values[(0,) * values.ndim] = np.nan
                case "shape":
                    return values[..., :-1]
                case "dtype":
                    return values.astype(np.float64)
                case "list":
                    return values.tolist()  # type: ignore[no-any-return]
                case "exit":
                    os._exit(3)
                case "memory":
                    raise MemoryError
                case "storage":
                    raise StorageFailed("a planted fault of storage", where="somewhere")
                case "interrupt":
                    raise KeyboardInterrupt
        return values


class Fault:
    """What goes wrong."""

    name: ClassVar[str] = "engine.fault"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "A copy, with a fault on demand"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = FaultParams

    def plan(self, volumes: Sequence[Volume], params: FaultParams) -> Operation:
        return Operation(Result.like(volumes[0], dtype=np.dtype("f4"), scale=None, window=None), MakeFault(params), work_bytes=4)


ALL = (Box, Slices, Pairs, Turned, Above, Counts, Difference, Fault)
PACKAGE = "engine-processors"


@contextmanager
def registered(folder: Path) -> Iterator[None]:
    """Have the processors found through entry points, here and in every process begun from here."""
    import planted_processors

    lines = [f"{each.name} = engine_processors:{each.__name__}" for each in ALL]
    lines += [
        f"{each.name} = planted_processors:{each.__name__}"
        for each in planted_processors.ALL
        if each is not planted_processors.Unregistered
    ]
    with planted(folder, PACKAGE, {registry.PROCESSORS: lines}):
        yield
