"""The list at the end of every page: each version with what its Record says."""

import json
from collections.abc import Callable
from typing import Any

from emstore.reporter import Given
from emstore.table import Table
from emstore.volume import Volume

Text = Callable[[object], str]


def anchor(place: int) -> str:
    """Return the name by which a version of the list is linked to."""
    return f"version-{place}"


def described(given: Given, places: dict[str, int], text: Text) -> str:
    """Return an item of the list."""
    record = given.record
    activity, environment = record.activity, record.environment
    facts: list[tuple[str, str]] = [("id", f"<code>{text(given.id)}</code>")]

    def fact(name: str, value: object) -> None:
        if value not in (None, "", ()):
            facts.append((name, text(value)))

    fact("called", given.label)
    fact("holds", f"{given.kind.value}: {given.size}")
    version = record.params.get(f"{_PLUGIN.get(activity.type, activity.type)}_version", "")
    fact("made by", f"{activity.type} {activity.name} {version}".strip())
    fact("on", f"{activity.ended:%Y-%m-%d %H:%M:%S} ({environment.platform}, {environment.device}, Python {environment.python})")
    fact("took", f"{(activity.ended - activity.started).total_seconds():.1f} s")
    fact("with", ", ".join(f"{one.name} {one.version}" for one in record.software))
    fact("parameters", _plain(given.params) if given.params else None)
    fact("seed", record.random.seed)
    fact("dose", dose_words(given))
    for one in record.inputs:
        place = places.get(one.id)
        name = f"<code>{text(one.ref)}</code>"
        where = (
            f'<a href="#{anchor(place)}">{name}</a>' if place is not None else f"{name} <code>{text(one.id)}</code> (not found)"
        )
        facts.append((text(one.role or "input"), where))
    for source in record.sources[:20]:
        fact("file", f"{source.name}, {source.size} bytes, {source.digest}")
    if len(record.sources) > 20:
        fact("files", f"{len(record.sources) - 20} more")
    for model in record.models:
        fact("weights", f"{model.name}, {model.digest}")
    for note in notes_of(given):
        fact("note", note)
    place = places[given.id]
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    return f'<li id="{anchor(place)}"><h3>{text(given.ref)}</h3><dl>{rows}</dl></li>'


_PLUGIN = {"process": "processor", "simulate": "simulator", "train": "trainer", "ingest": "adapter"}


def notes_of(given: Given) -> list[str]:
    """Return what the Record and what is held say of themselves, each once, the first ten."""
    content = given.content if given.asked else None
    own = content.notes if isinstance(content, Table | Volume) else ()
    return list(dict.fromkeys([*given.record.notes, *own]))[:10]


def dose_words(given: Given) -> str | None:
    """Return the dose an image was counted at; ``None`` for what states none."""
    content = given.content
    told: Any = content.attributes.get("dose") if isinstance(content, Volume) else None
    if not isinstance(told, dict) or "value" not in told:
        return None
    return f"{_plain(told['value'])} {told.get('unit', '')}".strip()


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items() if one is not None)
    return value if isinstance(value, str) else json.dumps(value)
