"""Where an HDF5 file keeps the geometry of a dataset: NeXus, py4DSTEM (EMD 1.0), dimension scales, and lone attributes.

Each function looks at one dataset of an open file and returns its axes, or ``None`` where the file does not speak that
convention. Coordinates are read; values are not.
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy.typing as npt

from emstore.geometry import Axis
from emstore_adapters.calibrated import axis_name, calibrated, default_names, from_coordinates, unique
from emstore_adapters.hdf5 import dump
from emstore_adapters.hdf5.walk import Inventory, inside

if TYPE_CHECKING:
    import h5py

MAX_COORDINATES: Final = 1 << 24
"""A longer axis cannot be a coordinate list worth reading."""


@dataclass(frozen=True)
class Placed:
    """The axes of one dataset, in its own order, and how they were found."""

    axes: tuple[Axis, ...]
    used: frozenset[str] = frozenset()
    """Addresses (paths) of the coordinate datasets: axes, not signals."""
    notes: tuple[str, ...] = ()


# --- NeXus ---------------------------------------------------------------------------------------------------------


def nexus_signals(file: "h5py.File", inventory: Inventory) -> list[tuple["h5py.Group", "h5py.Dataset"]]:
    """Return the plottable signals with their NXdata groups, the default one first.

    "NeXus User Manual", 3.3.3 "Find the plottable data": ``default`` attributes lead from the root to an NXdata group, whose
    ``signal`` attribute (version 3) or whose child with ``signal=1`` (versions 1, 2) is the data; auxiliary signals follow.
    """
    groups = [group for group in inventory.groups.values() if dump.text(group, "NX_class") == "NXdata"]
    first = _follow_default(file)
    if first is not None:
        groups.sort(key=lambda group: group != first)
    found: list[tuple[h5py.Group, h5py.Dataset]] = []
    for group in groups:
        names = [*dump.words(group, "signal")[:1], *dump.words(group, "auxiliary_signals")]
        if not names:
            names = [name for name, child in _datasets(group) if str(dump.attribute(child, "signal")) in ("1", "[1]")]
        for name in names:
            child = _child(group, name)
            if child is not None:
                found.append((group, child))
    return found


def nexus_axes(group: "h5py.Group", signal: "h5py.Dataset") -> Placed:
    """Return the axes of an NXdata signal: ``axes`` and ``AXISNAME_indices``, or the older ``axis=k`` attributes."""
    ndim = signal.ndim
    names: list[str | None] = [None] * ndim
    for k, stated in enumerate((dump.words(group, "axes") or dump.words(signal, "axes"))[:ndim]):
        names[k] = stated if stated not in (".", "") else None
    for name, child in _datasets(group):
        place = dump.number(child, "axis")
        if place is not None and 1 <= place <= ndim and names[int(place) - 1] is None and child != signal:
            names[int(place) - 1] = name
        indices = dump.attribute(group, f"{name}_indices")
        index = indices[0] if isinstance(indices, list) and len(indices) == 1 else indices
        if isinstance(index, int) and 0 <= index < ndim and names[index] is None and child.ndim == 1 and child != signal:
            names[index] = name
    axes: list[Axis] = []
    used = set()
    short = unique([axis_name(name) for name in names])
    for word, label, size in zip(names, short, signal.shape, strict=True):
        vector = None if word is None else _child(group, word)
        axis = None
        if vector is not None:
            axis = _coordinates(label, size, vector)
            used.add(vector.name.strip("/"))
        axes.append(axis or calibrated(label, size, scale=None, unit=None))
    return Placed(tuple(axes), frozenset(used))


def _follow_default(file: "h5py.File") -> "h5py.Group | None":
    import h5py

    at: Any = file
    for _ in range(8):
        if dump.text(at, "NX_class") == "NXdata":
            return at
        name = dump.text(at, "default")
        following = None if name is None else inside(at, name)
        if not isinstance(following, h5py.Group):
            return None
        at = following
    return None


# --- py4DSTEM and other EMD 1.0 files ------------------------------------------------------------------------------

_EMD_NAMES: Final = {"rx": "y", "ry": "x", "qx": "ky", "qy": "kx"}
"""py4DSTEM counts x along the rows: ``(Rx, Ry, Qx, Qy)`` is ``(y, x, ky, kx)`` of everybody else."""


def emd_axes(inventory: Inventory, path: str, signal: "h5py.Dataset") -> Placed | None:
    """Return the axes of an EMD 1.0 array: the dataset ``data`` beside ``dim0 ... dimN`` ("emdfile", class Array)."""
    above, _, name = path.rpartition("/")
    group = inventory.groups.get(above)
    if name != "data" or group is None or dump.text(group, "emd_group_type") != "array":
        return None
    names: list[str | None] = []
    vectors = []
    for k in range(signal.ndim):
        vector = _child(group, f"dim{k}")
        vectors.append(vector)
        word = None if vector is None else (dump.text(vector, "name") or "").lower()
        names.append(_EMD_NAMES.get(word, axis_name(word)) if word else None)
    axes = []
    for label, size, vector in zip(unique(names), signal.shape, vectors, strict=True):
        axis = None if vector is None else _coordinates(label, size, vector)
        axes.append(axis or calibrated(label, size, scale=None, unit=None))
    return Placed(tuple(axes), frozenset(v.name.strip("/") for v in vectors if v is not None))


# --- dimension scales (netCDF-4, h5py) -----------------------------------------------------------------------------


def scale_axes(signal: "h5py.Dataset") -> Placed | None:
    """Return the axes a dataset's dimension scales and labels give ("HDF5 Dimension Scale Specification")."""
    names: list[str | None] = []
    scales: list[h5py.Dataset | None] = []
    for dim in signal.dims:
        attached = dim[0] if len(dim) else None
        scales.append(attached)
        base = None if attached is None else attached.name.rpartition("/")[2]
        names.append(axis_name(dim.label or base))
    if all(name is None for name in names):
        return None
    axes = []
    for label, size, scale in zip(unique(names), signal.shape, scales, strict=True):
        axis = None
        if scale is not None and "not a netCDF variable" not in (dump.text(scale, "NAME") or ""):
            axis = _coordinates(label, size, scale)
        axes.append(axis or calibrated(label, size, scale=None, unit=None))
    return Placed(tuple(axes), frozenset(s.name.strip("/") for s in scales if s is not None))


