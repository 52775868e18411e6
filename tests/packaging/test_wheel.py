"""What people install is whole, and works without the checkout around it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = ["tests/geometry", "tests/schemas", "tests/support", "tests/store/test_readers_everywhere.py::test_xarray"]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    outcome = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a source distribution and of the wheel built from it."""
    out = tmp_path_factory.mktemp("dist")
    # Without isolation: the build back end is in the extra "dev", so that no network is needed.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel in it, and the libraries of this one behind it."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A path line adds the folder after this environment's own and reads no .pth file in it: the checkout stays out.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_holds_code_schemas_types_and_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in ((".", "emstore"), ("adapters", "emstore_adapters"), ("schemas", "emstore_schemas")):
        root = ROOT / folder
        kept = {p.relative_to(root).as_posix() for p in (root / package).rglob("*") if p.suffix in {".py", ".json", ".typed"}}
        assert kept <= names
        assert f"{package}/py.typed" in names
    assert f"emstore-{PROJECT['version']}.dist-info/licenses/LICENSE" in names
    assert {name.split("/")[0] for name in names} == {
        "emstore",
        "emstore_adapters",
        "emstore_schemas",
        f"emstore-{PROJECT['version']}.dist-info",
    }


def test_the_source_distribution_can_be_tested(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"Makefile", "constraints.txt", "README.md", "LICENSE", "pyproject.toml", "tests/conftest.py"} <= names
    assert not {name for name in names if name.startswith((".venv", "dist/", ".git/"))}


def test_the_installed_package_is_not_the_checkout(venv: Path, tmp_path: Path) -> None:
    for package in ("emstore", "emstore_adapters", "emstore_schemas"):
        file = run(venv, "-c", f"import {package}; print({package}.__file__)", cwd=tmp_path).strip()
        assert Path(file).is_relative_to(venv.parent.parent)


def test_the_installed_package_has_its_entry_points(venv: Path, tmp_path: Path) -> None:
    code = (
        "import json; from importlib.metadata import entry_points;"
        f"groups = {list(PROJECT['entry-points'])};"
        "print(json.dumps({group: {e.name: e.value for e in entry_points(group=group)} for group in groups}))"
    )
    assert json.loads(run(venv, "-c", code, cwd=tmp_path)) == PROJECT["entry-points"]
    assert "Usage" in run(venv.with_name("emstore"), "--help", cwd=tmp_path, COLUMNS="100")


def test_the_installed_schemas_load(venv: Path, tmp_path: Path) -> None:
    code = "import emstore_schemas as s; print(*s.names()); [s.load(n) for n in s.names()]"
    assert "manifest" in run(venv, "-c", code, cwd=tmp_path).split()


def test_the_core_suite_passes_against_the_installed_wheel(venv: Path, tmp_path: Path) -> None:
    """The whole suite does too: `.ci/run`."""
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    told = run(venv, "-I", "-m", "pytest", "-q", *CORE, cwd=tmp_path)
    assert " passed" in told
