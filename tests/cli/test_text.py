"""How lengths, places and values are told to people."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from command_line import call, result
from emstore.cli import text
from emstore.geometry import Affine, Axis, AxisKind, Grid, Space


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ((Axis("z", 3), Axis("y", 4), Axis("x", 5)), "unknown"),
        ((Axis("z", 3, spacing=2, unit="nanometer"), Axis("y", 4), Axis("x", 5)), "z:2 nm y:? x:?"),
        (
            (Axis("z", 3, positions=(0, 1, 3), unit="millimeter"), Axis("y", 4, spacing=0.5, unit="millimeter")),
            "z:~1.5 y:0.5 mm",
        ),
        (
            (Axis("t", 2, kind=AxisKind.TIME, spacing=2, unit="second"), Axis("y", 4, spacing=3.3724e-6, unit="meter")),
            "t:2 s y:3.3724 µm",
        ),
        ((Axis("ky", 4, spacing=0.1, unit="1/nanometer"), Axis("x", 4, spacing=7, unit="furlong")), "ky:0.1 1/nm x:7 furlong"),
        ((Axis("c", 3, kind=AxisKind.CHANNEL), Axis("x", 4, spacing=0.2, unit="angstrom")), "x:0.2 Å"),
        ((Axis("y", 4, spacing=0.2), Axis("x", 4, spacing=0.2)), "y:0.2 x:0.2"),
    ],
)
def test_spacing(axes: tuple[Axis, ...], words: str) -> None:
    assert text.spacing(Grid(axes)) == words


def test_space_says_which_way_the_axes_point() -> None:
    axes = tuple(Axis(name, 3, spacing=1, unit="millimeter") for name in "zyx")
    tilted = np.eye(4)
    tilted[1, 2] = 0.3
    for matrix, words in (
        (np.eye(4), "LPS: z to head, y to back, x to left"),
        (np.diag([-1, 1, 1, 1]), "LPS: z to head, y to back, x to right"),
        (tilted, "LPS: z to head, y to back, x to left (oblique)"),
    ):
        assert text.space(Grid(axes, Affine.from_xyz(matrix, Space.LPS, "millimeter"))) == words
    assert text.space(Grid(axes)) is None


def test_info_tells_values_place_and_sources_briefly(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((5, 4, 3), np.int16), np.diag([-1.0, 1.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(0.5, -7)
    nibabel.save(image, tmp_path / "a.nii")
    assert call("init", tmp_path / "s.zarr").returncode == 0
    result("ingest", tmp_path / "a.nii", tmp_path / "s.zarr/d/a")
    said = dict(line.split("  ", 1) for line in call("info", tmp_path / "s.zarr/d/a").stdout.splitlines())
    assert said["values"].strip() == "0.5 x stored - 7"
    assert said["spacing"].strip() == "z:2 y:1 x:1 mm"
    assert said["space"].strip() == "RAS: z to head, y to front, x to left"
