"""Writing HDF5 that keeps everything emstore knows, in the netCDF-4 way, so that xarray opens it too.

The voxels are the dataset ``image``; every axis is a dimension scale (a 1-D dataset of positions, with ``units``). The grid,
the header and all else are JSON strings in attributes of the root, which is marked ``emstore_export = 1``. Where the volume
was opened from a version, ``origin`` says which and holds its Record; ingested again, that becomes ``exported_from`` among the
volume's attributes, and holds the one before as its own ``exported_from``.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from emstore.errors import InvalidInput
from emstore.header import json_safe
from emstore.volume import Volume
from emstore_adapters.exporters._slabs import slabs

EXPORT_VERSION: Final = 1
_CHUNK_SIDE: Final = 64
_CHUNK_BYTES: Final = 1 << 20
_SCALES: Final = frozenset({"image", "source"})
"""Names an axis cannot have, as they are taken in the root."""


class Hdf5Exporter:
    """Writes ``.h5`` and ``.hdf5``: any axes, any type; nothing is lost but the laziness."""

    name: ClassVar[str] = "hdf5"
    extensions: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")
    compressed: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")

    def write(self, volume: Volume, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write slab by slab; see `emstore.export.Exporter`."""
        import h5py

        if taken := sorted(_SCALES.intersection(volume.grid.dims)):
            raise InvalidInput(f"an axis cannot be called {taken[0]!r} in this file", where=volume.name)
        # "v108": attributes over 64 KiB (a long header) need the object format of HDF5 1.8.
        with h5py.File(path, "x", libver=("v108", "v114")) as file:
            image = file.create_dataset(
                "image",
                shape=volume.shape,
                dtype=volume.dtype.newbyteorder("<"),
                chunks=_chunks(volume),
                compression="gzip",
                compression_opts=4,
                shuffle=True,
                fletcher32=volume.dtype.itemsize <= 8,
            )
            _write_axes(file, image, volume)
            _write_facts(file, volume)
            for region in slabs(volume, whole=0):
                values = volume.data[region]
                image[region] = values
                advance(values.nbytes)
        return ()


def _chunks(volume: Volume) -> tuple[int, ...]:
    """Return chunks of up to 64 per axis and 1 MiB, halving the leading axes first where they are larger."""
    chunks = [min(n, _CHUNK_SIDE) for n in volume.shape]
    for axis in range(len(chunks)):
        while chunks[axis] > 1 and np.prod(chunks, dtype=np.int64) * volume.dtype.itemsize > _CHUNK_BYTES:
            chunks[axis] = -(-chunks[axis] // 2)
    return tuple(chunks)


def _write_axes(file: Any, image: Any, volume: Volume) -> None:
    for number, axis in enumerate(volume.grid.axes):
        scale = file.create_dataset(axis.name, data=axis.coordinates())
        scale.make_scale(axis.name)
        if axis.unit is not None and axis.known:
            scale.attrs["units"] = axis.unit
        image.dims[number].label = axis.name
        image.dims[number].attach_scale(scale)


def _write_facts(file: Any, volume: Volume) -> None:
    scale = volume.scale
    attributes, origin = dict(volume.attributes), None
    if volume.origin is not None:
        before = attributes.pop("exported_from", None)
        origin = {**volume.origin, **({} if before is None else {"exported_from": before})}
    facts: dict[str, Any] = {
        "name": volume.name,
        "kind": str(volume.kind),
        "modality": volume.modality,
        "voxel": volume.grid.to_json(),
        "scale": None if scale is None else {"slope": scale.slope, "intercept": scale.intercept, "unit": scale.unit},
        "window": None if volume.window is None else list(volume.window),
        "format": volume.header.format,
        "header": _kept(volume.header.tree),
        "terms": _kept(volume.header.terms),
        "attributes": _kept(attributes),
        "notes": _kept(volume.notes),
        "origin": _kept(origin),
    }
    file.attrs["emstore_export"] = EXPORT_VERSION
    for key, value in facts.items():
        file.attrs[key] = json.dumps(value, ensure_ascii=False, allow_nan=False)
    source = file.create_group("source", track_order=True)
    for number, raw in enumerate(volume.header.raw):
        usable = raw.name not in ("", ".", "..") and "/" not in raw.name and raw.name not in source
        kept = source.create_dataset(raw.name if usable else f"{number:05d}", data=np.frombuffer(raw.read(), dtype=np.uint8))
        kept.attrs["name"] = raw.name


def _kept(value: Any) -> Any:
    """Return metadata as JSON-safe data, lists of any length included."""
    return json_safe(value, longest=sys.maxsize)
