"""Seal small versions that cite others, as processing does, for tests of lineage."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from emstore.geometry import Axis
from emstore.provenance import environment
from emstore.provenance.record import Activity, Environment, Input, Model, Random, Record, Software, SourceFile
from emstore.store import Transaction, Version, begin, canonical, digest, load, plan_version, resolve, seal_volume
from emstore.volume import Volume
from sealed import volume

ActivityType = Literal["ingest", "process", "train", "simulate", "import", "copy"]
_ENVIRONMENT = Environment(python="3.11.0", platform="linux x86_64", device="cpu", lock=environment.current().lock)


def cite(version: Version, role: str = "image", *, store: str | None = None) -> Input:
    """Return the citation of a version as a Record holds it."""
    return Input(role=role, ref=str(version.place), id=version.id, store=store)


def small(name: str = "made", **rest: Any) -> Volume:
    """Return a volume that is quickly sealed."""
    return volume(
        name,
        np.arange(8, dtype=np.uint8).reshape(2, 4),
        Axis("y", 2, spacing=0.5, unit="millimeter"),
        Axis("x", 4, spacing=0.25, unit="millimeter"),
        **rest,
    )


def make(
    target: str,
    inputs: Sequence[Input] = (),
    *,
    activity: ActivityType | None = None,
    name: str = "denoise.gaussian",
    params: dict[str, Any] | None = None,
    models: Sequence[Model] = (),
    sources: Sequence[SourceFile] = (),
    when: datetime | None = None,
    what: Volume | None = None,
    notes: Sequence[str] = (),
) -> Version:
    """Seal a version that says it was made from others, as the next one of ``STORE/DATASET/ARRAY``."""
    store, place = resolve(target)
    held = begin(store.backend, place, settings=digest(uuid.uuid4().bytes), task="test", store_id=store.id)
    assert isinstance(held, Transaction)
    now = datetime.now(UTC) if when is None else when
    full = {"processor": name, "processor_version": "1", "device": "cpu", "params": params or {}} if inputs else params or {}
    us = Software(name="emstore", version="0.1.0")
    record = Record(
        activity=Activity(
            id=f"urn:uuid:{uuid.uuid4()}",
            type=activity or ("process" if inputs else "ingest"),
            name=name if inputs or activity else "nifti",
            started=now,
            ended=now,
        ),
        inputs=tuple(inputs),
        sources=tuple(sources),
        params=full,
        params_digest=digest(canonical(full)),
        software=(us,),
        models=tuple(models),
        environment=_ENVIRONMENT,
        random=Random(deterministic=True),
        agent=us,
        notes=tuple(notes),
    )
    made = small() if what is None else what
    seal_volume(held, made, plan_version(made), lambda: record)
    return load(store, held.place)
