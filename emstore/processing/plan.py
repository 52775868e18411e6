"""What a process will read and write and the memory it takes, found and checked before anything is touched."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

import emstore
from emstore import registry
from emstore.arguments import check_count, check_plain, checked, roles
from emstore.blocks import device as devices
from emstore.blocks.executors import Executor, Threads
from emstore.blocks.layout import Layout, lay_out
from emstore.blocks.weights import Used, planned, used
from emstore.errors import Capacity, InvalidInput, Kind
from emstore.header import Header
from emstore.operation import Operation, Reduction, Result
from emstore.processor import Processor
from emstore.store import Version, canonical, digest, open_version, plan_version
from emstore.store.plan import VersionPlan, cpu_count, project, same_plan
from emstore.table import Table
from emstore.volume import CARRIED, Region, Volume, VolumeKind

DEFAULT_MEMORY: Final = 1 << 30
"""Memory budget of the whole process unless the caller states one, bytes."""
_MOST_MEMORY: Final = 1 << 46
"""Budgets beyond this are not looked at, bytes."""
T = TypeVar("T")


@dataclass(frozen=True)
class Planned:
    """A process that can be carried out."""

    processor: Processor
    versions: tuple[Version, ...]
    """What is read, in the order of the processor's roles."""
    volumes: tuple[Volume, ...]
    """Those of them that are read block by block; the others are tables."""
    kept: int
    """What the tables and weights among them take in every process, bytes."""
    weights: Used | None
    params: Mapping[str, Any]
    """As a Record holds them."""
    operation: Operation
    plan: VersionPlan | None
    """How the result is written; none for a table."""
    layout: Layout | None
    """How it is cut up; ``None`` where it is made from tables alone."""
    executor: Executor
    device: str

    @property
    def images(self) -> tuple[Version, ...]:
        """What `volumes` are opened from."""
        return tuple(version for version in self.versions if not version.is_table)

    def facts(self) -> dict[str, Any]:
        """Return all that shapes the result but the inputs and the code."""
        return {
            "processor": self.processor.name,
            "processor_version": self.processor.version,
            "device": self.device.partition(":")[0],
            "params": dict(self.params),
            "plan": None if self.plan is None else self.plan.to_json(),
        }

    def settings(self) -> str:
        """Return the digest by which a rerun finds what is there."""
        plugin = registry.processors()[self.processor.name]
        facts = self.facts()
        if self.weights is not None:  # it is their numbers that count, wherever they lie
            facts["params"]["weights"] = self.weights.weights.digest
        return digest(
            canonical(
                {
                    "activity": "process",
                    "emstore": emstore.__version__,
                    "package": [plugin.package, plugin.package_version],
                    "inputs": [version.id for version in self.versions],
                    "models": [model.digest for model in self.operation.models],
                    **facts,
                }
            )
        )


