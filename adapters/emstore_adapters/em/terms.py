"""Facts that mean the same on every microscope, by NeXus NXem path (NeXus definitions 2024, NXem; UDUNITS unit names).

Tables say where each vendor keeps a fact and in which unit; a value that is missing, not finite, or zero where zero
cannot be meant (a voltage, a current, a magnification) is left out rather than guessed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from emstore.geometry import Axis, AxisKind, units
from emstore.header import quantity

VOLTAGE: Final = "instrument/ebeam_column/electron_source/voltage"
EMISSION: Final = "instrument/ebeam_column/electron_source/emission_current"
CURRENT: Final = "instrument/optics/probe_current"
SCREEN_CURRENT: Final = "instrument/optics/last_measured_screen_current"
CONVERGENCE: Final = "instrument/optics/semi_convergence_angle"
CAMERA_LENGTH: Final = "instrument/optics/camera_length"
MAGNIFICATION: Final = "instrument/optics/magnification"
DEFOCUS: Final = "instrument/optics/defocus"
DWELL: Final = "instrument/scan_controller/dwell_time"
EXPOSURE: Final = "instrument/detector/exposure_time"
DETECTOR: Final = "instrument/detector/name"
VENDOR: Final = "instrument/fabrication/vendor"
MODEL: Final = "instrument/fabrication/model"
STAGE_X: Final = "instrument/stage/position/x"
STAGE_Y: Final = "instrument/stage/position/y"
STAGE_Z: Final = "instrument/stage/position/z"
ALPHA: Final = "instrument/stage/tilt1"
BETA: Final = "instrument/stage/tilt2"
START: Final = "start_time"
DOSE: Final = "dose_management/cumulative_dose"
DOSE_ORIGIN: Final = "dose_management/cumulative_dose/origin"

_KEPT_UNIT: Final = {
    VOLTAGE: "kilovolt",
    CURRENT: "nanoampere",
    SCREEN_CURRENT: "nanoampere",
    EMISSION: "microampere",
    CONVERGENCE: "milliradian",
    CAMERA_LENGTH: "millimeter",
    DWELL: "second",
    EXPOSURE: "second",
    STAGE_X: "micrometer",
    STAGE_Y: "micrometer",
    STAGE_Z: "micrometer",
    ALPHA: "degree",
    BETA: "degree",
    DEFOCUS: "nanometer",
}
_ZERO_IS_UNSET: Final = frozenset(
    {VOLTAGE, CURRENT, SCREEN_CURRENT, EMISSION, CONVERGENCE, CAMERA_LENGTH, MAGNIFICATION, DWELL, EXPOSURE}
)
_ELECTRONS_PER_COULOMB: Final = 1 / 1.602176634e-19  # exact (SI 2019)


@dataclass(frozen=True)
class Fact:
    """Where a vendor keeps one fact."""

    term: str
    path: tuple[str, ...]
    unit: str | None = None
    """Unit the vendor writes it in; ``None`` for plain numbers and words."""


_INFO: Final = ("Microscope Info",)
DM: Final = (
    Fact(VOLTAGE, (*_INFO, "Voltage"), "volt"),
    Fact(CURRENT, (*_INFO, "Probe Current (nA)"), "nanoampere"),
    Fact(EMISSION, (*_INFO, "Emission Current (µA)"), "microampere"),
    Fact(CONVERGENCE, ("EELS", "Experimental Conditions", "Convergence semi-angle (mrad)"), "milliradian"),
    Fact(CAMERA_LENGTH, (*_INFO, "STEM Camera Length"), "millimeter"),
    Fact(MAGNIFICATION, (*_INFO, "Indicated Magnification")),
    Fact(DWELL, ("DigiScan", "Sample Time"), "microsecond"),
    Fact(EXPOSURE, ("Acquisition", "Parameters", "High Level", "Exposure (s)"), "second"),
    Fact(EXPOSURE, ("Acquisition", "Parameters", "Detector", "exposure (s)"), "second"),
    Fact(MODEL, (*_INFO, "Name")),
    Fact(MODEL, (*_INFO, "Microscope")),
    Fact(DETECTOR, ("Acquisition", "Device", "Name")),
    Fact(DETECTOR, ("DataBar", "Signal Name")),
    Fact(DETECTOR, ("QuickSaved", "Temp-Tags", "Detector")),
    Fact(STAGE_X, (*_INFO, "Stage Position", "Stage X"), "micrometer"),
    Fact(STAGE_Y, (*_INFO, "Stage Position", "Stage Y"), "micrometer"),
    Fact(STAGE_Z, (*_INFO, "Stage Position", "Stage Z"), "micrometer"),
    Fact(ALPHA, (*_INFO, "Stage Position", "Stage Alpha"), "degree"),
    Fact(BETA, (*_INFO, "Stage Position", "Stage Beta"), "degree"),
)
VELOX: Final = (
    Fact(VOLTAGE, ("Optics", "AccelerationVoltage"), "volt"),
    Fact(CURRENT, ("Optics", "ProbeCurrent"), "ampere"),
    Fact(SCREEN_CURRENT, ("Optics", "LastMeasuredScreenCurrent"), "ampere"),
    Fact(CONVERGENCE, ("Optics", "BeamConvergence"), "radian"),
    Fact(CAMERA_LENGTH, ("Optics", "CameraLength"), "meter"),
    Fact(DEFOCUS, ("Optics", "Defocus"), "meter"),
    Fact(MAGNIFICATION, ("CustomProperties", "StemMagnification", "value")),
    Fact(DWELL, ("Scan", "DwellTime"), "second"),
    Fact(VENDOR, ("Instrument", "Manufacturer")),
    Fact(MODEL, ("Instrument", "InstrumentModel")),
    Fact(MODEL, ("Instrument", "InstrumentClass")),
    Fact(DETECTOR, ("DetectorMetadata", "DetectorName")),
    Fact(DETECTOR, ("BinaryResult", "Detector")),
    Fact(EXPOSURE, ("DetectorMetadata", "ExposureTime"), "second"),
    Fact(STAGE_X, ("Stage", "Position", "x"), "meter"),
    Fact(STAGE_Y, ("Stage", "Position", "y"), "meter"),
    Fact(STAGE_Z, ("Stage", "Position", "z"), "meter"),
    Fact(ALPHA, ("Stage", "AlphaTilt"), "radian"),
    Fact(BETA, ("Stage", "BetaTilt"), "radian"),
)
_TIA: Final = ("ObjectInfo", "ExperimentalDescription")
TIA: Final = (
    Fact(VOLTAGE, (*_TIA, "High tension_kV"), "kilovolt"),
    Fact(EMISSION, (*_TIA, "Emission_uA"), "microampere"),
    Fact(CAMERA_LENGTH, (*_TIA, "Camera length_m"), "meter"),
    Fact(MAGNIFICATION, (*_TIA, "Magnification_x")),
    Fact(DEFOCUS, (*_TIA, "Defocus_um"), "micrometer"),
    Fact(DWELL, ("ObjectInfo", "AcquireInfo", "DwellTimePath"), "second"),
    Fact(VENDOR, ("ObjectInfo", "Manufacturer")),
    Fact(MODEL, (*_TIA, "Microscope")),
    Fact(DETECTOR, ("ObjectInfo", "AcquireInfo", "CameraNamePath")),
    Fact(STAGE_X, (*_TIA, "Stage X_um"), "micrometer"),
    Fact(STAGE_Y, (*_TIA, "Stage Y_um"), "micrometer"),
    Fact(STAGE_Z, (*_TIA, "Stage Z_um"), "micrometer"),
    Fact(ALPHA, (*_TIA, "Stage A_deg"), "degree"),
    Fact(BETA, (*_TIA, "Stage B_deg"), "degree"),
    Fact(START, ("ObjectInfo", "AcquireDate")),
)
# Units as HyperSpy's metadata structure documents them.
HYPERSPY: Final = (
    Fact(VOLTAGE, ("beam_energy",), "kilovolt"),
    Fact(CURRENT, ("beam_current",), "nanoampere"),
    Fact(CURRENT, ("probe_current",), "nanoampere"),
    Fact(CONVERGENCE, ("convergence_angle",), "milliradian"),
    Fact(CAMERA_LENGTH, ("camera_length",), "millimeter"),
    Fact(MAGNIFICATION, ("magnification",)),
    Fact(DWELL, ("dwell_time",), "second"),
    Fact(MODEL, ("microscope",)),
    Fact(STAGE_X, ("Stage", "x"), "millimeter"),
    Fact(STAGE_Y, ("Stage", "y"), "millimeter"),
    Fact(STAGE_Z, ("Stage", "z"), "millimeter"),
    Fact(ALPHA, ("Stage", "tilt_alpha"), "degree"),
    Fact(BETA, ("Stage", "tilt_beta"), "degree"),
)


def collect(facts: Sequence[Fact], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the terms that a vendor's tree states; the first fact of a term that is there wins."""
    terms: dict[str, Any] = {}
    for fact in facts:
        value = at(tree, fact.path)
        if fact.term not in terms and value is not None:
            add(terms, fact.term, value, fact.unit)
    return terms


