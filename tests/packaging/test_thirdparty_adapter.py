"""An adapter in a package of its own, installed with pip into a fresh environment, is found and used like a built-in one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fresh_environment import python_with, run

HERE = Path(__file__).resolve().parent
PACKAGE = HERE / "thirdparty_adapter"
COMMAND = "import sys; sys.argv[0] = 'emstore'; from emstore.cli.app import main; main()"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment: everything installed here behind it, the third party's package in it."""
    return python_with(PACKAGE, tmp_path_factory.mktemp("thirdparty"))


@pytest.fixture
def slab(tmp_path: Path) -> Path:
    """A file of the third party's format; its name says nothing of it."""
    values = np.arange(4 * 30 * 40, dtype="<u2").reshape(4, 30, 40)
    head = b"SLAB 1\nslices 4\nrows 30\ncolumns 40\ntype u16\nstep 8\nunit nm\n\n"
    (tmp_path / "measured").write_bytes(head + values.tobytes())
    return tmp_path / "measured"


def emstore(python: Path, *arguments: str | Path, cwd: Path) -> dict[str, Any]:
    last: dict[str, Any] = json.loads(run(python, "-c", COMMAND, *arguments, "--json", cwd=cwd).splitlines()[-1])
    return last


def test_it_is_listed_with_its_package(python: Path, tmp_path: Path) -> None:
    listed = {adapter["name"]: adapter for adapter in emstore(python, "adapters", cwd=tmp_path)["adapters"]}
    assert listed["slab"] == {
        "name": "slab",
        "package": "emstore-slab",
        "package_version": "0.3",
        "version": "1",
        "formats": {"SLAB": [".slab"]},
        "error": None,
    }
    assert listed["nifti"]["package"] == "emstore"


def test_its_files_are_inspected_and_ingested(python: Path, slab: Path, tmp_path: Path) -> None:
    found = emstore(python, "inspect", slab, cwd=tmp_path)
    assert found["adapter"] == "slab"
    assert found["volumes"][0]["spacing"] == {"z": 8.0, "y": 8.0, "x": 8.0}
    emstore(python, "init", "lab.zarr", cwd=tmp_path)
    [version] = emstore(python, "ingest", slab, "lab.zarr/toy/raw", cwd=tmp_path)["versions"]
    assert version["shape"] == [4, 30, 40]
    assert set(version["units"].values()) == {"nanometer"}
    software = emstore(python, "info", "lab.zarr/toy/raw", cwd=tmp_path)["record"]["software"]
    assert {"name": "emstore-slab", "version": "0.3", "commit": None} in software
    assert emstore(python, "verify", "lab.zarr", "--data", cwd=tmp_path)["ok"] is True
    read = "import emstore; print(emstore.open('lab.zarr/toy/raw').array()[:, :, :].ravel().tolist() == list(range(4800)))"
    assert run(python, "-c", read, cwd=tmp_path).strip() == "True"


def test_it_is_not_there_without_its_package(slab: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "inspect", str(slab)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 5
    assert "no installed adapter recognises it" in done.stderr


def test_the_package_is_as_small_as_an_adapter_can_be() -> None:
    assert len((PACKAGE / "emstore_slab.py").read_text().splitlines()) < 60
