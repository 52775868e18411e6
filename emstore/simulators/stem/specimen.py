"""A specimen: every atom in a box that repeats sideways, and the columns they form along the beam."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.simulators.stem.chance import Purpose, stream
from emstore.simulators.stem.crystals import ATOMIC_NUMBERS, Crystal

SAME_COLUMN: Final = 0.05
"""Atoms of a crystal nearer to each other than this, seen along the beam, are one column, angstrom."""


@dataclass(frozen=True)
class Columns:
    """The atomic columns of a box, one row each."""

    places: npt.NDArray[np.float64]
    """Ideal x, y, shape (columns, 2), angstrom."""
    species: npt.NDArray[np.str_]
    """Elements in it, joined by ``+``, heaviest first."""
    atoms: npt.NDArray[np.int64]
    """How many atoms the pristine column has."""
    missing: npt.NDArray[np.int64]
    """How many of them are not there."""
    sublattice: npt.NDArray[np.str_]
    """Letter of the kind of column: one for every composition."""
    shift: npt.NDArray[np.float64]
    """Mean displacement x, y of its atoms, over all configurations, shape (columns, 2), angstrom."""


@dataclass(frozen=True)
class Specimen:
    """Atoms in a box, the beam coming along z from 0."""

    positions: npt.NDArray[np.float64]
    """Shape (atoms, 3), order (x, y, z), angstrom; pristine and at rest."""
    elements: npt.NDArray[np.str_]
    present: npt.NDArray[np.bool_]
    """Whether the atom is there."""
    column: npt.NDArray[np.int64]
    """Row of its column; -1 for an atom of none."""
    serial: npt.NDArray[np.int64]
    """Number of the atom, the same in a thicker specimen of the same width."""
    twin: npt.NDArray[np.int64]
    """Number that atoms at the same place of different units share."""
    box: tuple[float, float, float]
    """Edges along x, y, z, angstrom; periodic along x and y."""
    unit: tuple[float, float]
    """What repeats in x and y: the crystal's cell, or the box itself, angstrom."""
    levels: npt.NDArray[np.float64]
    """Depths at which one may look at it, ascending, shape (slices,), angstrom: one slice ends at each."""
    note: str

    @property
    def slice_thickness(self) -> float:
        """Distance between two levels, angstrom."""
        return self.box[2] / len(self.levels)

    def moved(self, sigma: Mapping[str, float], seed: int, configuration: int, *, alike: bool) -> npt.NDArray[np.float64]:
        """Return the displacement of every atom in one frozen-phonon configuration, shape (atoms, 3), angstrom.

        Independent normal deviates (Loane, Xu & Silcox, Acta Cryst. A47 (1991) 267; Einstein model). Vacancies draw theirs
        too, so that specimens with and without them are otherwise the same.

        Parameters
        ----------
        sigma : mapping of str to float
            Standard deviation along one axis per element, angstrom.
        seed, configuration : int
            What chance comes from.
        alike : bool
            Move the atoms of all units alike, so that the specimen still repeats with `unit`.
        """
        scale = np.array([sigma[element] for element in self.elements.tolist()])[:, None]
        chance = stream(seed, Purpose.DISPLACEMENTS + configuration)
        if not alike:
            return np.asarray(chance.standard_normal((int(self.serial.max()) + 1, 3))[self.serial] * scale)
        return np.asarray(chance.standard_normal((int(self.twin.max()) + 1, 3))[self.twin] * scale)


def of_crystal(
    crystal: Crystal, thicknesses: tuple[float, ...], repeats: tuple[int, int], slice_thickness: float
) -> tuple[Specimen, tuple[int, ...]]:
    """Build a crystal of so many cells, as thick as the greatest of `thicknesses`.

    Returns
    -------
    Specimen
    tuple of int
        Number of slices down to every thickness, ascending.

    Raises
    ------
    InvalidInput
        Thicknesses that fall together, or that the material does not come in.
    """
    a, b, c = crystal.cell
    wanted = sorted(thicknesses)
    if crystal.layers_per_cell:
        layers = [round(t / crystal.layer) for t in wanted]
        if layers[0] < 1 or layers[-1] > (crystal.most_layers or layers[-1]):
            raise InvalidInput(
                f"{crystal.name} comes in layers of {crystal.layer:.2f} angstrom, at most {crystal.most_layers or 'any number'}; "
                f"{wanted[0]:g} to {wanted[-1]:g} angstrom is {layers[0]} to {layers[-1]}",
                where="thickness",
                fix=f"leave it out for {crystal.thickness:.2f}",
            )
        per_layer = max(1, math.ceil(crystal.layer / slice_thickness - 0.05))
        ends = [n * per_layer for n in layers]
        height = layers[-1] * crystal.layer
    else:
        slices = max(1, round(wanted[-1] / slice_thickness))
        height = wanted[-1]
        ends = [max(1, round(t / height * slices)) for t in wanted]
    if len(set(ends)) < len(ends):
        raise InvalidInput(
            f"of {', '.join(f'{t:g}' for t in wanted)} angstrom, some end in the same slice of {slice_thickness:g}",
            where="thickness",
            fix="state thicknesses that lie further apart",
        )
    nx, ny = repeats
    nz = math.ceil(height / c - 1e-9)
    i, j, k, atom = (v.ravel() for v in np.meshgrid(*map(np.arange, (nx, ny, nz, len(crystal.sites))), indexing="ij"))
    positions = crystal.positions()[atom] + np.column_stack([i * a, j * b, k * c])
    inside = positions[:, 2] < height - 1e-6
    place = _same(crystal.positions()[:, :2], (a, b))
    column = (i * ny + j) * (place.max() + 1) + place[atom]
    _, column = np.unique(column[inside], return_inverse=True)
    specimen = Specimen(
        positions=positions[inside],
        elements=crystal.elements()[atom][inside],
        present=np.ones(int(inside.sum()), dtype=np.bool_),
        column=column.astype(np.int64),
        serial=(((k * nx + i) * ny + j) * len(crystal.sites) + atom)[inside],
        twin=(k * len(crystal.sites) + atom)[inside],
        box=(nx * a, ny * b, height),
        unit=(a, b),
        levels=height * np.arange(1, ends[-1] + 1) / ends[-1],
        note=f"{crystal.name} along {crystal.zone}, {nx} x {ny} cells of {a:.3f} x {b:.3f} angstrom, {height:.2f} angstrom thick",
    )
    return specimen, tuple(ends)


