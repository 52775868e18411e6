"""Reading single values out of a data set, where any value may be malformed.

An element that does not keep to its type's rules counts as absent here; the byte-exact header still has it.
"""

import math
import struct
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

BAD_VALUE: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    ArithmeticError,
    EOFError,
    OSError,
    LookupError,
    RecursionError,
    struct.error,
)
"""What the parser raises on a malformed element."""

Vector = tuple[float, ...]


@cache
def _tag(keyword: str) -> "BaseTag":
    from pydicom.tag import Tag

    return Tag(keyword)


def get(dataset: "Dataset", keyword: str) -> Any:
    """Return an element's value, or ``None`` when it is absent, empty or malformed."""
    tag = _tag(keyword)
    if tag not in dataset:  # most are absent: several times faster than asking for the value
        return None
    try:
        value = dataset[tag].value
    except BAD_VALUE:
        return None
    return None if value is None or (isinstance(value, str) and not value.strip()) else value


def text(dataset: "Dataset", keyword: str) -> str | None:
    """Return an element as stripped text; the first of several values."""
    value = get(dataset, keyword)
    if value is None:
        return None
    if not isinstance(value, str):
        try:
            value = value[0] if len(value) else None
        except BAD_VALUE:
            value = str(value)
    return None if value is None else (str(value).strip("\x00 ") or None)


def texts(dataset: "Dataset", keyword: str) -> tuple[str, ...]:
    """Return every value of an element as text."""
    value = get(dataset, keyword)
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(v) for v in value)


def numbers(dataset: "Dataset", keyword: str, count: int | None = None) -> Vector | None:
    """Return all values of a numeric element as finite floats; ``None`` when any is not, or when there are not `count`."""
    value = get(dataset, keyword)
    if value is None:
        return None
    try:
        items = [value] if isinstance(value, (str, int, float)) or not hasattr(value, "__len__") else list(value)
        found = tuple(float(v) for v in items)
    except BAD_VALUE:
        return None
    if not found or not all(map(math.isfinite, found)) or (count is not None and len(found) != count):
        return None
    return found


def number(dataset: "Dataset", keyword: str) -> float | None:
    """Return the first value of a numeric element as a finite float."""
    found = numbers(dataset, keyword)
    return None if found is None else found[0]


def integer(dataset: "Dataset", keyword: str) -> int | None:
    """Return the first value of a numeric element when it is a whole number."""
    found = number(dataset, keyword)
    return int(found) if found is not None and found == int(found) else None


def items(dataset: "Dataset", keyword: str) -> tuple["Dataset", ...]:
    """Return the items of a sequence; empty when it is absent or malformed."""
    value = get(dataset, keyword)
    if value is None or isinstance(value, (str, bytes)):
        return ()
    try:
        return tuple(item for item in value if hasattr(item, "get_item"))
    except BAD_VALUE:
        return ()


def first(dataset: "Dataset", keyword: str) -> "Dataset | None":
    """Return the first item of a sequence, if there is one."""
    found = items(dataset, keyword)
    return found[0] if found else None
