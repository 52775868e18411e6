"""Nion Swift data items: ``.ndata`` and ``.ndata1`` (a zip of ``data.npy`` and ``metadata.json``), ``.h5`` and ``.nhdf``.

Layouts as Nion Swift publishes them (nionswift, ``NDataHandler``, ``HDF5Handler``, ``ImportExportManager``). A Swift library is
a folder of such files; its ``.nsproj`` holds no array data.
"""

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from emstore.errors import Capacity, EmstoreError, Kind, SourceUnreadable
from emstore.header import RawHeader
from emstore.source import Source, SourceItem
from emstore.volume import Volume
from emstore_adapters.flat import EndOfData, FlatArray, PlainBytes, ReadInto
from emstore_adapters.nion.properties import item_volume

MAX_JSON: Final = 64 << 20
_LOCAL: Final = struct.Struct("<4s5H3L2H")
"""Local file header of a zip (PKWARE APPNOTE 6.3, section 4.3.7)."""
_DATA, _METADATA = "data.npy", "metadata.json"


class NionAdapter:
    """Reads Nion Swift data items."""

    name: ClassVar[str] = "nion"
    version: ClassVar[str] = "1"
    formats: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Nion Swift": (".ndata", ".ndata1", ".h5", ".nhdf"),
    }

    def sniff(self, item: SourceItem) -> int:
        """Score by the first member's name and the list of members, or by the ``properties`` of an HDF5 data item."""
        from emstore_adapters.hdf5.file import has_signature

        try:
            if item.is_folder:
                return 0
            first = _first_member(item.head)
            if first in (_DATA, _METADATA):
                try:
                    with zipfile.ZipFile(item.path) as archive:
                        return 95 if {_DATA, _METADATA} <= set(archive.namelist()) else 0
                except (zipfile.BadZipFile, OSError, ValueError):
                    return 80 if first == _DATA else 40  # cut off: opening it says how much is good
            return 95 if has_signature(item.head) and _has_items(item) else 0
        except (EmstoreError, OSError):
            return 0

    def open(self, source: Source) -> Sequence[Volume]:
        """Return every data item; see `Adapter.open`."""
        from emstore_adapters.hdf5.file import has_signature

        found: list[Volume] = []
        for item in source.items:
            try:
                found += _from_hdf5(item, source) if has_signature(item.head) else _from_zip(item, source)
            except EmstoreError as error:
                source.skip(item.name, error.what, error)
        return _apart(found)


