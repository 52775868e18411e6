"""What the simulator computes, against abTEM's own multislice and known physics."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emstore.work import Bench
from simulated_stem import SMALL, column, simulated

Benches = Callable[..., Bench]


def by_abtem(
    atoms: Any, gpts: tuple[int, int], slices: int, places: npt.NDArray[Any], *, interpolation: int | None = None, **probe: Any
) -> npt.NDArray[Any]:
    """Put a probe at every place (n, 2) of x, y, as abTEM's documentation does it; shape (n, detectors).

    Probe by probe, or with an interpolation by abTEM's PRISM.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import abtem
    with abtem.config.set({"dask.lazy": False, "diagnostics.progress_bar": False}):
        height = atoms.cell.lengths()[2]
        potential = abtem.Potential(atoms, gpts=gpts, slice_thickness=height / slices, projection="infinite")
        optics = {"energy": probe["energy_kev"] * 1e3, "semiangle_cutoff": probe["convergence_mrad"]}
        detectors = [abtem.AnnularDetector(*pair) for pair in probe["detectors_mrad"]]
        scan = abtem.CustomScan(places)
        if interpolation is None:
            waves = abtem.Probe(**optics)
            waves.grid.match(potential)
            measured = waves.scan(potential, scan=scan, detectors=detectors)
        else:
            matrix = abtem.SMatrix(potential=potential, interpolation=interpolation, downsample=False, **optics)
            measured = matrix.scan(scan=scan, detectors=detectors)
        return np.stack([np.asarray(each.array) for each in measured], axis=-1)


def strontium_titanate(repeats: tuple[int, int, int]) -> Any:
    from ase.spacegroup import crystal

    basis = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)]
    return crystal(["Sr", "Ti", "O"], basis=basis, spacegroup=221, cellpar=[3.905] * 3 + [90] * 3) * repeats


@pytest.mark.parametrize("method", ["multislice", "prism"])
def test_every_pixel_is_what_abtem_measures_with_the_probe_there(bench: Benches, method: str) -> None:
    turn, offset = math.radians(33.0), np.array([0.37, 1.21])
    values, _, volume = simulated(bench, rotation=33.0, offset=tuple(offset), method=method, interpolation=1)
    facts = volume.attributes["simulation"]
    assert facts["method"] == method
    rng = np.random.default_rng(5)
    pixels = np.column_stack([rng.integers(0, 24, 12), rng.integers(0, 31, 12)])
    v, u = (pixels * 0.21).T
    places = np.column_stack([u * np.cos(turn) + v * np.sin(turn), -u * np.sin(turn) + v * np.cos(turn)]) + offset[::-1]
    expected = by_abtem(strontium_titanate((3, 3, 2)), facts["potential_gpts"], 5, places % np.array(facts["supercell"]), **SMALL)
    ours = values[:, pixels[:, 0], pixels[:, 1]].T
    np.testing.assert_allclose(ours, expected, atol=3e-6 * values.max(), rtol=0)
    assert np.ptp(expected) > 0.1 * values.max()


def test_prism_gives_what_multislice_does(bench: Benches) -> None:
    asked = {"material": "MoS2", "thickness": None, "full": True, "supercell": 10.0, "phonons": 1, "seed": 3}
    one, _, _ = simulated(bench, method="multislice", **asked)
    other, _, facts = simulated(bench, method="prism", interpolation=1, **asked)
    assert facts.attributes["simulation"]["method"] == "prism"
    np.testing.assert_allclose(other, one, atol=2e-6 * one.max(), rtol=0)


def test_threads_and_memory_change_nothing(bench: Benches) -> None:
    asked = {"full": True, "method": "prism", "interpolation": 1, "phonons": 1}
    one, _, _ = simulated(bench(), **asked)
    other, _, _ = simulated(bench(memory=360 << 20, threads=2), **asked)
    np.testing.assert_allclose(other, one, atol=1e-6 * one.max(), rtol=0)


def test_thinned_plane_waves_are_as_far_off_as_abtem_s(bench: Benches) -> None:
    values, _, volume = simulated(bench, supercell=20.0, method="prism", interpolation=2)
    facts = volume.attributes["simulation"]
    assert facts["interpolation"] == [2, 2]
    pixels = np.random.default_rng(5).integers(0, 24, (40, 2))
    places = pixels[:, ::-1] * 0.21 % np.array(facts["supercell"])
    atoms, gpts = strontium_titanate((6, 6, 2)), facts["potential_gpts"]
    exact, thinned = (by_abtem(atoms, gpts, 5, places, interpolation=some, **SMALL) for some in (None, 2))
    ours = values[:, pixels[:, 0], pixels[:, 1]].T
    np.testing.assert_allclose(ours, thinned, atol=3e-6 * values.max(), rtol=0)
    assert (np.sqrt(np.mean((exact - thinned) ** 2, axis=0)) > 0.01 * exact.std(axis=0)).all()  # there is something to match


def test_a_thickness_series_is_the_separate_runs(bench: Benches) -> None:
    asked = {"slice_thickness": 2.0, "phonons": 1, "seed": 4, "full": True, "method": "multislice", "supercell": 8.0}
    series, _, volume = simulated(bench, thickness=(14.0, 8.0), **asked)
    assert volume.grid.dims == ("thickness", "c", "y", "x")
    assert volume.grid.axis("thickness").positions == (8.0, 14.0)
    for n, thickness in enumerate((8.0, 14.0)):
        alone, _, single = simulated(bench, thickness=(thickness,), **asked)
        assert single.grid.dims == ("c", "y", "x")
        np.testing.assert_allclose(series[n], alone, atol=2e-6 * series.max(), rtol=0)


def test_no_electron_is_lost_below_the_limit(bench: Benches) -> None:
    """Graphene scatters little: what a detector from zero catches is the beam; a ring around the probe's disc nearly nothing."""
    values, _, volume = simulated(
        bench, material="graphene", thickness=None, detectors_mrad=((0.0, 100.0), (60.0, 100.0)), potential_sampling=None
    )
    assert volume.attributes["simulation"]["antialias_limit_mrad"] >= 100
    assert 0.998 < values[0].min() <= values[0].max() < 1 + 1e-5
    assert 0 < values[1].max() < 0.01


def test_thicker_is_brighter_and_heavy_columns_are_brightest(bench: Benches) -> None:
    values, table, volume = simulated(bench, thickness=(8.0, 16.0), pixel=0.3, shape=(40, 40))
    first, second = np.array(volume.attributes["simulation"]["mean_fraction"])[:, 0]
    assert second > 1.3 * first
    assert np.mean(values[1, 0]) == pytest.approx(second, rel=0.2)
    rows, columns = (np.rint(column(table, name) / 0.3).astype(int) for name in "yx")
    light = {name: values[1, 1, rows, columns][column(table, "species") == name].mean() for name in ("Sr", "Ti+O", "O")}
    assert light["Sr"] > light["Ti+O"] > light["O"]


def test_a_wide_source_blurs_but_keeps_the_electrons(bench: Benches) -> None:
    sharp, _, one = simulated(bench)
    blurred, _, other = simulated(bench, source_size=1.0)
    means = [np.array(each.attributes["simulation"]["mean_fraction"]) for each in (one, other)]
    np.testing.assert_allclose(means[0], means[1], rtol=1e-6)
    assert blurred.max() < 0.9 * sharp.max()
