"""What can be asked of a version by name in an expression, and how an answer is compared."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Final, NoReturn

from emstore.errors import InvalidInput
from emstore.geometry import units
from emstore.lineage.expression import All, Call, Compare, Condition, Either, Field, Flag, Not, Quantity, refuse
from emstore.lineage.index import unpack
from emstore.lineage.records import settings

CALLS: Final = ("made_with", "descends")


@dataclass(frozen=True)
class Facts:
    """What is known of one version where it lies."""

    n: int
    id: str
    store: tuple[str, str]
    """Name and id."""
    dataset: str
    array: str
    number: int
    kind: str
    modality: str | None
    activity: str
    maker: str
    created: datetime
    packed: bytes

    @property
    def place(self) -> str:
        """DATASET/ARRAY/vN."""
        return f"{self.dataset}/{self.array}/v{self.number}"

    @cached_property
    def seal(self) -> Mapping[str, Any]:
        """What the seal says."""
        return unpack(self.packed)

    @property
    def record(self) -> Mapping[str, Any]:
        """How it came to be."""
        record: Mapping[str, Any] = self.seal["record"]
        return record


@dataclass(frozen=True)
class _Known:
    """A field: what it may be compared with, and how to find it."""

    type: type | None
    """``str``, ``float``, ``date``, ``bool``, `Quantity`; ``None`` where it depends on the version."""
    values: Callable[[Facts, tuple[str, ...]], Iterable[Any]]
    """Everything a version has by that name; a condition holds when it holds for one of them."""
    below: str | None = None
    """What stands after the dot, if something has to."""
    choices: tuple[str, ...] = ()


def _named(value: Any) -> list[Any]:
    return [] if value is None else [value]


def _dig(tree: Any, path: tuple[str, ...]) -> list[Any]:
    for step in path:
        if not isinstance(tree, Mapping) or step not in tree:
            return []
        tree = tree[step]
    return list(tree) if isinstance(tree, list) else [tree]


def _spacing(facts: Facts, path: tuple[str, ...]) -> list[Quantity]:
    voxel = facts.seal["voxel"]
    steps = voxel.get("spacing") or {}
    return [
        Quantity(steps[axis["name"]], axis["unit"])
        for axis in voxel.get("axes", ())
        if axis["name"] == path[0] and axis["unit"] is not None and steps.get(axis["name"]) is not None
    ]


def _terms(facts: Facts, path: tuple[str, ...]) -> list[Any]:
    wanted = "/".join(path)
    terms = facts.seal["header"]["terms"]
    return [value for name, value in terms.items() if name == wanted or name.endswith(f"/{wanted}")]


def _params(facts: Facts, path: tuple[str, ...]) -> list[Any]:
    return _dig(settings(facts.record), path) or _dig(facts.record["params"], path)


def _shape(facts: Facts, path: tuple[str, ...]) -> list[int]:
    volume = facts.seal["volume"]
    return [size for name, size in zip(volume["dims"], volume["shape"], strict=False) if name == path[0]]


def _software(facts: Facts, path: tuple[str, ...]) -> list[str]:
    return [text for s in facts.record["software"] for text in (s["name"], f"{s['name']} {s['version']}")]


def _made(activity: str) -> Callable[[Facts, tuple[str, ...]], list[str]]:
    return lambda facts, _: [facts.maker] if facts.activity == activity else []


FIELDS: Final[Mapping[str, _Known]] = {
    "ref": _Known(str, lambda f, _: [f.place, f"{f.dataset}/{f.array}"]),
    "store": _Known(str, lambda f, _: list(f.store)),
    "dataset": _Known(str, lambda f, _: [f.dataset]),
    "array": _Known(str, lambda f, _: [f.array]),
    "version": _Known(float, lambda f, _: [f.number]),
    "id": _Known(str, lambda f, _: [f.id]),
    "kind": _Known(str, lambda f, _: [f.kind], choices=("image", "labels", "table", "model")),
    "modality": _Known(str, lambda f, _: _named(f.modality)),
    "name": _Known(str, lambda f, _: [f.seal["volume"]["name"]]),
    "format": _Known(str, lambda f, _: [f.seal["header"]["format"]]),
    "dtype": _Known(str, lambda f, _: [f.seal["volume"]["dtype"]]),
    "shape": _Known(float, _shape, below="an axis, e.g. shape.z"),
    "spacing": _Known(Quantity, _spacing, below="an axis, e.g. spacing.z"),
    "levels": _Known(float, lambda f, _: [len(f.seal["volume"]["levels"])]),
    "stored": _Known(float, lambda f, _: [f.seal["contents"]["nbytes"]]),
    "created": _Known(date, lambda f, _: [f.created]),
    "activity": _Known(str, lambda f, _: [f.activity], choices=("ingest", "process", "train", "simulate", "import", "copy")),
    "maker": _Known(str, lambda f, _: [f.maker]),
    "processor": _Known(str, _made("process")),
    "adapter": _Known(str, _made("ingest")),
    "software": _Known(str, _software),
    "device": _Known(str, lambda f, _: [f.record["environment"]["device"]]),
    "model": _Known(str, lambda f, _: [text for m in f.record["models"] for text in (m["name"], m["digest"])]),
    "input": _Known(str, lambda f, _: [text for i in f.record["inputs"] for text in (i["ref"], i["id"])]),
    "source": _Known(str, lambda f, _: [text for s in f.record["sources"] for text in (s["name"], s["digest"])]),
    "note": _Known(str, lambda f, _: [*f.record["notes"], *f.seal["volume"]["notes"]]),
    "seed": _Known(float, lambda f, _: _named(f.record["random"]["seed"])),
    "deterministic": _Known(bool, lambda f, _: [f.record["random"]["deterministic"]]),
    "derived": _Known(bool, lambda f, _: [bool(f.record["inputs"])]),
    "deidentified": _Known(bool, lambda f, _: [f.record["deid"] is not None]),
    "params": _Known(None, _params, below="a parameter, e.g. params.sigma"),
    "attributes": _Known(None, lambda f, path: _dig(f.seal["volume"]["attributes"], path), below="an attribute"),
    "summary": _Known(
        None, lambda f, path: _dig(f.seal["volume"]["attributes"], ("summary", *path)), below="a figure, e.g. summary.psnr"
    ),
    "terms": _Known(None, _terms, below="a term, e.g. terms.voltage"),
    "stale": _Known(bool, lambda f, _: []),  # these two ask the whole cache, not one version
    "latest": _Known(bool, lambda f, _: []),
}

_WORDS: Final = {str: "a text", float: "a number", date: "a day or time", bool: "true or false", Quantity: "a number with a unit"}


def check(condition: Condition, text: str) -> None:
    """Refuse fields and calls that do not exist, and comparisons that make no sense.

    Raises
    ------
    InvalidInput
        What is wrong, and where in the expression.
    """
    match condition:
        case All(of=parts) | Either(of=parts):
            for part in parts:
                check(part, text)
        case Not(of=part):
            check(part, text)
        case Call(name=name, at=at) if name not in CALLS:
            _unknown(text, at, name, CALLS, "function")
        case Flag(field=field):
            _known(field, text)
        case Compare():
            _comparison(condition, _known(condition.field, text), text)


def _known(field: Field, text: str) -> _Known:
    name, below = field.path[0], field.path[1:]
    if name not in FIELDS:
        _unknown(text, field.at, name, tuple(FIELDS), "field")
    known = FIELDS[name]
    if known.below is not None and not below:
        refuse(text, field.at, f"{name} needs more after a dot", f"name {known.below}")
    if below and (known.below is None or (known.type is not None and len(below) > 1)):
        refuse(text, field.at, f"there is nothing below {'.'.join(field.path[:-1])}")
    return known


def _unknown(text: str, at: int, name: str, names: tuple[str, ...], what: str) -> NoReturn:
    close = difflib.get_close_matches(name, names, 1)
    fix = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"
    refuse(text, at, f"there is no {what} {name!r}", fix)


def _comparison(asked: Compare, known: _Known, text: str) -> None:
    value, operator, field = asked.value, asked.operator, asked.field
    given = date if isinstance(value, date) else type(value)
    if known.type not in (None, given):
        fix = {Quantity: "write its unit, e.g. 2 mm", str: "put text between quotes"}.get(known.type or object)
        refuse(text, asked.at, f"{field} is {_WORDS[known.type or str]}, not {_WORDS[given]}", fix)
    if operator == "~" and given is not str:
        refuse(text, asked.at, "~ looks for text in a text", "put it between quotes")
    if operator in ("<", "<=", ">", ">=") and given in (str, bool):
        refuse(text, asked.at, f"{_WORDS[given]} cannot be compared by {operator}", "use == != or, for text, ~")
    if known.choices and operator != "~" and str(value).lower() not in known.choices:
        refuse(text, asked.at, f"{field} is never {value!r}", f"it is one of {', '.join(known.choices)}")


def holds(asked: Compare, facts: Facts) -> bool:
    """Whether a comparison holds for a version. What is not known equals nothing, and is neither less nor more."""
    found = FIELDS[asked.field.path[0]].values(facts, asked.field.path[1:])
    if asked.operator == "!=":
        return not any(compare(each, "==", asked.value) for each in found)
    return any(compare(each, asked.operator, asked.value) for each in found)


def true(field: Field, facts: Facts) -> bool:
    """Whether a field on its own holds: a flag is true, anything else is there."""
    return any(each not in (None, False) for each in FIELDS[field.path[0]].values(facts, field.path[1:]))


def compare(found: Any, operator: str, value: Any) -> bool:
    """Whether something known stands in a relation to a value of an expression; of another kind, it does not."""
    match value:
        case bool():
            return found is value and operator == "=="
        case str():
            if not isinstance(found, str):
                return False
            one, two = found.casefold(), value.casefold()
            return one == two if operator == "==" else fnmatchcase(one, f"*{two}*")
        case Quantity():
            return _compare_quantity(found, operator, value)
        case datetime():
            return isinstance(found, datetime) and _ordered(found, operator, value)
        case date():
            return isinstance(found, datetime) and _ordered(found.date(), operator, value)
    return isinstance(found, int | float) and not isinstance(found, bool) and _ordered(found, operator, value)


def _compare_quantity(found: Any, operator: str, value: Quantity) -> bool:
    if isinstance(found, Mapping) and {"value", "unit"} <= found.keys():
        found = Quantity(found["value"], found["unit"])
    if not isinstance(found, Quantity):
        return False
    try:
        there = units.convert(found.value, found.unit, value.unit)
    except (InvalidInput, TypeError):  # they measure different things
        return False
    # 2 mm written as 0.002 m is not exactly 2 mm in floating point
    if abs(there - value.value) <= 1e-9 * abs(value.value):
        return operator in ("==", "<=", ">=")
    return operator != "==" and _ordered(there, operator, value.value)


def _ordered(found: Any, operator: str, value: Any) -> bool:
    match operator:
        case "==":
            return bool(found == value)
        case "<":
            return bool(found < value)
        case "<=":
            return bool(found <= value)
        case ">":
            return bool(found > value)
        case ">=":
            return bool(found >= value)
    return False
