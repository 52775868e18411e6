"""The one room that knows units.

Names are UDUNITS-2 names written out in full (``nanometer``, never ``nm``), as OME-NGFF 0.5 ("axes", unit) asks for.
Instrument files spell units in many ways (``nm``, ``µm``, ``Å``, ``1 / nm``, ``nm^-1``); `canonical` maps a spelling to
its name, or to ``None`` where it is not known: an unknown unit is never guessed.
"""

import math
import re
from typing import Final

from emstore.errors import InvalidInput, Kind

# name -> (dimension, factor to the dimension's SI unit)
_BASE: Final[dict[str, tuple[str, float]]] = {
    "meter": ("length", 1.0),
    "centimeter": ("length", 1e-2),
    "millimeter": ("length", 1e-3),
    "micrometer": ("length", 1e-6),
    "nanometer": ("length", 1e-9),
    "angstrom": ("length", 1e-10),
    "picometer": ("length", 1e-12),
    "inch": ("length", 0.0254),
    "hour": ("time", 3600.0),
    "minute": ("time", 60.0),
    "second": ("time", 1.0),
    "millisecond": ("time", 1e-3),
    "microsecond": ("time", 1e-6),
    "nanosecond": ("time", 1e-9),
    "megaelectronvolt": ("energy", 1.602176634e-13),
    "kiloelectronvolt": ("energy", 1.602176634e-16),
    "electronvolt": ("energy", 1.602176634e-19),
    "radian": ("angle", 1.0),
    "milliradian": ("angle", 1e-3),
    "microradian": ("angle", 1e-6),
    "degree": ("angle", math.pi / 180),
    "kelvin": ("temperature", 1.0),
    "hertz": ("frequency", 1.0),
    "volt": ("voltage", 1.0),
    "kilovolt": ("voltage", 1e3),
    "ampere": ("current", 1.0),
    "milliampere": ("current", 1e-3),
    "microampere": ("current", 1e-6),
    "nanoampere": ("current", 1e-9),
    "picoampere": ("current", 1e-12),
    "pascal": ("pressure", 1.0),
    "gram": ("mass", 1e-3),
    "kilogram": ("mass", 1.0),
    "milligram": ("mass", 1e-6),
    "percent": ("ratio", 1e-2),
}

_SPELLINGS: Final[dict[str, str]] = {
    "m": "meter", "metre": "meter", "meters": "meter", "metres": "meter",
    "cm": "centimeter", "centimetre": "centimeter", "centimeters": "centimeter",
    "mm": "millimeter", "millimetre": "millimeter", "millimeters": "millimeter", "millimetres": "millimeter",
    "um": "micrometer", "µm": "micrometer", "μm": "micrometer", "micron": "micrometer", "microns": "micrometer",
    "\\u00b5m": "micrometer", "micrometre": "micrometer", "micrometers": "micrometer", "micrometres": "micrometer",
    "nm": "nanometer", "nanometre": "nanometer", "nanometers": "nanometer", "nanometres": "nanometer",
    "å": "angstrom", "\u00c5": "angstrom", "\u212b": "angstrom", "a": "angstrom", "ang": "angstrom", "angstroms": "angstrom",
    "ångström": "angstrom", "ångstrom": "angstrom",
    "pm": "picometer", "picometre": "picometer", "picometers": "picometer",
    "in": "inch", "inches": "inch",
    "h": "hour", "hours": "hour", "min": "minute", "minutes": "minute",
    "s": "second", "sec": "second", "seconds": "second",
    "ms": "millisecond", "msec": "millisecond", "milliseconds": "millisecond",
    "us": "microsecond", "µs": "microsecond", "μs": "microsecond", "microseconds": "microsecond",
    "ns": "nanosecond", "nanoseconds": "nanosecond",
    "ev": "electronvolt", "electron_volt": "electronvolt",
    "kev": "kiloelectronvolt", "kiloelectron_volt": "kiloelectronvolt",
    "mev": "megaelectronvolt",
    "rad": "radian", "radians": "radian",
    "mrad": "milliradian", "milliradians": "milliradian",
    "urad": "microradian", "µrad": "microradian", "μrad": "microradian",
    "deg": "degree", "°": "degree", "degrees": "degree",
    "k": "kelvin", "hz": "hertz", "v": "volt", "kv": "kilovolt", "pa": "pascal",
    "na": "nanoampere", "ma": "milliampere", "ua": "microampere", "µa": "microampere", "μa": "microampere",
    "g": "gram", "mg": "milligram", "kg": "kilogram", "%": "percent",
}  # fmt: skip

# Spellings that mean different things by case: the exact form wins over the lower-cased one.
_EXACT: Final[dict[str, str]] = {
    "A": "angstrom",
    "pA": "picoampere",
    "nA": "nanoampere",
    "mA": "milliampere",
    "MeV": "megaelectronvolt",
}

