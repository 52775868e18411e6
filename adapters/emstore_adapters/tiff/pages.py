"""Lazy arrays over TIFF pages, in one file or in thousands.

Uncompressed pages are read straight into the result; anything else strip by strip or tile by tile through tifffile's
decoders, only those that the region touches.
"""

import itertools
import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity, EmstoreError, SourceIncomplete, SourceUnreadable
from emstore.volume import Region
from emstore_adapters.flat import EndOfData, PlainBytes, ReadInto, cheap_block, checked_region, read_region

MAX_SEGMENT: Final = 1 << 30
"""Most that one strip or tile may unpack to, bytes."""

_JPEG: Final = frozenset({6, 7, 34892, 33007})


@dataclass(frozen=True)
class Page:
    """One page: where its samples are, or how to find out."""

    path: Path
    name: str
    """What to call it in messages: the file, and the page where there are several."""
    offset: int | None
    """Byte offset of the samples where they lie uncompressed in one piece, else ``None``."""
    dtype: np.dtype[Any]
    """Type in the file's byte order."""
    decoder: Any = None
    """tifffile's page or frame; ``None`` means: open the file when it is needed."""


@dataclass(frozen=True)
class PageArray:
    """A `LazyArray` whose slow axes run over pages."""

    pages: Sequence[Page]
    """In C order of `lead`."""
    lead: tuple[int, ...]
    """Shape of the axes that run over pages; may be empty for one page."""
    page_shape: tuple[int, ...]
    """Shape of one page."""
    page_axes: str
    """tifffile's letters for the axes of one page, e.g. ``YXS``."""
    order: tuple[int, ...]
    """Which axis of ``lead + page_shape`` each axis of the array is."""
    segment: tuple[int, ...] | None = None
    """Shape of one strip or tile in `page_shape`'s axes where pages are decoded; ``None`` for plain reads."""

    @cached_property
    def _disk_shape(self) -> tuple[int, ...]:
        return (*self.lead, *self.page_shape)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return tuple(self._disk_shape[axis] for axis in self.order)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, native byte order."""
        return self.pages[0].dtype.newbyteorder("=")

    @cached_property
    def block(self) -> tuple[int, ...]:
        """One strip or tile where pages are decoded, else a cheap run of rows of one page."""
        inner = self.segment or cheap_block(self.page_shape, self.dtype.itemsize)
        sizes = (*(1 for _ in self.lead), *inner)
        return tuple(sizes[axis] for axis in self.order)

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region, opening only the files it touches.

        Raises
        ------
        SourceIncomplete
            A page's data stop short, or a strip or tile is missing.
        SourceUnreadable
            A strip or tile cannot be decoded.
        """
        checked = checked_region(region, self.shape)
        on_disk = tuple(checked[self.order.index(axis)] for axis in range(len(self.order)))
        out = np.empty(tuple(part.stop - part.start for part in on_disk), self.dtype)
        over, within = on_disk[: len(self.lead)], on_disk[len(self.lead) :]
        if out.size:
            for index in np.ndindex(out.shape[: len(self.lead)]):
                number = 0
                for part, i, size in zip(over, index, self.lead, strict=True):
                    number = number * size + part.start + i
                self._read_page(self.pages[number], within, out[index])
        return out.transpose(self.order)

    def _read_page(self, page: Page, region: tuple[slice, ...], out: npt.NDArray[Any]) -> None:
        try:
            with PlainBytes(page.path, page.name).open() as read_into:
                if page.offset is not None:
                    read_region(read_into, page.offset, self.page_shape, page.dtype, region, out)
                    if not page.dtype.isnative:
                        out.byteswap(inplace=True)
                elif page.decoder is not None:
                    decode_region(page.decoder, page.name, self.page_axes, region, out, read_into)
                else:
                    _open_and_decode(page, self.page_axes, region, out, read_into)
        except EndOfData as error:
            raise SourceIncomplete(
                f"the file ends at byte {error.have}, before the end of this page", where=page.name, fix="copy the file again"
            ) from None


def _open_and_decode(page: Page, axes: str, region: tuple[slice, ...], out: npt.NDArray[Any], read_into: ReadInto) -> None:
    tiff = call_tifffile(lambda: _first_page(page.path), page.name)
    decode_region(tiff, page.name, axes, region, out, read_into)


