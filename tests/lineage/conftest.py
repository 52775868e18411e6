"""Stores to ask about, and a cache of their own for every test."""

from pathlib import Path

import pytest

from emstore.store import Store, create_store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EMSTORE_HOME", str(folder))
    return folder


@pytest.fixture
def lab(tmp_path: Path) -> Store:
    return create_store(str(tmp_path / "lab.zarr"))


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return create_store(str(tmp_path / "other.zarr"))
