"""The house keeps its shape: small modules, a short adapter contract, one list of plug-ins, a cheap import."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = {"emstore": "emstore", "emstore_adapters": "adapters/emstore_adapters", "emstore_schemas": "schemas/emstore_schemas"}
ADAPTERS = sorted({value.split(":")[0] for value in PROJECT["project"]["entry-points"]["emstore.adapters"].values()})
MODULES = sorted(path for folder in PACKAGES.values() for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_is_at_most_700_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 700


def test_no_module_is_a_drawer() -> None:
    assert not [p for p in MODULES if p.stem in {"utils", "util", "helpers", "helper", "misc", "common", "manager", "tools"}]


def test_the_adapter_contract_is_under_60_lines() -> None:
    assert len([line for line in (ROOT / "emstore/adapter.py").read_text().splitlines() if line.strip()]) < 60


@pytest.mark.parametrize("group", ["emstore.adapters", "emstore.exporters"])
def test_declared_plugins_are_the_installed_ones(group: str) -> None:
    declared = PROJECT["project"]["entry-points"][group]
    installed = {entry.name: entry.value for entry in entry_points(group=group) if entry.dist and entry.dist.name == "emstore"}
    assert installed == declared, "the installed entry points are not those of pyproject.toml: re-run `make setup`"


SHARED = {"calibrated", "flat", "folder_stack", "gzip_stream"}
"""Modules of emstore_adapters that several adapters use; others of the kind are named ``_so``."""


@pytest.mark.parametrize(("group", "package"), [("emstore.adapters", ""), ("emstore.exporters", ".exporters")])
def test_every_module_is_a_declared_plugin_or_shared_by_some(group: str, package: str) -> None:
    """A reader that is not declared would be a format nobody can open."""
    declared = {value.split(":")[0] for value in PROJECT["project"]["entry-points"][group].values()}
    folder = ROOT / "adapters/emstore_adapters" / package.strip(".")
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    public = {f"emstore_adapters{package}.{name}" for name in modules - SHARED if not name.startswith("_")}
    assert public - {"emstore_adapters.exporters"} == declared


def test_every_adapter_is_kept_apart_from_the_others() -> None:
    contract = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["id"] == "adapters-apart")
    assert set(ADAPTERS) <= set(contract["modules"])


def run_python(code: str) -> str:
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.strip()


HEAVY = ["torch", "tensorflow", "keras", "dask", "distributed", "scipy", "matplotlib", "pandas", "numba", "zarr", "tensorstore"]
FORMATS = ["pydicom", "gdcm", "nibabel", "h5py", "mrcfile", "tifffile", "imagecodecs", "PIL", "av", "rsciio"]


@pytest.mark.parametrize("statement", ["import emstore", "import emstore.cli.app"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    loaded = run_python(f"{statement}; import sys; print(*[m for m in {HEAVY + FORMATS!r} if m in sys.modules])")
    assert loaded == ""


def test_listing_the_plugins_imports_none_of_them() -> None:
    code = "import sys; from emstore.registry import adapters, exporters; adapters(); exporters()"
    assert run_python(f"{code}; print(*[m for m in sys.modules if 'emstore_adapters' in m])") == ""


@pytest.mark.parametrize(
    "module", sorted({v.split(":")[0] for v in PROJECT["project"]["entry-points"]["emstore.adapters"].values()})
)
def test_importing_an_adapter_loads_no_format_library(module: str) -> None:
    assert run_python(f"import {module}, sys; print(*[m for m in {HEAVY + FORMATS!r} if m in sys.modules])") == ""


# Import name -> distribution name, where they differ.
APART = {"dask_cuda"}
"""Needs a Dask of its own, which nothing else here runs with: its one test is skipped by name where it is not installed."""
DISTRIBUTIONS = {
    "PIL": "pillow",
    "distributed": "dask",  # its extra of that name
    "gdcm": "python-gdcm",
    "google_crc32c": "google-crc32c",
    "pydantic_core": "pydantic",  # the home of its error details
    "openjpeg": "pylibjpeg-openjpeg",
    "jpeg_ls": "pyjpegls",
    "rle": "pylibjpeg-rle",
    "rsciio": "rosettasciio",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", requirement)[0].lower() for requirement in requirements}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
            names |= {str(each.value).split(".")[0] for each in node.args if isinstance(each, ast.Constant)}
    return names - set(sys.stdlib_module_names) - set(PACKAGES)


def test_every_imported_library_is_a_declared_dependency() -> None:
    project, extras = PROJECT["project"], PROJECT["project"]["optional-dependencies"]
    core = declared(project["dependencies"]) | declared(extras["em"] + extras["filters"] + extras["dask"])
    rooms = {
        "emstore/testing": declared(extras["testing"]),
        "schemas/emstore_schemas": {"jsonschema"},
        "emstore/blocks": declared(extras["torch"]),
        "emstore/lineage": declared(extras["share"]),
        "emstore/loaders": declared(extras["torch"] + extras["tensorflow"]),
        "emstore/networks": declared(extras["torch"] + extras["stem"]),
        "emstore/processing": declared(extras["torch"]),
        "emstore/processors": declared(extras["bm3d"] + extras["torch"]),
        "emstore/reports": declared(extras["report"]),
        "emstore/trainers": declared(extras["torch"] + extras["stem"]),
        "emstore/simulators": declared(extras["stem"]),
    }
    missing = {
        f"{name} imports {library}"
        for path in MODULES
        for name in [path.relative_to(ROOT).as_posix()]
        for library in imported(path)
        if DISTRIBUTIONS.get(library, library.replace("_", "-")).lower()
        not in core.union(*(more for room, more in rooms.items() if name.startswith(room)))
    }
    assert missing == set()


def test_every_library_the_tests_import_comes_with_setup() -> None:
    """Or the test would be skipped on every fresh checkout."""
    project = PROJECT["project"]
    installed = declared(project["dependencies"]).union(*map(declared, project["optional-dependencies"].values()))
    files = [path for folder in ("tests", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]
    beside = {path.stem for path in files}
    missing = {
        f"{path.relative_to(ROOT).as_posix()} imports {library}"
        for path in files
        for library in imported(path) - beside - APART
        if DISTRIBUTIONS.get(library, library.replace("_", "-")).lower() not in installed
    }
    assert missing == set()


def test_constraints_pin_every_declared_dependency() -> None:
    project = PROJECT["project"]
    wanted = declared(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted |= declared(extra)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines if "==" in line and not line.startswith("#")}
    assert wanted - {"emstore"} <= pins
    assert "zfpy" not in pins
