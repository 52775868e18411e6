"""What a command prints: JSON or words on standard output, progress, notes and errors on standard error.

Nothing that comes out of a file is printed raw: words go through `text.clean`, JSON is pure ASCII.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from emstore.cli.text import clean
from emstore.errors import EmstoreError
from emstore.events import Advanced, Event, Finished, Noted, Reached, Started

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

EVERY: Final = 0.2
"""Seconds between two lines of progress in JSON."""


LONGEST: Final = 28
"""Characters of a task's name beside its progress bar, which needs the rest of the line."""


class Output:
    """Where a command's results, events and errors go.

    Parameters
    ----------
    as_json : bool
        One JSON object per line instead of words; the last line is the result or the error.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._pending: dict[str, int] = {}
        self._told = 0.0
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._shares = False
        for stream in (sys.stdout, sys.stderr):
            # A character that the terminal cannot show is no reason to stop.
            getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")

    # -- results ---------------------------------------------------------------------------------------------------

    def result(self, document: Mapping[str, Any], words: Callable[[], None]) -> None:
        """Print the result: `document` as JSON, or whatever `words` prints."""
        self.close()
        if self.as_json:
            self._line(document)
        else:
            words()

    def say(self, line: str) -> None:
        """Print one line of words on standard output."""
        sys.stdout.write(f"{clean(line)}\n")

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[object]], *, fold: bool = False) -> None:
        """Print a table on standard output.

        Lines stay whole unless `fold`: a pipe wants them so, and a narrow terminal wraps them better than folded cells read.
        """
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*(Text(clean(cell)) for cell in row))
        # Rendered first: rich would end the process its own way when the reader of a pipe has gone.
        console = _console(sys.stdout, width=None if fold and sys.stdout.isatty() else 1000)
        with console.capture() as rendered:
            console.print(table)
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in rendered.get().splitlines()))

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print named values, one a line."""
        kept = [(name, value) for name, value in pairs if value is not None]
        width = max((len(name) for name, _ in kept), default=0)
        for name, value in kept:
            sys.stdout.write(f"{clean(name):<{width}}  {clean(value)}\n")

    # -- on the way ------------------------------------------------------------------------------------------------

    def listener(self, event: Event) -> None:
        """Tell of an event of long work: a JSON line, or a progress bar where somebody looks on."""
        if self.as_json:
            self._event_line(event)
            return
        match event:
            case Noted(message=message):
                self.note(message)
            case Started(task=task, total=total):
                self._bar(task, total or None)
            case Reached(task=task, share=share, what=what):
                self._share(task, share, what)
            case Advanced(task=task, done=done) if self._progress is not None and task in self._bars:
                self._progress.advance(self._bars[task], done)
            case Finished(task=task) if self._progress is not None and task in self._bars:
                self._progress.remove_task(self._bars.pop(task))

    def note(self, message: str) -> None:
        """Tell something that is not an error, on standard error."""
        if self._progress is not None:
            from rich.text import Text

            self._progress.console.print(Text(f"note: {clean(message)}"))
        else:
            sys.stderr.write(f"note: {clean(message)}\n")

    def error(self, error: EmstoreError) -> None:
        """Print an error: what, where, and what to do."""
        self.close()
        if self.as_json:
            self._line(error.to_json())
            return
        where = "" if error.where is None else f"{clean(error.where)}: "
        sys.stderr.write(f"error: {where}{clean(error.what)}\n")
        if error.fix is not None:
            sys.stderr.write(f"  -> {clean(error.fix)}\n")

    def close(self) -> None:
        """Take the progress bar away and tell the rest of the progress."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._flush_pending()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _event_line(self, event: Event) -> None:
        if isinstance(event, Reached) and 0 < event.share < 1:
            if time.monotonic() - self._told >= EVERY:
                self._told = time.monotonic()
                self._line({"event": "reached", **asdict(event)})
            return
        if isinstance(event, Advanced):
            # Many small steps would drown the reader: they are added up.
            self._pending[event.task] = self._pending.get(event.task, 0) + event.done
            if time.monotonic() - self._told < EVERY:
                return
            self._flush_pending()
            return
        self._flush_pending()
        self._line({"event": type(event).__name__.lower(), **asdict(event)})

    def _flush_pending(self) -> None:
        self._told = time.monotonic()
        pending, self._pending = self._pending, {}
        for task, done in pending.items():
            self._line({"event": "advanced", "task": task, "done": done})

    def _line(self, document: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
        sys.stdout.flush()

    def _bar(self, task: str, total: float | None, *, shares: bool = False) -> None:
        """Show a task: in bytes, or in shares with a few words on what was just done."""
        if not sys.stderr.isatty():
            return
        from rich import progress

        if self._progress is not None and self._shares != shares:
            self._progress.stop()
            self._progress, self._bars = None, {}
        if self._progress is None:
            named = (progress.TextColumn("{task.description}", markup=False), progress.BarColumn())
            amount: tuple[progress.ProgressColumn, ...] = (
                progress.DownloadColumn(binary_units=True),
                progress.TransferSpeedColumn(),
            )
            if shares:
                amount = (progress.TaskProgressColumn(), progress.TextColumn("{task.fields[what]}", markup=False))
            left = progress.TimeRemainingColumn()
            self._progress = progress.Progress(*named, *amount, left, console=_console(sys.stderr), transient=True)
            self._progress.start()
            self._shares = shares
        self._bars[task] = self._progress.add_task(_short(clean(task)), total=total, what="")

    def _share(self, task: str, share: float, what: str) -> None:
        if task not in self._bars or not self._shares:
            self._bar(task, 1.0, shares=True)
        if self._progress is not None and task in self._bars:
            self._progress.update(self._bars[task], completed=share, what=clean(what)[:LONGEST])


def _short(task: str) -> str:
    """Return the end of a long task's name, which tells more than its start."""
    return task if len(task) <= LONGEST else f"...{task[-LONGEST:]}"


def _console(stream: Any, width: int | None = None) -> "Console":
    from rich.console import Console

    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)
