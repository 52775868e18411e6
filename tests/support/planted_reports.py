"""Reports of a third party: one whose every string is hostile, one that fails."""

from collections.abc import Sequence
from typing import Any, ClassVar

from emstore.processor import Params
from emstore.reporter import Figure, Given, Listing, Page, Panel, Section

PACKAGE = "planted-reports"
REPORTS = ("planted.hostile = planted_reports:Hostile", "planted.broken = planted_reports:Broken")

HOSTILE = "<script>alert('x')</script>\"><img src=http://evil.example/a.png onerror=alert(1)> & \u202eevil $x^2$"
DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 10 10" onload="alert(1)">'
    '<script>alert(1)</script><style>@import url(http://evil.example/a.css);</style><a xlink:href="http://evil.example/"><g/></a>'
    '<image href="http://evil.example/a.png"/><foreignObject><p>x</p></foreignObject>'
    '<rect id="a" width="5" height="5" onclick="alert(1)" fill="url(http://evil.example/b)"/>'
    '<use href="#a" style="clip-path: url(#a)"/><use href="http://evil.example/c#d"/><text>&lt;script&gt;kept&lt;/script&gt;</text></svg>'
)


class Hostile:
    """Says hostile things everywhere."""

    name: ClassVar[str] = "planted.hostile"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Say hostile things"
    inputs: ClassVar[tuple[str, ...]] = ("version*",)
    params: ClassVar[type[Params]] = Params

    def report(self, versions: Sequence[Given], params: Any) -> Page:
        given = tuple(versions)
        figures = tuple(Figure(HOSTILE, (Panel(DRAWING, HOSTILE, HOSTILE),), HOSTILE, given) for _ in range(2))
        listing = Listing(HOSTILE, (HOSTILE, "n"), ((HOSTILE, 1.25), ("", float("nan"))), given, HOSTILE)
        return Page(HOSTILE, (HOSTILE,), (Section(HOSTILE, (HOSTILE, *figures, listing)),))


class Broken(Hostile):
    """Fails."""

    name: ClassVar[str] = "planted.broken"

    def report(self, versions: Sequence[Given], params: Any) -> Page:
        raise ZeroDivisionError("nothing to divide by")
