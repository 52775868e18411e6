"""What the README and the demo show works as shown."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from PIL import Image, ImageFont
from skimage.filters import threshold_otsu

import emstore

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PATH = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_the_readme_blocks_are_short_and_run(tmp_path: Path) -> None:
    ingesting, processing = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert len(ingesting.splitlines()) <= 20
    assert len(processing.splitlines()) <= 10
    block = ingesting + processing
    outcome = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=tmp_path,
        env={**PATH, "EMSTORE_HOME": str(tmp_path / "index")},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "example4d.nii.gz" in outcome.stdout
    assert "millimeter" in outcome.stdout
    assert (tmp_path / "lab.zarr/brain/functional/v1/zarr.json").is_file()
    assert "brain/mask/v1  identical, bit for bit" in outcome.stdout
    assert "source: example4d.nii.gz" in outcome.stdout
    assert "mean" in (tmp_path / "figures.csv").read_text()
    assert ElementTree.parse(tmp_path / "lineage.svg").getroot().tag.endswith("svg")


def test_the_demo_ingests_verifies_and_draws(tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, ROOT / "examples/demo.py", tmp_path / "out"], cwd=tmp_path, capture_output=True, text=True, timeout=180
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr
    sheet = Image.open(tmp_path / "out/contact-sheet.png")
    assert sheet.width > 1000
    # Every tile shows something: no row of tiles is one flat colour.
    pixels = sheet.convert("L")
    for left in range(18, sheet.width - 300, 318):
        for top in range(64, sheet.height - 300, 418):
            low, high = pixels.crop((left, top, left + 300, top + 300)).getextrema()
            assert high - low > 60
    # The lineage leads from the scan's file to the figures.
    drawing = ElementTree.parse(tmp_path / "out/lineage.svg").getroot()
    assert drawing.tag.endswith("svg")
    said = " ".join(drawing.itertext())
    for name in ("example4d.nii.gz", "functional", "denoised", "isotropic", "mask", "figures"):
        assert name in said
    steps = {name: emstore.open(f"{tmp_path}/out/lab.zarr/brain-steps/{name}") for name in ("isotropic", "mask", "figures")}
    spacing = [axis.spacing for axis in steps["isotropic"].grid().axes[1:]]
    assert spacing == [2.0, 2.0, 2.0]
    values, mask = (steps[name].xarray()["image"].values for name in ("isotropic", "mask"))
    # scikit-image counts in 256 bins: its threshold may lie a little aside.
    assert np.mean((mask > 0) == (values > threshold_otsu(values))) > 0.99
    assert steps["figures"].table().summary["mean"] == pytest.approx(mask.mean())
    assert "identical, bit for bit" in outcome.stdout


def test_captions_fit_and_lengths_are_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    sheet = importlib.import_module("contact_sheet")
    font = ImageFont.load_default(13)
    short, long = "lab/a/v1", "fibsem-lamella-2024/autotem-session-b-square7-run3-haadf-detector/v12"
    assert sheet.fitted(short, font, 276) == short
    cut = sheet.fitted(long, font, 276)
    assert 200 < font.getlength(cut) <= 276
    assert cut.startswith("fibsem")
    assert cut.endswith("v12")
    emstore.create_store(str(tmp_path / "lab.zarr"))
    file = tmp_path / "a.h5"
    for unit, step, said in [("m", 3.4e-6, "y 3.4 um, x 3.4 um"), ("angstrom", 2.0, "y 2 Angstrom, x 2 Angstrom")]:
        with h5py.File(file, "w") as made:
            made["image"] = np.full((4, 5), 3, "u1")
        [done] = emstore.ingest([file], f"{tmp_path}/lab.zarr/d/{unit}", spacing=[step, step], unit=unit)
        assert sheet.spacing(done.version) == said
        for character in said:
            # What a font does not have it draws as one and the same box.
            assert character == " " or bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))
