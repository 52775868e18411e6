"""Find versions by what their metadata and Records say, in one store or in every one that is known."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from emstore.lineage.expression import All, Call, Compare, Condition, Either, Flag, Not, parse, refuse
from emstore.lineage.facts import Facts, check, holds, true
from emstore.lineage.graph import refresh_all
from emstore.lineage.index import Index
from emstore.store import Place, resolve
from emstore.store.layout import version_number

Test = Callable[[Facts], bool]

_ID: Final = re.compile(r"(?:blake3|sha256):[0-9a-f]{8,64}")
_COLUMNS: Final = {"kind": "kind", "modality": "modality", "activity": "activity", "maker": "maker",
                   "dataset": "dataset", "array": "array"}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A version that was asked for."""

    ref: str
    """STORE/DATASET/ARRAY/vN: the store as it was named, or where it was last seen."""
    facts: Facts

    @property
    def id(self) -> str:
        """Version id."""
        return self.facts.id


@dataclass(frozen=True)
class Search:
    """What was found, and what could not be looked at."""

    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()
    """In sentences."""


def find(expression: str, *refs: str, index: Path | None = None) -> Search:
    """Find versions that an expression holds for.

    Parameters
    ----------
    expression : str
        E.g. ``modality == "ct" and spacing.z > 2 mm``; see `emstore.lineage.expression`. An empty one finds everything.
    *refs : str
        ``STORE[/DATASET[/ARRAY]]`` to look in; every store that was ever pointed at when left out.
    index : Path, optional
        Another file for the cache than the user's own.

    Raises
    ------
    InvalidInput
        The expression makes no sense: what is wrong, and where.
    NotFound
        There is no such store.
    """
    check(parse(expression), expression)  # before anything is looked at
    with Index(index) as cache:
        notes: list[str] = []
        named: list[tuple[str, str, Place]] = []
        for ref in refs:
            store, place = resolve(ref)
            if store.id not in [id_ for id_, _, _ in named]:
                notes += cache.refresh(store)
            named.append((store.id, store.url, place))
        if not refs:
            notes += refresh_all(cache)
        return Search(tuple(search(cache, expression, named)), tuple(notes))


def search(cache: Index, expression: str, named: Sequence[tuple[str, str, Place]] = ()) -> Iterator[Found]:
    """Find versions in the cache as it is.

    Parameters
    ----------
    cache : Index
        Nothing is looked at anew.
    expression : str
        As `find` takes it.
    named : sequence of (store id, what to call it, place), optional
        Where to look; everywhere when left out.
    """
    condition = parse(expression)
    check(condition, expression)
    test = _Tests(cache, expression).of(condition)
    for ref, facts in _candidates(cache, condition, named):
        if test(facts):
            yield Found(ref, facts)


def _candidates(cache: Index, condition: Condition, named: Sequence[tuple[str, str, Place]]) -> Iterator[tuple[str, Facts]]:
    """Every version that the plain columns of the cache do not rule out, with its reference."""
    where, values = _narrowed(condition)
    stores = {store.n: store for store in cache.stores()}
    rows = cache.select(
        "version.n, id, store, dataset, array, number, kind, modality, activity, maker, created, document",
        where="from place join version using (n) join node using (n)"
        f" where {' and '.join(['1', *where])} order by store, dataset, array, number",
        values=values,
    )
    for n, id_, at, dataset, array, number, kind, modality, activity, maker, created, packed in rows:
        store = stores[at]
        url = _named_as(named, store.id, Place(dataset, array, number)) if named else store.url
        if url is None:
            continue
        moment = datetime.fromisoformat(created)
        whose = (store.name, store.id)
        facts = Facts(n, id_, whose, dataset, array, number, kind, modality, activity, maker, moment, packed)
        yield f"{url}/{facts.place}", facts


def _named_as(named: Sequence[tuple[str, str, Place]], store: str, place: Place) -> str | None:
    for id_, url, within in named:
        if id_ == store and place.prefix.startswith(within.prefix):
            return url
    return None


def _narrowed(condition: Condition) -> tuple[list[str], list[str]]:
    """Return conditions on plain columns that must hold, for the database to check before anything is unpacked."""
    parts = condition.of if isinstance(condition, All) else (condition,)
    where, values = [], []
    for part in parts:
        if isinstance(part, Compare) and part.operator == "==" and (column := _COLUMNS.get(part.field.path[0])):
            where.append(f"lower({column}) = ?")
            values.append(str(part.value).lower())
    return where, values


