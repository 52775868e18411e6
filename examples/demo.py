"""Ingest real scans that come inside installed packages, list them, open them, process one, verify them, draw them.

    python examples/demo.py [FOLDER]     (or: make demo)

Everything goes through the command line as a user would type it. No network is used. The folder, ``demo-out`` by default,
is made anew and holds the store ``lab.zarr``, the picture ``contact-sheet.png`` and the lineage ``lineage.svg`` afterwards.
"""

import importlib.resources
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import emstore
from contact_sheet import draw


@dataclass(frozen=True)
class Sample:
    """A scan inside an installed package, and where it goes."""

    package: str
    path: str
    target: str


SAMPLES = (
    Sample("nilearn", "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz", "brain/t1-template"),
    Sample("nibabel", "tests/data/example4d.nii.gz", "brain/functional"),
    Sample("nibabel", "tests/data/anatomical.nii", "brain/anatomical"),
    Sample("pydicom", "data/test_files/CT_small.dcm", "body/ct"),
    Sample("pydicom", "data/test_files/dicomdirtests/98892001/CT5N", "body/ct-series"),
    Sample("pydicom", "data/test_files/examples_overlay.dcm", "body/mr-abdomen"),
    Sample("pydicom", "data/test_files/examples_ybr_color.dcm", "body/heart-cine"),
    Sample("pydicom", "data/test_files/examples_jpeg2k.dcm", "body/ultrasound"),
)

RECIPE = Path(__file__).with_name("brain.toml")
SCAN = "lab.zarr/brain/functional"
STEPS = ("brain-steps/denoised", "brain-steps/isotropic", "brain-steps/mask", "brain-steps/figures")
"""What the recipe makes: an MRI scan without its noise, with even voxels, cut into two classes, measured."""


def emstore_command(folder: Path, *arguments: str) -> None:
    """Run one emstore command in a folder, showing it as it would be typed."""
    shown = [Path(a).name if Path(a).is_absolute() else a for a in arguments]
    print(f"\n$ emstore {shlex.join(shown)}", flush=True)
    program = Path(sys.executable).with_name("emstore")
    # The index of what was made from what stays in this folder, too.
    outcome = subprocess.run([str(program), *arguments], cwd=folder, env={**os.environ, "EMSTORE_HOME": str(folder / "index")})
    if outcome.returncode != 0:
        sys.exit(f"emstore ended with exit code {outcome.returncode}")


def main(folder: Path) -> None:
    """Run the whole demonstration into a folder."""
    began = time.monotonic()
    folder = folder.resolve()
    for old in ("lab.zarr", "index", "contact-sheet.png", "lineage.svg"):
        path = folder / old
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)

    emstore_command(folder, "init", "lab.zarr")
    for sample in SAMPLES:
        with importlib.resources.as_file(importlib.resources.files(sample.package) / sample.path) as file:
            emstore_command(folder, "ingest", str(file), f"lab.zarr/{sample.target}")
    emstore_command(folder, "ls", "lab.zarr")
    emstore_command(folder, "info", "lab.zarr/brain/t1-template")

    print("\n>>> emstore.open('lab.zarr/brain/t1-template').xarray()", flush=True)
    versions = [emstore.open(f"{folder}/lab.zarr/{sample.target}") for sample in SAMPLES]
    print(versions[0].xarray())

    emstore_command(folder, "process", str(RECIPE), SCAN, "lab.zarr/brain-steps")
    emstore_command(folder, "info", f"lab.zarr/{STEPS[-1]}")
    emstore_command(folder, "reproduce", f"lab.zarr/{STEPS[1]}")
    emstore_command(folder, "lineage", f"lab.zarr/{STEPS[-1]}", "--up")
    emstore_command(folder, "lineage", SCAN, "--up", "--down", "--format", "svg", "--output", "lineage.svg")
    versions += [emstore.open(f"{folder}/lab.zarr/{step}") for step in STEPS]

    emstore_command(folder, "verify", "lab.zarr", "--data")

    picture = folder / "contact-sheet.png"
    draw(versions, picture)
    took = time.monotonic() - began
    print(f"\n{len(SAMPLES)} scans ingested, one processed in {len(STEPS)} steps, all verified and drawn in {took:.0f} s")
    print(f"the store:   {folder / 'lab.zarr'}")
    print(f"the picture: {picture}")
    print(f"the lineage: {folder / 'lineage.svg'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out"))
