"""Writing TIFF: ImageJ hyperstacks where ImageJ can read them, OME-TIFF (2016-06 schema), and plain TIFF for the rest.

Channels named red, green, blue (and alpha), of 8 or 16 bits, become the samples of RGB pixels (TIFF 6.0, section 6), which
every viewer shows in colour; other channels are pages of their own.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.geometry import Axis, Grid, units
from emstore.volume import Volume
from emstore_adapters.exporters._slabs import reordered, slabs

_CLASSIC_LIMIT: Final = 3_900_000_000
"""Classic TIFF ends at 4 GiB; some room is left for its tables, bytes."""
_IMAGEJ_TYPES: Final = frozenset("|u1 <u2 <f4".split())
_OME_TYPES: Final = frozenset("|b1 |i1 <i2 <i4 |u1 <u2 <u4 <f4 <f8 <c8 <c16".split())
_TIFF_TYPES: Final = _OME_TYPES | frozenset("<i8 <u8 <f2".split())
_IMAGEJ_ORDER: Final = ("t", "z", "c", "y", "x")
_COLOURS: Final = ("red", "green", "blue", "alpha")
_COLOUR_TYPES: Final = frozenset("|u1 <u2".split())
_SYMBOLS: Final[Mapping[str, str]] = {
    "meter": "m",
    "centimeter": "cm",
    "millimeter": "mm",
    "micrometer": "µm",
    "nanometer": "nm",
    "angstrom": "Å",
    "picometer": "pm",
    "inch": "in",
    "hour": "h",
    "minute": "min",
    "second": "s",
    "millisecond": "ms",
    "microsecond": "µs",
    "nanosecond": "ns",
}
_IMAGEJ_UNITS: Final[Mapping[str, str]] = {**_SYMBOLS, "micrometer": "micron", "angstrom": "angstrom", "inch": "inch"}


class TiffExporter:
    """Writes ``.tif``, ``.tiff``, ``.ome.tif`` and ``.ome.tiff``, page by page, uncompressed."""

    name: ClassVar[str] = "tiff"
    extensions: ClassVar[tuple[str, ...]] = (".tif", ".tiff", ".ome.tif", ".ome.tiff")

    def write(self, volume: Volume, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write page by page; see `emstore.export.Exporter`."""
        import tifffile

        notes: list[str] = []
        ome = path.name.lower().endswith((".ome.tif", ".ome.tiff"))
        dtype = volume.dtype.newbyteorder("<")
        if dtype.str not in (_OME_TYPES if ome else _TIFF_TYPES):
            raise InvalidInput(
                f"{'OME-TIFF' if ome else 'TIFF'} cannot hold values of type {dtype.name}",
                where=volume.name,
                fix="export to .h5, which holds any type",
            )
        if volume.grid.dims[-2:] != ("y", "x"):
            raise InvalidInput(
                f"TIFF pages are y, x images; this volume has the axes {', '.join(volume.grid.dims)}",
                where=volume.name,
                fix="export to .h5, which holds any axes",
            )
        big = volume.nbytes > _CLASSIC_LIMIT
        colour = _is_colour(volume)
        imagej = not ome and not big and not _why_not_imagej(volume)
        _note_losses(volume, notes, ome=ome)
        dims = volume.grid.dims
        if imagej or colour:
            # Colours come last before y, x: each page then holds all of them. An affine, which asks for z there, is lost anyway.
            rest = [name for name in (_IMAGEJ_ORDER if imagej else dims) if name in dims and name not in ("c", "y", "x")]
            volume = replace(volume, grid=Grid(volume.grid.axes))
            volume = reordered(volume, [*rest, *(("c",) if "c" in dims else ()), "y", "x"])
        metadata = _ome(volume) if ome else _imagej(volume) if imagej else _plain(volume, big, notes)
        if colour:
            metadata |= _colour_axes(volume, metadata, ome=ome)
        samples = volume.shape[-3] if colour else 1
        with tifffile.TiffWriter(path, bigtiff=big, ome=ome, imagej=imagej, byteorder="<") as writer:
            writer.write(
                _pages(volume, dtype, advance, colour=colour),
                shape=(*volume.shape[:-3], *volume.shape[-2:], samples) if colour else volume.shape,
                dtype=dtype,
                photometric="rgb" if colour else "minisblack",
                planarconfig="contig" if colour else None,
                extrasamples=("unassalpha",) if samples == len(_COLOURS) else None,
                metadata=metadata,
                software="emstore",
                **_resolution(volume, imagej=imagej),
            )
        return tuple(notes)


