"""Find versions by what their metadata and Records say, in one store or in every one that is known."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from emstore.lineage.expression import All, Call, Compare, Condition, Either, Flag, Not, parse, refuse
from emstore.lineage.facts import FIELDS, Facts, check, holds, true
from emstore.lineage.graph import refresh_all
from emstore.lineage.index import Index
from emstore.lineage.index import named as _name
from emstore.lineage.parts import KEPT, PARTS, load
from emstore.store import Place, resolve
from emstore.store.layout import version_number

Test = Callable[[Sequence[Any]], bool]

CONDITIONS: Final = 50
"""Conditions asked one by one; more are asked at once, for the database nests only so deep."""
MEMORY: Final = 1 << 16
"""Answers to one condition held in memory."""
_ID: Final = re.compile(r"(?:blake3|sha256):[0-9a-f]{8,64}")


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
    asked = _Asked(cache, expression)
    where = asked.sql(condition)
    places = [f"({_within(place)} and store.id = ?)" for _, _, place in named]
    values = [value for id_, _, place in named for value in (*filter(None, (place.dataset, place.array)), id_)]
    rows = asked.answers(
        "place.n, node.id, store.url, store.id, dataset, array, number, kind, modality, activity, maker, created,"
        f" {','.join(KEPT)}",
        # Crossed: every place in order, the rest looked up.
        where="from place cross join store on store.n = place.store cross join version on version.n = place.n"
        f" cross join node on node.n = place.n where ({' or '.join(places) or '1'}) and {where}"
        " order by place.store, dataset, array, number",
        values=values,
    )
    for n, id_, url, store, dataset, array, number, kind, modality, activity, maker, created, *kept in rows:
        place = Place(dataset, array, number)
        called = next((name for at, name, within in named if at == store and place.prefix.startswith(within.prefix)), url)
        moment = datetime.fromisoformat(created)
        whose = (_name(url), store)
        packed = cache.packed(kept)
        facts = Facts(n, id_, whose, dataset, array, number, kind, modality, activity, maker, moment, packed)
        yield Found(f"{called}/{facts.place}", facts)


def _within(place: Place) -> str:
    """Return the condition for what lies at a place."""
    parts = [f"{name} = ?" for name, value in (("dataset", place.dataset), ("array", place.array)) if value]
    return " and ".join([*parts, *([] if place.version is None else [f"number = {place.version:d}"])]) or "1"


class _Asked:
    """An expression as a condition for the database, which calls us back for the rows it matters for.

    What is joined by `and` is asked one after the other; each is a function of the columns that its fields are found in. What
    a field says of the same columns is not found out again.
    """

    def __init__(self, cache: Index, text: str) -> None:
        self.cache = cache
        self.text = text
        self.columns: list[str] = []
        """What the function that is being put together gets."""
        self.failure: BaseException | None = None

    def sql(self, condition: Condition) -> str:
        parts = condition.of if isinstance(condition, All) and len(condition.of) < CONDITIONS else (condition,)
        return " and ".join(map(self.called, parts)) or "1"

    def called(self, condition: Condition) -> str:
        """Return a call of a condition by the database."""
        self.columns = []
        test = self.of(condition)

        def asked(*row: Any) -> bool:
            try:
                return test(row)
            except BaseException as failure:  # the database would tell only that there was one
                self.failure = failure
                raise

        return f"{self.cache.function(asked)}({','.join(self.columns)})"

    def answers(self, columns: str, *, where: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Ask the tables, and fail as a condition did."""
        try:
            yield from self.cache.select(columns, where=where, values=values)
        except sqlite3.OperationalError:
            if self.failure is not None:
                raise self.failure from None
            raise

    def of(self, condition: Condition) -> Test:
        match condition:
            case All(of=parts):
                every = [self.of(part) for part in parts]
                return lambda row: all(test(row) for test in every)
            case Either(of=parts):
                some = [self.of(part) for part in parts]
                return lambda row: any(test(row) for test in some)
            case Not(of=part):
                test = self.of(part)
                return lambda row: not test(row)
            case Call(name="made_with"):
                return self.made_with(condition)
            case Call():
                return self.descends(condition)
            case Flag(field=field):
                return self.test(FIELDS[field.path[0]].of, partial(true, field))
            case Compare(field=field):
                return self.test(FIELDS[field.path[0]].of, partial(holds, condition))

    def test(self, columns: Sequence[str], test: Callable[..., bool]) -> Test:
        """Return a test of a row by what some columns say."""
        self.columns += [column for column in columns if column not in self.columns]
        at = [self.columns.index(column) for column in columns]

        @lru_cache(MEMORY)
        def known(*values: Any) -> bool:
            return test(*map(self.said, columns, values))

        return lambda row: known(*[row[i] for i in at])

    def said(self, column: str, value: Any) -> Any:
        """Return what a column says: for the number of a part, what the part says."""
        if column in PARTS:
            return load(self.cache.body(value))
        return load(value) if column == "own" else value

    def made_with(self, call: Call) -> Test:
        """Look at the last step: the inputs, the models, the processor and other programs."""
        ns = self.meant(call.argument)
        children = {n for (n,) in self.cache.about("child from edge where parent in", ns)}
        name = call.argument.casefold()

        def among(tools: Mapping[str, Any]) -> bool:
            return name in {each["name"].casefold() for each in (*tools["models"], *tools["software"])}

        used = self.test(("place.n",), children.__contains__)
        by = self.test(("maker",), lambda maker: maker.casefold() == name)
        with_ = self.test(("tools",), among)
        return lambda row: used(row) or by(row) or with_(row)

    def descends(self, call: Call) -> Test:
        """Look at what it was made from, through any number of steps."""
        ns = self.meant(call.argument)
        if not ns:
            refuse(self.text, call.at, f"no version or model {call.argument!r} is known", "write DATASET/ARRAY[/vN] or an id")
        reached, _ = self.cache.reach(ns, up=False)
        return self.test(("place.n",), (set(reached.tolist()) - set(ns)).__contains__)

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
