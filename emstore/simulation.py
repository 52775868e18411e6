"""Parameters in, sealed versions with their truth out: a use case.

What was asked for is sealed first; what comes with it (tables of the truth, other quantities) goes beside it, each citing it
as its input. A run that was stopped anywhere is taken up by the same call: the simulator finds its scratch folder, and what is
sealed stays.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import emstore
from emstore import making, registry
from emstore.arguments import check_plain, checked
from emstore.errors import InvalidInput
from emstore.events import Advanced, Finished, Listener, Noted, Started, silent
from emstore.provenance import environment
from emstore.provenance.record import Activity, Input, Random, Record
from emstore.simulator import Simulated, Simulator
from emstore.store import (
    LONGEST_NAME,
    Place,
    Store,
    Transaction,
    Version,
    begin,
    canonical,
    digest,
    load,
    plan_version,
    resolve_target,
    seal_table,
    seal_volume,
)
from emstore.store.layout import check_name
from emstore.store.plan import VersionPlan, cpu_count, same_plan
from emstore.table import Table
from emstore.volume import Volume
from emstore.work import Bench

LAYOUT_MEMORY: Final = 1 << 30
"""Budget by which the layout of a result is chosen, bytes: the same whatever a rerun is given, so that it can resume."""
ROOM: Final = 16
"""Characters that an array's name leaves for what goes beside it."""


def simulate(
    name: str,
    target: str,
    *,
    params: Mapping[str, Any] | None = None,
    memory: int = making.MEMORY,
    threads: int | None = None,
    pyramid: bool = True,
    again: bool = False,
    plans_told: Mapping[str, Any] | None = None,
    listener: Listener = silent,
) -> list[Version]:
    """Make versions from parameters alone.

    Parameters
    ----------
    name : str
        The simulator, e.g. ``stem``.
    target : str
        ``STORE/DATASET/ARRAY``; what comes with it goes to ``ARRAY-<what it is>``.
    params : mapping, optional
        The simulator's parameters; see `emstore.registry.simulator`.
    memory : int, bytes
        Budget of the whole process.
    threads : int, optional
        CPU threads; one per core by default.
    pyramid : bool
        Also write coarser scale levels.
    again : bool
        Make new versions even if equal ones are there.
    plans_told : mapping, optional
        By part, how other versions say they were laid out (``record.params["plan"]``): do it likewise, where that can be done.
    listener : callable
        Told of progress.

    Returns
    -------
    list of Version
        What was asked for, then what came with it. Exactly the same made before is returned, not made again.

    Raises
    ------
    InvalidInput, NotFound, Capacity, Conflict, StorageFailed, PrivacyRefused, ProcessingFailed, Interrupted
        See `emstore.errors`. Nothing is visible unless whole; the same call resumes what was interrupted.
    """
    store, place = resolve_target(target)
    assert place.array is not None
    if len(place.array) > LONGEST_NAME - ROOM:
        raise InvalidInput(
            f"the array's name leaves no room for what goes beside it: {LONGEST_NAME - ROOM} characters at most", where=target
        )
    simulator = registry.simulator(name)
    given = checked(simulator, params or {}, "simulators")
    plain = given.model_dump(mode="json")
    check_plain(name, plain)
    work = _Work(simulator, given, plain, store, place, pyramid, plans_told or {}, listener)
    store.backend.probe()
    return work.carry_out(again, memory, threads or cpu_count())


