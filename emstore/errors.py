"""One error tree, grouped by what the caller can do about it.

    EmstoreError
    ├── InvalidInput       the request itself is wrong: change it            exit 2
    ├── NotFound           nothing there by that name                        exit 3
    ├── Conflict           somebody else has it, or it differs               exit 4
    ├── SourceUnreadable   the raw file cannot be read                       exit 5
    │   └── SourceIncomplete   ... only part of it is there                  exit 6
    ├── Capacity           would not fit in memory, disk or a stated cap     exit 7
    ├── StorageFailed      the store's disk or service failed                exit 8
    ├── PrivacyRefused     would let identifying data out                    exit 9
    ├── Damaged            stored data is not what was sealed                exit 10
    ├── ProcessingFailed   a processor failed on some block                  exit 11
    └── Interrupted        stopped on request; the work can be resumed       exit 130

Every error says *what* happened, *where*, and what to do (*fix*). ``kind`` is a stable machine code, printed by
``--json``; codes are only ever added. Each class is also a builtin exception, so plain ``except OSError`` works.
"""

from enum import StrEnum
from typing import Any, ClassVar


class Kind(StrEnum):
    """Stable machine codes of errors. Append only."""

    INVALID_INPUT = "invalid_input"
    BAD_NAME = "bad_name"
    BAD_REF = "bad_ref"
    BAD_SPACING = "bad_spacing"
    BAD_UNIT = "bad_unit"
    AMBIGUOUS_SOURCE = "ambiguous_source"
    NOT_FOUND = "not_found"
    NO_ADAPTER = "no_adapter"
    MISSING_EXTRA = "missing_extra"
    CONFLICT = "conflict"
    BUSY = "busy"
    SOURCE_UNREADABLE = "source_unreadable"
    SOURCE_UNSUPPORTED = "source_unsupported"
    SOURCE_INCONSISTENT = "source_inconsistent"
    SOURCE_CHANGED = "source_changed"
    SOURCE_INCOMPLETE = "source_incomplete"
    CAPACITY = "capacity"
    MEMORY_BUDGET = "memory_budget"
    DISK_FULL = "disk_full"
    STORAGE = "storage"
    STORE_UNSAFE = "store_unsafe"
    PRIVACY = "privacy"
    DAMAGED = "damaged"
    PROCESSING = "processing"
    INTERRUPTED = "interrupted"
    INTERNAL = "internal"


class EmstoreError(Exception):
    """Base of all errors emstore raises on purpose.

    Parameters
    ----------
    what : str
        What happened, in one sentence.
    where : str, optional
        The file, key or argument it happened at.
    fix : str, optional
        What the caller can do about it.
    kind : Kind, optional
        Stable machine code; the class's own by default.
    """

    default_kind: ClassVar[Kind] = Kind.INTERNAL
    exit_code: ClassVar[int] = 70

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None, kind: Kind | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        self.kind = kind or self.default_kind
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.fix is None else f"{text}\n  -> {self.fix}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep everything when the error comes from another process."""
        return _rebuilt, (type(self), self.what, self.where, self.fix, self.kind)

    def to_json(self) -> dict[str, str | int | None]:
        """Return the error as the object that ``--json`` prints."""
        return {
            "error": type(self).__name__,
            "kind": str(self.kind),
            "what": self.what,
            "where": self.where,
            "fix": self.fix,
            "exit_code": self.exit_code,
        }


def _rebuilt(cls: type[EmstoreError], what: str, where: str | None, fix: str | None, kind: Kind) -> EmstoreError:
    return cls(what, where=where, fix=fix, kind=kind)


class InvalidInput(EmstoreError, ValueError):
    """The request itself is wrong: change it."""

    default_kind = Kind.INVALID_INPUT
    exit_code = 2


class NotFound(EmstoreError, LookupError):
    """Nothing there by that name."""

    default_kind = Kind.NOT_FOUND
    exit_code = 3


class Conflict(EmstoreError, FileExistsError):
    """Somebody else has it, or what is there differs."""

    default_kind = Kind.CONFLICT
    exit_code = 4


class SourceUnreadable(EmstoreError, OSError):
    """The raw file cannot be read."""

    default_kind = Kind.SOURCE_UNREADABLE
    exit_code = 5


class SourceIncomplete(SourceUnreadable):
    """Only part of the raw file is there; the message says how much of it is good."""

    default_kind = Kind.SOURCE_INCOMPLETE
    exit_code = 6


class Capacity(EmstoreError, MemoryError):
    """It would not fit in memory, on disk, or under a stated cap."""

    default_kind = Kind.CAPACITY
    exit_code = 7


class StorageFailed(EmstoreError, OSError):
    """The store's disk or service failed."""

    default_kind = Kind.STORAGE
    exit_code = 8


class PrivacyRefused(EmstoreError, PermissionError):
    """It would let identifying data out."""

    default_kind = Kind.PRIVACY
    exit_code = 9


class Damaged(EmstoreError, OSError):
    """Stored data is not what was sealed."""

    default_kind = Kind.DAMAGED
    exit_code = 10


class ProcessingFailed(EmstoreError, RuntimeError):
    """A processor raised, or gave something else than it promised, on a block that the message names. Nothing was sealed."""

    default_kind = Kind.PROCESSING
    exit_code = 11


class Interrupted(EmstoreError):
    """Stopped on request; the same command resumes the work."""

    default_kind = Kind.INTERRUPTED
    exit_code = 130
