"""A table as Zarr v3 objects and back: one 1-D array per column, all along the dimension ``row``.

The one scale group ``s0`` of such a version is an xarray Dataset whose variables are the columns, so every Zarr reader opens
it. Numbers and booleans are stored as they are, a number that is not known as NaN. Text is stored as integer codes, since
Zarr v3 itself has no text (its ``string`` type is an extension that tensorstore, for one, does not read): the attribute
``categories`` lists the texts exactly, and ``flag_values`` with ``flag_meanings`` say the same in the terms of the CF
conventions 1.12, section 3.5, whose words have no spaces. ``units`` and ``long_name`` are CF's too.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Damaged, InvalidInput, Kind
from emstore.store.codecs import ChunkCodec
from emstore.store.documents import VolumeInfo, canonical
from emstore.store.metadata import Document, array_node, group_node
from emstore.store.reader import ByteSource, StoredArray
from emstore.store.shards import ShardCodec
from emstore.store.sink import Sink
from emstore.table import Column, Table

ROW: Final = "row"
"""Name of the only dimension."""
GROUP: Final = "s0"

CHUNK_ROWS: Final = 1 << 16
MAX_TEXT_BYTES: Final = 4 << 20
"""Most bytes of different texts in one column: they are kept in the seal, which every opening reads."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NO_FLAG_WORD: Final = re.compile(r"[^A-Za-z0-9_.+@-]")


def check_table(table: Table) -> None:
    """Refuse what cannot be stored.

    Raises
    ------
    InvalidInput
        Kind ``bad_name`` for a column's name; ``source_unsupported`` for texts that are no Unicode or too many; a summary
        with anything that JSON does not have (NaN, infinity, objects).
    """
    try:
        canonical(dict(table.summary))
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "the figures of the whole are not plain finite values", where=table.name, fix="say None for what is not known"
        ) from error
    for name, column in table.columns.items():
        if not _NAME.fullmatch(name) or name == ROW:
            raise InvalidInput(
                f"a column cannot be called {name!r}",
                where=table.name,
                fix="use lower-case letters, digits and _, but not 'row'",
                kind=Kind.BAD_NAME,
            )
        if column.values.dtype.kind == "U":
            texts = _categories(column.values)
            if any("\ud800" <= c <= "\udfff" for text in texts for c in text):
                raise InvalidInput(
                    f"column {name!r} holds text that is no Unicode", where=table.name, kind=Kind.SOURCE_UNSUPPORTED
                )
            if (size := sum(len(text.encode()) for text in texts)) > MAX_TEXT_BYTES:
                raise InvalidInput(
                    f"column {name!r} holds {size / 1e6:.0f} MB of different texts, more than {MAX_TEXT_BYTES / 1e6:.0f}",
                    where=table.name,
                    fix="keep such texts in a file of their own",
                    kind=Kind.SOURCE_UNSUPPORTED,
                )


def children(table: Table) -> dict[str, Document]:
    """Return every Zarr document of a table's version but the root's, by path, parents first."""
    documents = {GROUP: group_node({})}
    for name, column in table.columns.items():
        values, attributes = _stored(column)
        codec = _codec(values)
        documents[f"{GROUP}/{name}"] = array_node(
            values.shape, codec.chunks.dtype, codec.shape, codec.to_json(), (ROW,), attributes
        )
    return documents


def write_table(table: Table, sink: Sink) -> None:
    """Write every chunk of a table's columns; what `sink` already has is not written again.

    Raises
    ------
    InvalidInput
        As `check_table`, or numbers of a type Zarr v3 does not have.
    """
    check_table(table)
    for name, column in table.columns.items():
        values, _ = _stored(column)
        codec = _codec(values)
        for number in range(-(-values.size // codec.shape[0])):
            key = f"{GROUP}/{name}/c/{number}"
            if not sink.have(key):
                chunk = np.zeros(codec.shape, codec.chunks.dtype)
                part = values[number * CHUNK_ROWS : (number + 1) * CHUNK_ROWS]
                chunk[: part.size] = part
                data = codec.join([codec.chunks.encode(chunk)])
                assert data is not None
                sink.put(key, data)


def volume_info(table: Table) -> VolumeInfo:
    """Return what the seal says of a table: figures of the whole and the order of its columns among the attributes."""
    return VolumeInfo(
        name=table.name,
        kind="table",
        modality=None,
        shape=(table.rows,),
        dtype="table",
        dims=(ROW,),
        levels=(GROUP,),
        scale=None,
        window=None,
        attributes={
            "columns": [
                {"name": name, "unit": column.unit, "description": column.description} for name, column in table.columns.items()
            ],
            "summary": dict(table.summary),
        },
        notes=table.notes,
    )


def read_table(source: ByteSource, prefix: str, nodes: Mapping[str, Any], info: VolumeInfo) -> Table:
    """Return the table that `write_table` wrote.

    Parameters
    ----------
    source : ByteSource
        Where the objects are.
    prefix : str
        Key prefix of the version, with a trailing slash.
    nodes : mapping
        The version's Zarr documents by path, from the seal.
    info : VolumeInfo
        What the seal says of the table.

    Raises
    ------
    Damaged
        A column's object or document is not as it was written.
    """
    try:
        columns = {
            str(said["name"]): Column(
                _read(source, prefix, str(said["name"]), nodes[f"{GROUP}/{said['name']}"]), said["unit"], said["description"]
            )
            for said in info.attributes["columns"]
        }
        return Table(info.name, columns, info.attributes["summary"], info.notes)
    except (KeyError, TypeError, IndexError, InvalidInput) as error:
        raise Damaged("the table's documents do not fit each other", where=f"{prefix}zarr.json") from error


def _read(source: ByteSource, prefix: str, name: str, node: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Return one column's values."""
    categories = node["attributes"].get("categories")
    if list(node["shape"]) == [0]:
        return np.zeros(0, "U1" if categories is not None else np.dtype(node["data_type"]))
    array = StoredArray(source, f"{prefix}{GROUP}/{name}", node)
    values = array[(slice(0, array.shape[0]),)]
    return values if categories is None else np.asarray(categories, dtype="U")[values]


def _stored(column: Column) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """Return a column's values as they are stored, and their attributes."""
    values = column.values
    attributes: dict[str, Any] = {}
    if column.unit is not None:
        attributes["units"] = column.unit
    if column.description:
        attributes["long_name"] = column.description
    if values.dtype.kind != "U":
        return values, attributes
    texts = _categories(values)
    codes = np.searchsorted(np.asarray(texts, dtype=values.dtype), values).astype(np.min_scalar_type(max(len(texts) - 1, 0)))
    attributes["categories"] = texts
    if texts:
        attributes["flag_values"] = list(range(len(texts)))
        attributes["flag_meanings"] = " ".join(_NO_FLAG_WORD.sub("_", text) or "_" for text in texts)
    return codes, attributes


def _categories(values: npt.NDArray[Any]) -> list[str]:
    return [str(text) for text in np.unique(values)]


def _codec(values: npt.NDArray[Any]) -> ShardCodec:
    """Return the codec of a column: shards of one chunk, so that `StoredArray` reads it like any other array."""
    chunk = (min(max(values.size, 1), CHUNK_ROWS),)
    return ShardCodec(ChunkCodec.choose(values.dtype, chunk), chunk)
