"""A processor in a package of its own, installed with pip into a fresh environment, is found and used like a built-in one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from fresh_environment import python_with, run

PACKAGE = Path(__file__).resolve().parent / "thirdparty_processor"
COMMAND = "import sys; sys.argv[0] = 'emstore'; from emstore.cli.app import main; main()"

SUITE = """
import numpy as np
from emstore.testing import ProcessorConformance
from emstore_invert import Invert

class TestInvert(ProcessorConformance):
    processor = Invert
    volumes = [np.arange(6 * 7 * 8, dtype="u1").reshape(6, 7, 8), np.arange(90, dtype="u1").reshape(9, 10)]
    params = [{}, {"top": 200}]
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment: everything installed here behind it, the third party's package in it."""
    return python_with(PACKAGE, tmp_path_factory.mktemp("thirdparty"))


def emstore(python: Path, *arguments: str | Path, cwd: Path) -> dict[str, Any]:
    last: dict[str, Any] = json.loads(run(python, "-c", COMMAND, *arguments, "--json", cwd=cwd).splitlines()[-1])
    return last


def test_it_is_listed_with_its_package(python: Path, tmp_path: Path) -> None:
    listed = {processor["name"]: processor for processor in emstore(python, "processors", cwd=tmp_path)["processors"]}
    invert = listed["contrast.invert"]
    assert (invert["package"], invert["package_version"], invert["version"]) == ("emstore-invert", "0.4", "2")
    assert listed["denoise.gaussian"]["package"] == "emstore"


@pytest.mark.parametrize("where", [(), ("--processes", "2")], ids=["threads", "processes"])
def test_it_makes_versions_and_its_package_is_in_their_record(python: Path, tmp_path: Path, where: tuple[str, ...]) -> None:
    values = np.random.default_rng(1).integers(0, 256, (5, 30, 40), "u1")
    tifffile.imwrite(tmp_path / "scan.tif", values, photometric="minisblack")
    emstore(python, "init", "lab.zarr", cwd=tmp_path)
    emstore(python, "ingest", "scan.tif", "lab.zarr/toy/raw", cwd=tmp_path)
    asked = ("process", "contrast.invert", "lab.zarr/toy/raw", "lab.zarr/toy/dark", "--memory", "4GiB", *where)
    emstore(python, *asked, cwd=tmp_path)
    record = emstore(python, "info", "lab.zarr/toy/dark", cwd=tmp_path)["record"]
    assert {"name": "emstore-invert", "version": "0.4", "commit": None} in record["software"]
    assert record["params"]["processor_version"] == "2"
    read = "import emstore; print(emstore.open('lab.zarr/toy/dark').array()[:, :, :].tolist())"
    assert json.loads(run(python, "-c", read, cwd=tmp_path)) == (255 - values).tolist()


def test_its_author_can_run_the_conformance_suite(python: Path, tmp_path: Path) -> None:
    (tmp_path / "test_invert.py").write_text(SUITE)
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_invert.py", cwd=tmp_path)


def test_it_is_not_there_without_its_package(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "processors", "contrast.invert"],
        capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 3
    assert "contrast.invert" in done.stderr


def test_the_package_is_as_small_as_a_processor_can_be() -> None:
    assert len((PACKAGE / "emstore_invert.py").read_text().splitlines()) < 60