_RECIPROCAL = re.compile(r"^(?:1\s*/\s*(?P<over>.+)|(?P<power>[^\d^*\s-]+)\s*(?:\^|\*\*)?\s*[(]?-1[)]?)$")

_SYMBOLS: Final[dict[str, str]] = {
    "meter": "m", "centimeter": "cm", "millimeter": "mm", "micrometer": "µm", "nanometer": "nm",
    "picometer": "pm", "angstrom": "Å",
    "hour": "h", "minute": "min", "second": "s", "millisecond": "ms", "microsecond": "µs", "nanosecond": "ns",
    "megaelectronvolt": "MeV", "kiloelectronvolt": "keV", "electronvolt": "eV",
    "radian": "rad", "milliradian": "mrad", "microradian": "µrad", "degree": "°",
    "kelvin": "K", "hertz": "Hz", "volt": "V", "kilovolt": "kV", "pascal": "Pa",
    "ampere": "A", "milliampere": "mA", "microampere": "µA", "nanoampere": "nA", "picoampere": "pA",
    "gram": "g", "kilogram": "kg", "milligram": "mg", "percent": "%", "electron/angstrom^2": "e/Å²",
}  # fmt: skip
_READABLE: Final = ("picometer", "nanometer", "micrometer", "millimeter", "meter")
"""Units of length that lie a factor of a thousand apart."""

LENGTHS: Final = frozenset(name for name, (dimension, _) in _BASE.items() if dimension == "length")
TIMES: Final = frozenset(name for name, (dimension, _) in _BASE.items() if dimension == "time")


def canonical(spelling: str | None) -> str | None:
    """Return the UDUNITS name of a unit as an instrument spells it, or ``None`` when it is not known.

    Reciprocal units come out as ``1/nanometer``. Empty, ``px``, ``pixel`` and unknown spellings give ``None``.
    """
    if spelling is None:
        return None
    text = spelling.strip().strip("[]<>").strip()
    if not text:
        return None
    if text in _EXACT:
        return _EXACT[text]
    low = text.lower()
    if low in _BASE:
        return low
    if text in _SPELLINGS:
        return _SPELLINGS[text]
    if low in _SPELLINGS:
        return _SPELLINGS[low]
    match = _RECIPROCAL.match(text)
    if match:
        inner = canonical(match["over"] or match["power"])
        return None if inner is None or inner.startswith("1/") else f"1/{inner}"
    return None


def parse(spelling: str) -> str:
    """Return the UDUNITS name of a unit the user typed; an unknown one is an error.

    Raises
    ------
    InvalidInput
        Kind ``bad_unit``: the spelling is not known.
    """
    name = canonical(spelling)
    if name is None:
        raise InvalidInput(
            f"unit {spelling!r} is not known",
            fix="use a full UDUNITS name such as nanometer, micrometer, millimeter or second",
            kind=Kind.BAD_UNIT,
        )
    return name


def symbol(unit: str) -> str:
    """Return the usual symbol of a unit for people, ``nm`` for ``nanometer``; a unit without one as it is."""
    return f"1/{symbol(unit[2:])}" if unit.startswith("1/") else _SYMBOLS.get(unit, unit)


def readable(value: float, unit: str) -> tuple[float, str]:
    """Return a value and its unit for people: lengths too small or too large for their unit in one that fits.

    ``3.4e-06 meter`` becomes ``3.4 micrometer``; values from 0.001 up to 10000 keep their unit.
    """
    if not is_length(unit) or value == 0 or not math.isfinite(value) or 1e-3 <= abs(value) < 1e4:
        return value, unit
    metres = convert(value, unit, "meter")
    best = next((name for name in reversed(_READABLE) if abs(metres) >= _BASE[name][1]), _READABLE[0])
    return convert(value, unit, best), best


def dimension(unit: str) -> str:
    """Return what a unit measures, e.g. ``length``, or ``1/length`` for a reciprocal one; ``unknown`` if not known."""
    if unit.startswith("1/"):
        inner = dimension(unit[2:])
        return "unknown" if inner == "unknown" else f"1/{inner}"
    return _BASE[unit][0] if unit in _BASE else "unknown"


def is_length(unit: str | None) -> bool:
    """Say whether a unit is a length."""
    return unit is not None and dimension(unit) == "length"


def factor(source: str, target: str) -> float:
    """Return the number that turns a value in `source` units into one in `target` units.

    Raises
    ------
    InvalidInput
        Kind ``bad_unit``: a unit is unknown, or the two measure different things.
    """
    one, two = parse(source), parse(target)
    if dimension(one) != dimension(two):
        raise InvalidInput(f"cannot convert {one} to {two}: they measure different things", kind=Kind.BAD_UNIT)
    return _si(one) / _si(two)


def convert(value: float, source: str, target: str) -> float:
    """Convert `value` from `source` units to `target` units."""
    return value * factor(source, target)


def _si(unit: str) -> float:
    return 1.0 / _BASE[unit[2:]][1] if unit.startswith("1/") else _BASE[unit][1]
