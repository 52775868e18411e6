"""EDS spectrum images kept as a stream of events, decoded region by region.

A Velox stream is a list of 16-bit numbers: 65535 steps to the next pixel of the scan, any other is one X-ray in that
channel. Frames follow each other. The first slice finds where every scan row of every frame begins (one pass in
pieces); after that a region reads only its own rows.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import SourceUnreadable
from emstore.volume import Region
from emstore_adapters.em import hdf5
from emstore_adapters.em.arrays import Array, empty, lengths
from emstore_adapters.em.signals import checked_shape

_NEXT_PIXEL: Final = 65535
_PIECE: Final = 1 << 20
"""Events decoded at a time."""


@dataclass(frozen=True)
class EventArray:
    """The sum of one or more event streams over all their frames, shape (y, x, channel)."""

    path: Path
    where: str
    keys: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    frames: int | None
    """How many frames count; ``None`` for as many as the first stream holds."""
    _rows: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def block(self) -> tuple[int, ...]:
        """A whole scan row: its events come in one piece."""
        return (1, *self.shape[1:])

    def __getitem__(self, region: Region) -> Array:
        """Count the events of one region."""
        out = empty(lengths(region), self.dtype, self.where)
        out[...] = 0
        with hdf5.opened(self.path, self.where) as file:
            with self._lock:
                for key in self.keys:
                    if key not in self._rows:
                        self._rows[key] = self._find_rows(file[key])
            for key in self.keys:
                self._count(file[key], self._rows[key], region, out)
        return out

    def _find_rows(self, stream: Any) -> npt.NDArray[np.int64]:
        """Return where each row of each frame begins in a stream, and where the last one ends."""
        height, width = self.shape[:2]
        wanted = None if self.frames is None else self.frames * height
        starts = [np.zeros(1, np.int64)]
        passed = count = 0
        for at in range(0, stream.shape[0], _PIECE):
            marks = at + np.flatnonzero(stream[at : at + _PIECE, 0] == _NEXT_PIXEL)
            numbers = passed + 1 + np.arange(marks.size)
            starts.append(marks[numbers % width == 0] + 1)
            passed += marks.size
            count += starts[-1].size
            if wanted is not None and count >= wanted:
                break
        rows = np.concatenate(starts)
        if wanted is None:
            # As many frames as are begun, like the reference reader.
            wanted = -(-passed // (height * width)) * height
        if rows.size <= wanted:
            rows = np.append(rows, stream.shape[0])
        return rows[: wanted + 1]

    def _count(self, stream: Any, rows: npt.NDArray[np.int64], region: Region, out: Array) -> None:
        height, width, channels = self.shape
        top, bottom = region[0].start, region[0].stop
        for first in range(0, len(rows) - 1, height):
            start = int(rows[min(first + top, len(rows) - 1)])
            stop = int(rows[min(first + bottom, len(rows) - 1)])
            pixel = 0
            for at in range(start, stop, _PIECE):
                piece = stream[at : min(at + _PIECE, stop), 0]
                marks = piece == _NEXT_PIXEL
                pixels = pixel + np.cumsum(marks)
                pixel = int(pixels[-1])
                y, x = np.divmod(pixels, width)
                inside = ~marks & (x >= region[1].start) & (x < region[1].stop)
                if (piece[~marks] >= channels).any():
                    raise SourceUnreadable(f"an event lies outside the {channels} channels", where=self.where)
                inside &= (piece >= region[2].start) & (piece < region[2].stop)
                np.add.at(out, (y[inside], x[inside] - region[1].start, piece[inside].astype(np.int64) - region[2].start), 1)


def array(path: Path, where: str, streams: Sequence[Any], scan: tuple[int, ...], frames: int | None) -> EventArray:
    """Return the spectrum image that the streams (HDF5 groups) of all detectors add up to.

    Parameters
    ----------
    scan : tuple of int
        Size of the scan (y, x), which the stream itself does not state.
    frames : int or None
        Number of frames to sum.
    """
    settings = hdf5.json_line(streams[0]["AcquisitionSettings"])
    dtype = np.dtype(str(settings["StreamEncoding"]))
    shape = checked_shape((*scan, int(settings["bincount"])), dtype, where)
    if len(shape) != 3 or dtype.kind != "u":
        raise SourceUnreadable(f"an event stream of shape {shape} and type {dtype} is not known", where=where)
    for stream in streams:
        if stream["Data"].dtype != np.uint16 or stream["Data"].ndim != 2:
            raise SourceUnreadable("an event stream is not a list of 16-bit numbers", where=where)
        hdf5.array(path, where, stream["Data"])
    return EventArray(path, where, tuple(stream["Data"].name for stream in streams), shape, dtype, frames)
