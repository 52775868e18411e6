"""Turning values into words and back: sizes, spacings, and strings from files that may hold anything."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from emstore.errors import InvalidInput, Kind

if TYPE_CHECKING:
    from emstore.geometry import Grid

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TOWARDS: Final = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "head", "I": "feet"}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)


def clean(value: object) -> str:
    """Return text that is safe on a terminal: whatever does not print (escape sequences, line breaks) is written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(value))


def parse_size(text: str) -> int:
    """Return a size in bytes: ``1GiB``, ``512M`` and ``2t`` count in powers of 1024, ``1GB`` in powers of 1000.

    Raises
    ------
    InvalidInput
        It is not a size, or is zero.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"{text!r} is not a size", fix="write for example 512MiB or 2GiB")
    number, prefix, suffix = match.groups()
    unit = _UNITS[prefix.lower()]
    if prefix and (suffix or "").lower() == "b":
        unit = 1000 ** list(_UNITS).index(prefix.lower())
    size = int(float(number) * unit)
    if size < 1:
        raise InvalidInput(f"{text!r} is no room at all", fix="write for example 512MiB or 2GiB")
    return size


def parse_spacing(text: str | None) -> tuple[float, ...] | None:
    """Return the numbers of ``z,y,x``.

    Raises
    ------
    InvalidInput
        Kind ``bad_spacing``: not numbers between commas.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is not a spacing",
            fix="write numbers between commas, e.g. --spacing 10,5,5 --unit nm",
            kind=Kind.BAD_SPACING,
        ) from error


def size(nbytes: int) -> str:
    """Return a number of bytes for people."""
    value = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def shape(sizes: Sequence[int], dims: Sequence[str]) -> str:
    """Return ``z:40 y:512 x:512`` of a shape and its axis names."""
    return " ".join(f"{name}:{n}" for name, n in zip(dims, sizes, strict=True))


def spacing(grid: "Grid") -> str:
    """Return the spacings of a grid for people: ``z:~5 y:0.4 x:0.4 mm``, ``~`` where irregular, ``?`` where not known.

    Neighbours in one unit share it; ``unknown`` where nothing is known.
    """
    from emstore.geometry import AxisKind

    parts: list[tuple[str, str]] = []
    for axis in grid.axes:
        step = axis.median_step()
        if step is not None:
            value, unit = (step, "") if axis.unit is None else quantity(step, axis.unit)
            parts.append((f"{axis.name}:{'' if axis.uniform else '~'}{value:.6g}", unit))
        elif axis.kind in (AxisKind.SPACE, AxisKind.TIME):
            parts.append((f"{axis.name}:?", ""))
    if all(word.endswith("?") for word, _ in parts):
        return "unknown"
    units = [unit for _, unit in parts]
    return " ".join(
        word if not unit or unit == following else f"{word} {unit}"
        for (word, unit), following in zip(parts, [*units[1:], ""], strict=True)
    )


def space(grid: "Grid") -> str | None:
    """Return the world a grid lies in and which way its axes point there, ``None`` without one."""
    if grid.affine is None:
        return None
    letters = grid.affine.directions()
    if letters is None:
        return str(grid.affine.space)
    towards = ", ".join(f"{name} to {_TOWARDS[letter]}" for name, letter in zip("zyx", letters, strict=True))
    return f"{grid.affine.space}: {towards}{' (oblique)' if grid.affine.is_oblique() else ''}"


def quantity(value: float, unit: str) -> tuple[float, str]:
    """Return a value and the symbol of its unit, in a unit that suits the value."""
    from emstore.geometry import units

    value, unit = units.readable(value, unit)
    return value or 0.0, units.symbol(unit)
