"""Heights of columns with fewer atoms, in parts of a full one: measured on simulated images, by detector."""

from dataclasses import dataclass
from typing import Final

from emstore.processors.measure.vacancies.atoms import Steps


@dataclass(frozen=True)
class Calibration:
    """What simulated monolayers at one detector say."""

    detector_mrad: tuple[float, float]
    one: float
    """Height of one atom, in parts of two."""
    one_error: float
    none: float
    """Height fitted where there is no atom."""
    none_error: float


TABLE: Final = (
    Calibration((60.0, 180.0), 0.47, 0.03, -0.02, 0.02),
    Calibration((30.0, 70.0), 0.25, 0.03, -0.02, 0.02),
)
UNKNOWN: Final = Steps((0.0, 0.5, 1.0), (0.03, 0.04, 0.0))
"""Two atoms scatter twice as much as one, incoherently, and what they do otherwise is a few parts in a hundred."""


def steps_for(detector_mrad: tuple[float, float] | None, single: float | None, single_error: float | None) -> tuple[Steps, str]:
    """Return the calibration for a detector, and where it comes from.

    Parameters
    ----------
    detector_mrad : (float, float), optional
        Inner and outer angle, mrad.
    single, single_error : float, optional
        Height of one atom in parts of two, and its standard error, if they are known otherwise.
    """
    found, source = UNKNOWN, "the detector is not stated, so one atom is taken for 0.50 +- 0.04 of two"
    if detector_mrad is not None:
        inner, outer = detector_mrad
        nearest = min(TABLE, key=lambda c: abs(c.detector_mrad[0] - inner) / 10 + abs(c.detector_mrad[1] - outer) / 40)
        far = abs(nearest.detector_mrad[0] - inner) > 10 or abs(nearest.detector_mrad[1] - outer) > 40
        wider = 2.0 if far else 1.0
        found = Steps((nearest.none, nearest.one, 1.0), (wider * nearest.none_error, wider * nearest.one_error, 0.0))
        source = (
            f"one atom is {nearest.one:.3f} +- {wider * nearest.one_error:.3f} of two, as simulated for "
            f"{nearest.detector_mrad[0]:g}-{nearest.detector_mrad[1]:g} mrad"
        )
    if single is not None:
        error = found.errors[1] if single_error is None else single_error
        found = Steps((found.parts[0], single, 1.0), (found.errors[0], error, 0.0))
        source = f"one atom is {single:.3f} +- {error:.3f} of two, as asked for"
    return found, source