def _same(places: npt.NDArray[np.float64], box: tuple[float, float]) -> npt.NDArray[np.int64]:
    """Return a number for every different place in a periodic box, shape (atoms,)."""
    found: list[npt.NDArray[np.float64]] = []
    numbers = []
    for place in places:
        away = np.array([place - other for other in found]).reshape(-1, 2)
        away -= np.array(box) * np.round(away / np.array(box))
        near = np.flatnonzero(np.hypot(*away.T) < SAME_COLUMN)
        if not near.size:
            found.append(place)
        numbers.append(int(near[0]) if near.size else len(found) - 1)
    return np.array(numbers)


def with_vacancies(
    specimen: Specimen, crystal: Crystal, element: str, single: float, double: float, seed: int
) -> tuple[Specimen, dict[str, float | int | str]]:
    """Take atoms away: one atom, or both, of that share of the element's places.

    A place is, in a dichalcogenide, the pair of atoms above each other in one layer; elsewhere every atom is one.

    Returns
    -------
    Specimen
    dict
        What was taken: ``element``, ``single``, ``double``, ``places``, ``atoms_missing``, ``atom_fraction``.

    Raises
    ------
    InvalidInput
        No such element, or pairs to take where there are none.
    """
    if element not in set(specimen.elements.tolist()):
        raise InvalidInput(f"{crystal.name} has no {element}", where="vacancies.element")
    atoms = np.flatnonzero(specimen.elements == element)
    if crystal.layers_per_cell:
        layer = np.floor(specimen.positions[atoms, 2] / crystal.layer).astype(np.int64)
        _, group = np.unique(np.column_stack([specimen.column[atoms], layer]), axis=0, return_inverse=True)
    else:
        group = np.arange(len(atoms))
    order = np.argsort(group.ravel(), kind="stable")
    places = np.split(atoms[order], np.flatnonzero(np.diff(group.ravel()[order])) + 1)
    if double and max(map(len, places)) < 2:
        raise InvalidInput(
            f"{element} in {crystal.name} has no pairs that could go together", where="vacancies.double", fix="state single only"
        )
    chance = stream(seed, Purpose.VACANCIES)
    one, both = round(single * len(places)), round(double * len(places))
    chosen = chance.permutation(len(places))[: one + both]
    picks = chance.integers(0, 2**31, len(chosen))
    present = specimen.present.copy()
    for n, (number, pick) in enumerate(zip(chosen.tolist(), picks.tolist(), strict=True)):
        place = places[number]
        present[place[pick % len(place)] if n < one else place] = False
    gone = int((~present).sum())
    told: dict[str, float | int | str] = {
        "element": element,
        "single": one,
        "double": both,
        "places": len(places),
        "atoms_missing": gone,
        "atom_fraction": gone / len(atoms),
    }
    return replace(specimen, present=present), told


def columns_of(specimen: Specimen, shifts: npt.NDArray[np.float64]) -> Columns:
    """Return the columns of a specimen whose atoms moved, on average over the configurations, by `shifts` (atoms, 3)."""
    belongs = specimen.column >= 0
    column = specimen.column[belongs]
    count = int(column.max()) + 1 if column.size else 0
    atoms = np.bincount(column, minlength=count)
    missing = np.bincount(column, weights=~specimen.present[belongs], minlength=count).astype(np.int64)
    there = np.maximum(atoms - missing, 1)
    first = np.zeros(count, dtype=np.int64)
    first[column[::-1]] = np.arange(len(column))[::-1]
    places = specimen.positions[belongs][first, :2]
    # Relative to one atom of the column, since a column may lie across the box's edge.
    away = specimen.positions[belongs][:, :2] - places[column]
    away -= np.array(specimen.box[:2]) * np.round(away / np.array(specimen.box[:2]))
    places = places + _means(column, away, atoms)
    weighted = shifts[belongs][:, :2] * specimen.present[belongs][:, None]
    elements = specimen.elements[belongs]
    kinds = sorted(set(elements.tolist()), key=lambda name: -ATOMIC_NUMBERS[name])
    has = {kind: np.bincount(column, weights=elements == kind, minlength=count) for kind in kinds}
    species = np.array(["+".join(kind for kind in kinds if has[kind][n]) for n in range(count)], dtype=np.str_)
    letters = {sort: chr(ord("A") + n % 26) for n, sort in enumerate(sorted(set(species.tolist())))}
    names = np.array([letters[each] for each in species.tolist()], dtype=np.str_)
    return Columns(places, species, atoms.astype(np.int64), missing, names, _means(column, weighted, there))


def _means(
    column: npt.NDArray[np.int64], values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    return np.column_stack([np.bincount(column, weights=values[:, n], minlength=len(counts)) / counts for n in (0, 1)])
