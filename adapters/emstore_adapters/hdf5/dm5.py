"""Gatan DM5: the tag tree of a DM4 file written as HDF5 groups and attributes.

Read after the layout Nion publishes with its reader (nionswift-io, ``DM5IOHandler``): ``DocumentObjectList/[k]`` shows an
``ImageSource``, whose ``ImageRef`` points into ``ImageList``; the first entry of that list is usually a thumbnail that nothing
shows. Calibrations are in DM order, fastest axis first, with the origin in pixels: ``position = (index - origin) * scale``.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from emstore.geometry import Axis
from emstore.geometry import units as unit_names
from emstore.header import quantity
from emstore.volume import ValueScale
from emstore_adapters.calibrated import calibrated, unique, unit_of
from emstore_adapters.hdf5 import dump
from emstore_adapters.hdf5.walk import inside, subgroups

if TYPE_CHECKING:
    import h5py

RGB: Final = 23
"""DM's data type of packed colours, four bytes blue, green, red, alpha."""


def is_dm5(file: "h5py.File") -> bool:
    """Say whether a file has DM's image list."""
    return "ImageList" in file and ("DocumentObjectList" in file or "ImageSourceList" in file)


def thumbnails(file: "h5py.File") -> frozenset[str]:
    """Return the paths of images that no document object shows; none where the file does not say what is shown."""
    images = inside(file, "ImageList")
    shown = set()
    for document in subgroups(inside(file, "DocumentObjectList")):
        source = dump.number(document, "ImageSource")
        target = None if source is None else inside(file, f"ImageSourceList/[{int(source)}]")
        reference = None if target is None else dump.number(target, "ImageRef")
        if reference is not None:
            shown.add(f"[{int(reference)}]")
    names = list(images) if images is not None and not hasattr(images, "dtype") else []
    if not shown.intersection(names):
        return frozenset()
    return frozenset(f"ImageList/{name}/ImageData/Data" for name in names if name not in shown)


def axes(image: "h5py.Group", shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """Return the axes of an image, slowest first as in the array."""
    tags = tag_values(image, "ImageTags/Meta Data")
    form = str(tags.get("Format", "")).lower()
    names: list[str | None] = [None] * len(shape)
    if form in ("spectrum", "spectrum image") and len(shape) in (1, 3):
        names[:] = ["energy", "y", "sequence" if tags.get("IsSequence") else "x"][: len(shape)]
    elif len(shape) == 3 and tags.get("IsSequence"):
        names = ["t", "y", "x"]
    elif len(shape) == 4:
        names = _scan_names(image)
    named = unique(names)
    found = []
    for i, (name, size) in enumerate(zip(named, shape, strict=True)):
        scale, origin, unit = _calibration(image, f"ImageData/Calibrations/Dimension/[{len(shape) - 1 - i}]")
        found.append(calibrated(name, size, scale=scale, unit=unit, origin=None if scale is None else -origin * scale))
    return tuple(found)


def value_scale(image: "h5py.Group") -> ValueScale | None:
    """Return the brightness calibration, ``None`` when it changes nothing."""
    scale, origin, unit = _calibration(image, "ImageData/Calibrations/Brightness")
    if scale is None or scale == 0 or (scale == 1 and origin == 0 and not unit):
        return None
    return ValueScale(scale, -origin * scale, unit or None)


def colour(image: "h5py.Group", dtype: np.dtype[Any]) -> bool:
    """Say whether the values are packed colours."""
    data = inside(image, "ImageData")
    return dtype.itemsize == 4 and dtype.kind in "iu" and data is not None and dump.number(data, "DataType") == RGB


def terms(image: "h5py.Group") -> dict[str, Any]:
    """Return the facts that mean the same on every microscope, by NXem term."""
    scope = tag_values(image, "ImageTags/Microscope Info")
    found: dict[str, Any] = {}
    for key, term, unit in (
        ("Voltage", "instrument/ebeam_column/electron_source/voltage", "volt"),
        ("STEM Camera Length", "instrument/optics/camera_length", "millimeter"),
        ("Indicated Magnification", "instrument/optics/magnification", None),
    ):
        value = scope.get(key)
        if isinstance(value, int | float) and value > 0:
            found[term] = float(value) if unit is None else quantity(value, unit)
    name = scope.get("Name") or scope.get("Microscope")
    if isinstance(name, str) and name:
        found["instrument/name"] = name
    return found


def tag_values(group: "h5py.Group", path: str) -> dict[str, Any]:
    """Return the attributes of a tag group, empty when it is not there."""
    at = inside(group, path)
    return {} if at is None else {name: dump.attribute(at, name) for name in at.attrs}


def _calibration(image: "h5py.Group", path: str) -> tuple[float | None, float, str | None]:
    at = inside(image, path)
    if at is None:
        return None, 0.0, None
    return _single(dump.number(at, "Scale")), _single(dump.number(at, "Origin")) or 0.0, dump.text(at, "Units")


def _scan_names(image: "h5py.Group") -> list[str | None]:
    """Name the axes of 4-D STEM data by their units: DM stores the pattern's axes first or last, as it was acquired."""
    units = [unit_of(_calibration(image, f"ImageData/Calibrations/Dimension/[{3 - i}]")[2]) for i in range(4)]
    pattern = [unit is not None and unit_names.dimension(unit) in ("1/length", "angle") for unit in units]
    if pattern == [True, True, False, False]:
        return ["ky", "kx", "y", "x"]
    return ["y", "x", "ky", "kx"] if pattern == [False, False, True, True] else [None] * 4


def _single(value: float | None) -> float | None:
    """Undo the widening of a 32-bit float: DM writes 2.2 as one, and 2.2 it shall be."""
    if value is None or not abs(value) < 3e38 or float(np.float32(value)) != value:
        return value
    return float(str(np.float32(value)))
