"""HDF5 files that emstore itself exported: the volume comes back equal.

The exporter writes the values as the dataset ``image``, everything else as JSON texts in root attributes, and the
instrument's own headers as byte arrays below ``source/``. What the file says of the version it was made from (id, place, store
and Record: the file's own claim, nobody checked it) is kept among the volume's attributes as ``exported_from``.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emstore.errors import EmstoreError, SourceUnreadable
from emstore.geometry import Grid
from emstore.header import Header, RawHeader
from emstore.volume import ValueScale, Volume, VolumeKind
from emstore_adapters.hdf5 import dump
from emstore_adapters.hdf5.file import H5Array, opened, translated
from emstore_adapters.hdf5.walk import Inventory, inside, outside

if TYPE_CHECKING:
    import h5py

MARK = "emstore_export"
"""Root attribute of an exported file."""

MAX_JSON = 64 << 20

_RECORDS = ("voxel", "header", "terms", "scale", "window", "attributes", "notes", "origin")


def is_exported(file: "h5py.File") -> bool:
    """Say whether emstore wrote the file."""
    return MARK in file.attrs and "image" in file


def exported_volume(path: Path, where: str, file: "h5py.File", inventory: Inventory) -> Volume:
    """Rebuild the volume that was exported.

    Raises
    ------
    SourceUnreadable
        A record is missing or does not fit the values.
    """
    import h5py

    dataset = inside(file, "image")
    why = inventory.refused.get("image") or inventory.ignored.get("image")
    if not isinstance(dataset, h5py.Dataset) or why is not None or outside(file, dataset) is not None:
        raise SourceUnreadable(f"the exported image cannot be read: {why or 'it is no dataset of this file'}", where=where)
    try:
        record = {
            key: _record(file, key) for key in ("voxel", "header", "terms", "scale", "window", "attributes", "notes", "origin")
        }
        scale = record["scale"]
        window = record["window"]
        return Volume(
            name=_word(file, "name") or "image",
            data=H5Array.of(path, dataset, where),
            grid=Grid.from_json(record["voxel"]),
            header=Header(
                _word(file, "format") or "HDF5 (emstore)",
                record["header"] or {},
                record["terms"] or {},
                _raw_headers(path, where, file),
            ),
            kind=VolumeKind(_word(file, "kind") or "image"),
            modality=_word(file, "modality"),
            scale=None if scale is None else ValueScale(**scale),
            window=None if window is None else (float(window[0]), float(window[1])),
            files=(path,),
            attributes=(record["attributes"] or {}) | ({} if record["origin"] is None else {"exported_from": record["origin"]}),
            notes=tuple(record["notes"] or ()),
            file_format="HDF5 (emstore)",
        )
    except EmstoreError as error:
        raise SourceUnreadable(f"the exported records do not fit together: {error.what}", where=where) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise SourceUnreadable(f"an exported record is damaged: {error}", where=where) from error


def _word(file: "h5py.File", key: str) -> str | None:
    value = _record(file, key)
    return value if isinstance(value, str) else None


def _record(file: "h5py.File", key: str) -> Any:
    value = dump.text(file, key)
    if value is None or value == "":
        return None
    if len(value) > MAX_JSON:
        raise ValueError(f"{key} is {len(value)} characters long")
    return json.loads(value)


def _raw_headers(path: Path, where: str, file: "h5py.File") -> tuple[RawHeader, ...]:
    """Return the original headers in the order they were written; of a file without a place for them, its own metadata."""
    import h5py

    group = inside(file, "source")
    if not isinstance(group, h5py.Group):
        return (dump.raw_metadata(path, where),)
    found = ((name, inside(group, name)) for name in group)
    return tuple(
        _raw(path, where, name, dump.text(item, "name") or name) for name, item in found if isinstance(item, h5py.Dataset)
    )


def _raw(path: Path, where: str, name: str, called: str) -> RawHeader:
    def read() -> bytes:
        import h5py

        with opened(path, where) as file, translated(where):
            item = inside(file, f"source/{name}")
            if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "ui" or outside(file, item) is not None:
                raise SourceUnreadable(f"the header {called} is not a block of bytes", where=where)
            return bytes(item[()].tobytes())

    return RawHeader(called, read)
