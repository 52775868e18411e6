"""One axis of an array: its name, what it measures, and where its samples are."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput, Kind


class AxisKind(StrEnum):
    """What an axis runs over."""

    TIME = "time"
    CHANNEL = "channel"
    SPACE = "space"
    SPECTRAL = "spectral"
    RECIPROCAL = "reciprocal"
    OTHER = "other"


@dataclass(frozen=True)
class Axis:
    """One axis: a name, a size, and the positions of its samples (voxel centres).

    Either uniform (``spacing``) or irregular (``positions``); both ``None`` when nothing is known.
    """

    name: str
    """Short lower-case name, unique in its grid: ``t c z y x`` where they fit, else e.g. ``energy``, ``ky``."""
    size: int
    """Number of samples, >= 1."""
    kind: AxisKind = AxisKind.SPACE
    """What the axis runs over."""
    spacing: float | None = None
    """Distance between neighbouring samples in `unit`, > 0; ``None`` when unknown or irregular."""
    unit: str | None = None
    """UDUNITS name written out (``nanometer``), the instrument's own word where that is not known, or ``None``."""
    origin: float = 0.0
    """Position of sample 0 in `unit`."""
    positions: tuple[float, ...] | None = None
    """True position of every sample in `unit`, where they are not uniform."""
    labels: tuple[str, ...] | None = None
    """Names of the samples of a channel axis."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InvalidInput(f"axis {self.name!r} has size {self.size}; empty arrays cannot be stored")
        if self.spacing is not None and not (math.isfinite(self.spacing) and self.spacing > 0):
            raise InvalidInput(
                f"axis {self.name!r} has spacing {self.spacing}; it must be a positive number",
                fix="leave unknown spacing as null",
                kind=Kind.BAD_SPACING,
            )
        if not math.isfinite(self.origin):
            raise InvalidInput(f"axis {self.name!r} has origin {self.origin}", kind=Kind.BAD_SPACING)
        for what, values in (("positions", self.positions), ("labels", self.labels)):
            if values is not None and len(values) != self.size:
                raise InvalidInput(f"axis {self.name!r} has {len(values)} {what} for {self.size} samples")
        if self.positions is not None and self.spacing is not None:
            raise InvalidInput(f"axis {self.name!r} has both a spacing and positions")

    @classmethod
    def measured(cls, name: str, size: int, spacing: float | None, unit: str | None, **rest: object) -> "Axis":
        """Build an axis from what a reader reports, taking its placeholders for what they are: unknown.

        ``1`` without a unit, and any spacing that is zero, negative or not finite, becomes ``None``.
        """
        known = spacing is not None and math.isfinite(spacing) and spacing > 0 and not (spacing == 1 and unit is None)
        axis = cls(name, size, spacing=spacing if known else None, unit=unit if known else None)
        return replace(axis, **rest)  # type: ignore[arg-type]  # checked again by __post_init__

    @property
    def uniform(self) -> bool:
        """Whether the samples are equally spaced (or nothing says otherwise)."""
        return self.positions is None

    @property
    def known(self) -> bool:
        """Whether positions along this axis are known in any way."""
        return self.spacing is not None or self.positions is not None

    def coordinates(self) -> npt.NDArray[np.float64]:
        """Return the position of every sample, shape (size,), in `unit`; plain indices when spacing is unknown."""
        if self.positions is not None:
            return np.asarray(self.positions, dtype=np.float64)
        step = 1.0 if self.spacing is None else self.spacing
        return self.origin + step * np.arange(self.size, dtype=np.float64)

    def median_step(self) -> float | None:
        """Return the spacing, or the median step of irregular positions; ``None`` when unknown."""
        if self.positions is None:
            return self.spacing
        if self.size < 2:
            return None
        return float(np.median(np.abs(np.diff(self.coordinates()))))
