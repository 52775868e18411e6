"""Ranged reading of HDF5 datasets and a bounded dump of everything beside the pixels."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from emstore.errors import Capacity, SourceIncomplete, SourceUnreadable
from emstore.header import RawHeader, json_safe
from emstore.volume import Region
from emstore_adapters.em.arrays import Array, empty, lengths
from emstore_adapters.em.library import guarded
from emstore_adapters.em.signals import checked_shape

MAX_CHUNK: Final = 1 << 30
"""Largest chunk that is decoded, bytes."""
MAX_SMALL: Final = 1 << 16
"""Largest dataset that counts as metadata, bytes."""
MAX_NODES: Final = 100_000
"""Most groups and datasets that are looked at."""


@contextmanager
def opened(path: Path, where: str) -> Iterator[Any]:
    """Open an HDF5 file for reading; what the library raises becomes `SourceUnreadable`."""
    import h5py

    _compression_plugins()
    with guarded(where, path), h5py.File(path, "r") as file:
        yield file


def _compression_plugins() -> None:
    # Importing it registers blosc, zstd and the like with the HDF5 library; without it such datasets raise.
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        return


@dataclass(frozen=True)
class Hdf5Array:
    """One dataset, read by hyperslab through a file handle of its own."""

    path: Path
    where: str
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    block: tuple[int, ...]
    complex_fields: tuple[str, str] | None = None
    """Names of the real and imaginary part of a compound dataset."""

    def __getitem__(self, region: Region) -> Array:
        """Read one region; datasets chunked along the last axis (frames) are read frame by frame, which is far faster."""
        with opened(self.path, self.where) as file:
            dataset = file[self.key]
            if tuple(dataset.shape) != self.shape:
                raise SourceUnreadable("changed since it was opened", where=self.where)
            if self.block[-1] > 1 or region[-1].stop - region[-1].start <= 1:
                return self._values(dataset[region])
            out = empty(lengths(region), self.dtype, self.where)
            for number, last in enumerate(range(region[-1].start, region[-1].stop)):
                out[..., number] = self._values(dataset[(*region[:-1], last)])
            return out

    def _values(self, values: Any) -> Array:
        if self.complex_fields is None:
            return np.asarray(values)
        real, imaginary = self.complex_fields
        out = np.empty(values.shape, self.dtype)
        out.real, out.imag = values[real], values[imaginary]
        return out


def array(path: Path, where: str, dataset: Any) -> Hdf5Array:
    """Return the lazy array of an open dataset, having checked that its values are there.

    Raises
    ------
    SourceUnreadable, SourceIncomplete, Capacity
        Not numbers; never written, or only some of its chunks; chunks too large to decode.
    """
    dtype, fields = dataset.dtype, None
    names = dtype.names
    if names is not None and len(names) == 2 and names[0].startswith(("real", "r")) and names[1].startswith(("imag", "i")):
        fields = (names[0], names[1])
        dtype = np.result_type(dtype[0], np.complex64)
    where = f"{where}:{dataset.name}"
    if dataset.external or not Path(dataset.file.filename).samefile(path):
        raise SourceUnreadable("keeps its values in another file", where=where, fix="copy them into one file first")
    if dataset.shape is None:
        raise SourceUnreadable("is a dataset without values", where=where)
    shape = checked_shape(dataset.shape or (1,), dtype, where)
    if dataset.shape == ():
        raise SourceUnreadable("is a single number, not an array", where=where)
    chunks = dataset.chunks
    _check_written(dataset, chunks, where)
    block = tuple(chunks) if chunks else (1,) * (len(shape) - 1) + shape[-1:]
    if math.prod(block) * dataset.dtype.itemsize > MAX_CHUNK:
        raise Capacity(f"is stored in chunks of {block}, too large to decode", where=where)
    return Hdf5Array(path, where, dataset.name, shape, dtype, tuple(min(b, n) for b, n in zip(block, shape, strict=True)), fields)


def _check_written(dataset: Any, chunks: tuple[int, ...] | None, where: str) -> None:
    """Refuse datasets of which parts were never written: HDF5 would hand out fill values for them."""
    import h5py

    layout = dataset.id.get_create_plist().get_layout()
    if layout == h5py.h5d.CHUNKED and chunks:
        expected = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, chunks, strict=True))
        there = dataset.id.get_num_chunks()
        if there < expected:
            raise SourceIncomplete(
                f"{there} of its {expected} chunks were written", where=where, fix="the acquisition or a copy was cut short"
            )
    elif layout == h5py.h5d.CONTIGUOUS and not dataset.is_virtual:
        needed, there = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
        if there < needed:
            raise SourceIncomplete(f"{there} of its {needed} bytes were written", where=where)
    elif layout == h5py.h5d.VIRTUAL:
        raise SourceUnreadable("is a virtual dataset, which points to other files", where=where)


def tree(group: Any, skip: Callable[[str], bool] = lambda _: False) -> dict[str, Any]:
    """Return attributes and small datasets of a group as nested, JSON-safe dicts; larger datasets by shape and type.

    Links out of the file are not followed. `skip` is asked with a dataset's full name.
    """
    import h5py

    budget = [MAX_NODES]

    def visit(node: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {str(key): _attribute(node, key) for key in node.attrs}
        if depth > 64:
            return found
        for key in node:
            budget[0] -= 1
            if budget[0] < 0:
                raise Capacity(f"holds more than {MAX_NODES} groups and datasets", where=str(node.file.filename))
            if isinstance(node.get(key, getlink=True), h5py.ExternalLink):
                found[key] = "<link to another file>"
                continue
            child = node.get(key)
            if isinstance(child, h5py.Group):
                found[key] = visit(child, depth + 1)
            elif isinstance(child, h5py.Dataset) and not skip(child.name):
                found[key] = _small(child)
        return found

    return visit(group, 0)


def _attribute(node: Any, key: str) -> Any:
    try:
        value = node.attrs[key]
    except (OSError, TypeError, ValueError, KeyError):
        return "<not readable>"
    return json_safe(
        value if getattr(value, "size", 1) * getattr(value, "itemsize", 8) <= MAX_SMALL else f"<array {value.shape}>"
    )


def _small(dataset: Any) -> Any:
    import h5py

    stored = h5py.check_string_dtype(dataset.dtype)
    if (
        dataset.shape is None
        or dataset.size * max(dataset.dtype.itemsize, 1) > MAX_SMALL
        or dataset.is_virtual
        or dataset.external
    ):
        return f"<dataset {dataset.shape} {dataset.dtype}>"
    if dataset.dtype.hasobject and stored is None:
        return f"<dataset {dataset.shape} of references or ragged arrays>"
    try:
        values = dataset[()]
    except (OSError, ValueError, TypeError):
        return "<not readable>"
    return json_safe(values.tolist() if hasattr(values, "tolist") else values)


def dump(path: Path, where: str, name: str, skip: Callable[[str], bool]) -> RawHeader:
    """Return the raw header of a file that keeps its metadata as HDF5 attributes: all of them, and the small datasets, as JSON.

    HDF5 scatters metadata over the file in a form only its library reads, so there are no header bytes as such.
    """

    def read() -> bytes:
        with opened(path, where) as file:
            return json.dumps(tree(file, skip), ensure_ascii=False, indent=1).encode()

    return RawHeader(f"{name}.attributes.json", read)


def json_line(dataset: Any) -> Any:
    """Return the JSON document that the first element of a string dataset holds."""
    value = dataset[0]
    return json.loads(value.decode("utf-8") if isinstance(value, bytes) else value)
