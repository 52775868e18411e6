"""The Record: how a version came to be. Sealed with it, so it can never drift from the data.

The terms follow W3C PROV (entity, activity, agent, used) so that the Record maps to PROV and RO-Crate. It never holds a
host name, user name, absolute path or URL credentials: sources are named by base name, size and digest.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Digest = Annotated[str, StringConstraints(pattern=r"^(blake3|sha256):[0-9a-f]{64}$")]
"""``algorithm:hex``; blake3 for content identity, sha256 where others must check."""

BaseName = Annotated[str, StringConstraints(pattern=r"^[^/\\\x00]+$", max_length=255)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Activity(_Model):
    """What was done."""

    id: str
    """``urn:uuid:...``."""
    type: Literal["ingest", "process", "train", "simulate", "import", "copy"]
    name: str
    """Adapter, processor or recipe name."""
    started: datetime
    ended: datetime


class Input(_Model):
    """A version that was read."""

    role: str
    ref: str
    """DATASET/ARRAY/vN in its store."""
    id: Digest
    """Version id: the digest of its seal."""
    store: str | None = None
    """``urn:uuid:...`` of its store, where that is another one than the version's own."""


class SourceFile(_Model):
    """A raw file that was read."""

    name: BaseName
    size: int = Field(ge=0)
    """Bytes."""
    digest: Digest
    format: str


class Software(_Model):
    """A program that took part."""

    name: str
    version: str
    commit: str | None = None


class Model(_Model):
    """Weights that were used."""

    name: str
    digest: Digest
    licence: str | None = None


class Environment(_Model):
    """Where it ran, as far as results may depend on it."""

    python: str
    platform: str
    """Operating system and processor, e.g. ``linux x86_64``."""
    device: str
    """``cpu`` or the accelerator's model name."""
    lock: Digest
    """Digest of the sorted list of installed packages with versions."""


class Random(_Model):
    """What chance had to do with it."""

    seed: int | None = None
    deterministic: bool


class Step(_Model):
    """Which step of which recipe it was."""

    recipe: str
    digest: Digest
    """Of all that the recipe says, comments and layout left out."""
    name: str


class Left(_Model):
    """Something that should have been used but was not."""

    name: str
    reason: str


class Record(_Model):
    """How a version came to be."""

    activity: Activity
    inputs: tuple[Input, ...] = ()
    sources: tuple[SourceFile, ...] = ()
    params: dict[str, Any] = Field(default_factory=dict)
    """Every setting that shaped the result."""
    params_digest: Digest
    software: tuple[Software, ...]
    models: tuple[Model, ...] = ()
    environment: Environment
    random: Random
    agent: Software
    """The software agent that acted; people are never named."""
    step: Step | None = None
    """The step of a recipe that asked for it; ``None`` when it was asked for by itself."""
    deid: dict[str, Any] | None = None
    """De-identification that was applied; ``None`` when none was."""
    skipped: tuple[Left, ...] = ()
    """Data that could not be read, with reasons; only with an allowed partial read."""
    ignored: tuple[Left, ...] = ()
    """Files without array data that lay beside it."""
    notes: tuple[str, ...] = ()
    """Rules applied and oddities met, in sentences."""
