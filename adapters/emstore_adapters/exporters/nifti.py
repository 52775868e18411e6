"""Writing NIfTI-1 and NIfTI-2 single files (NIfTI-1 standard: nifti.nimh.nih.gov; NIfTI-2 where a side is over 32767)."""

import gzip
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import EmstoreError, InvalidInput, Kind
from emstore.geometry import Axis, Grid, Space, units
from emstore.volume import Volume, VolumeKind
from emstore_adapters.exporters._slabs import reordered, slabs

_NIFTI1_LONGEST: Final = 32767
_SCANNER: Final = 1
_TYPES: Final = frozenset("|u1 |i1 <u2 <i2 <u4 <i4 <u8 <i8 <f4 <f8 <c8 <c16".split())
_WIDENED: Final[Mapping[str, str]] = {"|b1": "|u1", "<f2": "<f4"}
"""Types NIfTI lacks, and the one that holds each of their values exactly."""

Matrix = npt.NDArray[np.float64]


class NiftiExporter:
    """Writes ``.nii`` and ``.nii.gz``: axes ``x, y, z, t, c`` of the file are ours reversed; lengths in millimetre."""

    name: ClassVar[str] = "nifti"
    extensions: ClassVar[tuple[str, ...]] = (".nii", ".nii.gz")
    compressed: ClassVar[tuple[str, ...]] = (".nii.gz",)

    def write(self, volume: Volume, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write slab by slab; see `emstore.export.Exporter`."""
        notes: list[str] = []
        volume = _in_file_order(volume, notes)
        dtype = _stored_type(volume.dtype, notes)
        header = _header(volume, dtype, notes)
        with ExitStack() as stack:
            file: BinaryIO = stack.enter_context(path.open("wb"))
            if path.name.lower().endswith(".gz"):
                # No name and no time inside, so that the same volume always gives the same bytes.
                file = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=4, fileobj=file, mtime=0))  # type: ignore[assignment]
            header.write_to(file)
            for region in slabs(volume, whole=1):
                values = volume.data[region]
                file.write(np.ascontiguousarray(values, dtype=dtype).data)
                advance(values.nbytes)
        return tuple(notes)


def _in_file_order(volume: Volume, notes: list[str]) -> Volume:
    """Return the volume with its axes in the order of the file, slowest first: ``c, t (or n), z, y, x``."""
    dims = volume.grid.dims
    stack = [name for name in dims if name not in ("c", "z", "y", "x")]
    if dims[-2:] != ("y", "x") or len(stack) > 1 or (stack and stack[0] not in ("t", "n")):
        raise InvalidInput(
            f"NIfTI holds the axes t, c, z, y, x; this volume has {', '.join(dims)}",
            where=volume.name,
            fix="export to .h5, which holds any axes",
        )
    if stack == ["n"]:
        notes.append("the frame axis n is written as NIfTI's fourth (time) axis, without a unit")
    if "c" in dims:
        notes.append("channels are written as NIfTI's fifth axis")
    axis = volume.grid.axis
    if "c" in dims and axis("c").labels:
        notes.append("NIfTI cannot hold the names of the channels")
    if stack and axis(stack[0]).positions is not None:
        notes.append("NIfTI cannot hold irregular frame times; the median step is written")
    return reordered(volume, [name for name in ("c", *stack, "z", "y", "x") if name in dims])


def _stored_type(dtype: np.dtype[Any], notes: list[str]) -> np.dtype[Any]:
    little = dtype.newbyteorder("<").str
    if little in _WIDENED:
        notes.append(f"NIfTI has no {dtype.name}; every value is kept exactly as {np.dtype(_WIDENED[little]).name}")
        return np.dtype(_WIDENED[little])
    if little not in _TYPES:
        raise InvalidInput(
            f"NIfTI cannot hold values of type {dtype.name}", fix="export to .h5, which holds any type", kind=Kind.INVALID_INPUT
        )
    return np.dtype(little)


def _header(volume: Volume, dtype: np.dtype[Any], notes: list[str]) -> Any:
    import nibabel as nib

    shape = _file_shape(volume.grid)
    second = max(shape) > _NIFTI1_LONGEST
    make: Any = nib.Nifti2Header if second else nib.Nifti1Header
    header = make(endianness="<")
    if second:
        notes.append(f"written as NIfTI-2: NIfTI-1 sides are limited to {_NIFTI1_LONGEST} voxels")
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_data_offset(544 if second else 352)
    _set_geometry(header, volume, notes)
    _set_values(header, volume, notes)
    return header


def _file_shape(grid: Grid) -> tuple[int, ...]:
    sizes = {name: size for name, size in zip(grid.dims, grid.shape, strict=True)}
    frames = sizes.get("t", sizes.get("n", 1))
    shape = [sizes["x"], sizes["y"], sizes.get("z", 1), frames, sizes.get("c", 1)]
    last = 5 if "c" in sizes else 4 if "t" in sizes or "n" in sizes else 3 if "z" in sizes else 2
    return tuple(shape[:last])


def _set_geometry(header: Any, volume: Volume, notes: list[str]) -> None:
    grid = volume.grid
    space = {axis.name: axis for axis in grid.axes if axis.name in ("z", "y", "x")}
    if "z" in space and space["z"].positions is not None:
        notes.append("NIfTI cannot hold irregular slice positions; the median step is written")
    matrix = _affine_mm(grid, notes) if grid.affine is not None else _diagonal_mm(space, notes)
    zooms = [1.0] * len(header.get_data_shape())
    length = "unknown"
    if matrix is not None:
        sizes = np.linalg.norm(matrix[:3, :3], axis=0)
        zooms[: min(3, len(zooms))] = [float(v) for v in sizes[: min(3, len(zooms))]]
        length = "mm" if grid.affine is None or units.is_length(grid.affine.unit) else "unknown"
    time, second = _time_step(grid), "unknown"
    if time is not None and len(zooms) > 3:
        zooms[3], second = time, "sec"
    header.set_zooms(zooms)
    if matrix is not None:
        _set_forms(header, matrix, volume)
    header.set_xyzt_units(length, second)


def _affine_mm(grid: Grid, notes: list[str]) -> Matrix:
    affine = grid.affine
    assert affine is not None
    if affine.space is Space.INSTRUMENT:
        notes.append(
            "positions are in the instrument's own frame, which NIfTI calls scanner coordinates; they say nothing about anatomy"
        )
    else:
        affine = affine.to(Space.RAS)
    if not units.is_length(affine.unit):
        notes.append("the unit of the positions is not known; the numbers are written as they are, without a unit")
        return affine.xyz
    factor = units.factor(str(affine.unit), "millimeter")
    return np.asarray(np.diag([factor, factor, factor, 1.0]) @ affine.xyz)


def _diagonal_mm(space: Mapping[str, Axis], notes: list[str]) -> Matrix | None:
    unknown = [name for name, axis in space.items() if not (axis.known and units.is_length(axis.unit))]
    if unknown:
        told = ", ".join(_said(axis) for name, axis in space.items() if name not in unknown)
        along = f" along {', '.join(unknown)} (only {told})" if told else ""
        notes.append(
            f"the voxel size is not known{along}; NIfTI cannot say so{' of single axes' if told else ''},"
            " and readers will show 1 without a unit"
        )
        return None
    matrix = np.eye(4)
    for row, name in enumerate(("x", "y", "z")):
        if name in space:
            axis = space[name]
            factor = units.factor(str(axis.unit), "millimeter")
            matrix[row, row] = (axis.median_step() or 1.0) * factor
            matrix[row, 3] = float(axis.coordinates()[0]) * factor
    notes.append("the orientation is not known; the axes are written as if they were the scanner's x, y, z")
    return matrix


def _said(axis: Axis) -> str:
    """Return an axis and its step for people, ``z 1.2 mm``."""
    value, unit = units.readable(axis.median_step() or 0.0, str(axis.unit))
    return f"{axis.name} {value:.4g} {units.symbol(unit)}"


def _time_step(grid: Grid) -> float | None:
    if "t" not in grid.dims:
        return None
    axis = grid.axis("t")
    step = axis.median_step()
    if step is None or axis.unit not in units.TIMES:
        return None
    return units.convert(step, axis.unit, "second")


def _set_forms(header: Any, matrix: Matrix, volume: Volume) -> None:
    original = _original_forms(volume, matrix)
    if original is not None:
        sform, sform_code, qform, qform_code = original
        header.set_sform(sform, sform_code)
        if qform is not None:
            header.set_qform(qform, qform_code)
        return
    header.set_sform(matrix, _SCANNER)
    linear = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    # A quaternion holds rotations and a flip only: a sheared grid (gantry tilt) is left to the sform.
    if np.allclose(linear.T @ linear, np.eye(3), atol=1e-6):
        header.set_qform(matrix, _SCANNER)


def _original_forms(volume: Volume, matrix: Matrix) -> tuple[Matrix | None, int, Matrix | None, int] | None:
    """Return the matrices and codes of the NIfTI file the volume came from, if its grid is still that file's."""
    kept = volume.attributes.get("nifti")
    if not isinstance(kept, Mapping):
        return None
    sform, qform = (None if kept.get(k) is None else np.asarray(kept[k], dtype=np.float64) for k in ("sform", "qform"))
    sform_code, qform_code = int(kept.get("sform_code") or 0), int(kept.get("qform_code") or 0)
    best = sform if sform_code > 0 else qform if qform_code > 0 else None
    if best is None or best.shape != (4, 4) or not np.allclose(best, matrix, rtol=1e-5, atol=1e-5):
        return None
    return sform if sform_code > 0 else None, sform_code, qform, qform_code


def _set_values(header: Any, volume: Volume, notes: list[str]) -> None:
    slope, intercept = 1.0, 0.0
    if volume.scale is not None:
        slope, intercept = volume.scale.slope, volume.scale.intercept
        if volume.scale.unit:
            notes.append(f"NIfTI cannot hold the unit of the values ({volume.scale.unit})")
    try:
        header.set_slope_inter(slope, intercept)
    except EmstoreError:
        raise
    except ValueError as error:
        raise InvalidInput(f"NIfTI cannot hold the value scale {slope}, {intercept}: {error}") from error
    if float(header["scl_slope"]) != slope or float(header["scl_inter"]) != intercept:
        notes.append("the value scale is rounded to single precision")
    if volume.window is not None:
        header["cal_min"], header["cal_max"] = sorted(slope * edge + intercept for edge in volume.window)
    if volume.kind is VolumeKind.LABELS:
        header.set_intent("label")
