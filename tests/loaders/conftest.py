"""A store of small versions to train on."""

from pathlib import Path

import pytest

import emstore
from training_versions import SHAPES, counted, put


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loaders") / "lab.zarr"
    emstore.create_store(str(path))
    return path


@pytest.fixture(scope="session")
def versions(lab: Path) -> dict[str, emstore.Version]:
    """One version of every shape."""
    return {name: put(f"{lab}/made/{name}", counted(tuple(sizes.values())), "".join(sizes)) for name, sizes in SHAPES.items()}


@pytest.fixture(scope="session")
def large(lab: Path) -> emstore.Version:
    """A version of 8 shards and 125 chunks, those of 1 MiB."""
    return put(f"{lab}/made/large", counted((288, 288, 288)), "zyx")