@dataclass(frozen=True)
class _Work:
    """One simulation."""

    simulator: Simulator
    given: Any
    params: Mapping[str, Any]
    """As a Record holds them."""
    store: Store
    place: Place
    pyramid: bool
    plans_told: Mapping[str, Any]
    listener: Listener

    def settings(self, part: str = "", main: Version | None = None) -> str:
        """Return the digest by which a rerun finds what is there."""
        plugin = registry.simulators()[self.simulator.name]
        facts = {
            "activity": "simulate",
            "emstore": emstore.__version__,
            "package": [plugin.package, plugin.package_version],
            "simulator": [self.simulator.name, self.simulator.version],
            "params": dict(self.params),
            "pyramid": self.pyramid,
        }
        return digest(canonical(facts if main is None else {**facts, "part": part, "of": main.id}))

    def place_of(self, part: str) -> Place:
        """Return the array that a part goes to."""
        return self.place if not part else Place(self.place.dataset, f"{self.place.array}-{part}")

    def carry_out(self, again: bool, memory: int, threads: int) -> list[Version]:
        """Make what is not sealed yet; return every part."""
        started = datetime.now(UTC)
        done: dict[str, Version] = {}
        with making.holding(f"{self.store.url}/{self.place}") as held:
            self._begin("", None, held, done, again)
            if done:
                for part in done[""].record.params["parts"][1:]:
                    self._begin(part, done[""], held, done)
            if not held:
                making.forget(self.store, self.place, self.settings())
                return list(done.values())
            first = next(iter(held.values()))
            with making.scratch(self.store, self.place, self.settings()) as folder:
                bench = Bench(folder, making.teller(f"{self.store.url}/{first.place}", self.listener), memory, threads)
                parts = self._made(bench)
                for part in parts:
                    if part.suffix not in held | done:
                        self._begin(part.suffix, done[""], held, done)
                    if part.suffix in held:
                        done[part.suffix] = self._seal(held[part.suffix], part, parts, done.get(""), started)
                        del held[part.suffix]
        return [done[part.suffix] for part in parts]

    def _begin(
        self, part: str, main: Version | None, held: dict[str, Transaction], done: dict[str, Version], again: bool = False
    ) -> None:
        """Reserve a part's version, or find the one that is there."""
        name = self.simulator.name
        found = begin(
            self.store.backend,
            self.place_of(part),
            settings=self.settings(part, main),
            task=f"simulate {name}, {part}" if part else f"simulate {name}",
            store_id=self.store.id,
            again=again,
        )
        if isinstance(found, Transaction):
            held[part] = found
        else:
            done[part] = load(self.store, found.place)

    def _made(self, bench: Bench) -> Sequence[Simulated]:
        """Return what the simulator makes, checked."""
        bench.tell(0.0, "begins")
        parts = tuple(making.called(self.simulator.name, self.simulator.simulate, self.given, bench))
        names = [part.suffix for part in parts]
        if not names or names[0] or len(set(names)) < len(names) or not all(names[1:]):
            raise InvalidInput(
                f"the simulator gave parts called {names}; the first has no name, the others one each",
                where=self.simulator.name,
                fix="report it to its author",
            )
        for part in names[1:]:
            array = self.place_of(part).array
            assert array is not None
            check_name(array, "array")
        bench.tell(1.0, "made")
        return parts

    def _seal(
        self, held: Transaction, part: Simulated, parts: Sequence[Simulated], main: Version | None, started: datetime
    ) -> Version:
        task, content = f"{self.store.url}/{held.place}", part.content
        for note in content.notes:
            self.listener(Noted(task, note))
        if isinstance(content, Table):
            self.listener(Started(task, sum(column.values.nbytes for column in content.columns.values())))
            seal_table(held, content, partial(self._record, part, parts, main, None, started))
        else:
            self.listener(Started(task, content.nbytes))
            plan = self._planned(part.suffix, content)

            def write() -> None:
                record = partial(self._record, part, parts, main, plan, started)
                seal_volume(held, content, plan, record, advance=lambda n: self.listener(Advanced(task, n)))

            making.called(self.simulator.name, write)
        version = load(self.store, held.place)
        self.listener(Finished(task, version.id))
        return version

    def _planned(self, part: str, volume: Volume) -> VersionPlan:
        told = self.plans_told.get(part)
        plan = None if told is None else same_plan(volume, told, memory=LAYOUT_MEMORY)
        return plan or plan_version(volume, pyramid=self.pyramid, memory=LAYOUT_MEMORY)

    def _record(
        self, part: Simulated, parts: Sequence[Simulated], main: Version | None, plan: VersionPlan | None, started: datetime
    ) -> Record:
        simulator = self.simulator
        facts: dict[str, Any] = {
            "simulator": simulator.name,
            "simulator_version": simulator.version,
            "params": dict(self.params),
            "part": part.suffix,
            "parts": [each.suffix for each in parts],
            "plan": None if plan is None else plan.to_json(),
        }
        software = making.code_of(registry.simulators()[simulator.name], simulator)
        return Record(
            activity=Activity(
                id=f"urn:uuid:{uuid.uuid4()}", type="simulate", name=simulator.name, started=started, ended=datetime.now(UTC)
            ),
            inputs=() if main is None else (Input(role="simulated", ref=str(main.place), id=main.id),),
            params=facts,
            params_digest=digest(canonical(facts)),
            software=software,
            environment=environment.current(),
            random=Random(seed=making.seed_of(self.given), deterministic=True),
            agent=software[0],
            notes=part.content.notes,
        )
