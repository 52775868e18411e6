"""``measure.columns`` by the processor contract, in units, on frames of many axes and on real files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from columns import gaussians, image, lattice, measured, nearest
from emstore.errors import InvalidInput
from emstore.geometry import Axis
from emstore.processors.measure import Columns
from emstore.testing import ProcessorConformance, operations
from emstore.testing.processors import ProcessorCase
from emstore.volume import Volume
from sealed import volume

TRUTH = lattice((52, 65), 13, amplitude=30, sigma=2.1, seed=1)
CLEAN = gaussians((52, 65), TRUTH, 4)


class TestColumns(ProcessorConformance):
    processor = Columns
    volumes: ClassVar[Any] = (
        image(np.random.default_rng(0).poisson(np.stack([CLEAN, CLEAN[::-1]])[:, :39, :39]).astype("uint16")),
        image(CLEAN[:39, :26].astype("float32"), None, None),
    )
    params = ({}, {"method": "poisson", "edges": "drop"})
    executors = ("threads",)
    examples = 3

    def sized(self, case: ProcessorCase, voxels: int) -> tuple[Volume, ...]:
        """A fit of millions of pixels would take minutes."""
        return operations.repeated(case.volumes, voxels // 32)


def test_positions_come_in_the_axes_units() -> None:
    found = measured(image(CLEAN), method="poisson")
    assert found.columns["y"].unit == found.columns["x_error"].unit == "angstrom"
    y, x = found.columns["y"].values, found.columns["x"].values
    at = nearest(np.column_stack([y, x]), TRUTH[:, :2] * 0.2 + [5, -3])
    np.testing.assert_allclose(y[at], TRUTH[:, 0] * 0.2 + 5, atol=1e-3)
    np.testing.assert_allclose(x[at], TRUTH[:, 1] * 0.2 - 3, atol=1e-3)
    np.testing.assert_allclose(found.columns["y_index"].values * 0.2 + 5, y)
    assert found.summary["columns"] == len(TRUTH) == found.summary["converged"]
    plain = measured(image(CLEAN, None))
    assert plain.columns["y"].unit is None
    np.testing.assert_array_equal(plain.columns["y"].values, plain.columns["y_index"].values)


def test_frames_are_numbered_in_array_order() -> None:
    frames = np.zeros((2, 3, 52, 65))
    frames[0, 2], frames[1, 1] = CLEAN, CLEAN[:, ::-1]
    found = measured(image(frames), edges="drop", edge=3)
    assert set(found.columns["frame"].values) == {2, 4}
    assert found.summary["frames"] == 6
    assert any("4 of 6 frames" in note for note in found.notes)


def test_edges_are_marked_or_dropped() -> None:
    marked = measured(image(CLEAN), edge=8)
    at_edge = marked.columns["at_edge"].values
    border = np.minimum.reduce([TRUTH[:, 0], 51 - TRUTH[:, 0], TRUTH[:, 1], 64 - TRUTH[:, 1]])
    assert at_edge.sum() == (border < 8).sum() > 0
    assert measured(image(CLEAN), edge=8, edges="drop").rows == (~at_edge).sum()


def test_a_dose_gives_the_bound() -> None:
    """Errors at a dose are those of the electrons it brings, and fall with its root."""
    fraction = image(CLEAN / 1000, quantity="beam fraction")
    electrons = measured(image(CLEAN / 1000 * 500 * 0.04), method="poisson")
    at_500, at_2000 = (measured(fraction, method="poisson", dose=dose) for dose in (500, 2000))
    np.testing.assert_allclose(at_500.columns["y_error"].values, electrons.columns["y_error"].values, rtol=1e-6)
    np.testing.assert_allclose(at_2000.columns["y_error"].values, at_500.columns["y_error"].values / 2, rtol=1e-3)


def test_poisson_needs_electrons() -> None:
    for quantity in (None, "analog", "beam fraction"):
        with pytest.raises(InvalidInput, match="electrons"):
            measured(image(CLEAN, quantity=quantity), method="poisson")
    with pytest.raises(InvalidInput, match="negative"):
        measured(image(CLEAN - 10), method="poisson")
    with pytest.raises(InvalidInput, match="dose"):
        measured(image(CLEAN), dose=100)
    with pytest.raises(InvalidInput, match="pixel"):
        measured(image(CLEAN, None, "beam fraction"), dose=100)


def test_other_axes_are_refused() -> None:
    one = volume("image", CLEAN, Axis("z", 52), Axis("y", 65))
    with pytest.raises(InvalidInput, match="y and x"):
        measured(one)


def test_real_images(instrument_file: Callable[[str], Path]) -> None:
    """A MoS2 monolayer, and an annular bright-field stack in which columns are dark."""
    from emstore.registry import adapters
    from emstore.source import Source

    em = adapters()["em"].entry.load()()
    [mos2] = em.open(Source.of((instrument_file("stem/example_Se_implanted_MoS2.dm3"),)))[:1]
    part = np.asarray(mos2.data[(slice(400, 530), slice(100, 270))])
    axes = [Axis(one.name, n, spacing=one.spacing, unit=one.unit) for one, n in zip(mos2.grid.axes, part.shape, strict=True)]
    found = measured(volume("MoS2", part, *axes))
    # Two kinds of columns on a honeycomb of lattice constant 0.316 nm: 2 / (0.316^2 sqrt(3) / 2) per square nanometre.
    area = part.size * mos2.grid.axes[0].spacing ** 2
    assert found.rows == pytest.approx(area * 2 / (0.316**2 * np.sqrt(3) / 2), rel=0.1)
    assert found.summary["converged"] > 0.8 * found.rows
    [stack] = em.open(Source.of((instrument_file("stem/stem_abf_data_imagestack.hspy"),)))[:1]
    frame = np.asarray(stack.data[(slice(0, 1), slice(0, 160), slice(0, 170))])[0]
    dark = measured(volume("ABF", frame, Axis("y", 160), Axis("x", 170)), invert=True)
    assert dark.rows > 30
    assert (dark.columns["amplitude"].values < 0).all()