def _is_colour(volume: Volume) -> bool:
    """Say whether the channels are red, green, blue and maybe alpha, in that order, and of a type that viewers show as such."""
    if "c" not in volume.grid.dims or volume.dtype.newbyteorder("<").str not in _COLOUR_TYPES:
        return False
    said = tuple(label.lower() for label in volume.grid.axis("c").labels or ())
    return any(said in (_COLOURS[:n], tuple(name[0] for name in _COLOURS[:n])) for n in (3, 4))


def _colour_axes(volume: Volume, metadata: Mapping[str, Any], *, ome: bool) -> dict[str, Any]:
    """Return what differs in the metadata when the axes ``..., c, y, x`` are written as ``..., y, x`` of samples."""
    changed: dict[str, Any] = {"axes": f"{metadata['axes'][:-3]}YXS"}
    if "dims" in metadata:
        changed["dims"] = [*(name for name in metadata["dims"] if name != "c"), "c"]
    if ome:  # in OME-XML the samples of a pixel are one channel
        changed["Channel"] = {"Name": ["RGB" if volume.shape[-3] == 3 else "RGBA"]}
    return changed


def _pages(volume: Volume, dtype: np.dtype[Any], advance: Callable[[int], None], *, colour: bool) -> Iterator[npt.NDArray[Any]]:
    """Yield every page, shape (y, x) or (y, x, samples), in C order; several are read at a time, along the array's blocks."""
    whole = 3 if colour else 2
    for region in slabs(volume, whole=whole):
        values = volume.data[region]
        for page in values.reshape(-1, *volume.shape[-whole:]):
            yield np.ascontiguousarray(np.moveaxis(page, 0, -1) if colour else page, dtype=dtype)
            advance(page.nbytes)


def _length(axis: Axis) -> tuple[float, str] | None:
    """Return the step of a spatial axis and its unit, when both are known."""
    step = axis.median_step()
    return None if step is None or not units.is_length(axis.unit) else (step, str(axis.unit))


def _time(axis: Axis) -> float | None:
    """Return the frame interval in seconds, when it is known."""
    step = axis.median_step()
    return None if step is None or axis.unit not in units.TIMES else units.convert(step, axis.unit, "second")


def _axes(volume: Volume) -> dict[str, Axis]:
    return {axis.name: axis for axis in volume.grid.axes}


def _why_not_imagej(volume: Volume) -> str:
    """Return why ImageJ could not read the volume as a hyperstack; empty if it could."""
    if volume.dtype.newbyteorder("<").str not in _IMAGEJ_TYPES:
        return f"with {volume.dtype.name} values"
    if not set(volume.grid.dims) <= set(_IMAGEJ_ORDER):
        return "with these axes"
    if _is_colour(volume):
        return "" if volume.dtype.itemsize == 1 and volume.grid.axis("c").size == 3 else "of 16-bit colour or with alpha"
    return "one pixel wide" if volume.shape[-1] == 1 else ""  # tifffile takes such an axis for samples of a pixel


def _resolution(volume: Volume, *, imagej: bool) -> dict[str, Any]:
    """Return the resolution tags: pixels per the named unit for ImageJ, per centimetre else; none when unknown."""
    axes = _axes(volume)
    x, y = _length(axes["x"]), _length(axes["y"])
    if x is None or y is None:
        return {}
    if imagej:
        # ImageJ has one unit for all axes; the tags count pixels per that unit.
        return {"resolution": (1 / x[0], units.factor(x[1], y[1]) / y[0]), "resolutionunit": "NONE"}
    per = [1 / units.convert(step, unit, "centimeter") for step, unit in (x, y)]
    return {"resolution": (per[0], per[1]), "resolutionunit": "CENTIMETER"}


