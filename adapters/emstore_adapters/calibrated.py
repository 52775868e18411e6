"""Axes from what self-describing files say: a word for the axis, a scale or coordinates, and a word for the unit."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from emstore.geometry import Axis, AxisKind
from emstore.geometry import units as unit_names

_BARE: Final = frozenset(
    {"", "px", "pix", "pixel", "pixels", "voxel", "voxels", "index", "indices", "none", "unknown", "a.u.", "arb. u."}
)
"""Words in a unit field that say that there is no unit."""

_DEFAULTS: Final = ("t", "c", "z", "y", "x")
_KINDS: Final = {
    "t": AxisKind.TIME, "c": AxisKind.CHANNEL, "z": AxisKind.SPACE, "y": AxisKind.SPACE, "x": AxisKind.SPACE,
    "energy": AxisKind.SPECTRAL, "ky": AxisKind.RECIPROCAL, "kx": AxisKind.RECIPROCAL,
}  # fmt: skip
_BY_DIMENSION: Final = {
    "length": AxisKind.SPACE, "time": AxisKind.TIME, "energy": AxisKind.SPECTRAL, "1/length": AxisKind.RECIPROCAL,
}  # fmt: skip
_WORDS: Final = {
    "time": "t", "frame": "t", "frames": "t", "channel": "c", "channels": "c", "rgb": "c", "rgba": "c", "eloss": "energy",
    "energy_loss": "energy", "qx": "kx", "qy": "ky",
}  # fmt: skip


def unit_of(word: str | None) -> str | None:
    """Return the unit a file's word stands for: its UDUNITS name, the word itself if unknown, ``None`` if it is none."""
    if word is None or word.strip().lower() in _BARE:
        return None
    return unit_names.canonical(word) or word.strip()


def is_bare(word: str | None) -> bool:
    """Say whether a word in a unit field says that positions are plain indices."""
    return word is not None and word.strip().lower() in _BARE - {""}


def calibrated(
    name: str, size: int, *, scale: float | None, unit: str | None, origin: float | None = None, kind: AxisKind | None = None
) -> Axis:
    """Build an axis from a scale and the file's own unit word; placeholders become unknown.

    Parameters
    ----------
    name, size : str, int
        Name and number of samples.
    scale : float or None
        Distance between samples in `unit`.
    unit : str or None
        The file's word, any spelling.
    origin : float or None
        Position of sample 0 in `unit`.
    kind : AxisKind, optional
        What it runs over; judged from name and unit by default.
    """
    known = None if is_bare(unit) else scale
    word = unit_of(unit)
    at = 0.0 if origin is None or not math.isfinite(origin) else float(origin)
    axis = Axis.measured(name, size, None if known is None else float(known), word, kind=kind or kind_of(name, word))
    if known is not None and math.isfinite(known) and known < 0 and word is not None:
        # Positions that run backwards are real: keep them one by one, since a spacing is a distance.
        return Axis(name, size, axis.kind, unit=word, positions=tuple((at + known * np.arange(size)).tolist()))
    if axis.spacing is None:
        return axis
    return Axis(name, size, axis.kind, spacing=axis.spacing, unit=axis.unit, origin=at)


def from_coordinates(
    name: str, size: int, values: npt.ArrayLike, *, unit: str | None = None, kind: AxisKind | None = None
) -> Axis | None:
    """Build an axis from coordinates, ``None`` where they do not fit.

    Takes one value per sample, one per edge between samples (centres are used), or, as py4DSTEM writes uniform axes, the
    first two only. Plain indices without a unit count as unknown.
    """
    at = np.asarray(values)
    if at.ndim != 1 or at.dtype.kind not in "iuf":
        return None
    precision = float(np.finfo(at.dtype).eps) if at.dtype.kind == "f" else 0.0
    at = at.astype(np.float64)
    if not np.isfinite(at).all():
        return None
    if at.size == size + 1 and size > 1:
        at = (at[:-1] + at[1:]) / 2
    elif at.size == 2 and size > 2:
        at = at[0] + (at[1] - at[0]) * np.arange(size)
    if at.size != size:
        return None
    if is_bare(unit):
        return Axis(name, size, kind or kind_of(name, None))
    word = unit_of(unit)
    what = kind or kind_of(name, word)
    if size == 1:
        return Axis(name, 1, what, unit=word, origin=float(at[0])) if at[0] != 0 or word else Axis(name, 1, what)
    step = float((at[-1] - at[0]) / (size - 1))
    straight = at[0] + step * np.arange(size)
    slack = 1e-6 * abs(step) + 4 * precision * float(np.abs(at).max())
    if step > 0 and float(np.abs(at - straight).max()) <= slack:
        return calibrated(name, size, scale=step, unit=unit, origin=float(at[0]), kind=what)
    return Axis(name, size, what, unit=word, positions=tuple(at.tolist()))


def kind_of(name: str, unit: str | None) -> AxisKind:
    """Judge what an axis runs over from its name, then from its unit."""
    if name in _KINDS:
        return _KINDS[name]
    return AxisKind.OTHER if unit is None else _BY_DIMENSION.get(unit_names.dimension(unit), AxisKind.OTHER)


def axis_name(word: str | None) -> str | None:
    """Return the short name for a file's own word for an axis: ``sample_X`` is ``x``, ``Time`` is ``t``."""
    if word is None:
        return None
    low = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
    if low in _WORDS:
        return _WORDS[low]
    single = {"t" if part == "time" else part for part in low.split("_") if part in ("x", "y", "z", "time")}
    return single.pop() if len(single) == 1 else low or None


def default_names(ndim: int) -> tuple[str, ...]:
    """Return names for the axes of an array that says nothing: the last of ``t, c, z, y, x``, with ``d0 ...`` in front.

    Four axes are ``t, z, y, x``.
    """
    if ndim == 4:
        return ("t", "z", "y", "x")
    return (*(f"d{i}" for i in range(ndim - 5)), *_DEFAULTS[-min(ndim, 5) :])


def unique(names: Sequence[str | None]) -> tuple[str, ...]:
    """Fill missing names by position and number repeated ones apart."""
    free = [name for name in default_names(len(names)) if name not in names]
    fallback = dict(zip((i for i, name in enumerate(names) if name is None), _last(free, names.count(None)), strict=False))
    chosen: list[str] = []
    for i, name in enumerate(names):
        word = name if name is not None else fallback.get(i, f"d{i}")
        while word in chosen:
            word = f"{word}_{i}"
        chosen.append(word)
    return tuple(chosen)


def _last(names: Iterable[str], count: int) -> list[str]:
    names = list(names)
    return names[len(names) - count :] if count else []
