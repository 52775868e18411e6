"""Versions in, one new version out: the second use case.

Plan the operation, cut it up within the memory budget, reserve a version, make and write its blocks, seal it with its Record.
"""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from math import prod
from threading import Semaphore
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

import emstore
from emstore import registry
from emstore.blocks.compute import CPU, Compute, grid_of, where
from emstore.blocks.executors import Executor, Line, Threads
from emstore.blocks.layout import Layout, lay_out
from emstore.blocks.runner import in_order, run
from emstore.blocks.work import Done, Order, Task, Work, mapping, writing
from emstore.errors import Capacity, Interrupted, InvalidInput, Kind, PrivacyRefused
from emstore.events import Advanced, Finished, Listener, Noted, Started, silent
from emstore.header import Header
from emstore.operation import Operation, Result
from emstore.processor import Processor
from emstore.provenance import environment
from emstore.provenance.record import Activity, Input, Random, Record, Software, Step
from emstore.store import (
    Place,
    Store,
    Transaction,
    Version,
    begin,
    canonical,
    digest,
    load,
    open_version,
    plan_version,
    resolve,
    seal_table,
    seal_volume,
)
from emstore.store.plan import VersionPlan, cpu_count, project, same_plan
from emstore.table import Table
from emstore.volume import Region, Volume

DEFAULT_MEMORY: Final = 1 << 30
"""Memory budget of the whole process unless the caller states one, bytes."""
_MOST_MEMORY: Final = 1 << 46
"""Budgets beyond this are not looked at, bytes."""
AHEAD: Final = 2
"""Tasks handed in per worker, so that none waits for the next one."""
T = TypeVar("T")


@dataclass(frozen=True)
class Processed:
    """The result of a process."""

    version: Version
    created: bool
    """``False`` when exactly this had been made before and the existing version is returned."""


def process(
    name: str,
    inputs: Sequence[str],
    target: str,
    *,
    params: Mapping[str, Any] | None = None,
    memory: int = DEFAULT_MEMORY,
    executor: Executor | None = None,
    device: str = CPU,
    pyramid: bool = True,
    again: bool = False,
    step: Step | None = None,
    plan_told: Mapping[str, Any] | None = None,
    listener: Listener = silent,
) -> Processed:
    """Make a new version of others.

    Parameters
    ----------
    name : str
        The processor, e.g. ``denoise.gaussian``.
    inputs : sequence of str
        One REF per input the processor asks for, in its order; the latest version where no number is given.
    target : str
        ``STORE/DATASET/ARRAY``.
    params : mapping, optional
        The processor's parameters; see `emstore.registry.processor`.
    memory : int, bytes
        Budget of the whole process; of all processes together where there are several on this machine.
    executor : Executor, optional
        Where the work is done; a thread per core by default.
    device : str
        ``cpu``, or ``cuda``, ``cuda:N`` or ``auto`` for processors that work with PyTorch.
    pyramid : bool
        Also write coarser scale levels.
    again : bool
        Make a new version even if an equal one is there.
    step : Step, optional
        The step of a recipe that this is, for the Record.
    plan_told : mapping, optional
        How another version says it was laid out (``record.params["plan"]``): do it likewise, where that can still be done.
    listener : callable
        Told of progress.

    Returns
    -------
    Processed

    Raises
    ------
    InvalidInput, NotFound, Capacity, Conflict, StorageFailed, PrivacyRefused, Damaged, ProcessingFailed, Interrupted
        See `emstore.errors`. Nothing is visible unless whole; the same call resumes what was interrupted.
    """
    store, place = resolve(target)
    if place.array is None or place.version is not None:
        raise InvalidInput("the target must be STORE/DATASET/ARRAY", where=target, kind=Kind.BAD_REF)
    processor = registry.processor(name)
    check_count(processor, len(inputs))
    given = checked(processor, params or {})
    versions = [open_version(ref) for ref in inputs]
    volumes = tuple(version.volume() for version in versions)
    operation = processor.plan(volumes, given)
    executor = executor or Threads(cpu_count())
    device = _device(operation, name, device)
    workers, processes, device_memory = executor.threads, executor.processes, _device_memory(device)

    def arrange(memory: int) -> tuple[VersionPlan | None, Layout]:
        plan = None
        if operation.result is not None:
            promise = promised(operation, operation.result, volumes)
            plan = None if plan_told is None else same_plan(promise, plan_told, memory=memory)
            plan = plan or _plan(operation, promise, volumes, pyramid, memory)
        share = memory // processes
        return plan, lay_out(operation, volumes, plan, memory=share, workers=workers, device_memory=device_memory)

    plan, layout = _within(memory, arrange)
    if layout.workers < executor.threads and isinstance(executor, Threads):
        executor = Threads(layout.workers)
    settings = given.model_dump(mode="json")
    _check_plain(name, settings)
    job = _Job(store, processor, versions, volumes, settings, operation, plan, layout, device, step, listener)
    store.backend.probe()
    held = begin(
        store.backend,
        Place(place.dataset, place.array),
        settings=job.settings(),
        task=f"process {name}",
        store_id=store.id,
        again=again,
    )
    if not isinstance(held, Transaction):
        return Processed(load(store, held.place), created=False)
    task = f"{store.url}/{held.place}"
    try:
        job.carry_out(held, executor, task)
    except KeyboardInterrupt as error:
        held.release()
        raise Interrupted("stopped on request", where=task, fix="run the same command again: it resumes") from error
    except BaseException:
        held.release()
        raise
    version = load(store, held.place)
    listener(Finished(task, version.id))
    return Processed(version, created=True)