def _imagej(volume: Volume) -> dict[str, Any]:
    axes = _axes(volume)
    metadata: dict[str, Any] = {"axes": "".join(volume.grid.dims).upper()}
    x = _length(axes["x"])
    if x is not None and _length(axes["y"]) is not None:
        metadata["unit"] = _IMAGEJ_UNITS[x[1]]
        z = _length(axes["z"]) if "z" in axes else None
        if z is not None:
            metadata["spacing"] = units.convert(z[0], z[1], x[1])
    if "t" in axes and (interval := _time(axes["t"])) is not None:
        metadata["finterval"] = interval
        metadata["tunit"] = "sec"
    if "c" in axes and axes["c"].labels and not _is_colour(volume):
        frames = [1 if name not in axes else axes[name].size for name in ("t", "z")]
        metadata["Labels"] = list(axes["c"].labels) * (frames[0] * frames[1])
    if volume.window is not None:
        metadata["min"], metadata["max"] = volume.window
    return metadata


def _ome(volume: Volume) -> dict[str, Any]:
    axes = _axes(volume)
    if not set(axes) <= set(_IMAGEJ_ORDER):
        raise InvalidInput(
            f"OME-TIFF holds the axes t, c, z, y, x; this volume has {', '.join(axes)}",
            where=volume.name,
            fix="export to .h5, which holds any axes, or to plain .tif",
        )
    # A random identifier: tifffile's own would carry this computer's network address.
    identifier = f"urn:uuid:{uuid.uuid4()}"
    metadata: dict[str, Any] = {"axes": "".join(volume.grid.dims).upper(), "Name": volume.name, "UUID": identifier}
    for name in ("x", "y", "z"):
        if name in axes and (found := _length(axes[name])) is not None:
            metadata[f"PhysicalSize{name.upper()}"] = found[0]
            metadata[f"PhysicalSize{name.upper()}Unit"] = _SYMBOLS[found[1]]
    if "t" in axes and (interval := _time(axes["t"])) is not None:
        metadata["TimeIncrement"], metadata["TimeIncrementUnit"] = interval, "s"
    if "c" in axes and axes["c"].labels:
        metadata["Channel"] = {"Name": list(axes["c"].labels)}
    return metadata


def _plain(volume: Volume, big: bool, notes: list[str]) -> dict[str, Any]:
    """Return metadata for tifffile's own JSON description; other programs see a stack of pages."""
    why = "over 4 GB" if big else _why_not_imagej(volume)
    notes.append(f"ImageJ cannot read stacks {why}; other programs see plain pages, the axes are kept in the description")
    letters = {"t": "T", "c": "C", "z": "Z", "y": "Y", "x": "X"}
    metadata: dict[str, Any] = {
        "axes": "".join(letters.get(name, "Q") for name in volume.grid.dims),
        "dims": list(volume.grid.dims),
    }
    for axis in volume.grid.axes:
        if (step := axis.median_step()) is not None:
            metadata[f"spacing_{axis.name}"] = step
            metadata[f"unit_{axis.name}"] = axis.unit
    return metadata


def _note_losses(volume: Volume, notes: list[str], *, ome: bool) -> None:
    what = "OME-TIFF" if ome else "TIFF"
    for axis in volume.grid.axes:
        if axis.positions is not None and axis.name in ("t", "z"):
            notes.append(f"{what} cannot hold irregular positions along {axis.name}; the median step is written")
        elif axis.origin != 0 and axis.name in ("z", "y", "x"):
            notes.append(f"{what} cannot hold the position of the first sample along {axis.name}")
    if volume.grid.affine is not None:
        notes.append(f"{what} cannot hold an orientation; the voxel size is kept, the affine is lost")
    if volume.scale is not None and (volume.scale.slope, volume.scale.intercept) != (1.0, 0.0):
        notes.append(f"{what} cannot hold the value scale: physical = {volume.scale.slope} * stored + {volume.scale.intercept}")
