"""Seal a volume or a table made in memory through the same door as an ingest, for tests that need a version and no file."""

import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.geometry import Affine, Axis, Grid
from emstore.header import Header
from emstore.provenance import environment
from emstore.provenance.record import Activity, Random, Record, Software
from emstore.store import (
    Store,
    Transaction,
    Version,
    begin,
    canonical,
    digest,
    load,
    plan_version,
    resolve,
    seal_table,
    seal_volume,
    seal_weights,
)
from emstore.table import Table
from emstore.volume import MemoryArray, Volume
from emstore.weights import Weights


def volume(name: str, values: npt.NDArray[Any], *axes: Axis, affine: Affine | None = None, **rest: Any) -> Volume:
    """Return a volume over an array in memory."""
    return Volume(name, MemoryArray(values), Grid(axes, affine), Header("memory", {"made": "by a test"}), **rest)


def seal(volume: Volume, target: str, **plan: Any) -> Version:
    """Seal a volume as the next version of ``STORE/DATASET/ARRAY``."""
    store, held = _begin(volume.name, target)
    seal_volume(held, volume, plan_version(volume, **plan), _record)
    return load(store, held.place)


def seal_a_table(table: Table, target: str) -> Version:
    """Seal a table as the next version of ``STORE/DATASET/ARRAY``."""
    store, held = _begin(table.name, target)
    seal_table(held, table, _record)
    return load(store, held.place)


def seal_some_weights(weights: Weights, target: str) -> Version:
    """Seal weights as the next version of ``STORE/DATASET/ARRAY``."""
    store, held = _begin(weights.name, target)
    seal_weights(held, weights, _record)
    return load(store, held.place)


def _begin(name: str, target: str) -> tuple[Store, Transaction]:
    store, place = resolve(target)
    held = begin(store.backend, place, settings=digest(uuid.uuid4().bytes), task=f"import {name}", store_id=store.id)
    assert isinstance(held, Transaction)
    return store, held


def _record() -> Record:
    now = datetime.now(UTC)
    us = Software(name="test", version="1")
    return Record(
        activity=Activity(id=f"urn:uuid:{uuid.uuid4()}", type="import", name="test", started=now, ended=now),
        params_digest=digest(canonical({})),
        software=(us,),
        environment=environment.current(),
        random=Random(deterministic=True),
        agent=us,
    )


def ramp(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array whose every row, plane and frame differs, so that a swap or a shift shows."""
    values = np.zeros(shape, np.float64)
    for axis, size in enumerate(shape):
        values = values + np.sin(np.arange(size) * (0.7 + axis) + axis).reshape(
            [-1 if i == axis else 1 for i in range(len(shape))]
        )
    kind = np.dtype(dtype).kind
    if kind in "fc":
        return (values + (1j * values[::-1] if kind == "c" else 0)).astype(dtype)
    if kind == "b":
        return values > 0
    low = 0 if kind == "u" else -100
    return (low + (values - values.min()) / np.ptp(values) * 200).round().astype(dtype)
