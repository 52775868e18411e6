"""A sealed version, opened for reading."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from emstore.errors import Damaged, InvalidInput, Kind, NotFound
from emstore.geometry import Grid
from emstore.header import Header, RawHeader
from emstore.provenance.record import Record
from emstore.store.documents import Manifest, Tombstone, VersionInfo, canonical, digest
from emstore.store.layout import MANIFEST, NODE, Place
from emstore.store.reader import StoredArray
from emstore.store.store import Store, resolve
from emstore.store.tables import ROW, read_table
from emstore.store.transaction import numbers, require
from emstore.store.weights import GROUP, read_weights
from emstore.table import Table
from emstore.volume import ValueScale, Volume, VolumeKind
from emstore.weights import Weights

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr


@dataclass(frozen=True)
class Version:
    """An immutable, sealed version."""

    store: Store
    place: Place
    """Dataset, array and number."""
    document: Mapping[str, Any]
    """The root ``zarr.json``: the seal."""
    info: VersionInfo

    def __repr__(self) -> str:
        volume = self.info.volume
        shape = " ".join(f"{name}:{size}" for name, size in zip(volume.dims, volume.shape, strict=True))
        return f"<emstore.Version {self.ref} {shape} {volume.dtype}>"

    @property
    def id(self) -> str:
        """The version id, ``blake3:hex``: digest of the seal. Inputs cite it."""
        return self.info.seal

    @property
    def ref(self) -> str:
        """``STORE/DATASET/ARRAY/vN``."""
        return f"{self.store.url}/{self.place}"

    @property
    def record(self) -> Record:
        """How the version came to be."""
        return self.info.record

    @property
    def levels(self) -> int:
        """Number of scale levels."""
        return len(self.info.volume.levels)

    @property
    def is_table(self) -> bool:
        """Whether it holds a Table (`table`)."""
        return VolumeKind(self.info.volume.kind) is VolumeKind.TABLE

    @property
    def is_model(self) -> bool:
        """Whether it holds Weights (`weights`). What is neither table nor model is a Volume (`volume`)."""
        return VolumeKind(self.info.volume.kind) is VolumeKind.MODEL

    @cached_property
    def manifest(self) -> Manifest:
        """Every object of the version, checked against the seal."""
        body = require(self.store.backend, self.place.prefix + MANIFEST)
        if digest(body) != self.info.manifest:
            raise Damaged("the manifest is not the one that was sealed", where=f"{self.ref}/{MANIFEST}")
        return Manifest.model_validate_json(body)

    def grid(self, level: int = 0) -> Grid:
        """Return where the voxels of a scale level are."""
        self._require_voxels()
        grid = Grid.from_json(self.info.voxel)
        if level == 0:
            return grid
        self._check(level)
        shape = self._node(level)["shape"]
        # Every level halves some axes of the one before, rounding up.
        for step in range(1, level + 1):
            finer, coarser = self._node(step - 1)["shape"], self._node(step)["shape"]
            grid = grid.coarsened(tuple(1 if a == b else -(-a // b) for a, b in zip(finer, coarser, strict=True)))
        if list(grid.shape) != list(shape):
            raise Damaged("the scale levels do not fit each other", where=self.ref)
        return grid

    def array(self, level: int = 0, *, workers: int = 4) -> StoredArray:
        """Return the stored values of a scale level as a `LazyArray` that decodes in up to so many threads."""
        self._check(level)
        return StoredArray(
            self.store.backend,
            f"{self.place.prefix}s{level}/image",
            self._node(level),
            known_empty=lambda: frozenset(self.place.prefix + key for key in self.manifest.empty),
            workers=workers,
        )

    def volume(self, level: int = 0) -> Volume:
        """Return the version as a Volume, as an adapter would have given it."""
        header = self.info.header
        return self._volume(level, Header(header.format, self.header_tree(), header.terms, self._raw_headers()))

    def _volume(self, level: int, header: Header) -> Volume:
        info = self.info.volume
        return Volume(
            name=info.name,
            data=self.array(level),
            grid=self.grid(level),
            header=header,
            kind=VolumeKind(info.kind),
            modality=info.modality,
            scale=None if info.scale is None else ValueScale(**info.scale),
            window=info.window,
            attributes=info.attributes,
            notes=info.notes,
            origin={
                "id": self.id,
                "ref": str(self.place),
                "store": self.store.id,
                "record": self.document["attributes"]["emstore"]["record"],
            },
        )

    def table(self) -> Table:
        """Return the table.

        Raises
        ------
        InvalidInput
            The version holds no table.
        Damaged
            A column is not as it was sealed.
        """
        if not self.is_table:
            raise self._other("a table")
        return read_table(self.store.backend, self.place.prefix, self._nodes(), self.info.volume)

    def weights(self) -> Weights:
        """Return the weights.

        Raises
        ------
        InvalidInput
            The version holds no weights.
        Damaged
            An array is not as it was sealed.
        """
        if not self.is_model:
            raise self._other("a model")
        try:
            return read_weights(lambda key: require(self.store.backend, self.place.prefix + key), self._nodes(), self.info.volume)
        except Damaged as error:
            error.where = f"{self.ref}/{error.where}" if error.where else self.ref
            raise

    def xarray(self, level: int = 0) -> "xr.Dataset":
        """Return a scale level as a lazy `xarray.Dataset` with the stored values as variable ``image``, never rescaled.

        Of a table: its columns as variables along ``row``, in memory, text as text, its figures of the whole as attributes.
        Of a model: its arrays by their names, in memory, what builds the network and how the training went as attributes.
        """
        if self.is_table:
            return self._table_dataset()
        if self.is_model:
            return self._model_dataset()
        volume = self._volume(level, Header(self.info.header.format))
        dataset = volume.xarray().to_dataset()
        dataset.attrs["emstore"] = {"ref": self.ref, "id": self.id}
        if volume.scale is not None:
            dataset["image"].attrs["physical"] = {
                "slope": volume.scale.slope,
                "intercept": volume.scale.intercept,
                "unit": volume.scale.unit,
            }
        return dataset

    def _table_dataset(self) -> "xr.Dataset":
        import xarray as xr

        table = self.table()
        variables: dict[str, Any] = {}
        for name, column in table.columns.items():
            told = {"units": column.unit, "long_name": column.description or None}
            variables[name] = (ROW, column.values, {key: value for key, value in told.items() if value is not None})
        return xr.Dataset(variables, attrs={**table.summary, "emstore": {"ref": self.ref, "id": self.id}})

    def _model_dataset(self) -> "xr.Dataset":
        import xarray as xr

        weights = self.weights()
        variables = {name: (tuple(f"{name}.{i}" for i in range(values.ndim)), values) for name, values in weights.arrays.items()}
        told = {"architecture": weights.architecture, "settings": dict(weights.settings), "figures": dict(weights.figures)}
        return xr.Dataset(variables, attrs={**told, "emstore": {"ref": self.ref, "id": self.id}})

    def datatree(self) -> "xr.DataTree":
        """Return all scale levels as a lazy `xarray.DataTree`, one group per level; of a model, one per part of its names."""
        import xarray as xr

        if self.is_model:
            whole = self._model_dataset()
            groups: dict[str, dict[str, Any]] = {GROUP: {}}
            for name, array in whole.data_vars.items():
                *above, last = str(name).split("/")
                groups.setdefault("/".join([GROUP, *above]), {})[last] = array.variable
            tree = xr.DataTree.from_dict({group: xr.Dataset(arrays) for group, arrays in groups.items()})
            tree.attrs = whole.attrs
            return tree
        return xr.DataTree.from_dict({name: self.xarray(k) for k, name in enumerate(self.info.volume.levels)})

    def dask(self, level: int = 0) -> "da.Array":
        """Return a scale level as a dask array, one block per shard."""
        import dask.array as da

        from emstore._xarray import BasicIndexing

        array = self.array(level)
        meta = np.empty((0,) * len(array.shape), array.dtype)
        blocks: da.Array = da.from_array(BasicIndexing(array), chunks=array.shard, meta=meta, fancy=False)
        return blocks

    def header_tree(self) -> dict[str, Any]:
        """Return the instrument's parsed header."""
        key = self.info.header.tree
        return {} if key is None else json.loads(self._sealed(key))

    def source(self) -> dict[str, bytes]:
        """Return the original headers byte for byte, by file name."""
        return {raw.name: raw.read() for raw in self._raw_headers()}

    def _raw_headers(self) -> tuple[RawHeader, ...]:
        key = self.info.header.source
        if key is None:
            return ()
        archive = zipfile.ZipFile(io.BytesIO(self._sealed(key)))
        return tuple(RawHeader(name, lambda name=name: archive.read(name)) for name in archive.namelist())  # type: ignore[misc]

    def _sealed(self, key: str) -> bytes:
        """Return an object that has no checksum of its own, checked against the manifest."""
        body = require(self.store.backend, self.place.prefix + key)
        if digest(body) not in {entry.digest for entry in self.manifest.objects if entry.key == key}:
            raise Damaged("it is not what was sealed", where=f"{self.ref}/{key}", fix="run `emstore verify --data`")
        return body

    def _nodes(self) -> dict[str, Any]:
        nodes: dict[str, Any] = self.document["consolidated_metadata"]["metadata"]
        return nodes

    def _node(self, level: int) -> dict[str, Any]:
        return dict(self._nodes()[f"s{level}/image"])

    def _other(self, wanted: str) -> InvalidInput:
        """Return the error of asking for something else than the version holds."""
        holds, method = {
            VolumeKind.TABLE: ("a table", "table"),
            VolumeKind.MODEL: ("a model", "weights"),
            VolumeKind.LABELS: ("labels", "volume"),
        }.get(VolumeKind(self.info.volume.kind), ("an image", "volume"))
        return InvalidInput(f"this version holds {holds}, not {wanted}", where=self.ref, fix=f"read it with Version.{method}()")

    def _require_voxels(self) -> None:
        if self.is_table or self.is_model:
            raise self._other("an image")

    def _check(self, level: int) -> None:
        self._require_voxels()
        if not 0 <= level < self.levels:
            raise InvalidInput(f"there is no level {level}; the version has levels 0 to {self.levels - 1}", where=self.ref)