def _first_page(path: Path) -> Any:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        # Tags are fetched when first asked for: now, while the file is open.
        _ = page.dataoffsets, page.databytecounts, page.decode, page.jpegheader, page.jpegtables
        return page


def call_tifffile(read: Callable[[], Any], name: str) -> Any:
    """Run a piece of tifffile and turn whatever it raises on damaged input into `SourceUnreadable`."""
    try:
        return read()
    except EmstoreError:
        raise
    except MemoryError as error:
        raise Capacity(
            "the file states sizes that do not fit in memory", where=name, fix="the file is damaged or hostile"
        ) from error
    except Exception as error:
        raise SourceUnreadable(f"tifffile cannot read it: {error}", where=name, fix="copy the file again") from error


@contextmanager
def tifffile_log() -> Iterator[list[str]]:
    """Collect what tifffile logs, as notes: it repairs or leaves out damaged parts and only says so in its log."""
    notes: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == mine:
                notes.append(f"tifffile: {record.getMessage()}")

    mine, logger, collector = threading.get_ident(), logging.getLogger("tifffile"), Collector(logging.WARNING)
    logger.addHandler(collector)
    try:
        yield notes
    finally:
        logger.removeHandler(collector)


def segment_shape(page: Any) -> tuple[int, int, int]:
    """Return depth, rows and columns of one strip or tile of a tifffile page."""
    if page.is_tiled:
        return int(page.tiledepth), int(page.tilelength), int(page.tilewidth)
    return 1, min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def decode_region(page: Any, name: str, axes: str, region: tuple[slice, ...], out: npt.NDArray[Any], read_into: ReadInto) -> None:
    """Decode the strips or tiles that a region of one page touches into `out`.

    Parameters
    ----------
    page : tifffile.TiffPage or TiffFrame
        The page.
    name : str
        What to call it in messages.
    axes : str
        Letters of the page's axes, e.g. ``YXS``.
    region : tuple of slice
        One per letter.
    out : numpy.ndarray, shape of the region
        C-contiguous; filled.
    read_into : callable
        The file's bytes.
    """
    key = page.keyframe
    place = {"S": 0 if key.planarconfig == 2 else 4, "Z": 1, "Y": 2, "X": 3}
    full = [slice(0, 1)] * 5
    for letter, part in zip(axes, region, strict=True):
        full[place[letter]] = part
    target = out.reshape([part.stop - part.start for part in full])
    steps = (1, *segment_shape(key))
    counts = [math.ceil(size / step) for size, step in zip(key.shaped[:4], steps, strict=True)]
    tables: dict[str, Any] = {}
    if key.compression in _JPEG:
        tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
    touched = (range(part.start // step, -(-part.stop // step)) for part, step in zip(full[:4], steps, strict=True))
    for at in itertools.product(*touched):
        index = 0
        for i, n in zip(at, counts, strict=True):
            index = index * n + i
        piece = _decode_segment(page, name, index, tables, read_into)
        source, into = [], []
        starts = (*(i * step for i, step in zip(at, steps, strict=True)), 0)
        # The separate-sample axis is not part of a decoded piece.
        for part, start, size in zip(full, starts, (1, *piece.shape), strict=True):
            low, high = max(part.start, start), min(part.stop, start + size)
            source.append(slice(low - start, high - start))
            into.append(slice(low - part.start, high - part.start))
        target[tuple(into)] = piece[np.newaxis][tuple(source)]


def _decode_segment(page: Any, name: str, index: int, tables: dict[str, Any], read_into: ReadInto) -> npt.NDArray[Any]:
    """Return one strip or tile, shape (depth, rows, columns, samples)."""
    offsets, sizes = page.dataoffsets, page.databytecounts
    if index >= min(len(offsets), len(sizes)) or not sizes[index]:
        raise SourceIncomplete(f"strip or tile {index} is missing", where=name, fix="export the image again with all of its data")
    packed = bytearray(sizes[index])
    read_into(offsets[index], memoryview(packed))
    piece, _, _ = call_tifffile(lambda: page.decode(bytes(packed), index, **tables), name)
    if piece is None:
        raise SourceIncomplete(f"strip or tile {index} is empty", where=name, fix="export the image again with all of its data")
    values: npt.NDArray[Any] = piece
    return values
