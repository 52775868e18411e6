"""Where the voxels of a NIfTI image are. The rules are in the package's own words, `emstore_adapters.nifti`."""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.geometry import Affine, Axis, AxisKind, Grid, Space
from emstore.geometry.units import canonical
from emstore.header import json_safe
from emstore_adapters.nifti.image import HEADER_BYTES, Image

_AGREE: Final = 1e-3
_SPECTRAL: Final = ("hertz", "ppm", "radian")
"""Units of dimension 4 with which it is no time."""


def axis_names(image: Image) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the axis names in emstore's order and, for each, its place in the C-order array on disk."""
    rgb = image.samples > 1
    fourth = "d4" if _units(int(image.header["xyzt_units"]))[1] in _SPECTRAL else "t"
    by_dimension = ("x", "y", "z", fourth, "d5" if rgb else "c", "d6", "d7")
    on_disk = [*reversed(by_dimension[: len(image.shape)]), *(("c",) if rgb else ())]
    wanted = [n for n in ("d7", "d6", "d5", "d4", "t", "c", "z", "y", "x") if n in on_disk]
    return tuple(wanted), tuple(on_disk.index(n) for n in wanted)


def _matrix(image: Image, which: str) -> npt.NDArray[np.float64] | None:
    """Return the sform or qform, shape (4, 4), ``(i, j, k)`` to ``(x, y, z)``; ``None`` where its numbers make none."""
    from nibabel.spatialimages import HeaderDataError

    try:
        matrix = np.asarray(image.header.get_sform() if which == "sform" else image.header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError):
        return None
    return matrix if np.isfinite(matrix).all() else None


def grid_of(image: Image, names: tuple[str, ...], shape: tuple[int, ...]) -> tuple[Grid, dict[str, Any], list[str]]:
    """Return the grid of an image, the facts kept in ``attributes["nifti"]``, and notes on what was odd.

    Parameters
    ----------
    image : Image
        The parsed header.
    names : tuple of str
        Axis names in emstore's order (see `axis_names`).
    shape : tuple of int
        Size of every axis in that order; may be shorter than the header says when part of the data is missing.
    """
    header = image.header
    notes: list[str] = []
    code = {which: int(header[f"{which}_code"]) for which in ("sform", "qform")}
    matrix = {which: _matrix(image, which) for which in ("sform", "qform")}
    valid = {which: m for which, m in matrix.items() if m is not None and code[which] != 0 and np.linalg.det(m[:3, :3]) != 0}
    chosen = next(iter(valid), None)
    notes += [
        f"the {w} (code {code[w]}) is not an invertible matrix and is not used." for w in code if code[w] and w not in valid
    ]
    pixdim = [float(v) for v in header["pixdim"]]
    space_unit, time_unit = _units(int(header["xyzt_units"]))
    affine = None
    sizes: dict[str, float] = dict(zip(("x", "y", "z"), (abs(p) for p in pixdim[1:4]), strict=True))
    if chosen is None:
        notes.append("neither sform nor qform is set: where the image lies is unknown; distances are pixdim's.")
    else:
        affine = Affine.from_xyz(valid[chosen], Space.RAS, space_unit)
        for axis, size in zip(("z", "y", "x"), affine.voxel_sizes(), strict=True):
            if not math.isclose(size, sizes[axis], rel_tol=_AGREE):
                notes.append(f"pixdim says {sizes[axis]:g} along {axis}, the {chosen} {size:g}: the {chosen} is used.")
                sizes[axis] = size
        if len(valid) == 2 and not np.allclose(valid["sform"], valid["qform"], rtol=0, atol=1e-2 * max(sizes.values())):
            notes.append("sform and qform differ; the sform is used, both are kept.")
    if space_unit is None:
        notes.append("the header does not say in which unit distances are.")
    axes = []
    for name, size in zip(names, shape, strict=True):
        if name in sizes:
            axes.append(Axis.measured(name, size, sizes[name], space_unit))
        elif name in ("t", "d4"):
            kind = AxisKind.TIME if name == "t" else AxisKind.SPECTRAL
            known = Axis.measured(name, size, pixdim[4], time_unit).spacing is not None and math.isfinite(header["toffset"])
            start = float(header["toffset"]) if known else 0.0
            axes.append(Axis.measured(name, size, pixdim[4], time_unit, kind=kind, origin=start))
        elif name == "c":
            labels = ("red", "green", "blue", "alpha")[:size] if image.samples > 1 else None
            axes.append(Axis(name, size, AxisKind.CHANNEL, labels=labels))
        else:
            axes.append(Axis.measured(name, size, pixdim[int(name[1:])], None, kind=AxisKind.OTHER))
    facts = {
        "version": 1 if int(header["sizeof_hdr"]) == HEADER_BYTES[1] else 2,
        "grid": chosen,
        "grid_rule": "sform if its code is not 0, else qform if its code is not 0, else unknown",
        **{which: None if m is None else m.tolist() for which, m in matrix.items()},
        "sform_code": code["sform"],
        "qform_code": code["qform"],
        "qfac": -1.0 if pixdim[0] < 0 else 1.0,
        "pixdim": pixdim,
        "xyzt_units": int(header["xyzt_units"]),
        "datatype": int(header["datatype"]),
        "byte_order": "little" if header.endianness == "<" else "big",
        "intent_code": int(header["intent_code"]),
        "stated_dimensions": int(header["dim"][0]),
    }
    return Grid(tuple(axes), affine), json_safe(facts), notes


def _units(code: int) -> tuple[str | None, str | None]:
    """Return the UDUNITS names of the space and time unit (NIfTI-1, ``xyzt_units``); ``None`` where unknown."""
    space = {1: "meter", 2: "mm", 3: "micron"}.get(code & 7)
    time = {8: "sec", 16: "msec", 24: "usec", 32: "hz", 40: "ppm", 48: "rad"}.get(code & 56)
    return canonical(space), canonical(time) or time
