"""The command line before it does anything: help, version, exit codes, what it loads, bad usage."""

import subprocess
import sys
from pathlib import Path

import pytest

import emstore as package
from command_line import EMSTORE, call, emstore, lines
from emstore import errors
from emstore.cli.exit_codes import as_markdown, exit_codes

VERBS = (
    "init",
    "inspect",
    "ingest",
    "ls",
    "info",
    "status",
    "verify",
    "gc",
    "adapters",
    "export",
    "lineage",
    "find",
    "process",
    "processors",
    "report",
    "reports",
    "reproduce",
)
HEAVY = (
    "torch", "tensorflow", "dask", "zarr", "xarray", "h5py", "pydicom", "nibabel", "tifffile", "rsciio", "PIL", "av",
    "numpy", "rich", "pydantic", "obstore",
)  # fmt: skip
README = Path(__file__).parents[2] / "README.md"


def test_help_names_every_verb_and_every_exit_code() -> None:
    done = emstore("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout
    for code, name, meaning in exit_codes():
        assert f"{code:>3}  {name}" in done.stdout
        assert meaning in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(verb: str) -> None:
    done = call(verb, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout


def test_exit_codes_are_those_of_the_error_classes() -> None:
    table = {name: code for code, name, _ in exit_codes()}
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.EmstoreError)]
    assert len(classes) > 10
    for kind in classes:
        if kind is not errors.EmstoreError:
            assert table[kind.__name__] == kind.exit_code
    assert len({code for code, _, _ in exit_codes()}) == len(exit_codes())


def test_readme_shows_the_same_exit_codes() -> None:
    assert as_markdown() in README.read_text(), "run `python -m emstore.cli.exit_codes` and paste what it prints into README.md"


def test_version() -> None:
    done = emstore("--version")
    assert (done.returncode, done.stdout) == (0, f"emstore {package.__version__}\n")


HELP = "import sys; sys.argv = ['emstore', '--help']; from emstore.cli.app import main; main()"


@pytest.mark.parametrize("code", ["import emstore", HELP])
def test_nothing_heavy_is_loaded(code: str) -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    loaded = {
        line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if line.startswith("import time:")
    }
    assert "emstore" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("arguments", [(), ("frobnicate",), ("ls",), ("ls", "a", "--nonsense"), ("ingest", "one")])
def test_bad_usage_ends_with_2_and_one_message(arguments: tuple[str, ...]) -> None:
    done = call(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "sage:" in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("arguments", "said", "fix"),
    [
        (("ls", "--json"), "REF", "see emstore ls --help"),
        (("ls", "a", "--nonsense", "--json"), "--nonsense", "see emstore ls --help"),
        (("--json", "ingest", "a", "b"), "--json", "see emstore --help"),
        (("frobnicate", "--json"), "frobnicate", "see emstore --help"),
        (("ingest", "one", "--json"), "SOURCE", "see emstore ingest --help"),
        (("ls", "a", "b", "--json"), "argument", "see emstore ls --help"),
        (("ingest", "a", "b", "--json", "--memory"), "--memory", "see emstore"),
        (("ls", "a", "--json=1"), "--json", "see emstore"),
    ],
)
def test_bad_usage_is_json_when_json_is_asked_for(arguments: tuple[str, ...], said: str, fix: str) -> None:
    done = call(*arguments)
    assert (done.returncode, done.stderr) == (2, "")
    [error] = lines(done)
    assert (error["error"], error["kind"], error["exit_code"]) == ("InvalidInput", "invalid_input", 2)
    assert said in error["what"]
    assert error["fix"].startswith(fix)


def test_an_unexpected_exception_ends_with_70_and_no_traceback() -> None:
    code = (
        "import sys, emstore.registry\n"
        "def broken(): raise TypeError('planted \\x1b[31m')\n"
        "emstore.registry.adapters = broken\n"
        "sys.argv = ['emstore', 'adapters']\n"
        "from emstore.cli.app import main\nmain()\n"
    )
    quiet = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert quiet.returncode == 70
    assert "Traceback" not in quiet.stderr
    assert "planted" in quiet.stderr
    assert "\x1b" not in quiet.stderr
    assert "EMSTORE_DEBUG=1" in quiet.stderr
    loud = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"EMSTORE_DEBUG": "1"})
    assert loud.returncode == 70
    assert "Traceback" in loud.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen([EMSTORE, "adapters"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141
    assert said == b""
