"""Versions in, the weights of a network out: a use case.

The trainer keeps its checkpoints in a scratch folder that the same call finds again. What it returns is kept there too until
it is sealed: two trainings need not give the same bits, so what was half written must be ended with the very same weights.
"""

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import emstore
from emstore import making, registry
from emstore.arguments import check_count, check_plain, checked, roles
from emstore.blocks import device as devices
from emstore.blocks.compute import CPU
from emstore.errors import Damaged, InvalidInput, SourceUnreadable
from emstore.events import Finished, Listener, Noted, silent
from emstore.networks import read_weights, write_weights
from emstore.provenance import environment
from emstore.provenance.record import Activity, Input, Random, Record
from emstore.store import Transaction, Version, begin, canonical, digest, load, open_version, resolve_target, seal_weights
from emstore.store.plan import cpu_count
from emstore.store.weights import check_weights
from emstore.trainer import Trainer
from emstore.weights import Weights
from emstore.work import Bench


def train(
    name: str,
    refs: Sequence[str],
    target: str,
    *,
    params: Mapping[str, Any] | None = None,
    memory: int = making.MEMORY,
    threads: int | None = None,
    device: str = CPU,
    again: bool = False,
    listener: Listener = silent,
) -> Version:
    """Make a network's weights from versions.

    Parameters
    ----------
    name : str
        The trainer, e.g. ``autoencoder``.
    refs : sequence of str
        One REF per input the trainer asks for, in its order; the latest version where no number is given.
    target : str
        ``STORE/DATASET/ARRAY``.
    params : mapping, optional
        The trainer's parameters; see `emstore.registry.trainer`.
    memory : int, bytes
        Budget of the whole process.
    threads : int, optional
        CPU threads; one per core by default.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    again : bool
        Train again even if the same was trained before.
    listener : callable
        Told of progress.

    Returns
    -------
    Version
        Exactly the same trained before is returned, not made again.

    Raises
    ------
    InvalidInput, NotFound, Capacity, Conflict, StorageFailed, PrivacyRefused, Damaged, ProcessingFailed, Interrupted
        See `emstore.errors`. Nothing is visible unless whole; the same call resumes what was interrupted.
    """
    store, place = resolve_target(target)
    trainer = registry.trainer(name)
    check_count(trainer, len(refs))
    given = checked(trainer, params or {}, "trainers")
    plain = given.model_dump(mode="json")
    check_plain(name, plain)
    kind, _, number = device.partition(":")
    if kind not in (CPU, "cuda") or (kind == CPU and number) or (number and not number.isdigit()):
        raise InvalidInput(f"there is no device {device!r}", where=name, fix="use cpu, cuda or cuda:N")
    work = _Work(trainer, given, plain, tuple(open_version(ref) for ref in refs), device, listener)
    settings = work.settings()
    store.backend.probe()
    with making.holding(f"{store.url}/{place}") as held:
        found = begin(store.backend, place, settings=settings, task=f"train {name}", store_id=store.id, again=again)
        if not isinstance(found, Transaction):
            making.forget(store, place, settings)
            return load(store, found.place)
        held[""] = found
        task = f"{store.url}/{found.place}"
        with making.scratch(store, place, settings) as folder:
            started = datetime.now(UTC)
            weights = work.trained(folder, task, memory, threads or cpu_count())
            seal_weights(found, weights, partial(work.record, found, weights, started))
            del held[""]
    version = load(store, found.place)
    listener(Finished(task, version.id))
    return version


@dataclass(frozen=True)
class _Work:
    """One training."""

    trainer: Trainer
    given: Any
    params: Mapping[str, Any]
    """As a Record holds them."""
    versions: tuple[Version, ...]
    """What is read, in the order of the trainer's roles."""
    device: str
    listener: Listener

    def facts(self) -> dict[str, Any]:
        """Return all that shapes the result but the inputs and the code."""
        return {
            "trainer": self.trainer.name,
            "trainer_version": self.trainer.version,
            "device": self.device.partition(":")[0],
            "params": dict(self.params),
        }

    def settings(self) -> str:
        """Return the digest by which a rerun finds what is there."""
        plugin = registry.trainers()[self.trainer.name]
        facts = {
            "activity": "train",
            "emstore": emstore.__version__,
            "package": [plugin.package, plugin.package_version],
            "inputs": [version.id for version in self.versions],
            **self.facts(),
        }
        return digest(canonical(facts))

    def trained(self, folder: Path, task: str, memory: int, threads: int) -> Weights:
        """Return the weights: those that an earlier attempt ended with, or new ones, kept before anything is done with them."""
        kept, work = folder / "weights.npz", folder / "work"
        with contextlib.suppress(Damaged, SourceUnreadable):
            if kept.exists():
                return read_weights(kept)[0]
        work.mkdir(exist_ok=True)
        bench = Bench(work, making.teller(task, self.listener), memory, threads, self.device)
        bench.tell(0.0, "begins")
        weights = making.called(self.trainer.name, self.trainer.train, [v.ref for v in self.versions], self.given, bench)
        if not isinstance(weights, Weights):
            raise InvalidInput("the trainer gave no weights", where=self.trainer.name, fix="report it to its author")
        check_weights(weights)
        write_weights(kept, weights)
        bench.tell(1.0, "trained")
        for note in weights.notes:
            self.listener(Noted(task, note))
        return read_weights(kept)[0]

    def record(self, held: Transaction, weights: Weights, started: datetime) -> Record:
        """Return how the weights came to be."""
        trainer, facts = self.trainer, self.facts()
        software = making.code_of(registry.trainers()[trainer.name], trainer)
        return Record(
            activity=Activity(
                id=f"urn:uuid:{uuid.uuid4()}", type="train", name=trainer.name, started=started, ended=datetime.now(UTC)
            ),
            inputs=tuple(
                Input(
                    role=role,
                    ref=str(version.place),
                    id=version.id,
                    store=None if version.store.id == held.store_id else version.store.id,
                )
                for role, version in zip(roles(trainer, len(self.versions)), self.versions, strict=True)
            ),
            params=facts,
            params_digest=digest(canonical(facts)),
            software=software,
            environment=environment.current(devices.model(self.device)),
            random=Random(seed=making.seed_of(self.given), deterministic=False),
            agent=software[0],
            notes=weights.notes,
        )
