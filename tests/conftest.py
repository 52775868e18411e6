"""Shared fixtures: where the real instrument files are, and a real S3 server."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seaweed import Seaweed, running

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real instrument files; tests that need it are skipped by name where it is absent."""
    folder = Path(os.environ.get("EMSTORE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no instrument files at {folder} (set EMSTORE_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def instrument_file(data_dir: Path) -> Callable[[str], Path]:
    """Return the path of one real file or folder, skipping the test by name where it is absent."""

    def find(name: str) -> Path:
        path = data_dir / name
        if not path.exists():
            pytest.skip(f"instrument file {name} is not there")
        return path

    return find


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real S3 server with one bucket, which all tests share: each keeps to a folder of its own name."""
    with running(tmp_path_factory.mktemp("weed")) as server:
        yield server
