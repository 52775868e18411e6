"""The lazy array of a stack or a cine run: planes addressed by time and slice, read when asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.volume import Region
from emstore_adapters.dicom.frames import FrameReader


@dataclass(frozen=True)
class PlaneSource:
    """Where the values of one plane are."""

    reader: FrameReader
    frame: int
    tile: tuple[int, int, int, int] | None = None
    """First row, first column, rows, columns; ``None`` for the whole frame."""


@dataclass(frozen=True, eq=False)
class PlaneArray:
    """Stored values, axes ``[t,] [c,] [z,] y, x`` as `dims` says. Keeps the rules of `emstore.volume.LazyArray`."""

    planes: Sequence[PlaneSource]
    """Time by slice, time slowest."""
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def block(self) -> tuple[int, ...]:
        """One plane with all its colours; all tiles of a mosaic, which lie in one frame."""
        tiled = self.planes[0].tile is not None
        whole = {"c", "y", "x", *(("z",) if tiled else ())}
        return tuple(size if name in whole else 1 for name, size in zip(self.dims, self.shape, strict=True))

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region, frame by frame."""
        sizes = dict(zip(self.dims, self.shape, strict=True))
        bounds = dict(zip(self.dims, (s.indices(n)[:2] for s, n in zip(region, self.shape, strict=True)), strict=True))
        spans = {name: range(*bounds.get(name, (0, 1))) for name in ("t", "z")}
        out = np.empty(tuple(b - a for a, b in bounds.values()), self.dtype)
        rows, columns = slice(*bounds["y"]), slice(*bounds["x"])
        colour = "c" in sizes
        held: tuple[int, int, npt.NDArray[Any]] | None = None
        for i, t in enumerate(spans["t"]):
            for k, z in enumerate(spans["z"]):
                plane = self.planes[t * sizes.get("z", 1) + z]
                if plane.tile is None:
                    values = plane.reader.frame(plane.frame, rows)[:, columns]
                else:
                    # Neighbouring tiles share a frame: decode it once per request.
                    if held is None or held[:2] != (id(plane.reader), plane.frame):
                        frame = plane.reader.frame(plane.frame, slice(0, plane.reader.layout.rows))
                        held = (id(plane.reader), plane.frame, frame)
                    top, left, _, _ = plane.tile
                    values = held[2][top + rows.start : top + rows.stop, left + columns.start : left + columns.stop]
                if colour:
                    values = np.moveaxis(values, -1, 0)[slice(*bounds["c"])]
                place = tuple({"t": i, "z": k}.get(name, slice(None)) for name in self.dims)
                out[place] = values
        return out