def check_count(processor: Processor, given: int) -> None:
    """Refuse another number of inputs than a processor takes.

    Raises
    ------
    InvalidInput
        Naming what each is for.
    """
    if given != len(processor.inputs):
        raise InvalidInput(
            f"it takes {len(processor.inputs)} input{'s' * (len(processor.inputs) != 1)} ({', '.join(processor.inputs)}), "
            f"not {given}",
            where=processor.name,
        )


def checked(processor: Processor, params: Mapping[str, Any]) -> Any:
    """Return a processor's parameters, checked.

    Raises
    ------
    InvalidInput
        Naming every parameter that is wrong, and what there is.
    """
    try:
        return processor.params.model_validate(dict(params))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'parameters'}: {_wrong(each)}" for each in error.errors())
        known = ", ".join(processor.params.model_fields) or "none"
        raise InvalidInput(
            wrong, where=processor.name, fix=f"its parameters are {known}; see `emstore processors {processor.name}`"
        ) from None


def _wrong(error: Mapping[str, Any]) -> str:
    return "there is no such parameter" if error["type"] == "extra_forbidden" else str(error["msg"]).removeprefix("Value error, ")


_SECRET: Final = re.compile(r"(/|~|\\\\|[A-Za-z]:[\\/]|file:).|.*://[^/\s]*@", re.IGNORECASE | re.DOTALL)
"""An absolute path, or a URL with a user or password in it."""