# --- lone attributes -----------------------------------------------------------------------------------------------

_CREMI: Final = re.compile(r"^volumes/(raw|labels|masks|predictions)")


def attribute_axes(path: str, signal: "h5py.Dataset") -> Placed:
    """Return axes from the attributes image programs write on a dataset, or from nothing but its number of axes.

    - ``element_size_um``: spacing in micrometers, z y x (ImageJ HDF5, BigDataViewer, ilastik, plant-seg).
    - ``resolution`` and ``offset``: z y x; in nanometers below ``volumes/`` (CREMI challenge), else without a unit.
    - ``axistags``: VIGRA's JSON (ilastik), keys and resolutions.
    """
    shape = signal.shape
    names: list[str | None] = [None] * len(shape)
    notes: tuple[str, ...] = ()
    tags = _axistags(signal)
    if tags is not None and len(tags) == len(shape):
        names = [axis_name(key) for key, _ in tags]
    elif signal.ndim in (3, 4) and dump.text(signal, "IMAGE_SUBCLASS") == "IMAGE_TRUECOLOR" and shape[-1] in (3, 4):
        names = [*default_names(signal.ndim - 1), "c"]
    named = unique(names)
    unit, steps, offset = None, dump.numbers(signal, "element_size_um"), None
    if steps is not None:
        unit = "micrometer"
    else:
        steps, offset = dump.numbers(signal, "resolution") or dump.numbers(signal, "voxel_size"), dump.numbers(signal, "offset")
        unit = "nanometer" if _CREMI.match(path) else None
        if steps is not None and unit is None:
            notes = ("the file states a voxel size without a unit",)
    space = [name for name in named if name in ("z", "y", "x")]
    if steps is None or len(steps) != len(space):
        steps, offset, notes = None, None, ()
    by_name = dict(zip(space, steps or (), strict=False))
    origin = dict(zip(space, offset, strict=True)) if offset is not None and len(offset) == len(space) else {}
    axes = tuple(
        calibrated(name, size, scale=by_name.get(name), unit=unit if name in by_name else None, origin=origin.get(name))
        for name, size in zip(named, shape, strict=True)
    )
    return Placed(axes, notes=notes)


def _axistags(signal: "h5py.Dataset") -> list[tuple[str, float]] | None:
    words = dump.text(signal, "axistags")
    if words is None:
        return None
    try:
        return [(str(axis["key"]), float(axis.get("resolution") or 0)) for axis in json.loads(words)["axes"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


# --- parts ---------------------------------------------------------------------------------------------------------


def _datasets(group: "h5py.Group") -> list[tuple[str, "h5py.Dataset"]]:
    import h5py

    found = []
    for name in group:
        child = inside(group, name)
        if isinstance(child, h5py.Dataset):
            found.append((name, child))
    return found


def _child(group: "h5py.Group", name: str) -> "h5py.Dataset | None":
    import h5py

    child = inside(group, name)
    return child if isinstance(child, h5py.Dataset) else None


def _coordinates(name: str, size: int, dataset: "h5py.Dataset") -> Axis | None:
    if dataset.ndim != 1 or dataset.size > MAX_COORDINATES or dataset.dtype.kind not in "iuf":
        return None
    if dataset.external or dataset.is_virtual:
        return None
    values: npt.ArrayLike = dataset[()]
    unit = dump.text(dataset, "units") or dump.text(dataset, "unit")
    return from_coordinates(name, size, values, unit=unit)
