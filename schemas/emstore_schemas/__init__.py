"""JSON Schemas (draft 2020-12) of every document an emstore store holds, for programs that read stores without emstore.

The files are written from emstore's own models by ``make schemas`` and kept equal to them by a test. Nothing of emstore is
imported here.
"""

import json
from importlib.resources import files
from typing import Any

__all__ = ["load", "names", "validate"]


def names(version: str = "v1") -> tuple[str, ...]:
    """Return the names of the schemas of a layout version, in alphabetical order."""
    folder = files(__name__) / version
    if not folder.is_dir():
        raise LookupError(f"there are no schemas {version!r}")
    suffix = ".schema.json"
    return tuple(sorted(entry.name.removesuffix(suffix) for entry in folder.iterdir() if entry.name.endswith(suffix)))


def load(name: str, version: str = "v1") -> dict[str, Any]:
    """Return one schema.

    Parameters
    ----------
    name : str
        One of `names`, e.g. ``manifest``.
    version : str
        Layout version of the store, ``v`` and the ``layout`` number of its root.

    Raises
    ------
    LookupError
        There is no such schema; the message lists those there are.
    """
    known = names(version)
    if name not in known:
        raise LookupError(f"there is no schema {name!r} in {version}; there are {', '.join(known)}")
    schema: dict[str, Any] = json.loads((files(__name__) / version / f"{name}.schema.json").read_text(encoding="utf-8"))
    return schema


def validate(name: str, document: Any, *, version: str = "v1") -> None:
    """Check a parsed JSON document against a schema.

    Raises
    ------
    ValueError
        It does not fit; the message says where and why.
    LookupError
        There is no such schema.
    ImportError
        The package ``jsonschema`` is not installed.
    """
    schema = load(name, version)
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import best_match
    except ImportError as error:
        raise ImportError("checking a document needs the package jsonschema: pip install jsonschema") from error
    fault = best_match(Draft202012Validator(schema).iter_errors(document))
    if fault is not None:
        raise ValueError(f"{name}: at {fault.json_path}: {fault.message}")
