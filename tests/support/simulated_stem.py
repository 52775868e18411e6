"""Small STEM simulations for tests: coarse detectors, thin crystals, a few seconds each."""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from emstore.simulators.stem import Stem, StemParams
from emstore.table import Table
from emstore.volume import Volume
from emstore.work import Bench

SMALL: dict[str, Any] = {
    "material": "SrTiO3",
    "thickness": (7.81,),
    "slice_thickness": 1.562,  # no atom lies where two slices meet
    "energy_kev": 200.0,
    "convergence_mrad": 25.0,
    "detectors_mrad": ((30.0, 60.0), (45.0, 60.0)),
    "supercell": 11.0,
    "shape": (24, 31),
    "pixel": 0.21,
    "phonons": 0,
    "potential_sampling": 0.13,
}


def simulated(bench: Callable[..., Bench] | Bench, **changes: Any) -> tuple[npt.NDArray[Any], Table, Volume]:
    """Return all values, the columns, and the volume."""
    image, columns = Stem().simulate(StemParams(**{**SMALL, **changes}), bench if isinstance(bench, Bench) else bench())
    assert isinstance(image.content, Volume)
    assert isinstance(columns.content, Table)
    assert (image.suffix, columns.suffix) == ("", "columns")
    return image.content.data[tuple(slice(0, n) for n in image.content.shape)], columns.content, image.content


def column(table: Table, name: str) -> npt.NDArray[Any]:
    return table.columns[name].values
