"""A gold nanoparticle on amorphous carbon, the beam meeting the particle first."""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.simulators.stem.chance import Purpose, stream
from emstore.simulators.stem.parameters import Particle
from emstore.simulators.stem.specimen import Specimen

NEAREST: Final = 1.35
"""No two carbon atoms are nearer, angstrom (a bond of diamond is 1.54, of graphite 1.42)."""
SAME: Final = 0.35
"""Gold atoms nearer than this seen along the beam are one column, angstrom."""
GAP: Final = 2.2
"""Between the last gold atom and the carbon, angstrom."""
GOLD: Final = 4.078


def gold(form: str, diameter: float) -> npt.NDArray[np.float64]:
    """Return the atoms of the closed shell nearest to a diameter, middle at 0, shape (atoms, 3), angstrom.

    Icosahedron: seen along a two-fold axis. Decahedron: along its five-fold axis. Cuboctahedron: along [110].
    """
    from ase import cluster as clusters

    cluster: Any = clusters

    def build(n: int) -> Any:
        match form:
            case "icosahedron":
                return cluster.Icosahedron("Au", n, GOLD)
            case "decahedron":  # Marks: re-entrant edges of one atom
                return cluster.Decahedron("Au", p=max(1, n - 1), q=max(1, n - 1), r=1 if n > 2 else 0, latticeconstant=GOLD)
            case _:
                return cluster.Octahedron("Au", 2 * n - 1, cutoff=n - 1, latticeconstant=GOLD)

    best, error = None, math.inf
    for n in range(2, 40):
        atoms = build(n).get_positions()
        atoms = atoms - atoms.mean(axis=0)
        width = 2 * float(np.linalg.norm(atoms, axis=1).max())
        if abs(width - diameter) >= error:
            break
        best, error = atoms, abs(width - diameter)
    assert best is not None  # the first one always improves on infinity
    if form == "cuboctahedron":
        turn = np.array([[0, 0, 1], [1 / math.sqrt(2), -1 / math.sqrt(2), 0], [1 / math.sqrt(2), 1 / math.sqrt(2), 0]])
        best = best @ turn.T
    return np.asarray(best, dtype=np.float64)


def carbon(box: tuple[float, float, float], density: float, seed: int) -> npt.NDArray[np.float64]:
    """Return atoms thrown at random into a box, periodic sideways, none nearer than `NEAREST` to another, shape (atoms, 3).

    Random sequential addition: the structure of no real carbon, but its density and its shortest distance.

    Raises
    ------
    InvalidInput
        So many do not fit in this way.
    """
    from scipy.spatial import cKDTree

    count = round(density / 12.011 * 0.602214076 * math.prod(box))
    chance = stream(seed, Purpose.CARBON)
    edges = np.array([box[0], box[1], 4 * (box[2] + NEAREST)])  # far enough along z that the period there does not matter
    kept = np.empty((0, 3))
    for _ in range(400):
        if len(kept) >= count:
            return kept[:count]
        new = chance.random((max(64, count - len(kept)), 3)) * np.array(box)
        if len(kept):
            new = new[cKDTree(kept, boxsize=edges).query(new)[0] >= NEAREST]
        good = np.ones(len(new), dtype=np.bool_)
        for one, other in sorted(cKDTree(new, boxsize=edges).query_pairs(NEAREST)):
            good[other] &= not good[one]
        kept = np.concatenate([kept, new[good]])
    raise InvalidInput(
        f"{density:g} g/cm^3 of carbon cannot be thrown together at random with {NEAREST} angstrom between atoms",
        where="particle.carbon_density",
        fix="at most about 3",
    )


def on_carbon(asked: Particle, box: tuple[float, float], slice_thickness: float, seed: int) -> Specimen:
    """Build the particle in the middle of a box, the carbon below it.

    Raises
    ------
    InvalidInput
        The particle does not fit, or the carbon is too dense.
    """
    atoms = gold(asked.form, asked.diameter)
    wide = np.ptp(atoms, axis=0)
    if (wide[:2] + 4 > np.array(box)).any():
        raise InvalidInput(
            f"a particle {wide[0]:.0f} x {wide[1]:.0f} angstrom wide does not fit into a box of {box[0]:.0f} x {box[1]:.0f}",
            where="particle.diameter",
            fix="a smaller particle, a larger field of view, or a supercell that holds it",
        )
    atoms = atoms - [*(atoms.min(axis=0)[:2] + wide[:2] / 2), atoms[:, 2].min()] + [box[0] / 2, box[1] / 2, 1.5]
    top = float(atoms[:, 2].max())
    height = top + (GAP + asked.carbon_thickness if asked.carbon_thickness else 1.5)
    support = np.empty((0, 3))
    if asked.carbon_thickness:
        support = carbon((*box, asked.carbon_thickness), asked.carbon_density, seed)
        support[:, 2] += top + GAP
    slices = max(1, round(height / slice_thickness))
    column = _columns(atoms)
    count = len(atoms) + len(support)
    return Specimen(
        positions=np.concatenate([atoms, support]),
        elements=np.array(["Au"] * len(atoms) + ["C"] * len(support)),
        present=np.ones(count, dtype=np.bool_),
        column=np.concatenate([column, np.full(len(support), -1)]).astype(np.int64),
        serial=np.arange(count),
        twin=np.arange(count),
        box=(*box, height),
        unit=box,
        levels=height * np.arange(1, slices + 1) / slices,
        note=f"gold {asked.form} of {len(atoms)} atoms, {wide[0]:.1f} x {wide[1]:.1f} x {wide[2]:.1f} angstrom, on "
        f"{len(support)} carbon atoms, {asked.carbon_thickness:g} angstrom at {asked.carbon_density:g} g/cm^3, in a box of "
        f"{box[0]:.1f} x {box[1]:.1f} angstrom",
    )


def _columns(atoms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the number of every atom's column: atoms joined by steps shorter than `SAME` in projection."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(atoms[:, :2]).query_pairs(SAME, output_type="ndarray")
    joined = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(atoms), len(atoms)))
    return np.asarray(connected_components(joined, directed=False)[1], dtype=np.int64)