class _Tests:
    """Turns conditions into functions; what asks the whole cache is asked once."""

    def __init__(self, cache: Index, text: str) -> None:
        self.cache = cache
        self.text = text

    def of(self, condition: Condition) -> Test:
        match condition:
            case All(of=parts):
                every = [self.of(part) for part in parts]
                return lambda facts: all(test(facts) for test in every)
            case Either(of=parts):
                some = [self.of(part) for part in parts]
                return lambda facts: any(test(facts) for test in some)
            case Not(of=part):
                test = self.of(part)
                return lambda facts: not test(facts)
            case Call(name="made_with"):
                return self.made_with(condition)
            case Call():
                return self.descends(condition)
            case Flag(field=field):
                return self.among(field.path[0], True) or (lambda facts: true(field, facts))
            case Compare(field=field):
                wanted = (condition.operator == "==") is condition.value
                return self.among(field.path[0], wanted) or (lambda facts: holds(condition, facts))

    def among(self, name: str, wanted: bool) -> Test | None:
        """Return the test of ``stale`` and ``latest``, which ask the whole cache; ``None`` for any other field."""
        places = self.whole(name)
        return None if places is None else (lambda facts: (_place(facts) in places) is wanted)

    def whole(self, name: str) -> frozenset[tuple[Any, ...]] | None:
        """Return the places that are ``stale`` or ``latest``; ``None`` for any other field."""
        if name == "stale":
            rows = self.cache.select("distinct child.store, child.dataset, child.array, child.number", where=_STALE)
        elif name == "latest":
            rows = self.cache.select("store, dataset, array, max(number)", where="from place group by 1, 2, 3")
        else:
            return None
        stores = {store.n: store.id for store in self.cache.stores()}
        return frozenset((stores[store], dataset, array, number) for store, dataset, array, number in rows)

    def made_with(self, call: Call) -> Test:
        """Look at the last step: the inputs, the models, the processor and other programs."""
        ns = self.meant(call.argument)
        children = {n for (n,) in self.cache.about("child from edge where parent in", ns)}
        name = call.argument.casefold()

        def test(facts: Facts) -> bool:
            if facts.n in children or facts.maker.casefold() == name:
                return True
            record = facts.record
            return name in {each["name"].casefold() for each in (*record["models"], *record["software"])}

        return test

    def descends(self, call: Call) -> Test:
        """Look at what it was made from, through any number of steps."""
        ns = self.meant(call.argument)
        if not ns:
            refuse(self.text, call.at, f"no version or model {call.argument!r} is known", "write DATASET/ARRAY[/vN] or an id")
        below = self.cache.reach(ns, up=False).keys() - set(ns)
        return lambda facts: facts.n in below

    def meant(self, text: str) -> list[int]:
        """Return the nodes a text means: an id or its start, a reference, or the name of a model."""
        if _ID.fullmatch(text):
            n = self.cache.number(text)
            return [] if n is None else [n]
        found = [
            n for (n,) in self.cache.select("distinct parent", where="from edge where role = 'model' and ref = ?", values=[text])
        ]
        parts = text.rstrip("/").split("/")
        number = version_number(parts[-1])
        dataset, array = ["", "", *(parts if number is None else parts[:-1])][-2:]
        found += self.cache.at(dataset, array, number)
        if number is not None:  # cited, though nobody has seen it
            cited = f"{dataset}/{array}/v{number}"
            found += [n for (n,) in self.cache.select("distinct parent", where="from edge where ref = ?", values=[cited])]
        return sorted(set(found))


# An input in a version's own array is an earlier state of itself, never a newer one that it missed.
_STALE: Final = (
    "from edge join place child on child.n = edge.child join place used on used.n = edge.parent"
    " where (used.store, used.dataset, used.array) <> (child.store, child.dataset, child.array)"
    " and exists (select 1 from place newer where newer.store = used.store and newer.dataset = used.dataset"
    " and newer.array = used.array and newer.number > used.number)"
)


def _place(facts: Facts) -> tuple[Any, ...]:
    return facts.store[1], facts.dataset, facts.array, facts.number
