"""A store of made-up crystals to train on."""

from pathlib import Path

import numpy as np
import pytest

import emstore
from lattices import crystals, sealed_crystals


@pytest.fixture(scope="session")
def crystal_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trainers") / "lab.zarr"
    emstore.create_store(str(path))
    return path


@pytest.fixture(scope="session")
def refs(crystal_lab: Path) -> list[str]:
    """Training and validation images, 32x32 pixels at 800 electrons per square angstrom."""
    sets = {"training": crystals(1, 96, size=(32, 32), dose=800), "validation": crystals(2, 16, size=(32, 32), dose=800)}
    return [sealed_crystals(f"{crystal_lab}/made/{name}", values) for name, values in sets.items()]


@pytest.fixture(scope="session")
def unmarked(crystal_lab: Path) -> str:
    """Images of which nothing says what they are."""
    return sealed_crystals(f"{crystal_lab}/made/unmarked", np.ones((8, 32, 32), np.float32), None)
