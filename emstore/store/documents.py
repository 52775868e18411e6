"""The JSON documents a store is made of, as models. `schemas/` holds the same as JSON Schema; a test keeps them equal."""

import json
from datetime import datetime
from typing import Any, Literal

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from emstore.provenance.record import Digest, Record
from emstore.store.layout import LAYOUT


def canonical(document: Any) -> bytes:
    """Return the one byte form of a JSON document: sorted keys, no spaces, UTF-8, no NaN (RFC 8785 in spirit)."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(data: bytes | bytearray | memoryview) -> str:
    """Return ``blake3:hex`` of some bytes."""
    return f"blake3:{blake3(data).hexdigest()}"


def group_document(info: BaseModel) -> bytes:
    """Return the ``zarr.json`` of a group whose ``attributes.emstore`` is `info`."""
    return canonical({"zarr_format": 3, "node_type": "group", "attributes": {"emstore": info.model_dump(mode="json")}})


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreInfo(_Model):
    """``attributes.emstore`` of the store's root group."""

    kind: Literal["store"] = "store"
    layout: Literal[1] = LAYOUT
    store_id: str
    """``urn:uuid:...``, given once by ``init``."""


class DatasetInfo(_Model):
    """``attributes.emstore`` of a dataset group."""

    kind: Literal["dataset"] = "dataset"


class ArrayInfo(_Model):
    """``attributes.emstore`` of an array group."""

    kind: Literal["array"] = "array"


class Txn(_Model):
    """``.emstore/txn.json``: who reserved this version number, for what. Its create-only put is the reservation."""

    kind: Literal["txn"] = "txn"
    layout: Literal[1] = LAYOUT
    txn: str
    """``urn:uuid:...`` of the attempt that reserved the number."""
    settings: Digest
    """Digest of all that shapes the result: sources, parameters, chunking, code version. Equal settings may resume."""
    task: str
    """What is being made, for people: activity and name."""
    created: datetime


class Lease(_Model):
    """``.emstore/lease/N.json``: the process that may write now. Attempt N+1 takes over from N."""

    kind: Literal["lease"] = "lease"
    writer: str
    """``urn:uuid:...``."""
    machine: str
    """Salted digest that tells whether two processes share a machine; names nothing."""
    pid: int
    process_started: float
    """Start time of the process, seconds since the epoch: tells a reused pid."""
    expires: datetime
    released: bool = False


class ManifestEntry(_Model):
    """One object of a version."""

    key: str
    """Relative to the version."""
    size: int = Field(ge=0)
    """Bytes."""
    digest: Digest


class Manifest(_Model):
    """``.emstore/manifest.json``: every object of the version but itself and the seal."""

    kind: Literal["manifest"] = "manifest"
    layout: Literal[1] = LAYOUT
    objects: tuple[ManifestEntry, ...]
    """Sorted by key."""
    empty: tuple[str, ...]
    """Shard keys that were left out because every voxel has the fill value, sorted."""


class Contents(_Model):
    """Size of a version."""

    objects: int
    nbytes: int
    """Stored bytes of all objects in the manifest."""


class VolumeInfo(_Model):
    """What the values of a version are."""

    name: str
    kind: Literal["image", "labels", "table", "model"]
    modality: str | None
    shape: tuple[int, ...]
    dtype: str
    """NumPy name, e.g. ``uint16``; ``table`` or ``model`` for what has columns or arrays with their own."""
    dims: tuple[str, ...]
    levels: tuple[str, ...]
    """Group of each scale level, finest first: ``s0``, ``s1`` ...; of a table or a model only ``s0``."""
    scale: dict[str, Any] | None
    """``{slope, intercept, unit}``: physical = slope * stored + intercept."""
    window: tuple[float, float] | None
    attributes: dict[str, Any]
    notes: tuple[str, ...]


class HeaderInfo(_Model):
    """Where the instrument's header is kept, and the facts that mean the same everywhere."""

    format: str
    terms: dict[str, Any]
    tree: str | None
    """Key of the parsed header, relative to the version."""
    source: str | None
    """Key of the byte-exact original headers (a zip), relative to the version."""


class VersionInfo(_Model):
    """``attributes.emstore`` of a sealed version's root group: the seal."""

    kind: Literal["version"] = "version"
    layout: Literal[1] = LAYOUT
    store_id: str
    path: str
    """DATASET/ARRAY/vN."""
    txn: str
    settings: Digest
    volume: VolumeInfo
    voxel: dict[str, Any]
    """The grid (see the ``voxel`` schema)."""
    header: HeaderInfo
    contents: Contents
    manifest: Digest
    record: Record
    seal: Digest
    """Digest of the canonical root document without this field: the version id."""


class Tombstone(_Model):
    """``attributes.emstore`` of an abandoned version: its number is used up, its data deleted."""

    kind: Literal["aborted"] = "aborted"
    layout: Literal[1] = LAYOUT
    reason: str
    when: datetime


class VoxelAxis(_Model):
    """One axis of the grid."""

    name: str
    kind: Literal["time", "channel", "space", "spectral", "reciprocal", "other"]
    size: int = Field(ge=1)
    spacing: float | None = Field(gt=0)
    unit: str | None
    origin: float
    labels: tuple[str, ...] | None = None


class VoxelAffine(_Model):
    """Index-to-world transform of z, y, x in array order."""

    matrix: tuple[tuple[float, float, float, float], ...] = Field(min_length=4, max_length=4)
    space: Literal["RAS", "LPS", "instrument"]
    unit: str | None


class Voxel(_Model):
    """``attributes.emstore.voxel``: where every voxel is."""

    axes: tuple[VoxelAxis, ...]
    spacing: dict[str, float | None] | None
    """Spacing or median step per axis; ``None`` as a whole when nothing is known."""
    uniform: dict[str, bool]
    max_deviation: dict[str, float]
    """Largest distance of a sample from equal spacing, per irregular axis."""
    positions: dict[str, tuple[float, ...]]
    """True positions per irregular axis."""
    affine: VoxelAffine | None


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema (draft 2020-12) of every document, by file name stem."""
    models: dict[str, type[BaseModel]] = {
        "store": StoreInfo,
        "dataset": DatasetInfo,
        "array": ArrayInfo,
        "txn": Txn,
        "lease": Lease,
        "manifest": Manifest,
        "version": VersionInfo,
        "tombstone": Tombstone,
        "voxel": Voxel,
        "record": Record,
    }
    return {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(model).json_schema()}
        for name, model in models.items()
    }
