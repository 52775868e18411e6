"""The language of `find`: what a user writes, taken apart into a tree of conditions. Nothing of it is ever executed.

expression  =  all { "or" all }
all         =  one { "and" one }
one         =  "not" one  |  "(" expression ")"  |  name "(" text ")"  |  field [ operator value ]
field       =  name { "." ( name | text ) }
operator    =  "==" | "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
value       =  text  |  date  |  number [ unit ]  |  "true"  |  "false"
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, NoReturn

from emstore.errors import InvalidInput
from emstore.geometry import units

LONGEST: Final = 10_000
"""Characters."""
DEEPEST: Final = 50
"""Parentheses and `not` within each other."""

Value = str | bool | float | date | datetime


@dataclass(frozen=True)
class Quantity:
    """A number with its unit."""

    value: float
    unit: str
    """UDUNITS name."""


@dataclass(frozen=True)
class Field:
    """Something known of a version, by its path: ``("spacing", "z")``."""

    path: tuple[str, ...]
    at: int
    """Where it stands in the text, counted from 0."""

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True)
class Compare:
    """``field operator value``."""

    field: Field
    operator: str
    value: Value | Quantity
    at: int
    """Where the value stands."""


@dataclass(frozen=True)
class Flag:
    """A field on its own: whether it is true, or there at all."""

    field: Field


@dataclass(frozen=True)
class Call:
    """``name("text")``."""

    name: str
    argument: str
    at: int


@dataclass(frozen=True)
class Not:
    """The opposite."""

    of: "Condition"


@dataclass(frozen=True)
class All:
    """Every one holds."""

    of: tuple["Condition", ...]


@dataclass(frozen=True)
class Either:
    """At least one holds."""

    of: tuple["Condition", ...]


Condition = Compare | Flag | Call | Not | All | Either

_TOKENS: Final = re.compile(
    r"""(?P<space>\s+)
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<date>\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?(?![\w.:]))
      | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<operator>==|!=|<=|>=|=|<|>|~)
      | (?P<mark>[().])
      | (?P<word>[^\W\d]\w*|[°%])""",
    re.VERBOSE,
)
_UNIT: Final = re.compile(r"\s*((?:1\s*/\s*)?[^\W\d]\w*(?:\s*\^\s*-1)?|°|%)")
_WORDS: Final = frozenset({"and", "or", "not", "true", "false"})


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Condition:
    """Return what an expression says; an empty one holds for everything.

    Raises
    ------
    InvalidInput
        It is not an expression: what is wrong, and at which character (counted from 1). Kind ``bad_unit`` for a unit.
    """
    return _Parser(text).whole() if text.strip() else All(())


def refuse(text: str, at: int, what: str, fix: str | None = None) -> NoReturn:
    """Raise what is wrong with an expression at a place in it (counted from 0)."""
    shown = text if len(text) <= 80 else f"{'...' if at > 40 else ''}{text[max(0, at - 40) : at + 40]}"
    raise InvalidInput(f"{what}, at character {at + 1}", where=shown, fix=fix or "see `emstore find --help`")


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > LONGEST:
            raise InvalidInput(f"the expression has {len(text)} characters; {LONGEST} are the most")
        self.at = 0
        self.depth = 0

    # -- tokens ----------------------------------------------------------------------------------------------------

    def peek(self) -> _Token:
        at = self.at
        while True:
            if at >= len(self.text):
                return _Token("end", "", at)
            match = _TOKENS.match(self.text, at)
            if match is None:
                what = "the text is not closed" if self.text[at] in "\"'" else f"{self.text[at]!r} means nothing here"
                refuse(self.text, at, what)
            if match.lastgroup != "space":
                return _Token(str(match.lastgroup), match[0], at)
            at = match.end()

    def take(self) -> _Token:
        token = self.peek()
        self.at = token.at + len(token.text)
        return token

    def taken(self, word: str) -> bool:
        token = self.peek()
        found = token.kind in ("word", "mark") and token.text == word
        if found:
            self.take()
        return found

    # -- grammar ---------------------------------------------------------------------------------------------------

    def whole(self) -> Condition:
        condition = self.any()
        token = self.peek()
        if token.kind != "end":
            refuse(self.text, token.at, f"{token.text!r} is not expected", "join conditions by `and` or `or`")
        return condition

    def any(self) -> Condition:
        found = [self.all()]
        while self.taken("or"):
            found.append(self.all())
        return found[0] if len(found) == 1 else Either(tuple(found))

    def all(self) -> Condition:
        found = [self.one()]
        while self.taken("and"):
            found.append(self.one())
        return found[0] if len(found) == 1 else All(tuple(found))

    def one(self) -> Condition:
        self.depth += 1
        if self.depth > DEEPEST:
            refuse(self.text, self.peek().at, f"more than {DEEPEST} conditions within each other")
        try:
            if self.taken("not"):
                return Not(self.one())
            if self.taken("("):
                condition = self.any()
                self.expect(")")
                return condition
            return self.condition()
        finally:
            self.depth -= 1

    def condition(self) -> Condition:
        token = self.take()
        if token.kind == "end":
            refuse(self.text, token.at, "something is missing", 'write a condition such as modality == "ct"')
        if token.kind != "word" or token.text in _WORDS:
            refuse(self.text, token.at, f"{token.text!r} is no field", 'write the field first, e.g. modality == "ct"')
        if self.taken("("):
            argument = self.take()
            if argument.kind != "text":
                refuse(self.text, argument.at, f"{token.text} needs a text", f'write {token.text}("...")')
            self.expect(")")
            return Call(token.text, _unquoted(argument.text), token.at)
        field = Field((token.text, *self.path()), token.at)
        operator = self.peek()
        if operator.kind != "operator":
            return Flag(field)
        self.take()
        value, at = self.value()
        return Compare(field, "==" if operator.text == "=" else operator.text, value, at)

    def path(self) -> list[str]:
        steps = []
        while self.taken("."):
            token = self.take()
            if token.kind not in ("word", "text"):
                refuse(self.text, token.at, "a name is missing after the dot")
            steps.append(_unquoted(token.text) if token.kind == "text" else token.text)
        return steps

    def value(self) -> tuple[Value | Quantity, int]:
        token = self.take()
        at = token.at
        match token.kind:
            case "text":
                return _unquoted(token.text), at
            case "date":
                return self.date(token), at
            case "number":
                return self.number(token), at
            case "word" if token.text in ("true", "false"):
                return token.text == "true", at
            case "word":
                refuse(self.text, at, f"{token.text!r} is no value", f'put text between quotes: "{token.text}"')
        refuse(self.text, at, "a value is missing" if token.kind == "end" else f"{token.text!r} is no value")

    def date(self, token: _Token) -> Value:
        try:
            if "T" not in token.text:
                return date.fromisoformat(token.text)
            moment = datetime.fromisoformat(token.text)
        except ValueError:
            refuse(self.text, token.at, f"there is no such day or time as {token.text}")
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def number(self, token: _Token) -> Value | Quantity:
        value = float(token.text)
        match = _UNIT.match(self.text, self.at)
        if match is None or match[1] in _WORDS:
            return value
        at = match.start(1)
        self.at = match.end()
        try:
            return Quantity(value, units.parse(match[1]))
        except InvalidInput as error:
            raise InvalidInput(
                f"{error.what}, at character {at + 1}", where=self.text[:80], fix=error.fix, kind=error.kind
            ) from None

    def expect(self, mark: str) -> None:
        token = self.peek()
        if token.text != mark:
            refuse(self.text, token.at, f"{mark!r} is missing")
        self.take()


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
