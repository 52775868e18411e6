"""Line profiles and residuals against what is known of the images."""

from typing import Any, ClassVar

import numpy as np
import pytest

from columns import gaussians, image, lattice
from emstore.blocks.compute import evaluate
from emstore.errors import InvalidInput
from emstore.processors.measure import Profile, Residual
from emstore.table import Table
from emstore.testing import ProcessorConformance
from emstore.volume import Volume

TRUTH = lattice((144, 144), 12, amplitude=40, sigma=2.2, seed=0, jitter=0.0)
CLEAN = gaussians((144, 144), TRUTH, 5)


def figures(processor: Any, *volumes: Volume, **params: Any) -> Table:
    found = evaluate(processor.plan(volumes, processor.params(**params)), volumes)
    assert isinstance(found, Table)
    return found


def test_a_profile_of_a_plane_is_a_straight_line() -> None:
    y, x = np.mgrid[:40, :60].astype(float)
    found = figures(Profile(), image(3 * y + 2 * x), start=(5, 10), stop=(29, 42), width=5)
    distance, value = found.columns["distance"].values, found.columns["value"].values
    assert found.columns["distance"].unit == "angstrom"
    assert distance[-1] == pytest.approx(40 * 0.2)
    np.testing.assert_allclose(value, 15 + 20 + (3 * 24 + 2 * 32) * distance / 8)
    with pytest.raises(InvalidInput, match="leaves"):
        figures(Profile(), image(y), start=(0, 0), stop=(99, 0))


def test_independent_noise_has_a_flat_spectrum_and_lost_structure_has_not() -> None:
    """The residual of counts has the signal as its variance but a flat spectrum; what a blur takes away has Bragg spots."""
    rng = np.random.default_rng(0)
    white = CLEAN + rng.normal(0, 3, (24, *CLEAN.shape))
    clean = np.broadcast_to(CLEAN, white.shape).copy()
    found = figures(Residual(), image(white), image(clean))
    assert found.summary["bragg_power_ratio"] == pytest.approx(1, abs=0.25)  # 24 frames that scatter by 0.4
    np.testing.assert_allclose(found.columns["variance"].values, 9, rtol=0.05)
    counted = rng.poisson(clean).astype(float)
    poisson = figures(Residual(), image(counted), image(clean))
    np.testing.assert_allclose(poisson.columns["variance_over_signal"].values, 1, rtol=0.05)
    assert poisson.summary["bragg_power_ratio"] == pytest.approx(1, abs=0.25)
    lost = figures(Residual(), image(white), image(0.5 * clean + 0.5 * clean.mean()))
    assert lost.summary["bragg_power_ratio"] > 20


def test_nothing_is_said_of_what_is_not_known() -> None:
    flat = np.full((20, 24), 3.0)
    assert figures(Residual(), image(flat), image(flat)).summary["bragg_power_ratio"] is None
    holed = CLEAN.copy()
    holed[3, 4] = np.nan
    assert figures(Residual(), image(CLEAN), image(holed)).summary["bragg_power_ratio"] is None
    with pytest.raises(InvalidInput, match="too small"):
        figures(Residual(), image(flat[:8]), image(flat[:8]))


class TestProfile(ProcessorConformance):
    processor = Profile
    volumes: ClassVar[Any] = (image(np.random.default_rng(1).integers(0, 200, (2, 18, 23)).astype("uint16")),)
    params = ({"start": [1, 2], "stop": [15, 20], "width": 3},)
    executors = ("threads",)
    examples = 4


class TestResidual(ProcessorConformance):
    processor = Residual
    volumes: ClassVar[Any] = ((image(CLEAN[:40, :37] + 1), image(CLEAN[:40, :37])),)
    executors = ("threads",)
    examples = 4
