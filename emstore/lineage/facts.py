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
from emstore.lineage.index import named
from emstore.lineage.parts import Packed, join
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
    packed: Packed

    @property
    def place(self) -> str:
        """DATASET/ARRAY/vN."""
        return f"{self.dataset}/{self.array}/v{self.number}"

    @cached_property
    def seal(self) -> Mapping[str, Any]:
        """What the seal says."""
        return join(self.packed)

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
    of: tuple[str, ...]
    """Columns, or what is asked of the whole cache, to find it in; a part (`emstore.lineage.parts`) by what it says."""
    values: Callable[..., Iterable[Any]]
    """Everything a version has by that name, from the path below it and the columns; a condition holds when it does for one."""
    below: str | None = None
    """What stands after the dot, if something has to."""
    choices: tuple[str, ...] = ()


Path = tuple[str, ...]
Part = Mapping[str, Any]


def _some(_: Path, *values: Any) -> list[Any]:
    return [value for value in values if value is not None]


def _dig(tree: Any, path: Path) -> list[Any]:
    for step in path:
        if not isinstance(tree, Mapping) or step not in tree:
            return []
        tree = tree[step]
    return list(tree) if isinstance(tree, list) else [tree]


def _spacing(path: Path, part: Part) -> list[Quantity]:
    voxel = part["voxel"]
    steps = voxel.get("spacing") or {}
    return [
        Quantity(steps[axis["name"]], axis["unit"])
        for axis in voxel.get("axes", ())
        if axis["name"] == path[0] and axis["unit"] is not None and steps.get(axis["name"]) is not None
    ]


def _terms(path: Path, part: Part) -> list[Any]:
    wanted = "/".join(path)
    terms = part["header"]["terms"]
    return [value for name, value in terms.items() if name == wanted or name.endswith(f"/{wanted}")]


def _shape(path: Path, part: Part) -> list[int]:
    volume = part["volume"]
    return [size for name, size in zip(volume["dims"], volume["shape"], strict=False) if name == path[0]]


def _each(list_: str, *keys: str) -> Callable[[Path, Part], list[str]]:
    """Read some texts of everything in a list of a part."""
    return lambda _, part: [each[key] for each in part[list_] for key in keys]


def _made(wanted: str) -> Callable[[Path, str, str], list[str]]:
    return lambda _, activity, maker: [maker] if activity == wanted else []


_NEWER: Final = (
    "exists (select 1 from place newer where newer.store = {0}.store and newer.dataset = {0}.dataset"
    " and newer.array = {0}.array and newer.number > {0}.number)"
)
# An input in a version's own array is an earlier state of itself, never a newer one that it missed.
_STALE: Final = (
    "exists (select 1 from edge join place used on used.n = edge.parent where edge.child = place.n"
    " and (used.store, used.dataset, used.array) <> (place.store, place.dataset, place.array)"
    f" and {_NEWER.format('used')})"
)

FIELDS: Final[Mapping[str, _Known]] = {
    "ref": _Known(str, ("dataset", "array", "number"), lambda _, d, a, n: [f"{d}/{a}/v{n}", f"{d}/{a}"]),
    "store": _Known(str, ("store.url", "store.id"), lambda _, url, id_: [named(url), id_]),
    "dataset": _Known(str, ("dataset",), _some),
    "array": _Known(str, ("array",), _some),
    "version": _Known(float, ("number",), _some),
    "id": _Known(str, ("node.id",), _some),
    "kind": _Known(str, ("kind",), _some, choices=("image", "labels", "table", "model")),
    "modality": _Known(str, ("modality",), _some),
    "name": _Known(str, ("volume",), lambda _, p: [p["volume"]["name"]]),
    "format": _Known(str, ("header",), lambda _, p: [p["header"]["format"]]),
    "dtype": _Known(str, ("volume",), lambda _, p: [p["volume"]["dtype"]]),
    "shape": _Known(float, ("volume",), _shape, below="an axis, e.g. shape.z"),
    "spacing": _Known(Quantity, ("voxel",), _spacing, below="an axis, e.g. spacing.z"),
    "levels": _Known(float, ("volume",), lambda _, p: [len(p["volume"]["levels"])]),
    "stored": _Known(float, ("own",), lambda _, p: [p["contents"]["nbytes"]]),
    "created": _Known(date, ("created",), lambda _, text: [datetime.fromisoformat(text)]),
    "activity": _Known(str, ("activity",), _some, choices=("ingest", "process", "train", "simulate", "import", "copy")),
    "maker": _Known(str, ("maker",), _some),
    "processor": _Known(str, ("activity", "maker"), _made("process")),
    "adapter": _Known(str, ("activity", "maker"), _made("ingest")),
    "simulator": _Known(str, ("activity", "maker"), _made("simulate")),
    "trainer": _Known(str, ("activity", "maker"), _made("train")),
    "software": _Known(
        str, ("tools",), lambda _, p: [text for s in p["software"] for text in (s["name"], f"{s['name']} {s['version']}")]
    ),
    "device": _Known(str, ("tools",), lambda _, p: [p["environment"]["device"]]),
    "model": _Known(str, ("tools",), _each("models", "name", "digest")),
    "input": _Known(str, ("own",), lambda path, p: _each("inputs", "ref", "id")(path, p["record"])),
    "source": _Known(str, ("sources",), _each("sources", "name", "digest")),
    "note": _Known(str, ("setup", "volume"), lambda _, p, v: [*p["notes"], *v["volume"]["notes"]]),
    "seed": _Known(float, ("setup",), lambda _, p: _some(_, p["random"]["seed"])),
    "deterministic": _Known(bool, ("setup",), lambda _, p: [p["random"]["deterministic"]]),
    "derived": _Known(bool, ("own",), lambda _, p: [bool(p["record"]["inputs"])]),
    "deidentified": _Known(bool, ("setup",), lambda _, p: [p["deid"] is not None]),
    "params": _Known(
        None, ("setup",), lambda path, p: _dig(settings(p), path) or _dig(p["params"], path),
        below="a parameter, e.g. params.sigma",
    ),
    "attributes": _Known(None, ("volume",), lambda path, p: _dig(p["volume"]["attributes"], path), below="an attribute"),
    "summary": _Known(
        None, ("volume",), lambda path, p: _dig(p["volume"]["attributes"], ("summary", *path)),
        below="a figure, e.g. summary.psnr",
    ),
    "terms": _Known(None, ("header",), _terms, below="a term, e.g. terms.voltage"),
    "stale": _Known(bool, (_STALE,), lambda _, exists: [bool(exists)]),
    "latest": _Known(bool, (_NEWER.format("place"),), lambda _, exists: [not exists]),
}  # fmt: skip

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


def holds(asked: Compare, *columns: Any) -> bool:
    """Whether a comparison holds, by the columns of its field. What is not known equals nothing, and is neither less nor more."""
    found = FIELDS[asked.field.path[0]].values(asked.field.path[1:], *columns)
    if asked.operator == "!=":
        return not any(compare(each, "==", asked.value) for each in found)
    return any(compare(each, asked.operator, asked.value) for each in found)


def true(field: Field, *columns: Any) -> bool:
    """Whether a field on its own holds: a flag is true, anything else is there."""
    return any(each not in (None, False) for each in FIELDS[field.path[0]].values(field.path[1:], *columns))


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