# --- zip -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _PackedBytes:
    """The bytes of a compressed zip member, unpacked in passing: going back starts over."""

    path: Path
    member: str
    name: str

    @contextmanager
    def open(self) -> Iterator[ReadInto]:
        """Open for one series of reads."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:

                def read_into(offset: int, out: memoryview) -> None:
                    stream.seek(offset)
                    done = 0
                    while done < len(out):
                        got = stream.readinto(out[done:])  # type: ignore[attr-defined]  # BufferedIOBase has it
                        if not got:
                            raise EndOfData(offset + done)
                        done += got

                yield read_into
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, _zlib_error()) as error:
            if isinstance(error, EmstoreError):
                raise
            raise SourceUnreadable(f"the zip cannot be unpacked: {error}", where=self.name) from error


def _zlib_error() -> type[Exception]:
    import zlib

    return zlib.error


def _from_zip(item: SourceItem, source: Source) -> list[Volume]:
    try:
        archive = zipfile.ZipFile(item.path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        return _cut_off(item, source, error)
    try:
        with archive:
            members = {member.filename: member for member in archive.infolist()}
            if _DATA not in members:
                raise SourceUnreadable(f"the zip holds no {_DATA}", where=item.name)
            raw = _read_metadata(archive, members.get(_METADATA), item.name)
            member = members[_DATA]
            with archive.open(member) as stream:
                shape, fortran, dtype, header = _npy_header(stream, item.name)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, _zlib_error()) as error:
        if isinstance(error, EmstoreError):
            raise
        raise SourceUnreadable(f"the zip is damaged: {error}", where=item.name, fix="copy the file again") from error
    if member.compress_type == zipfile.ZIP_STORED:
        data = _flat(item, shape, fortran, dtype, offset=_local_end(item, member.header_offset) + header)
        if data.offset + _nbytes(data) > item.size:
            raise data.incomplete(item.size)
    else:
        packed = _PackedBytes(item.path, _DATA, item.name)
        data = FlatArray(packed, item.name, header, *_disk(shape, fortran, dtype), whole=_whole(shape, fortran))
    label = Path(item.name).stem
    return [item_volume(item, label, data, _properties(raw, item.name), RawHeader(_METADATA, lambda: raw), ())]


def _cut_off(item: SourceItem, source: Source, error: Exception) -> list[Volume]:
    """Say how much of a zip that lost its end is good: Swift writes the array first and does not compress it."""
    if _first_member(item.head) != _DATA:
        raise SourceUnreadable(f"the zip cannot be opened: {error}", where=item.name, fix="copy the file again") from error
    with item.path.open("rb") as file:
        start = _local_end(item, 0)
        file.seek(start)
        shape, fortran, dtype, header = _npy_header(file, item.name)
    data = _flat(item, shape, fortran, dtype, offset=start + header)
    if _LOCAL.unpack_from(item.head)[3] != zipfile.ZIP_STORED:
        raise SourceUnreadable(f"the zip cannot be opened: {error}", where=item.name, fix="copy the file again") from error
    good = data.good(item.size)
    source.skip(item.name, f"cut off: {good} of {shape[0]} slices are good, the metadata are lost", data.incomplete(item.size))
    if fortran or good == 0 or len(shape) < 2:
        return []
    part = FlatArray(data.source, item.name, data.offset, (good, *shape[1:]), dtype, tuple(range(len(shape))))
    note = f"the file is cut off: {good} of {shape[0]} slices are kept, and its calibrations are lost"
    return [item_volume(item, Path(item.name).stem, part, {}, None, (note,))]


def _read_metadata(archive: zipfile.ZipFile, member: zipfile.ZipInfo | None, where: str) -> bytes:
    if member is None:
        return b"{}"
    if member.file_size > MAX_JSON:
        raise Capacity(f"{_METADATA} says it is {member.file_size} bytes long", where=where)
    with archive.open(member) as stream:
        return stream.read(MAX_JSON)


def _properties(raw: bytes, where: str) -> dict[str, Any]:
    try:
        properties = json.loads(raw.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError) as error:
        raise SourceUnreadable(f"the metadata are not JSON: {error}", where=where) from error
    if not isinstance(properties, dict):
        raise SourceUnreadable("the metadata are not a JSON object", where=where)
    return properties


def _npy_header(stream: Any, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, Fortran order, type and length of a ``.npy`` header (NEP 1); objects are refused, nothing is unpickled."""
    import tokenize
    import warnings

    from numpy.lib import format as npy

    begin = stream.tell()
    try:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise SourceUnreadable(f"{_DATA} has format version {version}", where=where, kind=Kind.SOURCE_UNSUPPORTED)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers written by Python 2 are read all the same
            shape, fortran, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError, EOFError, OSError, RecursionError, MemoryError, tokenize.TokenError) as error:
        if isinstance(error, EmstoreError):
            raise
        raise SourceUnreadable(f"{_DATA} has a damaged header: {error}", where=where) from error
    if dtype.hasobject or dtype.kind not in "biufc" or dtype.subdtype is not None or not shape or 0 in shape or min(shape) < 0:
        raise SourceUnreadable(
            f"{_DATA} holds values of type {dtype} and shape {shape}, not an array of numbers",
            where=where,
            kind=Kind.SOURCE_UNSUPPORTED,
        )
    return shape, fortran, dtype, int(stream.tell() - begin)


