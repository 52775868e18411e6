"""A seal's document as the cache keeps it: in parts, for most of what versions say is the same for many of them.

Versions of one array share how they are laid out, their descendants the instrument's header, runs of one recipe the settings
and the programs. Each part is kept once, whoever says it; what is asked of a part is then found out once, too.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

_OF_SEAL: Final = ("volume", "voxel", "header")
_OF_RECORD: Final = {
    "setup": ("params", "params_digest", "random", "notes", "deid"),
    "sources": ("sources",),
    "tools": ("software", "models", "environment", "agent"),
}
PARTS: Final = (*_OF_SEAL, *_OF_RECORD)
"""Columns of the table ``version`` that hold the number of a part."""
KEPT: Final = (*PARTS, "step", "own")
"""All columns that make a document: the parts, the activity, and what only this version says."""

_text: Final = json.JSONEncoder(separators=(",", ":")).encode

Packed = tuple[bytes | str, ...]
"""The parts, compressed, and ``step`` and ``own`` as JSON, in the order of `KEPT`."""


def split(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a seal's document as JSON texts, in the order of `KEPT`, without the positions of irregular slices, often many."""
    seal, record = dict(document), dict(document["record"])
    seal["voxel"] = {**seal["voxel"], "positions": {}}
    found = [{name: seal.pop(name)} for name in _OF_SEAL]
    found += [{name: record.pop(name) for name in names} for names in _OF_RECORD.values()]
    step = record.pop("activity")
    return tuple(_text(each) for each in (*found, step, {**seal, "record": record}))


def join(packed: Packed) -> dict[str, Any]:
    """Return the document that `split` took apart."""
    *seal, setup, sources, tools, step, own = map(load, packed)
    document: dict[str, Any] = dict(own)
    for part in seal:
        document |= part
    document["record"] = {**own["record"], "activity": step, **setup, **sources, **tools}
    return document


def compress(text: str) -> bytes:
    """Return a part as it is kept."""
    return zlib.compress(text.encode(), 1)


def load(kept: bytes | str) -> Any:
    """Return what a part says."""
    return json.loads(zlib.decompress(kept) if isinstance(kept, bytes) else kept)
