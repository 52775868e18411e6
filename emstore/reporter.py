"""The report contract: how a page of text, figures and tables is made from sealed versions.

A report is a class with no constructor arguments, registered under the entry-point group ``emstore.reports`` by its name,
e.g. ``stem``. It opens no store and writes no file: it gets versions, each with its Record and what it was made from, and returns
a `Page`; `emstore.reports` renders that as one HTML file. Every string is plain text: the renderer escapes it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

from emstore.errors import InvalidInput
from emstore.processor import Params
from emstore.provenance.record import Record
from emstore.table import Table
from emstore.volume import Volume, VolumeKind
from emstore.weights import Weights


@dataclass(frozen=True, eq=False)
class Given:
    """A version that a report may draw from; each is one object, however many ways lead to it."""

    ref: str
    """DATASET/ARRAY/vN, as Records cite it."""
    id: str
    """Version id, ``blake3:hex``."""
    store: str
    """``urn:uuid:...`` of its store."""
    record: Record
    """How it came to be."""
    kind: VolumeKind
    """What it holds."""
    size: str
    """How much, e.g. ``t 4, y 128, x 128`` or ``350 rows``."""
    read: Callable[[], Volume | Table | Weights] = field(repr=False)
    """Opens what it holds."""
    inputs: tuple[tuple[str, "Given | None"], ...] = ()
    """Role and version of what it was made from, in order; ``None`` for what was not found in the stores at hand."""
    label: str | None = None
    """What the user calls it (``label=REF``)."""
    asked: bool = True
    """Whether the user named it; otherwise something named was made from it."""

    @cached_property
    def content(self) -> Volume | Table | Weights:
        """What it holds; values of a Volume are read as they are asked for."""
        return self.read()

    @property
    def table(self) -> Table:
        """The table it holds.

        Raises
        ------
        InvalidInput
            It holds something else.
        """
        if not isinstance(self.content, Table):
            raise InvalidInput("this version holds no table", where=self.ref)
        return self.content

    @property
    def volume(self) -> Volume:
        """The volume it holds; otherwise as `table`."""
        if not isinstance(self.content, Volume):
            raise InvalidInput("this version holds no image", where=self.ref)
        return self.content

    @property
    def made_by(self) -> str:
        """Name of the processor, simulator, trainer or adapter that made it."""
        return self.record.activity.name

    @property
    def params(self) -> dict[str, Any]:
        """Parameters that it was made with, as the user could have stated them."""
        found = self.record.params.get("params", {})
        return dict(found) if isinstance(found, dict) else {}

    def input(self, role: str) -> "Given | None":
        """Return what served a role; ``None`` where nothing did, or it was not found."""
        return next((given for name, given in self.inputs if name == role), None)

    def chain(self) -> Iterator["Given"]:
        """Yield itself, its first input, the first input of that, and so on: what it was measured on, nearest first."""
        at: Given | None = self
        while at is not None:
            yield at
            at = at.inputs[0][1] if at.inputs else None


@dataclass(frozen=True)
class Panel:
    """One picture of a figure."""

    svg: str
    """An SVG document. What it can hold is in `emstore.reports.vector`."""
    alt: str
    """What it shows, for those who do not see it."""
    title: str = ""
    """Stands above it."""


@dataclass(frozen=True)
class Figure:
    """Pictures side by side, as far as the page is wide, with one caption."""

    title: str
    panels: tuple[Panel, ...]
    caption: str
    """What is drawn, how many samples, and what intervals mean."""
    sources: tuple[Given, ...]
    """Every version it was drawn from: shown with it."""
    small: bool = False
    """Panels are small pictures: several fit beside each other."""

    def __post_init__(self) -> None:
        if not self.panels or not self.sources:
            raise InvalidInput("a figure needs a picture and the versions it was drawn from", where=self.title)


@dataclass(frozen=True)
class Listing:
    """A table of the page."""

    title: str
    heads: tuple[str, ...]
    """Column names with their units."""
    rows: tuple[tuple[str | float | int | None, ...], ...]
    """Numbers are shown with four digits and kept whole beside that; ``None`` and NaN are shown as unknown."""
    sources: tuple[Given, ...]
    caption: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.heads) for row in self.rows):
            raise InvalidInput("a row is not as long as the heads", where=self.title)


@dataclass(frozen=True)
class Section:
    """A part of the page; a plain string is a paragraph."""

    title: str
    content: tuple[str | Figure | Listing, ...]


@dataclass(frozen=True)
class Page:
    """A report. The list of all versions with their Records is added by the renderer."""

    title: str
    summary: tuple[str, ...]
    """Paragraphs at its head: what was found."""
    sections: tuple[Section, ...]


@runtime_checkable
class Reporter(Protocol):
    """Makes a page from versions."""

    name: ClassVar[str]
    """Lower case, the same as the entry point's."""
    version: ClassVar[str]
    """Changes whenever the same versions and parameters would give another page."""
    summary: ClassVar[str]
    """One line: what it shows."""
    inputs: ClassVar[tuple[str, ...]]
    """Role of every input, in order; the last may end in ``*``, as a processor's: one or more."""
    params: ClassVar[type[Params]]
    """Its parameters."""

    def report(self, versions: Sequence[Given], params: Any) -> Page:
        """Make the page.

        Parameters
        ----------
        versions : sequence of Given
            What the user named, in order.
        params : Params
            An instance of `params`.

        Raises
        ------
        InvalidInput
            Nothing here can be shown: why, and what could.
        """
        ...
