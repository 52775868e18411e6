"""Every Zarr v3 document of a version, built by hand from its plan.

A version is a group whose children ``s0``, ``s1``, ... are groups too: each holds one array ``image`` and one coordinate
array per axis, named like the axis, so that xarray takes each level for a Dataset and the whole for a DataTree. The root
document repeats all the others (inline consolidated metadata), so that one request opens everything and nothing is listed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Grid
from emstore.store import ome
from emstore.store.codecs import ChunkCodec, Compressor, fill_json
from emstore.store.ome import Window
from emstore.store.plan import Level, VersionPlan
from emstore.store.shards import ShardCodec
from emstore.volume import Volume, VolumeKind

IMAGE: Final = "image"
"""Name of the array of every level."""

_AXIS_NAME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
_KEYS: Final = {"name": "default", "configuration": {"separator": "/"}}
Document = dict[str, Any]


@dataclass(frozen=True)
class Windows:
    """Display windows of a version's images, one per channel."""

    image: tuple[Window, ...] = ()
    virtual: tuple[Window, ...] = ()


def encode(document: Mapping[str, Any]) -> bytes:
    """Return a document as the bytes that are stored: sorted keys, no NaN."""
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode()


def check_axes(grid: Grid) -> None:
    """Refuse axis names that cannot name an array beside ``image``.

    Raises
    ------
    InvalidInput
        Kind ``bad_name``.
    """
    for axis in grid.axes:
        if not _AXIS_NAME.match(axis.name) or axis.name in (IMAGE, "zarr"):
            raise InvalidInput(
                f"axis name {axis.name!r} cannot be stored",
                fix="use letters, digits, - and _, but not 'image'",
                kind=Kind.BAD_NAME,
            )


def children(plan: VersionPlan, windows: Windows) -> dict[str, Document]:
    """Return every document of a version but the root's, by path, parents first."""
    documents: dict[str, Document] = {}
    for level in plan.levels:
        documents |= _level(level.group, level.grid, level.codec, plan.dtype)
    if plan.virtual is not None:
        documents["virtual"] = group_node({"ome": _virtual_ome(plan, windows.virtual)})
        documents |= _level("virtual/s0", plan.virtual.grid, virtual_codec(plan), plan.virtual.dtype)
    return documents


def image_document(plan: VersionPlan, level: Level) -> Document:
    """Return the document of a level's array."""
    return array_node(level.shape, plan.dtype, level.shard, level.codec.to_json(), level.grid.dims, {})


def coordinates(plan: VersionPlan) -> dict[str, bytes]:
    """Return every coordinate array's one chunk, by key."""
    chunks: dict[str, bytes] = {}
    groups = [(level.group, level.grid) for level in plan.levels]
    if plan.virtual is not None:
        groups.append(("virtual/s0", plan.virtual.grid))
    for group, grid in groups:
        for axis in grid.axes:
            values = axis.coordinates()
            chunks[f"{group}/{axis.name}/c/0"] = b"".join(_coordinate_codec(axis.size).encode(values))
    return chunks


def root(volume: Volume, plan: VersionPlan, windows: Windows, emstore: Mapping[str, Any]) -> Document:
    """Return the whole root document of a version.

    Parameters
    ----------
    volume : Volume
        What was written.
    plan : VersionPlan
        How it was written.
    windows : Windows
        Display windows, from `emstore.store.window`.
    emstore : mapping
        The ``emstore`` attribute; ``voxel`` is added when it is not in it.
    """
    attributes: dict[str, Any] = {"emstore": {"voxel": volume.grid.to_json(), **emstore}}
    if ome.ome_axes(volume.grid) is not None:
        levels = [(level.voxel, level.grid) for level in plan.levels]
        block: dict[str, Any] = {
            "version": ome.VERSION,
            "multiscales": ome.multiscales(volume.name, volume.grid, levels, plan.how),
        }
        if volume.kind is VolumeKind.LABELS:
            block["image-label"] = {}
        elif windows.image:
            block["omero"] = ome.omero(volume.grid, windows.image, volume.name)
        attributes["ome"] = block
    return root_node(attributes, children(plan, windows))


def virtual_codec(plan: VersionPlan) -> ShardCodec:
    """Return the codec of the virtual image: small chunks in one shard."""
    assert plan.virtual is not None
    shape = plan.virtual.grid.shape
    chunk = tuple(min(n, 256) for n in shape)
    shard = tuple(-(-n // c) * c for n, c in zip(shape, chunk, strict=True))
    return ShardCodec(ChunkCodec.choose(plan.virtual.dtype, chunk), shard)


def virtual_key(plan: VersionPlan) -> str:
    """Return the key of the virtual image's one shard."""
    assert plan.virtual is not None
    return f"virtual/s0/{IMAGE}/c/" + "/".join("0" for _ in plan.virtual.grid.axes)


def _virtual_ome(plan: VersionPlan, windows: tuple[Window, ...]) -> dict[str, Any]:
    assert plan.virtual is not None
    grid = plan.virtual.grid
    block: dict[str, Any] = {
        "version": ome.VERSION,
        "multiscales": ome.multiscales("virtual", grid, [((1,) * len(grid.axes), grid)], "mean"),
    }
    if windows:
        block["omero"] = ome.omero(grid, windows, "sum")
    return block


def _level(path: str, grid: Grid, codec: ShardCodec, dtype: np.dtype[Any]) -> dict[str, Document]:
    documents = {path: group_node({})}
    documents[f"{path}/{IMAGE}"] = array_node(grid.shape, dtype, codec.shape, codec.to_json(), grid.dims, {})
    for axis in grid.axes:
        attributes: dict[str, Any] = {}
        if axis.unit is not None and axis.known:
            attributes["units"] = axis.unit
        if axis.labels is not None:
            attributes["labels"] = list(axis.labels)
        codecs = _coordinate_codec(axis.size).to_json()
        documents[f"{path}/{axis.name}"] = array_node(
            (axis.size,), np.dtype("f8"), (axis.size,), codecs, (axis.name,), attributes
        )
    return documents


def _coordinate_codec(size: int) -> ChunkCodec:
    return ChunkCodec(np.dtype(np.float64), (size,), Compressor("zstd", 1))


def group_node(attributes: Mapping[str, Any]) -> Document:
    """Return the document of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def root_node(attributes: Mapping[str, Any], below: Mapping[str, Document]) -> Document:
    """Return the document of a version's root group, with every document below it inline."""
    inline = {"kind": "inline", "must_understand": False, "metadata": dict(below)}
    return {**group_node(attributes), "consolidated_metadata": inline}


def array_node(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunk: tuple[int, ...],
    codecs: list[dict[str, Any]],
    dims: tuple[str, ...],
    attributes: Mapping[str, Any],
) -> Document:
    """Return the document of an array with named dimensions; its fill value is zero."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": _KEYS,
        "fill_value": fill_json(dtype),
        "codecs": codecs,
        "attributes": dict(attributes),
        "dimension_names": list(dims),
        "storage_transformers": [],
    }
