"""Writing MRC2014 files (Cheng et al., J. Struct. Biol. 192, 146 (2015)): voxel size in ångström, little-endian."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.geometry import Axis, units
from emstore.volume import Volume
from emstore_adapters.exporters._slabs import slabs

_MODES: Final[Mapping[str, int]] = {"|i1": 0, "<i2": 1, "<f4": 2, "<c8": 4, "<u2": 6, "<f2": 12}
_WIDENED: Final[Mapping[str, str]] = {"|u1": "<u2", "|b1": "|i1"}
"""Types MRC lacks, and the one that holds each of their values exactly. Mode 0 is signed: uint8 does not fit it."""
_HEADER_BYTES: Final = 1024
_PART: Final = 1 << 18
"""Voxels summed at once, in double precision."""


class MrcExporter:
    """Writes ``.mrc``: one image, an image stack, a volume, or a stack of volumes."""

    name: ClassVar[str] = "mrc"
    extensions: ClassVar[tuple[str, ...]] = (".mrc", ".mrcs", ".map", ".rec")

    def write(self, volume: Volume, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write slab by slab; see `emstore.export.Exporter`."""
        import mrcfile

        notes: list[str] = []
        _check_axes(volume, notes)
        dtype = _stored_type(volume.dtype, notes)
        summary = _Summary()
        # mrcfile writes the header; the values are appended by hand, since a full disk under a memory map kills the process.
        with mrcfile.new_mmap(str(path), volume.shape, mrc_mode=_MODES[dtype.str]) as mrc:
            _set_geometry(mrc, volume, notes)
        with path.open("r+b") as file:
            file.seek(_HEADER_BYTES)
            for region in slabs(volume, whole=1):
                values = volume.data[region]
                summary.add(values)
                file.write(np.ascontiguousarray(values, dtype=dtype).data)
                advance(values.nbytes)
        with mrcfile.mmap(str(path), mode="r+") as mrc:
            summary.fill(mrc.header)
        _note_losses(volume, notes)
        return tuple(notes)


@dataclass
class _Summary:
    """Running minimum, maximum, mean and deviation for the header; ``-1, -2 ...`` mark them as not computed (MRC2014)."""

    low: float = np.inf
    high: float = -np.inf
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Take in one slab (Chan, Golub & LeVeque 1983, pairwise update)."""
        if values.dtype.kind == "c":
            return
        flat = np.ravel(values)
        for start in range(0, flat.size, _PART):
            wide = flat[start : start + _PART].astype(np.float64)
            self.low, self.high = min(self.low, float(wide.min())), max(self.high, float(wide.max()))
            mean, count = float(wide.mean()), wide.size
            delta, total = mean - self.mean, self.count + count
            self.squares += float(((wide - mean) ** 2).sum()) + delta * delta * self.count * count / total
            self.mean += delta * count / total
            self.count = total

    def fill(self, header: Any) -> None:
        """Write what was found into an mrcfile header."""
        known = self.count > 0 and all(np.isfinite([self.low, self.high, self.mean, self.squares]))
        header.dmin, header.dmax = (self.low, self.high) if known else (0.0, -1.0)
        header.dmean = self.mean if known else -2.0
        header.rms = float(np.sqrt(self.squares / self.count)) if known else -1.0


def _check_axes(volume: Volume, notes: list[str]) -> None:
    dims = volume.grid.dims
    if dims[-2:] != ("y", "x") or len(dims) > 4 or (len(dims) == 4 and dims[1] != "z"):
        raise InvalidInput(
            f"MRC holds y, x images, stacks of them, z, y, x volumes and stacks of those; this volume has {', '.join(dims)}",
            where=volume.name,
            fix="export to .h5 or .ome.tif, or choose one time or channel",
        )
    if dims[0] in ("t", "c"):
        what = "times" if dims[0] == "t" else "names of the channels"
        if volume.grid.axes[0].known or volume.grid.axes[0].labels:
            notes.append(f"MRC holds a bare stack: the {what} are lost")


def _stored_type(dtype: np.dtype[Any], notes: list[str]) -> np.dtype[Any]:
    little = dtype.newbyteorder("<").str
    if little in _WIDENED:
        little = _WIDENED[little]
        notes.append(f"MRC has no {dtype.name}; every value is kept exactly as {np.dtype(little).name}")
    if little not in _MODES:
        raise InvalidInput(
            f"MRC cannot hold values of type {dtype.name}",
            fix="it holds int8, int16, uint16, float16, float32 and complex64; export to .h5, which holds any type",
        )
    return np.dtype(little)


def _set_geometry(mrc: Any, volume: Volume, notes: list[str]) -> None:
    dims = volume.grid.dims
    if len(dims) == 3 and dims[0] != "z":
        mrc.set_image_stack()
    elif len(dims) == 3:
        mrc.set_volume()
    found = {name: _angstrom(volume.grid.axis(name), notes) for name in ("x", "y", "z") if name in dims}
    # 0 is how MRC says that a size is not known.
    mrc.voxel_size = tuple(found.get(name, (0.0, 0.0))[0] for name in ("x", "y", "z"))
    mrc.header.origin = tuple(found.get(name, (0.0, 0.0))[1] for name in ("x", "y", "z"))


def _angstrom(axis: Axis, notes: list[str]) -> tuple[float, float]:
    """Return the spacing and the origin of an axis in ångström; zeros when unknown."""
    step = axis.median_step()
    if step is None or not units.is_length(axis.unit):
        notes.append(f"the voxel size along {axis.name} is not known; it is written as 0")
        return 0.0, 0.0
    factor = units.factor(str(axis.unit), "angstrom")
    if axis.positions is not None:
        notes.append(f"MRC cannot hold irregular positions along {axis.name}; the median step is written")
    return step * factor, float(axis.coordinates()[0]) * factor


def _note_losses(volume: Volume, notes: list[str]) -> None:
    if volume.grid.affine is not None:
        notes.append("MRC cannot hold an orientation; the voxel size is kept, the affine is lost")
    if volume.scale is not None and (volume.scale.slope, volume.scale.intercept) != (1.0, 0.0):
        notes.append(f"MRC cannot hold the value scale: physical = {volume.scale.slope} * stored + {volume.scale.intercept}")
