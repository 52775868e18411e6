"""How a command ends: every error becomes one message and an exit code, here and nowhere else."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer

from emstore.cli.exit_codes import BROKEN_PIPE
from emstore.cli.output import Output
from emstore.errors import Capacity, EmstoreError, Interrupted

GRACE: Final = 4.0
"""How long a stopped command may take to end in order, seconds."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON: one object, after one line per event for long work.")]


@contextmanager
def command(as_json: bool) -> Iterator[Output]:
    """Run a command's body: give it an `Output`, and end the process with the right code whatever happens.

    Ctrl-C and SIGTERM stop the work where it is clean to stop, exit code 130; what then goes on for longer than `GRACE` (one
    block may take minutes) is left as if killed, which resumes as well. An exception that is not emstore's own is a
    mistake somewhere: exit code 70, without its traceback unless ``EMSTORE_DEBUG`` is set.
    """
    out = Output(as_json)
    grace = threading.Timer(GRACE, _leave, [out])
    grace.daemon = True

    def stop(number: int, frame: FrameType | None) -> None:
        """Take a request to end like Ctrl-C; a second one does not disturb the clearing up."""
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        grace.start()
        raise KeyboardInterrupt

    # Ctrl-C stays ignored where it is: shells have it so for what runs in the background.
    heard = [signal.SIGTERM] if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else [signal.SIGTERM, signal.SIGINT]
    before = {each: signal.signal(each, stop) for each in heard}
    try:
        yield out
        out.close()
        sys.stdout.flush()
    except typer.Exit:
        raise
    except BrokenPipeError:
        leave_quietly()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last stop: nothing may reach the user as a traceback
        grace.cancel()
        fail(out, error)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


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


def _leave(out: Output) -> None:
    """End at once, after a request to stop: nothing half-done is visible, and the next run takes over from a dead process."""
    error = explain(KeyboardInterrupt())
    out.error(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.exit_code)
