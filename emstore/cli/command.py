"""How a command ends: every error becomes one message and an exit code, here and nowhere else."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

from emstore.cli.exit_codes import BROKEN_PIPE
from emstore.cli.output import Output
from emstore.errors import Capacity, EmstoreError, Interrupted

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON: one object, after one line per event for long work.")]


@contextmanager
def command(as_json: bool) -> Iterator[Output]:
    """Run a command's body: give it an `Output`, and end the process with the right code whatever happens.

    Ctrl-C and SIGTERM stop the work where it is clean to stop, exit code 130. An exception that is not emstore's own is a
    mistake somewhere: exit code 70, without its traceback unless ``EMSTORE_DEBUG`` is set.
    """
    out = Output(as_json)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield out
        out.close()
        sys.stdout.flush()
    except typer.Exit:
        raise
    except BrokenPipeError:
        leave_quietly()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last stop: nothing may reach the user as a traceback
        fail(out, error)
    finally:
        signal.signal(signal.SIGTERM, before)


def fail(out: Output, error: BaseException) -> NoReturn:
    """Print an error and end with its exit code."""
    if os.environ.get("EMSTORE_DEBUG"):
        traceback.print_exception(error)
    known = explain(error)
    try:
        out.error(known)
        sys.stdout.flush()
    except BrokenPipeError:
        leave_quietly()
    raise SystemExit(known.exit_code)


def explain(error: BaseException) -> EmstoreError:
    """Return an error of ours for any exception."""
    match error:
        case EmstoreError():
            return error
        case KeyboardInterrupt():
            return Interrupted("stopped on request", fix="nothing half-done is visible; run the same command again to go on")
        case MemoryError():
            return Capacity("the memory is full", fix="give less with --memory, or close other programs")
    return EmstoreError(
        f"unexpected {type(error).__name__}: {error}",
        fix="this is a mistake in emstore or in a plug-in; please report what the same command says with EMSTORE_DEBUG=1 set",
    )


def leave_quietly() -> NoReturn:
    """End because nobody reads the output any more; nothing further may be written to it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(BROKEN_PIPE)


def _stop(number: int, frame: FrameType | None) -> None:
    """Take a request to end like Ctrl-C; a second one does not disturb the clearing up."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
