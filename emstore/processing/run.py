"""Carrying a planned process out: reserve a version, make and write its blocks, seal it with its Record."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import product
from math import prod
from threading import Semaphore
from typing import Any, Final

import emstore
from emstore import registry
from emstore.arguments import roles
from emstore.blocks import device as devices
from emstore.blocks.compute import CPU, Compute, grid_of, where
from emstore.blocks.executors import Executor, Line
from emstore.blocks.layout import Layout
from emstore.blocks.runner import InOrder, run
from emstore.blocks.work import Done, Order, Task, Work, mapping, writing
from emstore.errors import Interrupted, InvalidInput
from emstore.events import Advanced, Finished, Listener, Noted, Started, silent
from emstore.lineage.records import WEIGHTS
from emstore.operation import Block, Reduction
from emstore.processing.plan import DEFAULT_MEMORY, Planned, plan_process, promised
from emstore.provenance import environment
from emstore.provenance.record import Activity, Input, Random, Record, Software, Step
from emstore.store import Transaction, Version, begin, canonical, digest, load, resolve_target, seal_table, seal_volume
from emstore.store.plan import VersionPlan, cpu_count
from emstore.table import Table

AHEAD: Final = 2
"""Tasks handed in per worker, so that none waits for the next one."""


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
    store, place = resolve_target(target)
    planned = plan_process(
        name, inputs, params or {}, memory=memory, executor=executor, device=device, pyramid=pyramid, plan_told=plan_told
    )
    store.backend.probe()
    held = begin(
        store.backend,
        place,
        settings=planned.settings(),
        task=f"process {name}",
        store_id=store.id,
        again=again,
    )
    if not isinstance(held, Transaction):
        return Processed(load(store, held.place), created=False)
    task = f"{store.url}/{held.place}"
    try:
        _Run(planned, held, task, step, listener).carry_out()
    except KeyboardInterrupt as error:
        held.release()
        raise Interrupted("stopped on request", where=task, fix="run the same command again: it resumes") from error
    except BaseException:
        held.release()
        raise
    version = load(store, held.place)
    listener(Finished(task, version.id))
    return Processed(version, created=True)


@dataclass(frozen=True)
class _Run:
    """One process, being carried out."""

    planned: Planned
    held: Transaction
    task: str
    """What it is called in events."""
    step: Step | None
    listener: Listener

    def carry_out(self) -> None:
        """Make everything and seal it."""
        planned, operation = self.planned, self.planned.operation
        started = datetime.now(UTC)
        layout = planned.layout
        if layout is None:
            self.listener(Started(self.task, 0))
            assert operation.reduction is not None
            self._seal_found(operation.reduction.finish(operation.reduction.start()), partial(self._record, started, ()))
            return
        work, order = self._prepared(layout)
        mapped = prod(layout.blocks.shape) if operation.reduction is not None else 0
        made = 0 if planned.plan is None else planned.plan.nbytes
        self.listener(Started(self.task, mapped + made, layout.projected + planned.kept))
        notes = () if operation.result is None else operation.result.notes
        for note in notes:
            self.listener(Noted(self.task, note))
        found = None if operation.reduction is None else self._reduce(operation.reduction, layout, work, order)
        record = partial(self._record, started, notes)
        if operation.result is None:
            self._seal_found(found, record)
            return
        assert planned.plan is not None
        volume = promised(operation, operation.result, planned.volumes)
        if operation.tell is not None:
            volume = replace(volume, attributes={**volume.attributes, **operation.tell(found)})
        work.found = found
        stored = sum(v.info.contents.nbytes for v in planned.images) / sum(v.nbytes for v in planned.volumes)
        seal_volume(
            self.held,
            volume,
            planned.plan,
            record,
            levels=partial(self._write, planned.plan, layout, work, replace(order, found=found)),
            ratio=min(1.0, stored),
        )

    def _seal_found(self, found: Any, record: Callable[[], Record]) -> None:
        if not isinstance(found, Table):
            raise InvalidInput(f"the processor {self.planned.processor.name} gave no table", fix="report it to its author")
        seal_table(self.held, found, record)

    def _prepared(self, layout: Layout) -> tuple[Work, Order]:
        """Return the work for this process, and for others the order to open the same."""
        planned = self.planned
        free = devices.memory(planned.device)
        slots: AbstractContextManager[Any] = nullcontext()
        if free is not None:
            slots = Semaphore(max(1, free // max(1, layout.device_bytes)))
        arrays = tuple(version.array(workers=1) for version in planned.images)
        compute = Compute(planned.operation, planned.processor.name, arrays, planned.device, slots)
        order = Order(
            planned.processor.name,
            dict(planned.params),
            tuple((v.store.url, str(v.place), v.id) for v in planned.versions),
            (self.held.backend.url, str(self.held.place)),
            planned.plan,
            layout.blocks.cuts,
            layout.tile,
            planned.device,
            None if planned.weights is None else planned.weights.address,
        )
        return Work(compute, layout.blocks, planned.plan, layout.tile, self.held), order

    def _reduce(self, reduction: Reduction, layout: Layout, work: Work, order: Order) -> Any:
        state = reduction.start()

        def add(block: Block, part: Any) -> None:
            nonlocal state
            state = reduction.add(state, block, part)

        blocks = layout.blocks
        ordered = InOrder(blocks, add)

        def done(answer: Done) -> None:
            ordered.take(answer)
            self._advance(answer)

        with self.planned.executor.doing(work, order) as line:
            self._through(line, work, mapping(blocks), done, held=lambda: ordered.held)
        return reduction.finish(state)

    def _write(self, plan: VersionPlan, layout: Layout, work: Work, order: Order) -> set[str]:
        """Write the shards of every level, each when the one below is whole; return the keys of those that hold nothing."""
        empty: set[str] = set()

        def done(answer: Done) -> None:
            self.held.adopt(answer.entries)
            empty.update(answer.empty)

        def made(answer: Done) -> None:
            done(answer)
            self._advance(answer)

        self._remember(plan, layout.workers)
        with self.planned.executor.doing(work, order) as line:
            for level in plan.levels:
                first = level.number == 0
                tasks = writing(plan, level, layout.task if first else level.shard, self.held, empty)
                self._through(line, work, self._missing(tasks, plan), made if first else done)
        return empty

    def _remember(self, plan: VersionPlan, workers: int) -> None:
        """Hash what an earlier attempt wrote, several objects at once: the tasks, made one by one, then find it known."""
        earlier = self.held.earlier
        if not earlier:
            return
        keys = (level.shard_key(at) for level in plan.levels for at in product(*map(range, level.shards)))
        with ThreadPoolExecutor(min(self.planned.executor.processes * workers, cpu_count()), "hash") as pool:
            for _ in pool.map(self.held.have, (key for key in keys if key in earlier)):
                pass

    def _missing(self, tasks: Iterable[Task], plan: VersionPlan) -> Iterator[Task]:
        """Yield the tasks that have something to write."""
        for task in tasks:
            if task.shards:
                yield task
            elif not task.level:
                self._advance(Done(task.number, nbytes=prod(s.stop - s.start for s in task.region) * plan.dtype.itemsize))

    def _through(
        self, line: Line, work: Work, tasks: Iterable[Task], done: Callable[[Done], None], *, held: Callable[[], int] = lambda: 0
    ) -> None:
        # The earliest task that is not done runs or is tried again, so that some window is always left.
        run(tasks, line.submit, done, window=lambda: AHEAD * line.width() - held(), stop=work.stopped.set, name=self._named)

    def _advance(self, answer: Done) -> None:
        self.listener(Advanced(self.task, answer.nbytes))

    def _named(self, task: Task) -> str:
        dims = grid_of(self.planned.operation, self.planned.volumes).dims
        level = f" of level {task.level}" if task.level else ""
        return f"{self.planned.processor.name}, block {where(task.region, dims)}{level}"

    def _record(self, started: datetime, notes: tuple[str, ...]) -> Record:
        planned = self.planned
        name = planned.processor.name
        plugin = registry.processors()[name]
        us = Software(name="emstore", version=emstore.__version__)
        theirs = Software(name=plugin.package, version=plugin.package_version)
        facts = planned.facts()
        cited = list(zip(roles(planned.processor, len(planned.versions)), planned.versions, strict=True))
        if planned.weights is not None and planned.weights.version is not None:
            cited.append((WEIGHTS, planned.weights.version))
        return Record(
            activity=Activity(id=f"urn:uuid:{uuid.uuid4()}", type="process", name=name, started=started, ended=datetime.now(UTC)),
            inputs=tuple(
                Input(
                    role=role,
                    ref=str(version.place),
                    id=version.id,
                    store=None if version.store.id == self.held.store_id else version.store.id,
                )
                for role, version in cited
            ),
            params=facts,
            params_digest=digest(canonical(facts)),
            software=(us,) if theirs == us else (us, theirs),
            models=planned.operation.models,
            environment=environment.current(devices.model(planned.device)),
            random=Random(seed=planned.operation.seed, deterministic=planned.operation.deterministic),
            agent=us,
            step=self.step,
            notes=notes,
        )
