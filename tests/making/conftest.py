"""A store, a planted simulator and trainer, and a folder of one's own for what must outlive a stop."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import emstore
import planted_makers
from emstore import registry
from emstore.geometry import Axis, AxisKind
from planted_entry_points import planted
from sealed import seal, volume


@pytest.fixture(scope="module", autouse=True)
def makers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    groups = {
        registry.SIMULATORS: planted_makers.SIMULATORS,
        registry.TRAINERS: planted_makers.TRAINERS,
        registry.PROCESSORS: planted_makers.PROCESSORS,
    }
    with planted(tmp_path_factory.mktemp("makers"), planted_makers.PACKAGE, groups):
        yield


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the plug-ins tell what they did; their scratch folders are beside it, in ``home``."""
    path = tmp_path / "done.txt"
    path.touch()
    monkeypatch.setenv("PLANTED_LOG", str(path))
    monkeypatch.setenv("EMSTORE_HOME", str(tmp_path / "home"))
    return path


@pytest.fixture
def lab(tmp_path: Path, done: Path) -> str:
    """A fresh store."""
    return str(emstore.create_store(str(tmp_path / "lab.zarr")).url)


@pytest.fixture
def crops(lab: str) -> list[str]:
    """Two versions to learn from."""
    axes = [Axis(name, size, AxisKind.OTHER if name == "n" else AxisKind.SPACE) for name, size in (("n", 3), ("y", 4), ("x", 5))]
    random = np.random.default_rng(2)
    return [
        seal(volume(name, random.normal(3, 1, (3, 4, 5)).astype("f4"), *axes), f"{lab}/crops/{name}").ref
        for name in ("training", "validation")
    ]
