"""What Zeiss, FEI/Thermo Fisher and TVIPS tags say about the instrument, in NeXus NXem terms."""

from collections.abc import Mapping
from typing import Any, Final

from emstore.geometry.units import canonical
from emstore.header import quantity

_ZEISS: Final = {
    "ap_actualkv": "instrument/ebeam_column/electron_source/voltage",
    "ap_iprobe": "instrument/optics/beam_current",
    "ap_wd": "instrument/optics/working_distance",
    "dp_dwell_time": "instrument/scan_controller/dwell_time",
    "ap_stage_at_x": "instrument/stage/x",
    "ap_stage_at_y": "instrument/stage/y",
    "ap_stage_at_z": "instrument/stage/z",
    "ap_stage_at_r": "instrument/stage/rotation",
    "ap_stage_at_t": "instrument/stage/tilt",
    "dp_detector_channel": "instrument/detector/name",
    "sv_serial_number": "instrument/fabrication/serial_number",
    "sv_version": "instrument/control_software/version",
}

_FEI: Final = (
    ("Scan", "Dwelltime", "instrument/scan_controller/dwell_time", "second"),
    ("Stage", "StageX", "instrument/stage/x", "meter"),
    ("Stage", "StageY", "instrument/stage/y", "meter"),
    ("Stage", "StageZ", "instrument/stage/z", "meter"),
    ("Stage", "StageR", "instrument/stage/rotation", "radian"),
    ("Stage", "StageT", "instrument/stage/tilt", "radian"),
    ("Vacuum", "ChPressure", "instrument/chamber/pressure", "pascal"),
)


def terms_of(page: Any) -> dict[str, Any]:
    """Return the NXem terms of a page's vendor tags; empty where there are none."""
    zeiss, tvips = page.tags.valueof(34118), page.tags.valueof(37706)
    fei = page.tags.valueof(34682) or page.tags.valueof(34680)
    if isinstance(zeiss, Mapping):
        return _zeiss(zeiss)
    if isinstance(fei, Mapping):
        return _fei(fei)
    if isinstance(tvips, Mapping):
        return _tvips(tvips)
    return {}


def modality_of(page: Any, *, slices: int = 1) -> str | None:
    """Return the modality word a page's vendor tags stand for.

    A folder of slices from a machine with an ion column is ``fibsem``; one image is what its beam was.
    """
    zeiss, tvips = page.tags.valueof(34118), page.tags.valueof(37706)
    fei = page.tags.valueof(34682) or page.tags.valueof(34680)
    if isinstance(zeiss, Mapping):
        column = zeiss.get("dp_fib_column")
        has_ions = isinstance(column, tuple) and str(column[1]).lower() not in ("none", "absent")
        return "fibsem" if slices > 1 and has_ions else "sem"
    if isinstance(fei, Mapping):
        beam = str(_in(fei, "Beam", "Beam")).lower()
        if beam == "ibeam":
            return "fib"
        if beam == "ebeam":
            return "fibsem" if slices > 1 and _in(fei, "System", "Type") == "DualBeam" else "sem"
        return None
    return "tem" if isinstance(tvips, Mapping) else None


def _zeiss(facts: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"instrument/fabrication/vendor": "Zeiss"}
    for key, term in _ZEISS.items():
        entry = facts.get(key)
        if not isinstance(entry, tuple) or len(entry) < 2 or entry[1] == "":
            continue
        unit = canonical(str(entry[2])) if len(entry) > 2 else None
        if isinstance(entry[1], int | float) and not isinstance(entry[1], bool):
            found[term] = quantity(entry[1], unit) if unit else entry[1]
        else:
            found[term] = str(entry[1])
    return found


def _fei(facts: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"instrument/fabrication/vendor": "FEI"}
    model = _in(facts, "System", "SystemType")
    if model:
        found["instrument/fabrication/model"] = str(model)
    beam = str(_in(facts, "Beam", "Beam"))
    columns = {
        "EBeam": ("instrument/ebeam_column/electron_source", "instrument/optics"),
        "IBeam": ("instrument/ibeam_column",) * 2,
    }
    source, optics = columns.get(beam, (None, None))
    for key, place, term, unit in (
        ("HV", source, "voltage", "volt"),
        ("WD", optics, "working_distance", "meter"),
        ("BeamCurrent", optics, "beam_current", "ampere"),
    ):
        value = _in(facts, beam, key)
        if place and _is_number(value):
            found[f"{place}/{term}"] = quantity(value, unit)
    for section, key, term, unit in _FEI:
        value = _in(facts, section, key)
        if _is_number(value):
            found[term] = quantity(value, unit)
    detector = _in(facts, "Detectors", "Name")
    if detector:
        found["instrument/detector/name"] = str(detector)
        mode = _in(facts, "Detectors", "Mode")
        if mode not in (None, "", "None"):
            found["instrument/detector/mode"] = str(mode)
    return found


def _tvips(facts: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, term, unit in (
        ("TemHighTension", "instrument/ebeam_column/electron_source/voltage", "volt"),
        ("ExposureTime", "instrument/detector/exposure_time", "millisecond"),
    ):
        if _is_number(facts.get(key)) and facts[key] > 0:
            found[term] = quantity(facts[key], unit)
    if _is_number(facts.get("TemMagnification")) and facts["TemMagnification"] > 0:
        found["instrument/optics/magnification"] = float(facts["TemMagnification"])
    for key, term in (("TemType", "instrument/name"), ("CameraType", "instrument/detector/name")):
        if facts.get(key):
            found[term] = str(facts[key])
    return found


def _in(facts: Mapping[str, Any], section: str, key: str) -> Any:
    inner = facts.get(section)
    return inner.get(key) if isinstance(inner, Mapping) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