def _check_plain(name: str, settings: Any) -> None:
    """Refuse parameters that no Record may hold."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            _check_plain(f"{name} {key}", value)
            _check_plain(name, key)
    elif isinstance(settings, list | tuple):
        for value in settings:
            _check_plain(name, value)
    elif isinstance(settings, str) and _SECRET.match(settings):
        raise PrivacyRefused(
            "a parameter is an absolute path or a URL with credentials, and would stay in the Record",
            where=name,
            fix="give it a name or a relative path instead",
        )


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
        _within(memory, lambda memory: _plan(operation, promise, volumes, pyramid, memory))


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
        attributes=dict(result.attributes),
        notes=result.notes,
    )


def _plan(operation: Operation, promise: Volume, volumes: Sequence[Volume], pyramid: bool, memory: int) -> VersionPlan:
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


def _device(operation: Operation, name: str, device: str) -> str:
    if device == "auto":
        device = "cuda" if operation.arrays == "torch" and _cuda() else CPU
    if device == CPU:
        return CPU
    if operation.arrays != "torch":
        raise InvalidInput("it works on the CPU only", where=name, fix="leave --device out")
    if not device.partition(":")[0] == "cuda" or not _cuda():
        raise InvalidInput(f"there is no device {device!r} here", fix="use --device cpu")
    return device


def _cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _device_memory(device: str) -> int | None:
    if device == CPU:
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return int(free * 0.8)


@dataclass(frozen=True)
class _Job:
    """One call of `process`, planned."""

    store: Store
    processor: Processor
    versions: Sequence[Version]
    volumes: tuple[Volume, ...]
    params: Mapping[str, Any]
    operation: Operation
    plan: VersionPlan | None
    layout: Layout
    device: str
    step: Step | None
    listener: Listener

    def slots(self) -> Any:
        """Return what a thread holds while it has a block on the device."""
        free = _device_memory(self.device)
        return nullcontext() if free is None else Semaphore(max(1, free // max(1, self.layout.device_bytes)))

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
        return digest(
            canonical(
                {
                    "activity": "process",
                    "emstore": emstore.__version__,
                    "package": [plugin.package, plugin.package_version],
                    "inputs": [version.id for version in self.versions],
                    "models": [model.digest for model in self.operation.models],
                    **self.facts(),
                }
            )
        )

    def carry_out(self, held: Transaction, executor: Executor, task: str) -> None:
        """Make everything and seal it."""
        started = datetime.now(UTC)
        arrays = tuple(version.array(workers=1) for version in self.versions)
        compute = Compute(self.operation, self.processor.name, arrays, self.device, self.slots())
        work = Work(compute, self.layout.blocks, self.plan, self.layout.tile, held)
        order = Order(
            self.processor.name,
            dict(self.params),
            tuple((v.store.url, str(v.place), v.id) for v in self.versions),
            (self.store.url, str(held.place)),
            self.plan,
            self.layout.blocks.cuts,
            self.layout.tile,
            self.device,
        )
        mapped = prod(self.layout.blocks.shape) if self.operation.reduction is not None else 0
        made = 0 if self.plan is None else self.plan.nbytes
        self.listener(Started(task, mapped + made, self.layout.projected))
        notes = () if self.operation.result is None else self.operation.result.notes
        for note in notes:
            self.listener(Noted(task, note))

        def advance(answer: Done) -> None:
            self.listener(Advanced(task, answer.nbytes))

        found: Any = None
        if self.operation.reduction is not None:
            found = self._reduce(work, order, executor, advance)
        record = partial(self._record, started, notes)
        if self.operation.result is None:
            if not isinstance(found, Table):
                raise InvalidInput(f"the processor {self.processor.name} gave no table", fix="report it to its author")
            seal_table(held, found, record)
            return
        assert self.plan is not None
        volume = promised(self.operation, self.operation.result, self.volumes)
        if self.operation.tell is not None:
            volume = replace(volume, attributes={**volume.attributes, **self.operation.tell(found)})
        work.found = found
        order = replace(order, found=found)
        stored = sum(v.info.contents.nbytes for v in self.versions) / sum(v.nbytes for v in self.volumes)
        seal_volume(
            held,
            volume,
            self.plan,
            record,
            levels=partial(self._write, self.plan, work, order, executor, held, advance),
            ratio=min(1.0, stored),
        )

    def _reduce(self, work: Work, order: Order, executor: Executor, advance: Any) -> Any:
        reduction = self.operation.reduction
        assert reduction is not None
        state = reduction.start()

        def add(block: Any, part: Any) -> None:
            nonlocal state
            state = reduction.add(state, block, part)

        take = in_order(self.layout.blocks, add)

        def done(answer: Done) -> None:
            take(answer)
            advance(answer)

        with executor.doing(work, order) as line:
            self._run(mapping(self.layout.blocks), line, done, work)
        return reduction.finish(state)

    def _write(
        self, plan: VersionPlan, work: Work, order: Order, executor: Executor, held: Transaction, advance: Any
    ) -> set[str]:
        """Write the shards of every level, each when the one below is whole; return the keys of those that hold nothing."""
        empty: set[str] = set()

        def done(answer: Done) -> None:
            held.adopt(answer.entries)
            empty.update(answer.empty)

        def made(answer: Done) -> None:
            done(answer)
            advance(answer)

        with executor.doing(work, order) as line:
            for level in plan.levels:
                first = level.number == 0
                tasks = writing(plan, level, self.layout.task if first else level.shard, held, empty)
                self._run(tasks, line, made if first else done, work)
        return empty

    def _run(self, tasks: Any, line: Line, done: Any, work: Work) -> None:
        run(tasks, line.submit, done, window=AHEAD * line.width, stop=work.stopped.set, name=self._named)

    def _named(self, task: Task) -> str:
        dims = grid_of(self.operation, self.volumes).dims
        level = f" of level {task.level}" if task.level else ""
        return f"{self.processor.name}, block {where(task.region, dims)}{level}"

    def _record(self, started: datetime, notes: tuple[str, ...]) -> Record:
        plugin = registry.processors()[self.processor.name]
        us = Software(name="emstore", version=emstore.__version__)
        theirs = Software(name=plugin.package, version=plugin.package_version)
        facts = self.facts()
        return Record(
            activity=Activity(
                id=f"urn:uuid:{uuid.uuid4()}", type="process", name=self.processor.name, started=started, ended=datetime.now(UTC)
            ),
            inputs=tuple(
                Input(
                    role=role,
                    ref=str(version.place),
                    id=version.id,
                    store=None if version.store.id == self.store.id else version.store.id,
                )
                for role, version in zip(self.processor.inputs, self.versions, strict=True)
            ),
            params=facts,
            params_digest=digest(canonical(facts)),
            software=(us,) if theirs == us else (us, theirs),
            models=self.operation.models,
            environment=environment.current(self.device if self.device == CPU else _device_name(self.device)),
            random=Random(seed=self.operation.seed, deterministic=self.operation.deterministic),
            agent=us,
            step=self.step,
            notes=notes,
        )


def _device_name(device: str) -> str:
    import torch

    return str(torch.cuda.get_device_name(torch.device(device)))


__all__ = ["Processed", "check_count", "check_fits", "checked", "process", "promised"]
