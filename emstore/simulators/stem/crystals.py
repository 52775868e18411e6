"""The crystals the simulator knows: orthogonal cells with the zone axis along z."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput

ATOMIC_NUMBERS: Final[Mapping[str, int]] = {
    "C": 6, "O": 8, "Si": 14, "S": 16, "Ti": 22, "Ga": 31, "As": 33, "Se": 34, "Sr": 38, "Mo": 42, "In": 49, "Te": 52, "W": 74,
    "Au": 79, "Pb": 82,
}  # fmt: skip

THERMAL: Final[Mapping[str, float]] = {
    "C": 0.06, "O": 0.09, "Si": 0.076, "S": 0.07, "Ti": 0.075, "Ga": 0.088, "As": 0.08, "Se": 0.07, "Sr": 0.089, "Mo": 0.06,
    "In": 0.107, "Te": 0.11, "W": 0.055, "Au": 0.085, "Pb": 0.14,
}  # fmt: skip
"""Displacement of an atom along one axis, standard deviation, angstrom: rounded room-temperature values, as B = 8 pi^2 sigma^2
of the usual Debye-Waller factors gives. Every simulation records those it used; state your own for work that hangs on them."""


@dataclass(frozen=True)
class Crystal:
    """An orthogonal cell, seen along z."""

    name: str
    cell: tuple[float, float, float]
    """Edges along x, y, z, angstrom."""
    sites: tuple[tuple[str, float, float, float], ...]
    """Element and fractional x, y, z of every atom."""
    zone: str
    """The direction along z, in words of the usual cell."""
    thickness: float = 252.0
    """How thick a specimen is when nothing is said, angstrom."""
    layers_per_cell: int = 0
    """For what comes in layers: how many are in the cell. Others, 0, may end anywhere."""
    most_layers: int | None = None
    vacant: str | None = None
    """The element whose atoms vacancies take when nothing is said."""

    @property
    def layer(self) -> float:
        """Thickness of a layer, angstrom."""
        return self.cell[2] / max(self.layers_per_cell, 1)

    def positions(self) -> npt.NDArray[np.float64]:
        """Return the place of every atom in the cell, shape (atoms, 3), order (x, y, z), angstrom."""
        fractions = np.array([site[1:] for site in self.sites], dtype=np.float64) % 1.0
        return np.asarray(fractions * np.array(self.cell))

    def elements(self) -> npt.NDArray[np.str_]:
        """Return the element of every atom, shape (atoms,)."""
        return np.array([site[0] for site in self.sites])


def _face_centred(element: str, x: float, y: float, z: float) -> tuple[tuple[str, float, float, float], ...]:
    return tuple((element, x + a, y + b, z + c) for a, b, c in ((0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)))


def _zincblende(name: str, one: str, other: str, edge: float) -> Crystal:
    sites = _face_centred(one, 0, 0, 0) + _face_centred(other, 0.25, 0.25, 0.25)
    return Crystal(name, (edge, edge, edge), sites, "[001]", vacant=one)


def _dichalcogenide(metal: str, chalcogen: str, edge: float, height: float, thickness: float) -> Crystal:
    """Two layers in 2H stacking, each metal above a pair of the other layer; `thickness` is between the two chalcogens."""
    up = thickness / 2 / height
    sites = []
    # A rectangle of two primitive cells; the second layer is the first one turned by 180 degrees about the metal's hollow.
    for shift in (0.0, 0.5):
        for z, metal_y, pair_y in ((0.25, 0.0, 1 / 3), (0.75, 1 / 3, 0.0)):
            sites.append((metal, shift, metal_y + shift, z))
            sites += [(chalcogen, shift, pair_y + shift, z - up), (chalcogen, shift, pair_y + shift, z + up)]
    cell = (edge, edge * np.sqrt(3), height)
    name = f"{metal}{chalcogen}2"
    return Crystal(name, cell, tuple(sites), "[0001]", height / 2, layers_per_cell=2, vacant=chalcogen)


def _carbon(name: str, layers: int, thickness: float) -> Crystal:
    """Honeycombs, the second one with half of its atoms above the middle of a hexagon (AB)."""
    sites = []
    for shift in (0.0, 0.5):
        for layer in range(layers):
            z = (layer + 0.5) / layers
            sites += [("C", shift, shift + y + layer / 3, z) for y in (0.0, 1 / 3)]
    cell = (2.46, 2.46 * np.sqrt(3), 3.35 * layers)
    return Crystal(name, cell, tuple(sites), "[0001]", thickness, layers, 1 if layers == 1 else None, "C")


def _tellurium() -> list[tuple[float, float, float]]:
    """Return fractional x, y, z of the six atoms of an orthogonal cell: chains along z, space group 152 (P 31 2 1)."""
    u = 0.2636
    # Site 3a (u, 0, 1/3), (0, u, 2/3), (-u, -u, 0) on hexagonal axes; x along a, y at right angles to it.
    places = []
    for h, k, z in ((u, 0.0, 1 / 3), (0.0, u, 2 / 3), (-u, -u, 0.0)):
        places += [(h - k / 2 + shift, k / 2 + shift, z) for shift in (0.0, 0.5)]
    return places


def _tellurium_along_chains() -> Crystal:
    cell = (4.458, 4.458 * np.sqrt(3), 5.925)
    return Crystal("Te", cell, tuple(("Te", *place) for place in _tellurium()), "[0001]", vacant="Te")


def _tellurene() -> Crystal:
    """Turn the same crystal as a sheet lies: chains along y, seen at right angles to them."""
    cell = (4.458, 5.925, 4.458 * np.sqrt(3))
    return Crystal("tellurene", cell, tuple(("Te", x, z, y) for x, y, z in _tellurium()), "[10-10]", vacant="Te")


def _lead_telluride() -> Crystal:
    """Rock salt along [110], where every column is of one element."""
    edge = 6.462
    half = edge / np.sqrt(2)
    sites = [("Pb", 0, 0, 0), ("Pb", 0.5, 0.5, 0.5), ("Te", 0.5, 0, 0), ("Te", 0, 0.5, 0.5)]
    return Crystal("PbTe", (edge, half, half), tuple(sites), "[110]", vacant="Te")


def _strontium_titanate() -> Crystal:
    sites = [("Sr", 0, 0, 0), ("Ti", 0.5, 0.5, 0.5), ("O", 0.5, 0.5, 0), ("O", 0.5, 0, 0.5), ("O", 0, 0.5, 0.5)]
    return Crystal("SrTiO3", (3.905,) * 3, tuple(sites), "[001]", vacant="O")


CRYSTALS: Final[Mapping[str, Crystal]] = {
    crystal.name: crystal
    for crystal in (
        _carbon("graphene", 1, 3.35),
        _carbon("graphite", 2, 251.25),
        _zincblende("GaAs", "Ga", "As", 5.653),
        _zincblende("InAs", "In", "As", 6.058),
        _dichalcogenide("Mo", "S", 3.160, 12.295, 3.17),
        _dichalcogenide("W", "S", 3.153, 12.323, 3.14),
        _dichalcogenide("Mo", "Se", 3.288, 12.92, 3.34),
        _strontium_titanate(),
        Crystal("Si", (5.431,) * 3, _zincblende("Si", "Si", "Si", 5.431).sites, "[001]", vacant="Si"),
        _tellurium_along_chains(),
        _tellurene(),
        _lead_telluride(),
    )
}
"""By name. Lattice constants at room temperature, angstrom."""


def crystal_named(name: str) -> Crystal:
    """Return a crystal.

    Raises
    ------
    InvalidInput
        None of that name.
    """
    try:
        return CRYSTALS[name]
    except KeyError:
        raise InvalidInput(f"there is no material {name!r}", where="material", fix=f"one of {', '.join(CRYSTALS)}") from None
