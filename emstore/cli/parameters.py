"""A processor's parameters in words: what `emstore processors NAME` shows of its pydantic model."""

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_WORDS: Final = {float: "number", int: "whole number", str: "text", bool: "true or false", NoneType: "null", Any: "anything"}
_LIMITS: Final = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "multiple_of": "multiple of",
                  "min_length": "length at least", "max_length": "length at most"}  # fmt: skip


def told(model: "type[BaseModel]") -> list[dict[str, Any]]:
    """Return name, type, default and description of every parameter, JSON-safe."""
    from pydantic_core import to_jsonable_python

    return [
        {
            "name": name,
            "type": type_words(field.annotation) + _limits(field),
            "required": field.is_required(),
            "default": None if field.is_required() else to_jsonable_python(field.get_default(call_default_factory=True)),
            "description": field.description or "",
        }
        for name, field in model.model_fields.items()
    ]


def type_words(annotation: Any) -> str:
    """Return a type as a user may write its values."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(type_words(part) for part in parts if part is not NoneType)
    if origin is Literal:
        return " or ".join(str(part) for part in parts)
    if origin in (list, tuple, set, frozenset, Sequence):
        inner = [part for part in parts if part is not Ellipsis]
        return f"[{', '.join(map(type_words, inner))}{', ...' if len(inner) < len(parts) or origin is not tuple else ''}]"
    if origin is dict or origin is Mapping:
        return f"{{{type_words(parts[0])}: {type_words(parts[1])}}}"
    if origin is not None and parts:  # Annotated
        return type_words(parts[0])
    fields = getattr(annotation, "model_fields", None)
    if fields is not None:
        return "{" + ", ".join(f'"{name}": {type_words(field.annotation)}' for name, field in fields.items()) + "}"
    members = getattr(annotation, "__members__", None)
    if members is not None:
        return " or ".join(str(member.value) for member in members.values())
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _limits(field: "FieldInfo") -> str:
    said = [f"{word} {getattr(limit, key)}" for limit in field.metadata for key, word in _LIMITS.items() if hasattr(limit, key)]
    return f", {', '.join(said)}" if said else ""
