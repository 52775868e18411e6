"""The rules a Volume keeps that can be told by looking at it: each function lists what is broken, in sentences."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from emstore.adapter import Adapter
from emstore.geometry import Axis, AxisKind, units
from emstore.volume import LazyArray, Volume

_ORDER: Final = "tczyx"
_KINDS: Final = {
    "t": AxisKind.TIME, "c": AxisKind.CHANNEL, "z": AxisKind.SPACE, "y": AxisKind.SPACE, "x": AxisKind.SPACE,
}  # fmt: skip


def contract(adapter: type[Adapter]) -> Iterator[str]:
    """Check the class itself."""
    name = getattr(adapter, "name", None)
    if not (isinstance(name, str) and re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name)):
        yield f"name is {name!r}; it must be a short lower-case word"
    version = getattr(adapter, "version", None)
    if not (isinstance(version, str) and version.strip()):
        yield f"version is {version!r}; it must be a string that is not empty"
    formats = getattr(adapter, "formats", None)
    if not (isinstance(formats, Mapping) and formats):
        yield f"formats is {formats!r}; it must map format names to tuples of extensions"
        return
    for key, extensions in formats.items():
        if not isinstance(key, str) or not isinstance(extensions, tuple):
            yield f"formats[{key!r}] is {extensions!r}; it must be a tuple of extensions"
            continue
        for extension in extensions:
            if not (isinstance(extension, str) and extension.startswith(".") and extension == extension.lower()):
                yield f"formats[{key!r}] has {extension!r}; extensions are lower case with the dot"


def volumes(found: tuple[Volume, ...]) -> Iterator[str]:
    """Check names over all the volumes of one source."""
    if not found:
        yield "no volume was returned; raise SourceUnreadable instead"
    for name, count in Counter(volume.name for volume in found).items():
        if count > 1:
            yield f"{count} volumes are named {name!r}; names must be unique"
        if not name.strip() or not name.isprintable():
            yield f"a volume is named {name!r}; names must be printable and not empty"


def array(data: object) -> Iterator[str]:
    """Check the properties of a lazy array, without reading it."""
    if not isinstance(data, LazyArray):
        yield f"the data is a {type(data).__name__}, which lacks a part of LazyArray"
        return
    shape: Any = data.shape
    dtype: Any = data.dtype
    block: Any = data.block
    if not (isinstance(shape, tuple) and shape and all(type(n) is int and n > 0 for n in shape)):
        yield f"shape is {shape!r}; it must be a tuple of positive int"
    if not isinstance(dtype, np.dtype):
        yield f"dtype is {dtype!r}; it must be a numpy.dtype"
    elif dtype.hasobject or dtype.kind not in "biufc":
        yield f"dtype is {dtype}; only numbers and booleans can be stored"
    if not (isinstance(block, tuple) and len(block) == len(shape) and all(type(n) is int for n in block)):
        yield f"block is {block!r}; it must have one int per axis of {shape}"
    elif not all(1 <= b <= n for b, n in zip(block, shape, strict=True)):
        yield f"block {block} does not lie inside the shape {shape}"
    if (data.shape, data.dtype, data.block) != (shape, dtype, block):
        yield "shape, dtype or block changed between two looks"


def geometry(volume: Volume) -> Iterator[str]:
    """Check axes: names, order, kinds, spacings and units."""
    names = volume.grid.dims
    known = [name for name in names if name in _ORDER]
    if known != sorted(known, key=_ORDER.index):
        yield f"axes are {names}; t, c, z, y, x keep this order"
    for axis in volume.grid.axes:
        yield from _axis(axis)
    affine = volume.grid.affine
    if affine is not None:
        sizes = dict(zip("zyx", affine.voxel_sizes(), strict=True))
        for name, size in sizes.items():
            axis = volume.grid.axis(name)
            if axis.spacing is None or affine.unit is None or not units.is_length(axis.unit):
                continue
            spacing = units.convert(axis.spacing, str(axis.unit), affine.unit)
            if not math.isclose(spacing, size, rel_tol=1e-3):
                yield f"axis {name} has spacing {spacing:g} {affine.unit}, but its affine says {size:g}"


def _axis(axis: Axis) -> Iterator[str]:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", axis.name):
        yield f"axis name {axis.name!r} is not a plain lower-case name"
    # Diffraction patterns and transforms are images too: z, y, x that run over reciprocal space.
    reciprocal = axis.name in "zyx" and axis.kind is AxisKind.RECIPROCAL
    if axis.name in _KINDS and axis.kind is not _KINDS[axis.name] and not reciprocal:
        yield f"axis {axis.name} is of kind {axis.kind}, not {_KINDS[axis.name]}"
    if axis.spacing is not None and not (math.isfinite(axis.spacing) and axis.spacing > 0):
        yield f"axis {axis.name} has spacing {axis.spacing}; unknown spacing is None"
    if axis.spacing == 1 and axis.unit is None and axis.kind is AxisKind.SPACE:
        yield f"axis {axis.name} has spacing 1 without a unit, a placeholder; unknown spacing is None"
    if axis.unit is not None and units.canonical(axis.unit) not in (None, axis.unit):
        yield f"axis {axis.name} has unit {axis.unit!r}; write {units.canonical(axis.unit)!r}"
    if axis.positions is not None and not np.isfinite(axis.positions).all():
        yield f"axis {axis.name} has positions that are not finite"


def header(volume: Volume) -> Iterator[str]:
    """Check that everything said about the data is JSON-safe and that terms have the agreed form."""
    if not volume.header.format.strip():
        yield "header.format is empty"
    for what, value in (
        ("header.tree", volume.header.tree),
        ("header.terms", volume.header.terms),
        ("attributes", volume.attributes),
    ):
        yield from _json(value, what)
    for key, value in volume.header.terms.items():
        if not re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", str(key)):
            yield f"term {key!r} is not a path of plain names"
        if isinstance(value, Mapping) and not _is_quantity(value):
            yield f"term {key} is {value!r}; a quantity has a value and a unit by its full name"
    for note in volume.notes:
        if not (isinstance(note, str) and note.strip()):
            yield f"note {note!r} is not a sentence"


def _is_quantity(value: Mapping[str, Any]) -> bool:
    return set(value) == {"value", "unit"} and units.canonical(value["unit"]) in (None, value["unit"])


def _json(value: Any, at: str) -> Iterator[str]:
    match value:
        case None | bool() | int() | str():
            return
        case float():
            if not math.isfinite(value):
                yield f"{at} is {value}, which JSON cannot hold"
        case Mapping():
            for key, part in value.items():
                if not isinstance(key, str):
                    yield f"{at} has the key {key!r}; keys are strings"
                yield from _json(part, f"{at}[{key!r}]")
            if "header" in at and "[" not in at:
                yield from _dumps(value, at)
        case list():
            for i, part in enumerate(value):
                yield from _json(part, f"{at}[{i}]")
        case _:
            yield f"{at} is a {type(value).__name__}; only JSON types are allowed"


def _dumps(value: Any, at: str) -> Iterator[str]:
    try:
        json.dumps(value, allow_nan=False).encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        yield f"{at} cannot be written as JSON: {error}"


def files(volume: Volume) -> Iterator[str]:
    """Check that the volume names the files it comes from."""
    if not volume.files:
        yield "files is empty; name every file the values or the header are read from"
    for path in volume.files:
        if not isinstance(path, Path) or not path.exists():
            yield f"files names {path}, which is not there"
    for path, count in Counter(volume.files).items():
        if count > 1:
            yield f"files names {path.name} {count} times"
