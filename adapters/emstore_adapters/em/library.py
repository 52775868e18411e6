"""Calls into rosettasciio (GPL-3.0, the optional extra ``em``) and its file libraries, made safe.

Its readers raise whatever a damaged file provokes and report oddities through warnings and a logger. `guarded` turns
the first into `SourceUnreadable` and collects the second as notes.
"""

import importlib.util
import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from emstore.errors import EmstoreError, InvalidInput, Kind, SourceIncomplete, SourceUnreadable

_LOGGER: Final = "rsciio"


def require(format_name: str, where: str) -> None:
    """Check that rosettasciio is installed.

    Raises
    ------
    InvalidInput
        Kind ``missing_extra``.
    """
    try:
        found = importlib.util.find_spec("rsciio") is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise InvalidInput(
            f"reading {format_name} needs rosettasciio, which is not installed",
            where=where,
            fix="pip install 'emstore[em]'",
            kind=Kind.MISSING_EXTRA,
        )


class _Collector(logging.Filter):
    """Keeps this thread's messages instead of printing them."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes
        self.thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self.thread:
            return True
        if record.levelno >= logging.WARNING:
            self.notes.append(record.getMessage())
        return False


@contextmanager
def guarded(where: str, path: Path | None = None) -> Iterator[list[str]]:
    """Run library code: yields the list of what it warned of; every stray exception becomes `SourceUnreadable`.

    `path`, where the library knows it, is replaced by `where` in messages.

    Raises
    ------
    SourceUnreadable
        The library failed on the file. `SourceIncomplete` where it ran into the end of the file.
    """
    notes: list[str] = []
    collector = _Collector(notes)
    handlers = list(logging.getLogger(_LOGGER).handlers)
    for handler in handlers:
        handler.addFilter(collector)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield notes
        notes += [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    except EmstoreError:
        raise
    except ImportError as error:
        raise InvalidInput(
            f"a library is missing: {error}", where=where, fix="pip install 'emstore[em]'", kind=Kind.MISSING_EXTRA
        ) from error
    except Exception as error:
        # Reasons are kept in the Record, where no folder of this machine belongs.
        text = " ".join((str(error) if path is None else str(error).replace(str(path), where)).split())[:300]
        if isinstance(error, EOFError | struct.error) or "truncated file" in text:
            raise SourceIncomplete(
                f"ends before its header does, so none of it is good ({text})",
                where=where,
                fix="copy it again from the instrument",
            ) from error
        raise SourceUnreadable(
            f"cannot be read: {type(error).__name__}: {text}", where=where, fix="the file is damaged or of an unknown version"
        ) from error
    finally:
        for handler in handlers:
            handler.removeFilter(collector)
