"""The instrument's own metadata, whole: parsed, mapped, and byte for byte."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RawHeader:
    """One original header, byte for byte, read only when it is asked for."""

    name: str
    """File name it is kept under, e.g. ``IM-0001.dcm``; no folders."""
    read: Callable[[], bytes]
    """Returns the header's bytes exactly as the instrument wrote them (pixel data left out)."""


@dataclass(frozen=True)
class Header:
    """What the instrument said about the data."""

    format: str
    """Name of the file format, e.g. ``DICOM`` or ``Gatan DM3``."""
    tree: Mapping[str, Any] = field(default_factory=dict)
    """Parsed header: nested dicts, lists, strings, finite numbers, booleans and ``None`` only (JSON-safe)."""
    terms: Mapping[str, Any] = field(default_factory=dict)
    """The few facts that mean the same on every instrument, by NeXus NXem term where there is one.

    Keys are paths such as ``instrument/ebeam_column/electron_source/voltage``; values are numbers, strings, or
    ``{"value": v, "unit": "kilovolt"}`` with UDUNITS names. See `emstore.header.quantity`.
    """
    raw: tuple[RawHeader, ...] = ()
    """The original headers, in source order."""


def quantity(value: float, unit: str) -> dict[str, Any]:
    """Return a term value with its unit (UDUNITS name)."""
    return {"value": float(value), "unit": unit}


def plain_text(text: str) -> str:
    """Return text that any document can hold: what is no Unicode (bytes of a file name that are not UTF-8) replaced."""
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)


def json_safe(value: Any, *, longest: int = 4096) -> Any:
    """Return `value` as JSON-safe data: NumPy scalars unwrapped, bytes as text or length, NaN and infinities as strings.

    Arrays and lists longer than `longest` are replaced by a note of their shape, since the byte-exact header keeps them.
    """
    import math

    import numpy as np

    match value:
        case np.generic():  # first: a float64 is a float too
            plain = value.item()
            return str(value) if isinstance(plain, np.generic) else json_safe(plain, longest=longest)
        case None | bool() | int():
            return value
        case str():
            return plain_text(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            try:
                return value.decode("utf-8").rstrip("\x00")
            except UnicodeDecodeError:
                return f"<{len(value)} bytes>"
        case np.ndarray():
            if value.size > longest:
                return f"<array {value.shape} {value.dtype}>"
            return json_safe(value.tolist(), longest=longest)
        case Mapping():
            return {plain_text(str(k)): json_safe(v, longest=longest) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            if len(value) > longest:
                return f"<list of {len(value)}>"
            return [json_safe(v, longest=longest) for v in value]
        case _:
            return plain_text(str(value))
