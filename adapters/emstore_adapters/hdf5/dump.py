"""The metadata of an HDF5 file as plain data.

HDF5 has no header of its own that could be kept byte for byte: attributes and small datasets are spread over the file. What
is kept instead, as the tree and as the raw header ``hdf5-metadata.json``, is every attribute and every small dataset of the
file, in one nested JSON object: groups are objects, ``@name`` is an attribute of the group it stands in, ``data@name``
one of the dataset ``data``, and a dataset too large to be metadata is a text with its shape and type.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from emstore.header import RawHeader, json_safe
from emstore_adapters.hdf5.file import opened, translated
from emstore_adapters.hdf5.walk import Inventory, take_inventory

if TYPE_CHECKING:
    import h5py

TREE_VALUES: Final = 1024
"""Largest dataset or attribute kept in the parsed tree, values."""
RAW_VALUES: Final = 65_536
"""Largest dataset or attribute kept in the raw header, values."""
MAX_TEXT: Final = 1 << 20
"""Most text read from one dataset of variable-length strings, characters."""
MAX_RECORDS: Final = 20_000
"""Most attributes and small datasets kept; a note says so where there are more."""


def metadata(inventory: Inventory, *, largest: int = TREE_VALUES) -> dict[str, Any]:
    """Return all attributes and small datasets of an open file as one nested, JSON-safe dict."""
    import h5py

    budget = [MAX_RECORDS]
    tree: dict[str, Any] = {}
    for path, group in inventory.groups.items():
        at = tree
        for part in path.split("/") if path else ():
            at = at.setdefault(part, {})
        at.update(_attributes(group, "@", largest, budget))
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink) or budget[0] <= 0:
                continue
            item = group[name]
            if isinstance(item, h5py.Dataset):
                budget[0] -= 1
                at[name] = small_value(item, largest)
                at.update(_attributes(item, f"{name}@", largest, budget))
    if budget[0] <= 0:
        tree["@emstore_note"] = f"only the first {MAX_RECORDS} attributes and small datasets are kept here"
    return tree


def raw_metadata(path: Path, where: str) -> RawHeader:
    """Return the whole metadata of a file as a raw header, read when it is asked for."""

    def read() -> bytes:
        with opened(path, where) as file, translated(where):
            tree = metadata(take_inventory(file, where), largest=RAW_VALUES)
        return json.dumps(tree, indent=1, ensure_ascii=False).encode()

    return RawHeader("hdf5-metadata.json", read)


def attribute(item: "h5py.Group | h5py.Dataset", name: str, *, largest: int = TREE_VALUES) -> Any:
    """Return one attribute as JSON-safe data, ``None`` when it is missing, too large or of an unreadable type."""
    try:
        if name not in item.attrs:
            return None
        handle = item.attrs.get_id(name)
        size = int(np.prod(handle.shape, dtype=object)) if handle.shape else 1
        if size > largest:
            return f"<array {handle.shape} {handle.dtype}>"
        return _plain(item.attrs[name], largest)
    except (OSError, TypeError, RuntimeError, ValueError, KeyError):
        return None  # a type h5py has no words for: one attribute is not worth the image


def text(item: "h5py.Group | h5py.Dataset", name: str) -> str | None:
    """Return an attribute that is a word, ``None`` otherwise."""
    value = attribute(item, name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else None


def words(item: "h5py.Group | h5py.Dataset", name: str) -> list[str]:
    """Return an attribute that is a list of words; NeXus also joins them by ``:`` or ``,``."""
    value = attribute(item, name)
    if isinstance(value, str):
        return [word.strip() for word in value.strip("[]").replace(",", ":").split(":")]
    return [str(word) for word in value] if isinstance(value, list) else []


def number(item: "h5py.Group | h5py.Dataset", name: str) -> float | None:
    """Return an attribute that is one finite number, ``None`` otherwise."""
    value = attribute(item, name)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


def numbers(item: "h5py.Group | h5py.Dataset", name: str) -> list[float] | None:
    """Return an attribute that is a list of finite numbers, ``None`` otherwise."""
    value = attribute(item, name)
    if not isinstance(value, list) or not all(isinstance(v, int | float) and np.isfinite(v) for v in value):
        return None
    return [float(v) for v in value]


def small_value(dataset: "h5py.Dataset", largest: int) -> Any:
    """Return a small dataset's value as JSON-safe data, a text that says what it is for any other."""
    import h5py

    what = f"<dataset {dataset.shape} {dataset.dtype}>"
    if dataset.shape is None:
        return None
    if dataset.size > largest or dataset.external or dataset.is_virtual:
        return what
    try:
        if h5py.check_vlen_dtype(dataset.dtype) is not None or h5py.check_string_dtype(dataset.dtype) is not None:
            return _texts(dataset, what)
        return what if dataset.dtype.hasobject else _plain(dataset[()], largest)
    except (OSError, TypeError, RuntimeError, ValueError, KeyError):
        return what


def _texts(dataset: "h5py.Dataset", what: str) -> Any:
    """Read variable-length values one by one, so that many pointers to one large text cannot fill the memory."""
    if dataset.ndim == 0:
        value = _plain(dataset[()], TREE_VALUES)
        return value if not isinstance(value, str) or len(value) <= MAX_TEXT else what
    if dataset.ndim != 1:
        return what
    values, size = [], 0
    for i in range(dataset.shape[0]):
        values.append(_plain(dataset[i], TREE_VALUES))
        size += len(str(values[-1]))
        if size > MAX_TEXT:
            return what
    return values


def _attributes(item: "h5py.Group | h5py.Dataset", prefix: str, largest: int, budget: list[int]) -> Mapping[str, Any]:
    out = {}
    for name in item.attrs:
        budget[0] -= 1
        if budget[0] < 0:
            break
        out[prefix + name] = attribute(item, name, largest=largest)
    return out


def _plain(value: Any, largest: int) -> Any:
    import h5py

    if isinstance(value, h5py.Empty | h5py.Reference | h5py.RegionReference):
        return None
    if isinstance(value, bytes | np.bytes_):
        return _decoded(bytes(value))
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        return [_plain(item, largest) for item in value.ravel().tolist()]
    return json_safe(value, longest=largest)


def _decoded(data: bytes) -> str:
    """Read text as UTF-8, or as Latin-1, which Gatan's programs write."""
    data = data.rstrip(b"\x00")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
