"""Training crops: each is what the simulator of single images shows at the same place, in electrons."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emstore.errors import InvalidInput
from emstore.simulators.stem import Stem, StemTraining, TrainingParams
from emstore.simulators.stem.training import asked
from emstore.table import Table
from emstore.volume import Volume
from emstore.work import Bench

SMALL: dict[str, Any] = {
    "crops": 6,
    "size": 20,
    "materials": ("graphene", "SrTiO3"),
    "specimens": 2,
    "thickness": (4.0, 12.0),
    "thicknesses": 2,
    "detectors_mrad": ((30.0, 60.0), (40.0, 60.0)),
    "supercell": 11.0,
    "potential_sampling": 0.13,
    "energy_kev": (180.0, 200.0),
    "seed": 5,
}


def made(bench: Bench, **changes: Any) -> tuple[npt.NDArray[Any], Table, Volume]:
    crops, table = StemTraining().simulate(TrainingParams(**{**SMALL, **changes}), bench)
    assert isinstance(crops.content, Volume)
    assert isinstance(table.content, Table)
    return crops.content.data[tuple(slice(0, n) for n in crops.content.shape)], table.content, crops.content


def test_a_crop_is_the_image_at_that_place_in_electrons(bench: Callable[..., Bench]) -> None:
    values, table, volume = made(bench())
    assert values.shape == (6, 20, 20)
    assert values.dtype == np.float32
    assert volume.attributes["quantity"] == "electrons"
    row = {name: column.values for name, column in table.columns.items()}
    assert row["material"].tolist() == ["graphene", "SrTiO3"] * 3
    assert ((row["pixel"] >= 0.08) & (row["pixel"] <= 0.3) & (row["dose"] >= 500) & (row["dose"] <= 10_000)).all()
    for n in (2, 3):
        params = asked(TrainingParams(**SMALL), str(row["material"][n]), int(row["specimen"][n]) // 2)
        one = params.model_copy(
            update={
                "pixel": float(row["pixel"][n]),
                "shape": (20, 20),
                "rotation": float(row["rotation"][n]),
                "offset": (float(row["y"][n]), float(row["x"][n])),
                "detectors_mrad": ((float(row["detector_inner"][n]), float(row["detector_outer"][n])),),
                "thickness": None if row["material"][n] == "graphene" else (float(row["thickness"][n]),),
            }
        )
        image, _ = Stem().simulate(one, bench())
        assert isinstance(image.content, Volume)
        wanted = image.content.data[(slice(0, 20), slice(0, 20))] * row["dose"][n] * row["pixel"][n] ** 2
        np.testing.assert_allclose(values[n], wanted, atol=2e-4 * float(values[n].max()))


def test_crops_do_not_depend_on_the_cut_and_specimens_are_kept(bench: Callable[..., Bench]) -> None:
    here = bench()
    values, table, volume = made(here)
    np.testing.assert_array_equal(volume.data[(slice(3, 5), slice(2, 9), slice(7, 20))], values[3:5, 2:9, 7:20])
    kept = sorted(path.name for path in here.scratch.glob("specimen-*.npy"))
    assert kept == [f"specimen-{n}.npy" for n in range(4)]
    stamps = [(here.scratch / name).stat().st_mtime_ns for name in kept]
    again, _, _ = made(here, crops=4)
    np.testing.assert_array_equal(again, values[:4])
    assert [(here.scratch / name).stat().st_mtime_ns for name in kept] == stamps
    assert len(np.unique(table.columns["dose"].values)) == 6
    assert (made(here, crops=2, dose=(1.0, 2.0))[0] < values[:2]).all()


def test_some_specimens_lack_atoms(bench: Callable[..., Bench]) -> None:
    params = TrainingParams(**SMALL, vacant=1, missing=(0.2, 0.2))
    pristine, vacant = (asked(params, "SrTiO3", number) for number in (0, 1))
    assert pristine.vacancies is None
    assert not pristine.full
    assert vacant.full
    assert vacant.vacancies is not None
    assert vacant.vacancies.single == pytest.approx(0.2)
    assert vacant.vacancies.element == "O"


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"materials": ("Si", "unobtainium")}, "unobtainium"), ({"dose": (9.0, 1.0)}, "dose"), ({"vacant": 3}, "specimens")],
)
def test_what_makes_no_sense_is_refused(bench: Callable[..., Bench], changes: dict[str, Any], word: str) -> None:
    with pytest.raises((InvalidInput, ValueError), match=word):
        made(bench(), **changes)


def test_what_a_later_specimen_refuses_is_said_before_the_first(bench: Callable[..., Bench]) -> None:
    """The third specimen's electrons have the shortest wave, so the potential is too coarse for it alone."""
    changes = {"energy_kev": (80.0, 200.0), "specimens": 3, "seed": 8, "potential_sampling": 0.15}
    params = TrainingParams(**{**SMALL, **changes})
    energies = [asked(params, material, number).energy_kev for number in range(3) for material in params.materials]
    assert np.argmax(energies) == 2
    place = bench()
    with pytest.raises(InvalidInput, match=f"at {energies[2]:g} keV"):
        made(place, **changes)
    assert not list(place.scratch.iterdir())
