"""A `Page` as one HTML file: no script, no network, everything in it, every string from data escaped."""

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from html import escape
from importlib import resources
from itertools import count
from typing import Final

import emstore
from emstore.reporter import Figure, Given, Listing, Page, Reporter, Section
from emstore.reports.colours import STAND_INS, style_sheet
from emstore.reports.vector import inline
from emstore.reports.versions import anchor, described

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
SHORT: Final = len("blake3:") + 12
"""Characters of an id that a citation shows; the list of versions has all of it."""
NAMED: Final = 6
"""Most versions named under a figure; longer lists unfold on request."""
_INVISIBLE: Final = {0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF}
"""Characters that turn the direction of what follows, or hide."""


def text(value: object) -> str:
    """Return a value as text of the page: escaped, and what does not print written out as escapes."""
    shown = (c if (c.isprintable() and ord(c) not in _INVISIBLE) or c == "\n" else _named(c) for c in str(value))
    return escape("".join(shown))


def _named(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def render(page: Page, reporter: Reporter, versions: Sequence[Given], *, when: datetime, params: dict[str, object]) -> str:
    """Return the HTML file of a page.

    Parameters
    ----------
    page : Page
    reporter : Reporter
        That made it, with these parameters.
    versions : sequence of Given
        All that is listed at its end: what it was drawn from, and what that was made from.
    when : datetime
        The moment, with its time zone.
    params : dict
        JSON-safe.
    """
    places = {given.id: number for number, given in enumerate(versions)}
    cited = _Citations(places, several=len({given.store for given in versions}) > 1)
    sections = [*page.sections, Section("Versions", ())]
    toc = "".join(f'<li><a href="#section-{n}">{text(one.title)}</a></li>' for n, one in enumerate(sections))
    settings = "".join(f", {text(key)} {text(value)}" for key, value in params.items())
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
        '<meta name="referrer" content="no-referrer">',
        f'<meta name="generator" content="emstore {text(emstore.__version__)}">',
        f"<title>{text(page.title)}</title>",
        f"<style>{style_sheet()}{resources.files(__package__).joinpath('style.css').read_text()}</style></head><body>",
        '<a class="skip" href="#section-0">Skip to the content</a>',
        f"<header><h1>{text(page.title)}</h1>",
        *(f"<p>{text(paragraph)}</p>" for paragraph in page.summary),
        f'<p class="quiet">Made by emstore {text(emstore.__version__)}, report {text(reporter.name)} {text(reporter.version)}'
        f'{settings}, on <time datetime="{when.isoformat(timespec="seconds")}">{when:%Y-%m-%d %H:%M} UTC</time>.</p></header>',
        f'<nav aria-label="Contents"><ol>{toc}</ol></nav><main>',
    ]
    numbers = count(1)
    for n, section in enumerate(page.sections):
        parts.append(f'<section id="section-{n}"><h2>{text(section.title)}</h2>')
        parts += [_content(one, cited, numbers) for one in section.content]
        parts.append("</section>")
    parts.append(f'<section id="section-{len(page.sections)}"><h2>Versions</h2>')
    parts.append(
        "<p>All that this page was drawn from, and what that was made from, as far as it was found. A version never changes: "
        "its id is the digest of its seal.</p>"
    )
    parts.append(f'<ul class="versions">{"".join(described(given, places, text) for given in versions)}</ul></section>')
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


class _Citations:
    """Names versions where they are used, each a link to the list of all."""

    def __init__(self, places: dict[str, int], *, several: bool) -> None:
        self._places = places
        self._several = several

    def of(self, sources: Sequence[Given]) -> str:
        """Return the line under a figure or table."""
        each: Callable[[Given], str] = self._one
        unique = {given.id: given for given in sources}.values()
        if not unique:
            return ""
        named = ", ".join(map(each, unique))
        if len(unique) <= NAMED:
            return f'<p class="sources">Drawn from {named}.</p>'
        return f'<details class="sources"><summary>Drawn from {len(unique)} versions</summary><p>{named}.</p></details>'

    def _one(self, given: Given) -> str:
        store = f" in {text(given.store)}" if self._several else ""
        name = f"<code>{text(given.ref)}</code>{store} <code>{text(given.id[:SHORT])}</code>"
        place = self._places.get(given.id)
        return name if place is None else f'<a href="#{anchor(place)}">{name}</a>'


def _content(one: str | Figure | Listing, cited: _Citations, numbers: Iterator[int]) -> str:
    match one:
        case str():
            return f"<p>{text(one)}</p>"
        case Figure():
            return _figure(one, cited, next(numbers))
        case Listing():
            return _listing(one, cited)


def _figure(figure: Figure, cited: _Citations, number: int) -> str:
    panels = []
    for i, panel in enumerate(figure.panels):
        title = f"<h4>{text(panel.title)}</h4>" if panel.title else ""
        panels.append(f"<div>{title}{inline(panel.svg, f'f{number}-{i}-', panel.alt, STAND_INS)}</div>")
    kind = "panels small" if figure.small else "panels"
    return (
        f'<figure id="figure-{number}"><h3>{text(figure.title)}</h3><div class="{kind}">{"".join(panels)}</div>'
        f"<figcaption><strong>Figure {number}.</strong> {text(figure.caption)}{cited.of(figure.sources)}</figcaption></figure>"
    )


def _listing(listing: Listing, cited: _Citations) -> str:
    numeric = [any(isinstance(row[i], int | float) for row in listing.rows) for i in range(len(listing.heads))]
    kinds = [' class="number"' if number else "" for number in numeric]
    heads = "".join(f'<th scope="col"{kind}>{text(head)}</th>' for head, kind in zip(listing.heads, kinds, strict=True))
    rows = "".join(
        f"<tr>{''.join(f'<td{kind}>{_cell(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))}</tr>"
        for row in listing.rows
    )
    caption = f'<p class="caption">{text(listing.caption)}</p>' if listing.caption else ""
    return (
        f'<h3>{text(listing.title)}</h3>{caption}<div class="wide" role="region" aria-label="{text(listing.title)}" tabindex="0">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{cited.of(listing.sources)}"
    )


def _cell(cell: str | float | int | None) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "unknown"
    if isinstance(cell, bool) or isinstance(cell, str):
        return text(cell)
    if isinstance(cell, int):
        return str(cell)
    return f'<data value="{cell!r}">{number(cell)}</data>'


def number(value: float) -> str:
    """Return a number with four digits, the way people write it; a whole number of up to six digits whole."""
    if value == round(value) and abs(value) < 1e6:
        return f"{value:.0f}".replace("-", "\N{MINUS SIGN}")
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


__all__ = ["POLICY", "number", "render", "text"]
