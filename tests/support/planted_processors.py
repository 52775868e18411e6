"""Processors with one defect each, and the rule of the conformance suite that must find it."""

import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.operation import Block, Operation, Reduction, Result
from emstore.processor import Params
from emstore.table import Column, Table
from emstore.testing import ProcessorConformance
from emstore.volume import Volume, VolumeKind

Arrays = Sequence[npt.NDArray[Any]]


class Planted:
    """What all have: names, and one input."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Has a defect"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = Params
    rule: ClassVar[str]
    """The test that must find it."""
    says: ClassVar[str]
    """What it must say."""
    also: ClassVar[tuple[str, ...]] = ()
    """Tests that may find it too."""

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        return simple(volumes[0], lambda block, arrays, found: block.crop(arrays[0]).copy())


def simple(image: Volume, apply: Callable[[Block, Arrays, Any], Any], **rest: Any) -> Operation:
    return Operation(Result.like(image, **rest.pop("result", {})), apply, **rest)


class Unregistered(Planted):
    name = "planted.unregistered"
    rule = "test_contract"
    says = "no entry point of group 'emstore.processors' is named 'planted.unregistered'"


class Undescribed(Planted):
    name = "planted.undescribed"
    rule = "test_contract"
    says = "parameter 'width' has no description"

    class Width(Params):
        width: int = 3

    params = Width


class Lenient(Planted):
    name = "planted.lenient"
    rule = "test_contract"
    says = "an unknown parameter is not refused"

    class Anything(Params):
        model_config = {"extra": "ignore"}  # noqa: RUF012
        width: int = Field(3, description="width")

    params = Anything


class Eager(Planted):
    name = "planted.eager"
    rule = "test_plan_reads_nothing"
    says = "plan reads values"

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        image = volumes[0]
        top = image.data[tuple(slice(0, n) for n in image.shape)].max()
        return simple(image, lambda block, arrays, found: np.minimum(arrays[0], top))


class ShortHalo(Planted):
    name = "planted.halo"
    rule = "test_blocks_give_the_whole"
    says = "differs from the whole"
    also = ("test_the_declared_regions_suffice", "test_odd_types_and_shapes")

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        def apply(block: Block, arrays: Arrays, found: Any) -> Any:
            return block.crop(np.asarray(_smooth(arrays[0], 2)))

        return simple(volumes[0], apply, halo=(1,) * len(volumes[0].shape))


def _smooth(values: npt.NDArray[Any], radius: int) -> npt.NDArray[Any]:
    from scipy import ndimage

    return ndimage.maximum_filter(values.view("u1") if values.dtype.kind == "b" else values, 2 * radius + 1).view(values.dtype)


class NeedsTooLittle(Planted):
    """Tells the right result only because it looks at a neighbour it did not ask for when there is one."""

    name = "planted.needs"
    rule = "test_the_declared_regions_suffice"
    says = "depends on values outside its regions"
    also = ("test_blocks_give_the_whole",)

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        def apply(block: Block, arrays: Arrays, found: Any) -> Any:
            shifted = arrays[0].copy()
            shifted[1:] = arrays[0][:-1]
            return shifted

        return simple(volumes[0], apply)


class PerBlock(Planted):
    """Brings every block to its own range."""

    name = "planted.range"
    rule = "test_blocks_give_the_whole"
    says = "differs from the whole"
    also = ("test_the_declared_regions_suffice",)

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        return simple(
            volumes[0], lambda block, arrays, found: np.where(arrays[0] == arrays[0].max(), arrays[0], arrays[0].dtype.type(0))
        )


class WrongType(Planted):
    name = "planted.dtype"
    rule = "test_blocks_give_the_whole"
    says = "gave float64"
    also = (
        "test_nan_comes_from_nan_only",
        "test_odd_types_and_shapes",
        "test_pure",
        "test_the_declared_regions_suffice",
    )

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        return simple(volumes[0], lambda block, arrays, found: arrays[0].astype("f8"), result={"dtype": np.dtype("f4")})


class WrongShape(Planted):
    """Forgets to cut its halo off."""

    name = "planted.shape"
    rule = "test_blocks_give_the_whole"
    says = "where it promised"

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        return simple(volumes[0], lambda block, arrays, found: arrays[0].copy(), halo=(1,) * len(volumes[0].shape))


class NanOfNothing(Planted):
    """Divides by the largest value."""

    name = "planted.nan"
    rule = "test_nan_comes_from_nan_only"
    says = "zeros: block"
    also = ("test_blocks_give_the_whole",)

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        def apply(block: Block, arrays: Arrays, found: Any) -> Any:
            return (
                (arrays[0].astype("f4") / arrays[0].astype("f4")).astype("f4") if not arrays[0].any() else arrays[0].astype("f4")
            )

        return simple(volumes[0], apply, result={"dtype": np.dtype("f4")})


class Modifies(Planted):
    name = "planted.modifies"
    rule = "test_pure"
    says = "it modifies its inputs"
    also = ("test_blocks_give_the_whole", "test_the_declared_regions_suffice", "test_odd_types_and_shapes")

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        def apply(block: Block, arrays: Arrays, found: Any) -> Any:
            arrays[0][arrays[0] == arrays[0].max()] = 0
            return arrays[0]

        return simple(volumes[0], apply)


class Chancy(Planted):
    name = "planted.chance"
    rule = "test_pure"
    says = "deterministic, but done again it differs"
    also = ("test_blocks_give_the_whole", "test_odd_types_and_shapes", "test_the_declared_regions_suffice")

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        def apply(block: Block, arrays: Arrays, found: Any) -> Any:
            return np.random.default_rng().normal(size=arrays[0].shape)

        return simple(volumes[0], apply, result={"dtype": np.dtype("f8"), "kind": VolumeKind.IMAGE})


class GlobalChance(Planted):
    name = "planted.globalchance"
    rule = "test_pure"
    says = "it uses NumPy's global random numbers"

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        def apply(block: Block, arrays: Arrays, found: Any) -> Any:
            np.random.random()  # noqa: NPY002
            return arrays[0].copy()

        return simple(volumes[0], apply)


class Remembers(Planted):
    name = "planted.remembers"
    rule = "test_pure"
    says = "deterministic, but done again it differs"
    also = ("test_blocks_give_the_whole", "test_odd_types_and_shapes", "test_the_declared_regions_suffice")
    seen: ClassVar[list[int]] = []

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        def apply(block: Block, arrays: Arrays, found: Any) -> Any:
            self.seen.append(block.number)
            return np.full(arrays[0].shape, len(self.seen), "i8")

        return simple(volumes[0], apply, result={"dtype": np.dtype("i8")})


class Greedy(Planted):
    name = "planted.greedy"
    rule = "test_memory_is_as_projected"
    says = "work_bytes is too small"

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        def apply(block: Block, arrays: Arrays, found: Any) -> Any:
            room = [np.full(arrays[0].shape, n, "f8") for n in range(6)]
            return arrays[0] + (sum(room) * 0).astype(arrays[0].dtype)

        return simple(volumes[0], apply, work_bytes=8)


class NoBooleans(Planted):
    """Subtracts, which booleans cannot."""

    name = "planted.booleans"
    rule = "test_odd_types_and_shapes"
    says = "bool: block"

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        return simple(volumes[0], lambda block, arrays, found: arrays[0] - arrays[0])


class ThickOnly(Planted):
    name = "planted.thin"
    rule = "test_odd_types_and_shapes"
    says = "one voxel thin along z: plan raised ZeroDivisionError"
    also = ("test_wrong_inputs_are_refused",)

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        image = volumes[0]
        1 / (image.shape[0] - 1)
        return simple(image, lambda block, arrays, found: arrays[0].copy())


class Unsendable(Planted):
    name = "planted.unsendable"
    rule = "test_what_travels"
    says = "cannot travel"

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        top = Reduction(lambda b, a: a[0].max(), lambda: 0, lambda s, b, p: max(s, p), lambda s: lambda: s)
        return simple(volumes[0], lambda block, arrays, found: np.minimum(arrays[0], found()), reduction=top)


class SharedStart(Planted):
    name = "planted.start"
    rule = "test_what_travels"
    says = "start gives a state that was used before"
    also = ("test_blocks_give_the_whole", "test_pure", "test_odd_types_and_shapes", "test_the_declared_regions_suffice")
    state: ClassVar[list[int]] = []

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        def add(state: list[int], block: Block, part: int) -> list[int]:
            state.append(part)
            return state

        top = Reduction(lambda b, a: int(a[0].max()), lambda: self.state, add, max)
        return simple(
            volumes[0], lambda block, arrays, found: np.minimum(arrays[0], found).astype(arrays[0].dtype), reduction=top
        )


class Untellable(Planted):
    name = "planted.tell"
    rule = "test_what_travels"
    says = "cannot be written as JSON"

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        top = Reduction(lambda b, a: a[0].max(), lambda: 0, lambda s, b, p: max(s, p), lambda s: s)
        return simple(volumes[0], lambda b, a, found: a[0].copy(), reduction=top, tell=lambda found: {"top": np.asarray(found)})


class CountsBlocks(Planted):
    """A table of how many blocks there were."""

    name = "planted.table"
    rule = "test_blocks_give_the_whole"
    says = "column blocks differs"

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        count = Reduction(
            lambda b, a: 1, lambda: 0, lambda s, b, p: s + p, lambda s: Table("t", {"blocks": Column(np.array([s]))})
        )
        return Operation(None, None, count)


class ByProcess(Planted):
    name = "planted.process"
    rule = "test_every_executor_gives_the_same"
    says = "processes makes other objects than threads"

    def plan(self, volumes: Sequence[Volume], params: Any) -> Operation:
        def apply(block: Block, arrays: Arrays, found: Any) -> Any:
            return np.full(arrays[0].shape, os.getpid(), "i8")

        return simple(volumes[0], apply, result={"dtype": np.dtype("i8")})


ALL: tuple[type[Planted], ...] = tuple(Planted.__subclasses__())


def suite_of(defect: type[Planted]) -> type[ProcessorConformance]:
    """Return the suite for one of them; a name in this module, so that the measuring process finds it."""
    return globals()[f"Suite{defect.__name__}"]  # type: ignore[no-any-return]


VALUES = (np.arange(6 * 7 * 8, dtype="u2").reshape(6, 7, 8) * 31 % 97).astype("u2")

for _defect in ALL:
    _suite = type(f"Suite{_defect.__name__}", (ProcessorConformance,), {"processor": _defect, "volumes": (VALUES,)})
    _suite.__module__ = __name__
    globals()[_suite.__name__] = _suite
