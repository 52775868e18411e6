"""Processing volumes in memory through a real store, for `ProcessorConformance`."""

import uuid
from datetime import UTC, datetime
from typing import Any, Final

from emstore.blocks.executors import Cluster, Executor, Processes, Threads
from emstore.processing import process
from emstore.provenance import environment
from emstore.provenance.record import Activity, Random, Record, Software
from emstore.store import Store, Transaction, begin, canonical, digest, plan_version, resolve, seal_volume
from emstore.volume import Volume

MEMORY: Final = 4 << 30
_EXECUTORS: Final[dict[str, Executor]] = {"threads": Threads(2), "processes": Processes(2), "dask": Cluster("local:2")}


def sealed_objects(name: str, volumes: tuple[Volume, ...], params: Any, store: Store, executor: str) -> dict[str, str]:
    """Seal volumes, process them, and return the digests of the objects made but those that tell when and how."""
    inputs = [seal(volume, f"{store.url}/{executor}/input{i}") for i, volume in enumerate(volumes)]
    made = process(
        name,
        inputs,
        f"{store.url}/{executor}/result",
        params=params.model_dump(mode="json"),
        executor=_EXECUTORS[executor],
        memory=MEMORY,
    )
    return {entry.key: entry.digest for entry in made.version.manifest.objects if not entry.key.startswith(".emstore/")}


def seal(volume: Volume, target: str) -> str:
    """Seal a volume as the next version of an array; return its REF."""
    store, place = resolve(target)
    held = begin(store.backend, place, settings=digest(uuid.uuid4().bytes), task="test input", store_id=store.id)
    assert isinstance(held, Transaction)
    seal_volume(held, volume, plan_version(volume), _record)
    return f"{store.url}/{held.place}"


def _record() -> Record:
    now = datetime.now(UTC)
    us = Software(name="emstore", version="test")
    return Record(
        activity=Activity(id=f"urn:uuid:{uuid.uuid4()}", type="import", name="test", started=now, ended=now),
        params_digest=digest(canonical({})),
        software=(us,),
        environment=environment.current(),
        random=Random(deterministic=True),
        agent=us,
    )
