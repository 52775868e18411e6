"""The table of exit codes, made from the error tree so that it cannot drift from it."""

import sys
from collections.abc import Iterator
from typing import Final

from emstore.errors import EmstoreError

BROKEN_PIPE: Final = 141
"""What a program that is cut off by ``| head`` ends with: 128 + SIGPIPE."""


def exit_codes() -> list[tuple[int, str, str]]:
    """Return ``(code, name, meaning)`` of every way a command can end, in order of the code."""
    ways = [(0, "ok", "Done; also when exactly this had been done before.")]
    ways += [(kind.exit_code, kind.__name__, (kind.__doc__ or "").split("\n")[0]) for kind in _leaves(EmstoreError)]
    ways.append((EmstoreError.exit_code, "InternalError", "A mistake in emstore or in a plug-in; EMSTORE_DEBUG=1 shows where."))
    ways.append((BROKEN_PIPE, "BrokenPipe", "Whoever read the output stopped reading."))
    return sorted(ways)


def as_text() -> str:
    """Return the table for ``emstore --help``."""
    return "\n".join(f"  {code:>3}  {name:<17} {meaning}" for code, name, meaning in exit_codes())


def as_markdown() -> str:
    """Return the table for the README."""
    rows = [f"| {code} | {name} | {meaning} |" for code, name, meaning in exit_codes()]
    return "\n".join(["| code | name | meaning |", "|---:|---|---|", *rows])


def _leaves(kind: type[EmstoreError]) -> Iterator[type[EmstoreError]]:
    for child in kind.__subclasses__():
        if child.__module__ == EmstoreError.__module__:
            yield child
            yield from _leaves(child)


if __name__ == "__main__":
    sys.stdout.write(as_markdown() + "\n")
