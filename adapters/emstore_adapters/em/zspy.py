"""HyperSpy's zspy: Zarr, version 2 (or 3), a folder or a zip, read by the installed zarr 3.

Chunks that are missing read as fill values in Zarr; here a missing chunk makes the array incomplete instead.
"""

import itertools
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from emstore.errors import Capacity, SourceIncomplete, SourceUnreadable
from emstore.source import Source, SourceItem
from emstore.volume import Region
from emstore_adapters.em import hyperspy
from emstore_adapters.em.arrays import Array
from emstore_adapters.em.formats import Format
from emstore_adapters.em.hdf5 import MAX_CHUNK, MAX_NODES, MAX_SMALL
from emstore_adapters.em.library import guarded
from emstore_adapters.em.signals import Signal, checked_shape

_DOCUMENTS: Final = frozenset({".zattrs", ".zgroup", ".zarray", "zarr.json"})
_MAX_DOCUMENTS: Final = 64 << 20


def read(item: SourceItem, source: Source) -> Sequence[Signal]:
    """Return every experiment of a zspy store."""
    documents, keys = _listing(item)
    raw = hyperspy.raw_documents(documents, item.path.name)
    signals = []
    with _opened(item.path, item.name) as root:
        experiments = sorted({key.split("/")[1] for key in documents if key.startswith("Experiments/") and key.count("/") >= 2})
        for name in experiments:
            prefix = f"Experiments/{name}"
            if not any(f"{prefix}/data/{word}" in documents for word in (".zarray", "zarr.json")):
                continue
            try:
                data = _array(item, root, f"{prefix}/data", keys)
            except SourceUnreadable as error:
                source.skip(f"{item.name}:{name}", error.what, error)
                continue
            tree = _tree(root, prefix, documents)
            signals.append(hyperspy.signal(name, data, tree, Format.ZSPY, (raw,), item.path))
    if not signals:
        raise SourceUnreadable("holds no signal that can be read", where=item.name)
    return signals


@dataclass(frozen=True)
class ZarrArray:
    """One array of a zspy store."""

    path: Path
    where: str
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    block: tuple[int, ...]

    def __getitem__(self, region: Region) -> Array:
        """Read one region; only its chunks are decoded."""
        with _opened(self.path, self.where) as root:
            return np.asarray(root[self.key][region])


@contextmanager
def _opened(path: Path, where: str) -> Iterator[Any]:
    import zarr
    from zarr.storage import LocalStore, ZipStore

    with guarded(where):
        store = LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r", read_only=True)
        try:
            yield zarr.open_group(store, mode="r")
        finally:
            store.close()


def _listing(item: SourceItem) -> tuple[dict[str, bytes], frozenset[str]]:
    """Return the metadata documents by path, and every key of the store."""
    documents: dict[str, bytes] = {}
    keys = []
    total = 0

    def keep(key: str, size: int) -> bool:
        nonlocal total
        keys.append(key)
        if len(keys) > 100 * MAX_NODES:
            raise Capacity(f"holds more than {100 * MAX_NODES} files", where=item.name)
        if key.rpartition("/")[2] not in _DOCUMENTS:
            return False
        total += size
        if total > _MAX_DOCUMENTS:
            raise Capacity(f"holds more than {_MAX_DOCUMENTS} bytes of metadata", where=item.name)
        return True

    with guarded(item.name):
        if item.is_folder:
            for path in item.path.rglob("*"):
                # A link could lead anywhere on this machine.
                if path.is_symlink() or not path.resolve().is_relative_to(item.path.resolve()):
                    raise SourceUnreadable(f"contains a link, {path.name}", where=item.name, fix="replace it by the file itself")
                if path.is_file() and keep(key := path.relative_to(item.path).as_posix(), path.stat().st_size):
                    documents[key] = path.read_bytes()
        else:
            with zipfile.ZipFile(item.path) as archive:
                for member in archive.infolist():
                    key = member.filename
                    if PurePosixPath(key).is_absolute() or ".." in PurePosixPath(key).parts:
                        raise SourceUnreadable(f"contains the path {key!r}, which leads out of it", where=item.name)
                    if not member.is_dir() and keep(key, member.file_size):
                        documents[key] = archive.read(member)
    return documents, frozenset(keys)


def _array(item: SourceItem, root: Any, key: str, keys: frozenset[str]) -> ZarrArray:
    where = f"{item.name}:{key}"
    with guarded(where):
        found = root[key]
        if found.dtype.hasobject:
            raise SourceUnreadable("holds Python objects, which are never read", where=where)
        shape = checked_shape(found.shape, found.dtype, where)
        chunks = tuple(getattr(found, "shards", None) or found.chunks)
        if math.prod(chunks) * found.dtype.itemsize > MAX_CHUNK:
            raise Capacity(f"is stored in chunks of {chunks}, too large to decode", where=where)
        counts = [-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)]
        expected = math.prod(counts)
        missing = 0
        if expected > len(keys):
            missing = expected - sum(1 for name in keys if name.startswith(f"{key}/"))
        else:
            for at in itertools.product(*map(range, counts)):
                missing += f"{key}/{found.metadata.encode_chunk_key(at)}" not in keys
        if missing:
            raise SourceIncomplete(f"{expected - missing} of its {expected} chunks are there", where=where)
    return ZarrArray(item.path, where, key, shape, found.dtype, tuple(min(c, n) for c, n in zip(chunks, shape, strict=True)))


def _tree(root: Any, prefix: str, documents: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the attributes below a group as nested dicts, with small plain arrays."""
    tree: dict[str, Any] = {}
    for key in sorted(documents):
        if not key.startswith(f"{prefix}/"):
            continue
        folder, _, name = key.removeprefix(f"{prefix}/").rpartition("/")
        if folder == "data":
            continue
        node = tree
        for part in folder.split("/") if folder else []:
            child = node.setdefault(part, {})
            node = child if isinstance(child, dict) else {}
        document = json.loads(documents[key])
        if name == ".zattrs":
            node.update(document)
        elif name == "zarr.json":
            node.update(document.get("attributes", {}))
        if (name == ".zarray" or document.get("node_type") == "array") and folder:
            parent, _, leaf = folder.rpartition("/")
            holder = tree
            for part in parent.split("/") if parent else []:
                holder = holder.setdefault(part, {})
            holder[leaf] = _small(root, f"{prefix}/{folder}")
    return tree


def _small(root: Any, key: str) -> Any:
    try:
        found = root[key]
        if found.dtype.hasobject or found.size * found.dtype.itemsize > MAX_SMALL:
            return f"<array {found.shape} {found.dtype}>"
        return np.asarray(found[...]).tolist()
    except (ValueError, TypeError, KeyError, RuntimeError, OSError):
        return "<not readable>"