def _disk(shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...]]:
    axes = tuple(range(len(shape)))
    return (shape[::-1], dtype, axes[::-1]) if fortran else (shape, dtype, axes)


def _whole(shape: tuple[int, ...], fortran: bool) -> tuple[int, ...]:
    return shape if fortran or len(shape) < 3 else (1, *shape[1:])


def _flat(item: SourceItem, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], *, offset: int) -> FlatArray:
    return FlatArray(PlainBytes(item.path, item.name), item.name, offset, *_disk(shape, fortran, dtype))


def _nbytes(data: FlatArray) -> int:
    return int(np.prod(data.disk_shape, dtype=object)) * data.disk_dtype.itemsize


def _local_end(item: SourceItem, offset: int) -> int:
    """Return where a stored member's bytes begin, from its local header."""
    with item.path.open("rb") as file:
        file.seek(offset)
        head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
        raise SourceUnreadable("the zip's directory points to the wrong place", where=item.name)
    *_, name_length, extra_length = _LOCAL.unpack(head)
    return offset + _LOCAL.size + int(name_length) + int(extra_length)


def _first_member(head: bytes) -> str | None:
    if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
        return None
    length = _LOCAL.unpack_from(head)[-2]
    return head[_LOCAL.size : _LOCAL.size + length].decode("ascii", errors="replace")


# --- HDF5 ----------------------------------------------------------------------------------------------------------


def _has_items(item: SourceItem) -> bool:
    from emstore_adapters.hdf5.file import opened, translated

    with opened(item.path, item.name) as file, translated(item.name):
        return bool(_items(file))


def _items(file: Any) -> dict[str, Any]:
    """Return name -> dataset of every data item: ``data`` itself (.h5), or the members of ``data`` (.nhdf)."""
    import h5py

    from emstore_adapters.hdf5.walk import inside, outside

    top = inside(file, "data")
    members = {"data": top} if isinstance(top, h5py.Dataset) else {}
    if isinstance(top, h5py.Group):
        members = {f"data/{name}": inside(top, name) for name in list(top)[:10_000]}
    return {
        name: dataset
        for name, dataset in members.items()
        if isinstance(dataset, h5py.Dataset) and "properties" in dataset.attrs and outside(file, dataset) is None
    }


def _from_hdf5(item: SourceItem, source: Source) -> list[Volume]:
    from emstore_adapters.hdf5.file import H5Array, opened, translated

    found: list[Volume] = []
    empty: list[str] = []
    with opened(item.path, item.name) as file, translated(item.name):
        for name, dataset in _items(file).items():
            if dataset.dtype.kind not in "biufc" or not dataset.shape or 0 in dataset.shape:
                empty.append(name)
                source.ignore(f"{item.name}:{name}", f"shape {dataset.shape} of type {dataset.dtype}: no data was recorded")
                continue
            value = dataset.attrs["properties"]
            raw = value if isinstance(value, bytes) else str(value).encode("utf-8", errors="surrogateescape")
            data = H5Array.of(item.path, dataset, item.name)
            label = Path(item.name).stem + name.removeprefix("data")
            keep = RawHeader("properties.json", lambda raw=raw: raw)  # type: ignore[misc]
            found.append(item_volume(item, label, data, _properties(raw, item.name), keep, ()))
    if not found and empty:
        source.ignore(item.name, "no data was recorded in it")
    elif not found:
        raise SourceUnreadable("the file holds no Nion Swift data item", where=item.name)
    return found


def _apart(volumes: list[Volume]) -> list[Volume]:
    """Give equal names a number: names are what a user selects by."""
    from dataclasses import replace

    seen: dict[str, int] = {}
    out = []
    for volume in volumes:
        seen[volume.name] = count = seen.get(volume.name, 0) + 1
        out.append(volume if count == 1 else replace(volume, name=f"{volume.name}-{count}"))
    return out
