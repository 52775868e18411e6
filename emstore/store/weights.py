"""Weights as Zarr v3 objects and back: one array per array of the network, in groups nested as its name says.

``encoder_1/kernel`` lies at ``s0/encoder_1/kernel``, so that every Zarr reader finds it by its own name, and xarray opens the
whole as a DataTree. A dimension is called after its array (``encoder_1/kernel.0``): arrays of one network share no axes.
Chunks are whole arrays but for very large ones, each with its checksum.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Damaged, InvalidInput, Kind
from emstore.store.codecs import ChunkCodec, data_type
from emstore.store.documents import VolumeInfo, canonical
from emstore.store.metadata import Document, array_node, group_node
from emstore.store.sink import Sink
from emstore.weights import Weights

GROUP: Final = "s0"

CHUNK_BYTES: Final = 4 << 20
"""Largest chunk, bytes."""
_LARGEST: Final = 1 << 33
"""Weights that claim more are not read, bytes."""
_PART: Final = re.compile(r"(?!__)[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""What every Zarr reader and file system takes for a node's name; two underscores in front are reserved by Zarr."""


def check_weights(weights: Weights) -> None:
    """Refuse what cannot be stored.

    Raises
    ------
    InvalidInput
        Kind ``bad_name`` for an array's name; ``source_unsupported`` for a type Zarr v3 does not have; settings or figures with
        anything that JSON does not have (NaN, infinity, objects).
    """
    try:
        canonical([dict(weights.settings), dict(weights.figures)])
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "its settings or figures are not plain finite values", where=weights.name, fix="say None for what is not known"
        ) from error
    seen: set[str] = set()
    for name in weights.arrays:
        if len(name) > 512 or not all(_PART.fullmatch(part) for part in name.split("/")):
            raise InvalidInput(
                f"an array cannot be called {name!r}",
                where=weights.name,
                fix="use letters, digits and . _ - in parts joined by /",
                kind=Kind.BAD_NAME,
            )
        seen.add(name.casefold())
    above = {"/".join(name.split("/")[:n]) for name in seen for n in range(1, name.count("/") + 1)}
    if len(seen) < len(weights.arrays) or seen & above:
        raise InvalidInput(
            "two of its arrays cannot lie beside each other",
            where=weights.name,
            fix="let no name be another's, in whatever case, nor the beginning of another's before a /",
            kind=Kind.BAD_NAME,
        )
    for values in weights.arrays.values():
        _codec(values.dtype, values.shape)


def children(weights: Weights) -> dict[str, Document]:
    """Return every Zarr document of the weights' version but the root's, by path, parents first."""
    documents = {GROUP: group_node({})}
    for name, values in weights.arrays.items():
        parts = name.split("/")
        for n in range(1, len(parts)):
            documents.setdefault("/".join([GROUP, *parts[:n]]), group_node({}))
        codec = _codec(values.dtype, values.shape)
        dims = tuple(f"{name}.{i}" for i in range(values.ndim))
        documents[f"{GROUP}/{name}"] = array_node(values.shape, codec.dtype, codec.shape, codec.to_json(), dims, {})
    return documents


def write_weights(weights: Weights, sink: Sink) -> None:
    """Write every chunk of the weights; what `sink` already has is not written again.

    Raises
    ------
    InvalidInput
        As `check_weights`.
    """
    check_weights(weights)
    for name, values in weights.arrays.items():
        codec = _codec(values.dtype, values.shape)
        for key, region in _chunks(name, values.shape, codec.shape):
            if not sink.have(key):
                chunk = np.zeros(codec.shape, codec.dtype)
                part = values[region]
                chunk[tuple(slice(0, n) for n in part.shape)] = part
                sink.put(key, b"".join(codec.encode(chunk)))


def volume_info(weights: Weights) -> VolumeInfo:
    """Return what the seal says of weights: the network, its arrays in order, and how the training went."""
    return VolumeInfo(
        name=weights.name,
        kind="model",
        modality=None,
        shape=(weights.count,),
        dtype="model",
        dims=("parameter",),
        levels=(GROUP,),
        scale=None,
        window=None,
        attributes={
            "architecture": weights.architecture,
            "settings": dict(weights.settings),
            "arrays": list(weights.arrays),
            "digest": weights.digest,
            "licence": weights.licence,
            "figures": dict(weights.figures),
        },
        notes=weights.notes,
    )


def read_weights(get: Callable[[str], bytes], nodes: Mapping[str, Any], info: VolumeInfo) -> Weights:
    """Return the weights that `write_weights` wrote.

    Parameters
    ----------
    get : callable
        Returns an object by its key relative to the version; `Damaged` where it is gone.
    nodes : mapping
        The version's Zarr documents by path, from the seal.
    info : VolumeInfo
        What the seal says of the weights.

    Raises
    ------
    Damaged
        An array's object or document is not as it was written.
    """
    told = info.attributes
    try:
        parts = {str(name): _understood(nodes[f"{GROUP}/{name}"]) for name in told["arrays"]}
        if sum(prod(shape) * codec.dtype.itemsize for shape, codec in parts.values()) > _LARGEST:
            raise Damaged("the weights claim to be larger than any", where=info.name)
        with ThreadPoolExecutor(8, "weights") as pool:  # over a network the many small objects come one after the other else
            arrays = dict(zip(parts, pool.map(lambda name: _read(get, name, *parts[name]), parts), strict=True))
        weights = Weights(info.name, told["architecture"], told["settings"], arrays, told["licence"], told["figures"], info.notes)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged("the weights' documents do not fit each other", where=info.name) from error
    if weights.digest != told["digest"]:
        raise Damaged("the weights are not those that were sealed", where=info.name, fix="run `emstore verify --data`")
    return weights


def _understood(node: Mapping[str, Any]) -> tuple[tuple[int, ...], ChunkCodec]:
    """Return shape and codec of an array from its document."""
    shape = tuple(int(n) for n in node["shape"])
    chunk = tuple(int(n) for n in node["chunk_grid"]["configuration"]["chunk_shape"])
    if node["node_type"] != "array" or len(chunk) != len(shape) or min(shape, default=0) < 0:
        raise Damaged("the array's document is not one emstore writes", where="zarr.json")
    return shape, ChunkCodec.from_json(node["codecs"], data_type(node["data_type"]), chunk)


def _read(get: Callable[[str], bytes], name: str, shape: tuple[int, ...], codec: ChunkCodec) -> npt.NDArray[Any]:
    values = np.empty(shape, codec.dtype)
    for key, region in _chunks(name, shape, codec.shape):
        chunk = codec.decode(get(key), key)
        values[region] = chunk[tuple(slice(0, s.stop - s.start) for s in region)]
    return values


def _chunks(name: str, shape: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[str, tuple[slice, ...]]]:
    """Yield key and region of every chunk of an array."""
    for index in product(*(range(-(-n // c)) for n, c in zip(shape, chunk, strict=True))):
        region = tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(index, chunk, shape, strict=True))
        yield "/".join([GROUP, name, "c", *map(str, index)]), region


def _codec(dtype: np.dtype[Any], shape: tuple[int, ...]) -> ChunkCodec:
    """Return the codec of an array: whole, or halved along its longest axis until a chunk is small enough."""
    chunk = [max(n, 1) for n in shape]
    while prod(chunk) * dtype.itemsize > CHUNK_BYTES:
        longest = chunk.index(max(chunk))
        chunk[longest] = -(-chunk[longest] // 2)
    return ChunkCodec.choose(dtype, tuple(chunk))
