"""A made-up crystal, counted, denoised and measured by the real processors: what the reports of these tests are drawn from."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import emstore
import planted_reports
from emstore.geometry import Axis, AxisKind
from emstore.table import Column, Table
from planted_entry_points import planted
from sealed import seal, seal_a_table, volume

PIXEL = 0.2
DOSES = (1000, 5000)
HOSTILE_LABEL = "<b onmouseover>our way<b> $x$"


def lattice() -> np.ndarray:
    """Return columns 3 angstrom apart, each a little off its place, as a fraction of the beam."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:84, :96] * PIXEL
    image = np.full(y.shape, 0.005)
    for row in np.arange(1.5, 84 * PIXEL, 3.0):
        for column in np.arange(1.5, 96 * PIXEL, 3.0):
            dy, dx = rng.normal(0, 0.06, 2)
            image += 0.2 * np.exp(-((y - row - dy) ** 2 + (x - column - dx) ** 2) / (2 * 0.5**2))
    return image.astype("f4")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a store: dataset ``te`` with the chain, ``other`` with what is measured elsewhere."""
    store = str(tmp_path_factory.mktemp("reports") / "lab.zarr")
    emstore.create_store(store)
    axes = [Axis(name, size, AxisKind.SPACE, PIXEL, "angstrom") for name, size in (("y", 84), ("x", 96))]
    facts = {"quantity": "beam fraction", "simulation": {"material": "Te<b>&", "thicknesses": [20.0], "full": True, "seed": 7}}
    seal(volume("clean", lattice(), *axes, attributes=facts, modality="stem"), f"{store}/te/clean")

    def run(name: str, inputs: list[str], array: str, **params: object) -> str:
        return emstore.process(name, [f"{store}/te/{one}" for one in inputs], f"{store}/te/{array}", params=params).version.ref

    run("measure.columns", ["clean"], "clean-fit")
    run("measure.strain", ["clean-fit"], "clean-strain")
    run("measure.strain", ["clean-fit"], "clean-histogram", give="histogram")
    line = {"start": [7.0, 2.0], "stop": [7.0, 90.0], "width": 3.0}
    run("measure.profile", ["clean"], "clean-line", **line)
    for dose in DOSES:
        run("noise.digital", ["clean"], f"noisy-{dose}", dose=dose, frames=2, seed=1)
        run("denoise.gaussian", [f"noisy-{dose}"], f"smooth-{dose}", sigma=1.0, axes="slice")
        run("measure.columns", ["clean"], f"bound-{dose}", method="poisson", dose=dose)
        run("measure.columns", [f"noisy-{dose}"], f"ml-{dose}-fit", method="poisson")
        run("measure.profile", [f"noisy-{dose}"], f"noisy-{dose}-line", **line)
        run("measure.residual", [f"noisy-{dose}", f"smooth-{dose}"], f"smooth-{dose}-residual")
        for name in ("noisy", "smooth"):
            run("measure.columns", [f"{name}-{dose}"], f"{name}-{dose}-fit")
        for name in ("noisy", "smooth", "ml"):
            run("measure.strain", [f"{name}-{dose}-fit"], f"{name}-{dose}-strain")
            run("measure.strain", [f"{name}-{dose}-fit"], f"{name}-{dose}-histogram", give="histogram")
            run("measure.precision", [f"{name}-{dose}-fit", f"bound-{dose}"], f"{name}-{dose}-precision")
            run("measure.matching", [f"{name}-{dose}-fit", "clean-fit"], f"{name}-{dose}-found", radius=0.5)
    seal_a_table(Table("else", {"n": Column(np.arange(3))}), f"{store}/other/table")
    return store


@pytest.fixture(scope="session")
def page(lab: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of the whole dataset, one table of it under a hostile label."""
    out = tmp_path_factory.mktemp("page") / "stem.html"
    emstore.report("stem", [f"{HOSTILE_LABEL}={lab}/te/ml-5000-strain", f"{lab}/te"], out)
    return out


@pytest.fixture
def planted_page(tmp_path: Path) -> Iterator[None]:
    """Have the reports of a third party installed."""
    with planted(tmp_path, planted_reports.PACKAGE, {"emstore.reports": planted_reports.REPORTS}):
        yield
