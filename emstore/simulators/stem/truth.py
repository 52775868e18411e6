"""Where the columns are in the image."""

import math

import numpy as np
import numpy.typing as npt

from emstore.simulators.stem.parameters import StemParams
from emstore.simulators.stem.specimen import Columns, Specimen
from emstore.table import Column, Table


def column_table(params: StemParams, specimen: Specimen, columns: Columns) -> Table:
    """Return every column whose middle lies in the image, copies by the box's period included, from top to bottom.

    Positions are y, x of the image's axes: 0 is the middle of the first pixel.
    """
    height, width = params.shape
    turn = math.radians(params.rotation)
    to_image = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    first = np.array([params.offset[1], params.offset[0]])
    corners = np.array([[x, y] for x in (-0.5, width - 0.5) for y in (-0.5, height - 0.5)]) * params.pixel @ to_image + first
    box = np.array(specimen.box[:2])
    low = np.floor(corners.min(axis=0) / box).astype(int) - 1
    high = np.ceil(corners.max(axis=0) / box).astype(int) + 1
    copies = np.array([[i, j] for i in range(low[0], high[0]) for j in range(low[1], high[1])], dtype=np.float64)
    places = (columns.places[None] + copies[:, None] * box).reshape(-1, 2)
    which = np.tile(np.arange(len(columns.places)), len(copies))
    seen = (places - first) @ to_image.T
    # Half a pixel beyond the middle of the outermost pixels is still the image; its far edge belongs to the next.
    limits = np.array([width, height])
    at = seen / params.pixel + 0.5
    inside = np.flatnonzero(((at >= 0) & (at < limits)).all(axis=1))
    inside = inside[np.lexsort((seen[inside, 0].round(6), seen[inside, 1].round(6)))]
    which = which[inside]
    shift = columns.shift[which] @ to_image.T
    atoms = int(columns.atoms[which].sum())
    missing = int(columns.missing[which].sum())
    return Table(
        "columns",
        {
            "y": Column(seen[inside, 1], "angstrom", "place of the column at rest, from the middle of the first pixel"),
            "x": Column(seen[inside, 0], "angstrom", "place of the column at rest, from the middle of the first pixel"),
            "species": Column(_text(columns.species[which]), None, "elements in it, heaviest first"),
            "atoms": Column(columns.atoms[which], None, "atoms of the pristine column"),
            "missing": Column(columns.missing[which], None, "how many of them are not there"),
            "sublattice": Column(_text(columns.sublattice[which]), None, "one letter for every composition"),
            "y_shift": Column(shift[:, 1], "angstrom", "mean displacement of its atoms, over all configurations"),
            "x_shift": Column(shift[:, 0], "angstrom", "mean displacement of its atoms, over all configurations"),
        },
        summary={"columns": len(inside), "atoms": atoms, "missing": missing},
        notes=("columns are those of the greatest thickness",) if params.thickness and len(params.thickness) > 1 else (),
    )


def _text(values: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    return values if len(values) else np.array([], dtype="<U1")
