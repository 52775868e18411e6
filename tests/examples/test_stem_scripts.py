"""The two STEM scripts run from simulation to page, as small as they can be."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import emstore

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("abtem")


def run(script: str, folder: Path, *options: str) -> str:
    outcome = subprocess.run(
        [sys.executable, ROOT / "examples" / script, folder, *options],
        cwd=folder.parent,
        env={**os.environ, "EMSTORE_HOME": str(folder / "index")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


def test_lead_telluride(tmp_path: Path) -> None:
    options = ("--shape", "48", "64", "--thickness", "8", "--frames", "2")
    run("stem_pbte.py", tmp_path / "out", *options)
    said = (tmp_path / "out/pbte.html").read_text()
    for words in ("Line profile", "Residuals and their transforms", "Images side by side", "Gaussian filter"):
        assert words in said
    assert ("BM3D" in said) == (find_spec("bm3d") is not None)  # its licence keeps it out of what is installed by itself
    residual = emstore.open(f"{tmp_path}/out/stem.zarr/pbte/gaussian-1000-residual").table()
    assert residual.rows == 2


def test_strain(tmp_path: Path) -> None:
    options = ("--material", "PbTe", "--shape", "48", "56", "--thickness", "8", "--doses", "20000", "--frames", "2")
    run("stem_strain.py", tmp_path / "out", *options)
    said = (tmp_path / "out/strain.html").read_text()
    for words in ("Strain error against dose", "multiples of the Cramér–Rao bound", "Poisson ML", "infinite dose"):
        assert words in said
    table = emstore.open(f"{tmp_path}/out/stem.zarr/pbte/counted-20000-strain").table()
    assert 0 < table.columns["strain_error"].values.min() < 0.2
