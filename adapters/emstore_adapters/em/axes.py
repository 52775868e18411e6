"""From a reader's axes to ours: names, kinds, units, order.

Instrument formats number or name their axes freely (``Energy loss``, ``R_x``, ``dy``, nothing at all) and split them
into navigation and signal axes. The rules, in order:

1. A unit of energy, or a name that says so, makes the spectral axis ``energy``; a unit of time makes ``t``.
2. Axes called x, y, z, dx, dy, kx or ky keep that letter; all others get letters from the back: x, y, z. That goes for
   ``R_x, R_y, Q_x, Q_y`` of EMD files too, where x counts rows: they become y, x, ky, kx, in place.
3. An image at every point of a two-dimensional scan is 4D-STEM: the scan is y, x and the detector ky, kx (reciprocal,
   also where the file gives a length on the camera, such as centimetres in blockfiles).
4. An image whose unit is reciprocal (``1/nm``, mrad) keeps y, x, with kind reciprocal.
5. ``x`` never comes before ``y``, nor ``kx`` before ``ky``: values are transposed, lazily. Other axes stay where they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from emstore.errors import SourceUnreadable
from emstore.geometry import Axis, AxisKind, units

_NO_UNIT: Final = frozenset({"", "px", "pixel", "pixels", "none", "<undefined>", "undefined", "_none_"})
_LETTER_KIND: Final = {"t": AxisKind.TIME, "c": AxisKind.CHANNEL, "energy": AxisKind.SPECTRAL, "wavelength": AxisKind.SPECTRAL}
_RECIPROCAL: Final = frozenset({"1/length", "angle"})


@dataclass(frozen=True)
class RawAxis:
    """One axis as a reader reports it, placeholders included."""

    name: str | None
    size: int
    scale: float | None = None
    offset: float = 0.0
    unit: str | None = None
    navigate: bool | None = None
    """Whether it runs over scan positions (true), inside the signal (false), or the file does not say (``None``)."""
    positions: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None

    @classmethod
    def of(cls, axis: Mapping[str, Any], size: int) -> "RawAxis":
        """Take over an axis dictionary of rosettasciio or HyperSpy for an array axis of `size` samples."""
        positions = axis.get("axis")
        if positions is not None:
            positions = tuple(float(value) for value in positions)
            if len(positions) != size or not all(map(math.isfinite, positions)):
                raise SourceUnreadable(f"an axis has {len(positions)} positions for {size} samples")
        return cls(
            _text(axis.get("name")),
            size,
            _number(axis.get("scale")),
            _number(axis.get("offset")) or 0.0,
            _text(axis.get("units")),
            bool(axis["navigate"]) if axis.get("navigate") is not None else None,
            positions,
        )


def arrange(axes: Sequence[RawAxis]) -> tuple[tuple[Axis, ...], tuple[int, ...]]:
    """Name the axes and put them in order.

    Returns
    -------
    axes : tuple of Axis
        In our order.
    order : tuple of int
        Position of each among the reader's axes.
    """
    names = _names(axes)
    order = list(range(len(axes)))
    for first, second in (("y", "x"), ("ky", "kx")):
        if first in names and second in names:
            one, two = names.index(first), names.index(second)
            if two < one:
                order[one], order[two] = two, one
    if "c" in names:
        order.insert(0, order.pop(order.index(names.index("c"))))
    return tuple(_axis(axes[i], names[i]) for i in order), tuple(order)


def _axis(raw: RawAxis, name: str) -> Axis:
    spelled = None if raw.unit is None or raw.unit.strip("[]<> ").lower() in _NO_UNIT else raw.unit
    unit = units.canonical(spelled) or spelled
    kind = _kind(name, unit)
    if raw.labels is not None:
        return Axis(name, raw.size, kind, labels=raw.labels)
    if raw.positions is not None:
        return Axis(name, raw.size, kind, unit=unit, positions=raw.positions)
    axis = Axis.measured(name, raw.size, raw.scale, unit, kind=kind)
    return Axis.measured(name, raw.size, raw.scale, unit, kind=kind, origin=raw.offset) if axis.known else axis


def _kind(name: str, unit: str | None) -> AxisKind:
    if name in ("ky", "kx"):
        return AxisKind.RECIPROCAL
    if name in _LETTER_KIND:
        return _LETTER_KIND[name]
    if unit is not None and name in ("z", "y", "x") and units.dimension(unit) in _RECIPROCAL:
        return AxisKind.RECIPROCAL
    return AxisKind.SPACE if name in ("z", "y", "x") else AxisKind.OTHER


def _names(axes: Sequence[RawAxis]) -> list[str]:
    found: list[str | None] = [_telling(axis) for axis in axes]
    image = [i for i, axis in enumerate(axes) if found[i] is None or found[i] in ("x", "y", "z", "kx", "ky")]
    scan = [i for i in image if axes[i].navigate]
    inside = [i for i in image if i not in scan]
    if not scan and len(inside) >= 4:
        # The file does not say which axes are the scan: the last two are the detector.
        scan, inside = inside[:-2], inside[-2:]
    if len(scan) >= 2 and len(inside) == 2:
        _letters(found, axes, inside, ("kx", "ky"))
        _letters(found, axes, scan, ("x", "y", "z"))
    else:
        spectrum = any(name in ("energy", "wavelength") for name in found)
        loose = [i for i in inside if found[i] is None]
        if scan and len(inside) == 1 and loose and not spectrum:
            found[inside[0]] = _plain(axes[inside[0]].name) or "signal"
            image.remove(inside[0])
        elif len(axes) == 1 and loose:
            found[0] = _plain(axes[0].name) or "x"
            image = []
        _letters(found, axes, image, ("x", "y", "z"))
    names: list[str] = []
    for i, name in enumerate(found):
        name = name or f"axis{i}"
        names.append(name if name not in names else f"{name}{i}")
    return names


def _telling(axis: RawAxis) -> str | None:
    """Return the name that the unit or the reader's name of an axis leaves no doubt about."""
    word = (axis.name or "").lower()
    unit = units.canonical(axis.unit)
    dimension = None if unit is None else units.dimension(unit)
    if axis.labels is not None:
        return "c"
    if dimension == "energy" or "energy" in word:
        return "energy"
    if "wavelength" in word:
        return "wavelength"
    if dimension == "time" or word in ("time", "t"):
        return "t"
    if word in ("x", "y", "z"):
        return word
    return {"dx": "x", "dy": "y", "kx": "kx", "ky": "ky"}.get(word)


def _letters(found: list[str | None], axes: Sequence[RawAxis], at: Sequence[int], letters: Sequence[str]) -> None:
    """Give letters to some axes: those they are called by where these are all different, else from the back."""
    words = [(axes[i].name or "").lower() for i in at]
    wanted = [next((letter for letter in letters if word in (letter[-1], f"d{letter[-1]}", letter)), None) for word in words]
    # DigitalMicrograph's letters only count from the back, so names alone must not shift a scan onto z.
    said = [w for w in wanted if w is not None]
    if len(said) == len(set(said)) and all(w in letters[: len(at)] for w in said):
        left = [letter for letter in letters if letter not in said]
    else:
        wanted, left = [None] * len(at), list(letters)
    for i, word in reversed(list(zip(at, wanted, strict=True))):
        found[i] = word or (left.pop(0) if left else None)


def _plain(name: str | None) -> str | None:
    word = "".join(c if c.isascii() and c.isalnum() else "_" for c in (name or "").lower()).strip("_")
    return word[:32] or None


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip() if isinstance(value, str) and value.strip() not in ("", "_None_") else None


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # anything may stand in a file
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
