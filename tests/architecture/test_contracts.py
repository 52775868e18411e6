"""The import contracts and the lint rules catch what they are there to catch."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# One planted import per contract: contract id, module it is added to, the line.
PLANTS = [
    ("layers", "emstore.geometry.units", "import emstore.source"),
    ("no-built-in-formats", "emstore.registry", "import emstore_adapters.nifti"),
    ("only-the-store", "emstore.volume", "import zarr"),
    ("geometry", "emstore.geometry.grid", "import xarray"),
    ("no-format-libraries", "emstore.source", "import tifffile"),
    ("provenance", "emstore.provenance.record", "import obstore"),
    ("adapters", "emstore_adapters.nifti", "import emstore.store"),
    ("adapters-apart", "emstore_adapters.mrc", "import emstore_adapters.em"),
    ("schemas", "emstore_schemas", "import emstore.errors"),
]


def run(tool: str, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(folder / part) for part in (".", "adapters", "schemas"))
    return subprocess.run(
        [str(Path(sys.executable).with_name(tool)), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code that may be spoiled."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in ("emstore", "adapters", "schemas"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_every_contract_has_a_planted_violation() -> None:
    assert sorted(name for name, _, _ in PLANTS) == sorted(contract["id"] for contract in CONTRACTS)


def test_the_code_keeps_all_contracts(checkout: Path) -> None:
    outcome = run("lint-imports", ["--no-cache"], checkout)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in outcome.stdout


@pytest.mark.parametrize(("contract", "module", "line"), PLANTS)
def test_a_planted_import_breaks_its_contract(checkout: Path, contract: str, module: str, line: str) -> None:
    folder = {"emstore_adapters": "adapters", "emstore_schemas": "schemas"}.get(module.split(".")[0], ".")
    path = checkout / folder / module.replace(".", "/")
    target = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    clean = target.read_text()
    target.write_text(f"{clean}\n{line}\n")
    try:
        outcome = run("lint-imports", ["--no-cache", "--contract", contract], checkout)
    finally:
        target.write_text(clean)
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    assert "0 kept, 1 broken" in outcome.stdout
    assert line.removeprefix("import ") in outcome.stdout


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("from tests.conftest import data_dir", "TID251"),
        ("import adapters.emstore_adapters", "TID251"),
        ("import schemas.emstore_schemas", "TID251"),
        ("import examples.demo", "TID251"),
        ("import pickle\npickle.loads(b'')", "S301"),
        ("print('noise')", "T201"),
        ("try:\n    x = 1\nexcept Exception:\n    pass", "BLE001"),
    ],
)
def test_a_planted_line_breaks_its_lint_rule(checkout: Path, line: str, rule: str) -> None:
    target = checkout / "emstore" / "planted.py"
    target.write_text(f'"""Planted."""\n\n{line}\n')
    try:
        outcome = run("ruff", ["check", "--no-cache", str(target)], checkout)
    finally:
        target.unlink()
    assert outcome.returncode == 1
    assert rule in outcome.stdout
