"""What the README and the demo show works as shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PATH = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_the_readme_block_is_short_and_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert len(block.splitlines()) <= 20
    outcome = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=PATH, capture_output=True, text=True, timeout=180
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "example4d.nii.gz" in outcome.stdout
    assert "millimeter" in outcome.stdout
    assert (tmp_path / "lab.zarr/brain/functional/v1/zarr.json").is_file()


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
