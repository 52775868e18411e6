"""HyperSpy's own files: hspy (HDF5) and zspy (the same tree in Zarr, a folder or a zip).

Both are read directly: rosettasciio's zspy reader is bound to zarr 2, and nothing of HyperSpy's ragged arrays, models or
pickled functions is wanted here. Object arrays are refused. Raw header: for hspy every attribute and small dataset as
JSON, for zspy its ``.zattrs``, ``.zgroup`` and ``.zarray`` documents byte for byte, by path, as JSON.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emstore.errors import SourceUnreadable
from emstore.header import RawHeader
from emstore.source import Source, SourceItem
from emstore.volume import LazyArray
from emstore_adapters.em import hdf5, terms
from emstore_adapters.em.axes import RawAxis
from emstore_adapters.em.formats import Format
from emstore_adapters.em.signals import Signal


def read_hspy(item: SourceItem, source: Source) -> Sequence[Signal]:
    """Return every experiment of an hspy file."""
    signals = []
    with hdf5.opened(item.path, item.name) as file:
        experiments = _members(file, "Experiments", item.name)
        raw = hdf5.dump(item.path, item.name, item.path.name, _is_pixels)
        for name, group in experiments:
            if "data" not in group:
                continue
            try:
                data = hdf5.array(item.path, item.name, group["data"])
            except SourceUnreadable as error:
                source.skip(f"{item.name}:{name}", error.what, error)
                continue
            signals.append(signal(name, data, hdf5.tree(group, _is_pixels), Format.HSPY, (raw,), item.path))
    if not signals:
        raise SourceUnreadable("holds no signal that can be read", where=item.name)
    return signals


def signal(
    group_name: str, data: LazyArray, tree: Mapping[str, Any], format_name: str, raw: tuple[RawHeader, ...], path: Path
) -> Signal:
    """Return one experiment, given its array and the plain tree of its group."""
    # Before format 1.2 the two were called parameters.
    metadata = _mapping(tree.get("metadata", tree.get("mapped_parameters")))
    original = _mapping(tree.get("original_metadata", tree.get("original_parameters")))
    general, kind = _mapping(metadata.get("General")), str(_mapping(metadata.get("Signal")).get("signal_type") or "")
    instrument = _mapping(metadata.get("Acquisition_instrument"))
    which = "SEM" if "SEM" in instrument else "TEM"
    facts = terms.collect(terms.HYPERSPY, _mapping(instrument.get(which)))
    when = " ".join(str(general[key]) for key in ("date", "time") if general.get(key))
    terms.add(facts, terms.START, when)
    title = str(general.get("title") or metadata.get("title") or "")
    title = "" if title in ("__unnamed__", "_None_") else title
    return Signal(
        title or ("" if group_name == "__unnamed__" else group_name),
        data,
        _axes(tree, data.shape),
        format_name,
        {"metadata": metadata, "original_metadata": original},
        facts,
        raw,
        (path,),
        _modality(kind, which, instrument),
    )


def _axes(tree: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[RawAxis, ...]:
    old = _mapping(tree.get(f"_list_{len(shape)}_axes"))
    axes = []
    for number, size in enumerate(shape):
        found = tree.get(f"axis-{number}", old.get(str(number)))
        axis = dict(_mapping(found))
        if isinstance(axis.get("axis"), str):
            raise SourceUnreadable(f"axis {number} is not readable: {axis['axis']}")
        axes.append(RawAxis.of(axis, size))
    return tuple(axes)


def _modality(signal_type: str, which: str, instrument: Mapping[str, Any]) -> str | None:
    for word in ("EELS", "EDS", "CL"):
        if signal_type.startswith(word):
            return word.lower()
    mode = str(_mapping(instrument.get(which)).get("acquisition_mode") or "").lower()
    if mode in ("stem", "tem", "sem"):
        return mode
    return which.lower() if instrument else None


def _is_pixels(name: str) -> bool:
    return name.rpartition("/")[2] == "data" and name.count("/") <= 3


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _members(group: Any, name: str, where: str) -> list[tuple[str, Any]]:
    if name not in group or not hasattr(group[name], "keys"):
        raise SourceUnreadable(f"has no group {name!r}", where=where)
    inner = group[name]
    # Links could lead to another file.
    own = [key for key in inner if type(inner.get(key, getlink=True)).__name__ == "HardLink"]
    return [(key, inner[key]) for key in own if hasattr(inner[key], "keys")]


def raw_documents(documents: Mapping[str, bytes], name: str) -> RawHeader:
    """Return zarr metadata documents, by path, as one raw header."""
    return RawHeader(f"{name}.json", lambda: json.dumps({k: v.decode("utf-8", "replace") for k, v in documents.items()}).encode())
