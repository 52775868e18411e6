"""The ``ome`` block of OME-Zarr 0.5: what image viewers and bio-imaging tools read.

Rules from the specification (NGFF 0.5, "axes" and "multiscales"): two or three space axes, at most one time and one channel
axis, in the order time, channel, space; units are UDUNITS names from its lists; each dataset has one scale and one
translation. Arrays whose axes break the rules get no ``ome`` block: they are still valid Zarr and xarray.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from emstore.geometry import Axis, AxisKind, Grid

VERSION: Final = "0.5"

_SPACE_UNITS: Final = frozenset(
    (
        "angstrom attometer centimeter decimeter exameter femtometer foot gigameter hectometer inch kilometer megameter "
        "meter micrometer mile millimeter nanometer parsec petameter picometer terameter yard yoctometer yottameter "
        "zeptometer zettameter"
    ).split()
)
_TIME_UNITS: Final = frozenset(
    (
        "attosecond centisecond day decisecond exasecond femtosecond gigasecond hectosecond hour kilosecond megasecond "
        "microsecond millisecond minute nanosecond petasecond picosecond second terasecond yoctosecond yottasecond "
        "zeptosecond zettasecond"
    ).split()
)
_SPACES: Final = (("y", "x"), ("z", "y", "x"))
_COLOURS: Final = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
_RGB: Final = (("r", "g", "b"), ("red", "green", "blue"))


@dataclass(frozen=True)
class Window:
    """How bright one channel is shown: the range of its type, and the part of it to stretch from black to white."""

    low: float
    high: float
    start: float
    end: float

    def to_json(self) -> dict[str, float]:
        """Return the ``window`` object of ``omero``; whole numbers without a fraction."""
        values = {"min": self.low, "max": self.high, "start": self.start, "end": self.end}
        return {key: int(value) if float(value).is_integer() else float(value) for key, value in values.items()}


def ome_axes(grid: Grid) -> list[dict[str, str]] | None:
    """Return the ``axes`` list of a grid, or ``None`` when OME-Zarr cannot hold it."""
    space = tuple(axis.name for axis in grid.space_axes)
    lead = grid.axes[: len(grid.axes) - len(space)]
    if space not in _SPACES or any(axis.kind is AxisKind.SPACE for axis in lead):
        return None
    if [(axis.name, axis.kind) for axis in lead] not in (
        [],
        [("t", AxisKind.TIME)],
        [("c", AxisKind.CHANNEL)],
        [("t", AxisKind.TIME), ("c", AxisKind.CHANNEL)],
    ):
        return None
    return [{"name": axis.name, "type": str(axis.kind), **_unit(axis)} for axis in grid.axes]


def multiscales(name: str, grid: Grid, levels: Sequence[tuple[tuple[int, ...], Grid]], how: str) -> list[dict[str, Any]]:
    """Return the ``multiscales`` list.

    Parameters
    ----------
    name : str
        Name of the image.
    grid : Grid
        Level 0; its axes must fit (`ome_axes`).
    levels : sequence of (tuple of int, Grid)
        For every level, the size of its voxels in level-0 voxels, and where they are.
    how : str
        Reduction between levels: ``mean`` or ``mode``.
    """
    datasets = []
    for number, (voxel, level) in enumerate(levels):
        scale = [(axis.median_step() or 1.0) * factor for axis, factor in zip(grid.axes, voxel, strict=True)]
        translation = [float(axis.coordinates()[0]) for axis in level.axes]
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
        datasets.append({"path": f"s{number}/image", "coordinateTransformations": transforms})
    method = {"mean": "block mean, halves rounded up, partial blocks over what is there", "mode": "most frequent value"}[how]
    return [
        {
            "name": name,
            "axes": ome_axes(grid),
            "datasets": datasets,
            "type": how,
            "metadata": {"method": "emstore", "description": method},
        }
    ]


def omero(grid: Grid, windows: Sequence[Window], label: str) -> dict[str, Any]:
    """Return the ``omero`` block: one entry per channel with its name, colour and window."""
    names = _channel_names(grid, label)
    rgb = is_rgb(grid)
    colours = ("FF0000", "00FF00", "0000FF", "FFFFFF") if rgb else _COLOURS
    channels = [
        {
            "label": name,
            "color": colours[i % len(colours)],
            # An alpha channel is not light: it is listed but off.
            "active": not (rgb and i == 3),
            "coefficient": 1,
            "family": "linear",
            "inverted": False,
            "window": window.to_json(),
        }
        for i, (name, window) in enumerate(zip(names, windows, strict=True))
    ]
    return {"channels": channels, "rdefs": {"model": "color" if len(channels) > 1 else "greyscale", "defaultT": 0, "defaultZ": 0}}


def channel_count(grid: Grid) -> int:
    """Return the number of channels: the size of the channel axis, or 1."""
    return next((axis.size for axis in grid.axes if axis.kind is AxisKind.CHANNEL), 1)


def is_rgb(grid: Grid) -> bool:
    """Say whether the channels are red, green and blue (and perhaps alpha)."""
    labels = next((axis.labels for axis in grid.axes if axis.kind is AxisKind.CHANNEL), None)
    return labels is not None and len(labels) in (3, 4) and tuple(label.lower() for label in labels[:3]) in _RGB


def type_window(dtype: np.dtype[Any]) -> tuple[float, float] | None:
    """Return the range of an integer or boolean type; ``None`` for the others."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return None


def _channel_names(grid: Grid, label: str) -> list[str]:
    axis = next((axis for axis in grid.axes if axis.kind is AxisKind.CHANNEL), None)
    if axis is None:
        return [label]
    return list(axis.labels) if axis.labels is not None else [f"{label} {i}" for i in range(axis.size)]


def _unit(axis: Axis) -> dict[str, str]:
    valid = {AxisKind.SPACE: _SPACE_UNITS, AxisKind.TIME: _TIME_UNITS}.get(axis.kind, frozenset())
    return {"unit": axis.unit} if axis.known and axis.unit is not None and axis.unit in valid else {}
