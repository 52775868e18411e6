"""What the simulator says is in the image, against the image; and what it refuses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from emstore.errors import Capacity, EmstoreError, InvalidInput
from emstore.simulator import Simulator
from emstore.simulators.stem import Particle, Stem, StemParams
from emstore.simulators.stem.band import Band, Picture
from emstore.simulators.stem.nanoparticle import carbon, gold
from emstore.simulators.stem.simulator import plan
from emstore.work import Bench
from simulated_stem import SMALL, column, simulated

Benches = Callable[..., Bench]
MOS2 = {"material": "MoS2", "thickness": None, "full": True, "supercell": 15.0, "method": "prism", "interpolation": 1}


@pytest.mark.parametrize("material", ["MoS2", "Te", "GaAs", "PbTe", "graphene"])
def test_every_bright_spot_is_a_column_and_every_column_a_bright_spot(bench: Benches, material: str) -> None:
    thickness = None if material in ("MoS2", "graphene") else (8.0,)
    turned = {"rotation": 17.0, "offset": (3.3, -1.7), "pixel": 0.1, "shape": (150, 131)}
    values, table, _ = simulated(bench, material=material, thickness=thickness, **turned)
    truth = np.column_stack([column(table, "y"), column(table, "x")]) / 0.1
    image = values[0]
    spots = np.argwhere((maximum_filter(image, 7) == image) & (image > 0.12 * image.max()))
    inner = [p[((p > 8) & (p < np.array(image.shape) - 8)).all(axis=1)] for p in (truth, spots)]
    assert len(inner[0]) > 20
    assert cKDTree(spots).query(inner[0])[0].max() < 1.5  # pixels of 0.1 angstrom: columns at rest
    assert cKDTree(truth).query(inner[1])[0].max() < 1.5


def test_a_column_at_each_edge_belongs_to_one_image_only() -> None:
    """Two images side by side hold together what one of both widths holds."""
    tables = []
    for shape, offset in (((30, 20), (0.0, 0.0)), ((30, 20), (0.0, 4.2)), ((30, 40), (0.0, 0.0))):
        tables.append(_columns(shape=shape, offset=offset))
    left, right, both = (np.column_stack([column(t, "y"), column(t, "x")]) for t in tables)
    joined = np.concatenate([left, right + np.array([0, 20 * 0.21])])
    assert len(joined) == len(both)
    assert cKDTree(joined).query(both)[0].max() < 1e-9


def _columns(**changes: Any) -> Any:
    from emstore.simulators.stem.specimen import columns_of
    from emstore.simulators.stem.truth import column_table

    params = StemParams(**{**SMALL, **changes})
    specimen = plan(params).specimen
    return column_table(params, specimen, columns_of(specimen, np.zeros_like(specimen.positions)))


def test_the_crystals_are_those_of_the_textbook() -> None:
    """Shortest distance between atoms, angstrom, and columns per square angstrom: known crystallography."""
    known = {
        "graphene": (1.420, 2 / (2.46**2 * np.sqrt(3) / 2)),
        "graphite": (1.420, None),
        "Si": (5.431 * np.sqrt(3) / 4, 8 / 5.431**2),
        "GaAs": (5.653 * np.sqrt(3) / 4, 8 / 5.653**2),
        "InAs": (6.058 * np.sqrt(3) / 4, 8 / 6.058**2),
        "SrTiO3": (3.905 / 2, 4 / 3.905**2),
        "PbTe": (6.462 / 2, 4 / (6.462 * 6.462 / np.sqrt(2))),
        "MoS2": (2.41, 2 / (3.16**2 * np.sqrt(3) / 2)),
        "WS2": (2.41, None),
        "MoSe2": (2.53, None),
        "Te": (2.834, 3 / (4.458**2 * np.sqrt(3) / 2)),  # the bond of a chain is 2.83
        "tellurene": (2.834, None),
    }
    for material, (nearest, density) in known.items():
        one_layer = material in ("graphene", "MoS2", "WS2", "MoSe2")
        job = plan(StemParams(**{**SMALL, "material": material, "thickness": None if one_layer else (30.0,), "supercell": 25.0}))
        specimen = job.specimen
        inner = (np.abs(specimen.positions[:, :2] - np.array(specimen.box[:2]) / 2) < 5).all(axis=1)
        found = cKDTree(specimen.positions).query(specimen.positions[inner], k=2)[0][:, 1].min()
        assert found == pytest.approx(nearest, abs=0.012), material
        if density is not None:
            assert (specimen.column.max() + 1) / np.prod(specimen.box[:2]) == pytest.approx(density, rel=1e-6), material


def test_atoms_are_missing_where_the_table_says_so(bench: Benches) -> None:
    whole, table, _ = simulated(bench, seed=9, pixel=0.25, shape=(60, 50), **MOS2)
    holed, truth, facts = simulated(bench, seed=9, pixel=0.25, shape=(60, 50), vacancies={"single": 0.15, "double": 0.1}, **MOS2)
    np.testing.assert_allclose(column(table, "y"), column(truth, "y"))
    difference = whole[0] - holed[0]
    y, x = (np.rint(column(truth, name) / 0.25).astype(int) for name in "yx")
    lost = difference[y.clip(0, 59), x.clip(0, 49)] / whole[0][y.clip(0, 59), x.clip(0, 49)]
    missing = column(truth, "missing")
    assert {0, 1, 2} == set(missing[column(truth, "species") == "S"].tolist())
    assert set(missing[column(truth, "species") == "Mo"].tolist()) == {0}
    assert np.abs(lost[missing == 0]).max() < 0.12
    assert lost[missing == 1].min() > 0.3
    assert lost[missing == 2].min() > 0.8
    told = facts.attributes["simulation"]["vacancies"]
    assert told["atoms_missing"] == told["single"] + 2 * told["double"]
    assert told["single"] == round(0.15 * told["places"])


def test_atoms_shake_as_much_as_is_asked_and_differently_in_every_cell() -> None:
    job = plan(StemParams(**{**SMALL, "full": True, "thickness": (60.0,), "supercell": 30.0}))
    sigma = {"Sr": 0.05, "Ti": 0.1, "O": 0.0}
    moved = job.specimen.moved(sigma, 1, 0, alike=False)
    for element, expected in sigma.items():
        some = moved[job.specimen.elements == element]
        assert some.std(axis=0) == pytest.approx([expected] * 3, rel=0.05)
    alike = job.specimen.moved(sigma, 1, 0, alike=True)
    cell = np.round(job.specimen.positions % [3.905, 3.905, 1e9], 6) % [3.905, 3.905, 1e9]
    _, first, which = np.unique(np.round(cell, 3), axis=0, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(alike, alike[first][which.ravel()])
    assert not np.array_equal(job.specimen.moved(sigma, 1, 1, alike=False), moved)
    assert not np.array_equal(job.specimen.moved(sigma, 2, 0, alike=False), moved)


def test_the_same_seed_gives_the_same_image_and_another_another(bench: Benches) -> None:
    asked = {"full": True, "phonons": 1, "supercell": 8.0}
    one, two, other = (simulated(bench, seed=seed, **asked) for seed in (1, 1, 2))
    np.testing.assert_allclose(one[0], two[0], atol=1e-6 * one[0].max(), rtol=0)
    assert np.abs(one[0] - other[0]).max() > 0.01 * one[0].max()
    np.testing.assert_array_equal(column(one[1], "x_shift"), column(two[1], "x_shift"))


@pytest.mark.parametrize("size", [(9, 7), (1, 5), (3, 3)])
def test_a_band_of_waves_is_known_everywhere(size: tuple[int, int]) -> None:
    """A sum of waves below Nyquist, written down here, sampled, and asked for elsewhere."""
    rng, area = np.random.default_rng(1), (3.1, 4.7)
    waves = [
        (h, k, rng.normal(), rng.uniform(0, 7)) for h in range(size[0] // 2 + 1) for k in range(-(size[1] // 2), size[1] // 2 + 1)
    ]

    def truth(x: Any, y: Any) -> Any:
        return 40 + sum(a * np.cos(2 * np.pi * (h * x / area[0] + k * y / area[1]) + p) for h, k, a, p in waves)

    x, y = (np.arange(n) * edge / n for n, edge in zip(size, area, strict=True))
    band = Band.of(truth(x[:, None], y[None, :]), area)
    turn, offset, pixel = 0.7, (0.4, -2.2), 0.37
    picture = Picture(band, (), (34, 21), pixel, turn, offset)
    v, u = np.mgrid[:34, :21] * pixel
    expected = truth(u * np.cos(turn) + v * np.sin(turn) + offset[1], -u * np.sin(turn) + v * np.cos(turn) + offset[0])
    whole = picture[slice(0, 34), slice(0, 21)]
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    np.testing.assert_array_equal(picture[slice(5, 8), slice(20, 21)].shape, (3, 1))
    np.testing.assert_allclose(picture[slice(5, 8), slice(2, 20)], whole[5:8, 2:20], rtol=1e-6)
    low, high = band.extremes()
    assert low <= expected.min() + 0.2 * np.ptp(expected)
    assert high >= expected.max() - 0.2 * np.ptp(expected)


BAD = {
    "no such material": {"material": "unobtainium"},
    "a detector inside out": {"detectors_mrad": ((60.0, 30.0),)},
    "a detector too thin": {"detectors_mrad": ((30.1, 30.2),)},
    "a coarse potential": {"potential_sampling": 0.2},
    "thicknesses alike": {"thickness": (7.8, 7.9)},
    "no thickness": {"thickness": ()},
    "two layers of graphene": {"material": "graphene", "thickness": (6.7,)},
    "vacancies in one cell": {"vacancies": {"single": 0.1}},
    "pairs where there are none": {"full": True, "vacancies": {"element": "O", "double": 0.1}},
    "vacancies of what is not there": {"full": True, "vacancies": {"element": "Au", "single": 0.1}},
    "a particle in a crystal": {"particle": {}},
    "sigma of what is not there": {"phonons": 1, "sigma": {"Au": 0.1}},
    "interpolated multislice": {"method": "multislice", "interpolation": 2},
    "windows without room": {"method": "prism", "interpolation": 8},
    "a particle with a thickness": {"material": "Au-on-C", "full": True},
    "a particle that repeats": {"material": "Au-on-C", "thickness": None},
    "a particle wider than the field": {"material": "Au-on-C", "thickness": None, "full": True, "particle": {"diameter": 90.0}},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused_with_its_place(bench: Benches, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        simulated(bench, **changes)
    assert caught.value.where


@pytest.mark.parametrize(
    "changes",
    [
        {"energy_kev": 5}, {"convergence_mrad": 0}, {"pixel": 0}, {"shape": (0, 5)}, {"seed": -1}, {"phonons": -1},
        {"vacancies": {"single": 0.7, "double": 0.7}}, {"nonsense": 1}, {"thickness": (-3,)},
        {"detectors_mrad": ()}, {"pixel": float("nan")},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_by_the_parameters(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StemParams(**{**SMALL, **changes})


def test_a_budget_too_small_is_refused_with_the_size_needed(bench: Benches) -> None:
    with pytest.raises(Capacity, match="MiB"):
        simulated(bench(memory=100 << 20))


def test_gold_comes_in_magic_numbers_with_its_bond() -> None:
    for form, diameter, atoms in (("icosahedron", 15.0, 147), ("cuboctahedron", 17.0, 147), ("icosahedron", 22.0, 309)):
        places = gold(form, diameter)
        assert len(places) == atoms, form
        assert cKDTree(places).query(places, k=2)[0][:, 1].min() == pytest.approx(2.84, abs=0.15), form


def test_carbon_has_its_density_and_keeps_its_distance_across_the_edge() -> None:
    box = (21.0, 24.0, 20.0)
    places = carbon(box, 2.2, seed=4)
    assert len(places) * 12.011 / 0.602214 / np.prod(box) == pytest.approx(2.2, rel=2e-3)
    tree = cKDTree(places, boxsize=[21.0, 24.0, 1000.0])
    assert tree.query(places, k=2)[0][:, 1].min() >= 1.35
    assert (places.min(axis=0) >= 0).all()
    assert (places.max(axis=0) <= box).all()
    np.testing.assert_array_equal(places, carbon(box, 2.2, seed=4))


def test_a_particle_stands_out_from_its_carbon(bench: Benches) -> None:
    values, table, _ = simulated(
        bench,
        material="Au-on-C",
        thickness=None,
        full=True,
        slice_thickness=2.0,
        supercell=None,
        shape=(40, 40),
        pixel=0.45,
        phonons=1,
        particle=Particle(form="icosahedron", diameter=10.0, carbon_thickness=8.0, carbon_density=2.0),
    )
    rows, columns = (np.rint(column(table, name) / 0.45).astype(int) for name in "yx")
    assert values[0, rows, columns].mean() > 5 * np.median(values[0, :6])
    assert int(column(table, "atoms").sum()) == 55
    assert set(column(table, "species").tolist()) == {"Au"}


def test_it_keeps_the_contract() -> None:
    assert isinstance(Stem(), Simulator)
    assert all(field.description for field in StemParams.model_fields.values())


def test_errors_are_of_our_tree(bench: Benches) -> None:
    with pytest.raises(EmstoreError):
        simulated(bench, material="")
