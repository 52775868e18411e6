"""The conformance suite itself: a sound adapter passes all of it, and each planted defect fails the test meant for it."""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLANTED = HERE / "planted"
THIRD_PARTY = HERE.parent / "packaging" / "thirdparty_adapter"


def run(*arguments: str) -> str:
    path = os.pathsep.join(map(str, (PLANTED, THIRD_PARTY)))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--noconftest",
        *arguments,
    ]
    return subprocess.run(
        command, cwd=PLANTED, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}, timeout=120
    ).stdout


def test_a_sound_adapter_passes_every_test() -> None:
    output = run("planted_defects.py::TestNothingWrong")
    assert re.search(r"\n17 passed in", output), output


def test_each_planted_defect_is_found_by_the_test_meant_for_it() -> None:
    source = (PLANTED / "planted_defects.py").read_text()
    finds = re.findall(r'finds\("(\w+)"\)(?:\nclass |\()(\w+)', source)
    assert len(finds) >= 20
    nodes = {f"planted_defects.py::Test{name}::{test}" for test, name in finds}
    output = run(*sorted(nodes))
    failed = set(re.findall(r"^FAILED (planted_defects\.py::\S+)", output, re.MULTILINE))
    assert failed == nodes, f"not found: {sorted(nodes - failed)}\n{output[-4000:]}"
