"""Affines: from array indices to a named world, in array order.

An `Affine` takes ``(z, y, x, 1)`` indices to ``(z, y, x, 1)`` world positions, so it lines up with NumPy shapes. NIfTI
and DICOM write the same thing in the opposite order, ``(i, j, k)`` to ``(x, y, z)``; `Affine.from_xyz` and
`Affine.xyz` convert. The world's name says which way its axes point: ``RAS`` (x to the patient's right, y anterior,
z superior: NIfTI-1 standard, "orientation"), ``LPS`` (x left, y posterior, z superior: DICOM PS3.3 C.7.6.2.1.1), or
``instrument`` (stage or scanner frame, no anatomical meaning).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput

Matrix = npt.NDArray[np.float64]

_REVERSE: Final[Matrix] = np.eye(4)[[2, 1, 0, 3]]
_FLIP_XY: Final[Matrix] = np.diag([1.0, -1.0, -1.0, 1.0])


class Space(StrEnum):
    """The world an affine leads to."""

    RAS = "RAS"
    LPS = "LPS"
    INSTRUMENT = "instrument"


@dataclass(frozen=True)
class Affine:
    """Index-to-world transform of the last three axes ``z, y, x``."""

    matrix: tuple[tuple[float, ...], ...]
    """Shape (4, 4), row-major, array order: rows are world z, y, x, 1; columns index z, y, x, 1."""
    space: Space
    """The world it leads to."""
    unit: str | None
    """UDUNITS name of the world's unit, e.g. ``millimeter``."""

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], [0, 0, 0, 1]):
            raise InvalidInput("an affine must be a finite 4x4 matrix with last row 0 0 0 1")

    @classmethod
    def of(cls, matrix: npt.ArrayLike, space: Space, unit: str | None) -> "Affine":
        """Build from any (4, 4) array in array order."""
        rows = np.asarray(matrix, dtype=np.float64)
        return cls(tuple(tuple(float(v) for v in row) for row in rows), space, unit)

    @classmethod
    def from_xyz(cls, matrix: npt.ArrayLike, space: Space, unit: str | None) -> "Affine":
        """Build from a (4, 4) matrix that takes ``(i, j, k)`` to ``(x, y, z)``, as NIfTI and DICOM write it."""
        return cls.of(_REVERSE @ np.asarray(matrix, dtype=np.float64) @ _REVERSE, space, unit)

    @property
    def array(self) -> Matrix:
        """The matrix as an array, shape (4, 4), array order."""
        return np.asarray(self.matrix, dtype=np.float64)

    @property
    def xyz(self) -> Matrix:
        """The matrix that takes ``(i, j, k)`` to ``(x, y, z)``, shape (4, 4)."""
        return np.asarray(_REVERSE @ self.array @ _REVERSE)

    def to(self, space: Space) -> "Affine":
        """Return the same transform into another anatomical world (RAS <-> LPS).

        Raises
        ------
        InvalidInput
            One of the two is ``instrument``: nothing relates it to a patient.
        """
        if space == self.space:
            return self
        if Space.INSTRUMENT in (space, self.space):
            raise InvalidInput(f"cannot turn {self.space} coordinates into {space}: nothing relates them")
        return Affine.of(_FLIP_XY @ self.array, space, self.unit)

    def voxel_sizes(self) -> tuple[float, float, float]:
        """Return the length of one step along z, y, x, in `unit`."""
        z, y, x = np.linalg.norm(self.array[:3, :3], axis=0)
        return float(z), float(y), float(x)

    def directions(self) -> tuple[str, str, str] | None:
        """Return which way each array axis z, y, x mostly points in the patient, e.g. ``("S", "P", "L")``.

        Right, left, anterior, posterior, superior, inferior; ``None`` in the world of an instrument. Each world axis is given
        away once, the clearest match first.
        """
        if self.space is Space.INSTRUMENT:
            return None
        linear = self.to(Space.RAS).array[:3, :3]
        strength = np.abs(linear) / np.maximum(np.linalg.norm(linear, axis=0), np.finfo(float).tiny)
        letters = ["", "", ""]
        for _ in range(3):
            world, index = (int(n) for n in np.unravel_index(np.argmax(strength), (3, 3)))
            letters[index] = ("SI", "AP", "RL")[world][int(linear[world, index] < 0)]
            strength[world, :] = strength[:, index] = -1
        return letters[0], letters[1], letters[2]

    def is_oblique(self, tolerance: float = 1e-4) -> bool:
        """Whether any array axis is off its world axis by more than `tolerance` (relative)."""
        linear = np.abs(self.array[:3, :3])
        sizes = np.linalg.norm(linear, axis=0)
        return bool((np.max(linear, axis=0) < sizes * (1 - tolerance)).any())

    def scaled(self, factors: tuple[float, float, float], shift: tuple[float, float, float]) -> "Affine":
        """Return the affine of a grid whose index i sits at index ``factors * i + shift`` of this one (order z, y, x)."""
        step = np.diag([*factors, 1.0])
        step[:3, 3] = shift
        return Affine.of(self.array @ step, self.space, self.unit)

    def world(self, indices: npt.ArrayLike) -> Matrix:
        """Return world positions (order z, y, x), shape (..., 3), of indices (order z, y, x), shape (..., 3)."""
        points = np.asarray(indices, dtype=np.float64)
        return np.asarray(points @ self.array[:3, :3].T + self.array[:3, 3])
