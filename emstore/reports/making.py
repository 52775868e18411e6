"""Sealed versions in, one HTML file out: a use case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from emstore import registry
from emstore.arguments import check_count, checked
from emstore.errors import EmstoreError, InvalidInput, ProcessingFailed
from emstore.export import check_target, whole_file
from emstore.reporter import Page
from emstore.reports.ancestry import everything, gather
from emstore.reports.html import render

EXTENSIONS: Final = (".html", ".htm")


@dataclass(frozen=True)
class Reported:
    """A page that was written."""

    path: Path
    page: Page
    versions: tuple[str, ...]
    """Ids of all versions it lists."""
    nbytes: int
    """Size of the file."""


def report(
    name: str,
    refs: Sequence[str],
    out: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Reported:
    """Write a report: one HTML file that needs nothing but itself to be read.

    Parameters
    ----------
    name : str
        The report, e.g. ``stem``.
    refs : sequence of str
        ``[label=]REF`` of what it is drawn from, in its order; a store or a dataset stands for the latest version of every
        array in it. A label is what the report calls that version and what was measured on it.
    out : str or Path
        The file, ``.html``.
    params : mapping, optional
        The report's parameters; see `emstore.registry.reporter`.
    force : bool
        Replace a file that is there.

    Raises
    ------
    InvalidInput, NotFound, Conflict, Capacity, StorageFailed, Damaged, ProcessingFailed
        See `emstore.errors`. The file appears whole or not at all.
    """
    target = Path(out)
    if not target.name.lower().endswith(EXTENSIONS):
        raise InvalidInput("a report is an HTML file", where=str(target), fix="give it a name that ends in .html")
    check_target(target, force=force)
    reporter = registry.reporter(name)
    given = checked(reporter, params or {}, "reports")
    versions = gather(refs)
    check_count(reporter, len(versions))
    try:
        page = reporter.report(versions, given)
    except (MemoryError, EmstoreError, KeyboardInterrupt):
        raise
    except Exception as error:  # a plug-in may raise anything; the rest is in the cause
        raise ProcessingFailed(f"it raised {type(error).__name__}: {error}", where=name) from error
    listed = everything(versions)
    settings = given.model_dump(mode="json", exclude_defaults=True)
    body = render(page, reporter, listed, when=datetime.now(UTC), params=settings).encode()
    with whole_file(target, target.suffix, force=force) as temporary:
        temporary.write_bytes(body)
    return Reported(target, page, tuple(one.id for one in listed), len(body))