def add(terms: dict[str, Any], term: str, value: object, unit: str | None = None) -> None:
    """Set one term, in the unit it is kept in; nothing when the value is empty or means "not set"."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if unit is None and isinstance(value, str) and term != MAGNIFICATION:
        word = value.strip(" \x00")
        if word and word.lower() not in ("unknown", "[]", "none"):
            terms[term] = word
        return
    try:
        number = float(value)  # type: ignore[arg-type]  # anything may stand in a file
    except (TypeError, ValueError):
        return
    if not math.isfinite(number) or (number == 0 and term in _ZERO_IS_UNSET):
        return
    if unit is None:
        terms[term] = number
    else:
        kept = _KEPT_UNIT[term]
        # 12 digits: converting must not turn 60 kV into 60.00000000000001.
        terms[term] = quantity(float(f"{units.convert(number, unit, kept):.12g}"), kept)


def at(tree: Any, path: Sequence[str]) -> Any:
    """Return what lies at a path of nested mappings, or ``None``."""
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return None if isinstance(tree, Mapping) else tree


def with_dose(terms: Mapping[str, Any], axes: Sequence[Axis]) -> dict[str, Any]:
    """Return the terms with the dose of one scan, where the file states all it takes: ``current * dwell / (e * pixel area)``.

    The origin of a derived dose is stated beside it. Nothing is derived for a stack or a reciprocal image.
    """
    found = dict(terms)
    image = {axis.name: axis for axis in axes if axis.name in ("y", "x") and axis.kind is AxisKind.SPACE}
    source = next((term for term in (CURRENT, SCREEN_CURRENT) if term in found), None)
    if DOSE in found or source is None or DWELL not in found or len(image) != 2 or any(axis.name in "tz" for axis in axes):
        return found
    sides = []
    for axis in image.values():
        if axis.spacing is None or not units.is_length(axis.unit):
            return found
        sides.append(units.convert(axis.spacing, str(axis.unit), "angstrom"))
    current = units.convert(found[source]["value"], found[source]["unit"], "ampere")
    dwell = units.convert(found[DWELL]["value"], found[DWELL]["unit"], "second")
    found[DOSE] = quantity(current * dwell * _ELECTRONS_PER_COULOMB / (sides[0] * sides[1]), "electron/angstrom^2")
    word = source.rpartition("/")[2].replace("_", " ")
    found[DOSE_ORIGIN] = f"derived, for one scan: {word} x dwell time / (elementary charge x pixel area)"
    return found