def open_version(ref: str) -> Version:
    """Open a sealed version.

    Parameters
    ----------
    ref : str
        ``STORE/DATASET/ARRAY[/vN]``; the latest sealed version when vN is left out.

    Raises
    ------
    NotFound
        No such version, or it is not sealed (yet), or it was aborted.
    Damaged
        The seal does not match its own digest.
    """
    store, place = resolve(ref)
    if place.array is None:
        raise InvalidInput("this is not an array or version", where=ref, fix="write STORE/DATASET/ARRAY[/vN]", kind=Kind.BAD_REF)
    if place.version is not None:
        return load(store, place)
    known = numbers(store.backend, place)
    for number in reversed(known):
        at = Place(place.dataset, place.array, number)
        body = store.backend.find(at.prefix + NODE)
        if body is None:
            continue
        document, info = parse_seal(body, f"{store.url}/{at}")
        if not isinstance(info, Tombstone):
            return Version(store, at, document, info)
    if not known:
        raise NotFound("there is no array of that name", where=ref, fix=f"see `emstore ls {store.url}`")
    raise NotFound("the array has no sealed version", where=ref, fix="see `emstore status` for unfinished ones")


def load(store: Store, place: Place) -> Version:
    """Open one sealed version of a store, checking the seal against its own digest."""
    body = store.backend.find(place.prefix + NODE)
    where = f"{store.url}/{place}"
    if body is None:
        raise NotFound("there is no such sealed version", where=where, fix="see `emstore ls` and `emstore status`")
    document, info = parse_seal(body, where)
    if isinstance(info, Tombstone):
        raise NotFound(f"this version was aborted: {info.reason}", where=where)
    return Version(store, place, document, info)


def parse_seal(body: bytes, where: str) -> tuple[dict[str, Any], VersionInfo | Tombstone]:
    """Return a version's root document and what its seal says, checked against its own digest."""
    try:
        document = json.loads(body)
        info = document["attributes"]["emstore"]
        if info["kind"] == "aborted":
            return document, Tombstone.model_validate(info)
        claimed = info["seal"]
        if seal_digest(document) != claimed:
            raise Damaged("the seal does not match its own digest", where=f"{where}/{NODE}")
        return document, VersionInfo.model_validate(info)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"the seal cannot be read: {type(error).__name__}", where=f"{where}/{NODE}") from error


def seal_digest(document: Mapping[str, Any]) -> str:
    """Return the version id of a root document: the digest of its canonical form without ``attributes.emstore.seal``."""
    attributes = dict(document["attributes"])
    attributes["emstore"] = {key: value for key, value in attributes["emstore"].items() if key != "seal"}
    return digest(canonical({**document, "attributes": attributes}))