def plan_process(
    name: str,
    inputs: Sequence[str],
    params: Mapping[str, Any],
    *,
    memory: int,
    executor: Executor | None = None,
    device: str,
    pyramid: bool,
    plan_told: Mapping[str, Any] | None = None,
) -> Planned:
    """Plan what `emstore.processing.process` will do; its parameters are explained there.

    Raises
    ------
    InvalidInput, NotFound, Damaged
        The processor, an input or a parameter is not what is needed.
    Capacity
        It does not fit the memory budget.
    PrivacyRefused
        A parameter may not stand in a Record.
    """
    processor = registry.processor(name)
    check_count(processor, len(inputs))
    given = checked(processor, params)
    versions = tuple(open_version(ref) for ref in inputs)
    contents = tuple(content(processor, role, v) for role, v in zip(roles(processor, len(versions)), versions, strict=True))
    volumes = tuple(each for each in contents if isinstance(each, Volume))
    weights = used(processor, given)
    operation = operation_of(processor, contents, given, weights)
    settings = given.model_dump(mode="json")
    if weights is not None:
        settings["weights"] = weights.called
    check_plain(name, settings)
    executor = executor or Threads(cpu_count())
    device = devices.choose(operation, name, device)
    workers, processes, device_memory = executor.threads, executor.processes, devices.memory(device)

    kept = _kept(contents, weights)

    def arrange(memory: int) -> tuple[VersionPlan | None, Layout]:
        plan = None
        if operation.result is not None:
            promise = promised(operation, operation.result, volumes)
            plan = None if plan_told is None else same_plan(promise, plan_told, memory=memory)
            plan = plan or written(operation, promise, volumes, pyramid=pyramid, memory=max(memory - kept, 0))
        share = max(memory // processes - kept, 0)
        return plan, lay_out(operation, volumes, plan, memory=share, workers=workers, device_memory=device_memory)

    if not volumes:
        return Planned(processor, versions, volumes, kept, weights, settings, operation, None, None, executor, device)
    plan, layout = _within(memory, arrange)
    executor = executor.within(layout.workers)
    return Planned(processor, versions, volumes, kept, weights, settings, operation, plan, layout, executor, device)


def _kept(contents: Sequence[Volume | Table], weights: Used | None) -> int:
    """Return what stays in memory while blocks are made, bytes; of weights, a copy in the framework's own form as well."""
    columns = [column for each in contents if isinstance(each, Table) for column in each.columns.values()]
    arrays = () if weights is None else weights.weights.arrays.values()
    return sum(column.values.nbytes for column in columns) + 2 * sum(values.nbytes for values in arrays)


def content(processor: Processor, role: str, version: Version) -> Volume | Table:
    """Return what a version holds for a role: a table where the processor reads one there, else a volume.

    Raises
    ------
    InvalidInput
        It holds something that the processor does not read there.
    """
    if not version.is_table:
        return version.volume()
    if role not in getattr(processor, "tables", ()):
        raise InvalidInput(
            f"this version holds a table, which {processor.name} does not read as its {role}",
            where=version.ref,
            fix="give what it was measured on",
        )
    return version.table()


def operation_of(processor: Processor, contents: Sequence[Volume | Table], params: Any, weights: Used | None) -> Operation:
    """Return what a processor does with its inputs; what it made of tables at once becomes an operation that only gives it.

    Raises
    ------
    InvalidInput
        The inputs or parameters make no sense, or the processor does not keep its contract.
    """
    made = planned(processor, contents, params, weights)
    images = any(isinstance(each, Volume) for each in contents)
    if isinstance(made, Table):
        if images:
            raise InvalidInput("it made a table without reading its images", where=processor.name, fix="report it to its author")
        table = made
        made = Operation(None, reduction=Reduction(lambda block, arrays: None, lambda: table, lambda s, b, p: s, lambda s: s))
    if not images and made.result is not None:
        raise InvalidInput("it makes an image of tables alone", where=processor.name, fix="report it to its author")
    if weights is None:
        return made
    others = tuple(model for model in made.models if model.digest != weights.model.digest)
    return replace(made, models=(weights.model, *others))


@dataclass(frozen=True)
class _Promise:
    """The values of a result that is not made yet: its plan needs only their shape and type."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    block: tuple[int, ...]

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        raise NotImplementedError("blocks are made by tasks, not read")


def check_fits(operation: Operation, volumes: Sequence[Volume], *, memory: int = DEFAULT_MEMORY, pyramid: bool = True) -> None:
    """Refuse what cannot be done within a memory budget.

    Raises
    ------
    Capacity
        Kind ``memory_budget``: says what would do.
    """
    if operation.result is None:
        _within(memory, lambda memory: lay_out(operation, volumes, None, memory=memory, workers=1))
    else:
        promise = promised(operation, operation.result, volumes)
        _within(memory, lambda memory: written(operation, promise, volumes, pyramid=pyramid, memory=memory))


def _within(memory: int, arrange: Callable[[int], T]) -> T:
    """Return what `arrange` makes of a memory budget; where that is too small, find one that is not and say so.

    More memory also allows larger shards, so what one arrangement lacks is not what would do.
    """
    try:
        return arrange(memory)
    except Capacity as error:
        if error.kind is not Kind.MEMORY_BUDGET:
            raise
        short = error
    enough = memory
    while enough < _MOST_MEMORY:
        enough = max(enough, 1) + max(enough >> 4, 16 << 20)
        try:
            arrange(enough)
        except Capacity:
            continue
        mebibytes = -(-enough >> 20)
        raise Capacity(
            f"it takes about {mebibytes} MiB of memory, more than the {memory >> 20} MiB allowed",
            fix=f"allow more, e.g. --memory {mebibytes}MiB",
            kind=Kind.MEMORY_BUDGET,
        )
    raise short


def promised(operation: Operation, result: Result, volumes: Sequence[Volume]) -> Volume:
    """Return what an operation will give, all but its values, which cannot be read yet."""
    grid = result.grid
    block = tuple(n if name in operation.whole else 1 for n, name in zip(grid.shape, grid.dims, strict=True))
    first = volumes[0]
    return Volume(
        name=first.name,
        data=_Promise(grid.shape, result.dtype, block),
        grid=grid,
        header=Header("emstore", terms=dict(first.header.terms if result.terms is None else result.terms)),
        kind=result.kind,
        modality=result.modality,
        scale=result.scale,
        window=result.window,
        attributes={**_carried(first, result), **result.attributes},
        notes=result.notes,
    )


def _carried(first: Volume, result: Result) -> dict[str, Any]:
    """Return what the first input says of its values, where the result is an image too; a dose per frame, if the frames stay."""
    if result.kind is not VolumeKind.IMAGE:
        return {}
    told = {key: first.attributes[key] for key in CARRIED if key in first.attributes}
    dose = told.get("dose")
    if isinstance(dose, Mapping) and isinstance(dose.get("value"), list) and result.grid.shape[0] != first.shape[0]:
        del told["dose"]
    return told


def written(operation: Operation, promise: Volume, volumes: Sequence[Volume], *, pyramid: bool, memory: int) -> VersionPlan:
    """Return how the result is written: the best layout that two workers can make within the budget, the same on any machine.

    What streaming it would take does not matter: regions are written shard by shard.
    """
    lean: VersionPlan | None = None
    short: Capacity | None = None
    budget = _MOST_MEMORY
    while True:
        try:
            plan = plan_version(promise, pyramid=pyramid, memory=budget)
        except Capacity as error:
            if lean is None:
                raise short or error from None
            return lean
        budget = project(plan) - 1  # for the next leaner plan
        try:
            layout = lay_out(operation, volumes, plan, memory=memory, workers=2)
        except Capacity as error:
            short = error
            continue
        if layout.workers == 2:
            return plan
        lean = lean or plan
