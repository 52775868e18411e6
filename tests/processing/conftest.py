"""A store, processors for the engine, and small shards, so that small arrays have many."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import emstore
import engine_processors
from emstore.store import chunking


@pytest.fixture(scope="module", autouse=True)
def processors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with engine_processors.registered(tmp_path_factory.mktemp("processors")):
        yield


@pytest.fixture
def lab(tmp_path: Path) -> str:
    """A fresh store."""
    return str(emstore.create_store(str(tmp_path / "lab.zarr")).url)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 8^3 and shards of 16^3 voxels: what an array of 40^3 needs to have 27 shards."""
    monkeypatch.setattr(chunking, "CHUNK_VOXELS", 8**3)
    monkeypatch.setattr(chunking, "SHARD_VOXELS", 16**3)
