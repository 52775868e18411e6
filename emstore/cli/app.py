"""The `emstore` command. Only typer and the standard library are imported here: ``emstore --help`` must answer at once."""

import contextlib
import gc
import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from emstore.cli import exporting, integrity, lineage, making, plugins, processing, reporting, sources, stores
from emstore.cli.command import fail
from emstore.cli.exit_codes import as_text
from emstore.cli.output import Output
from emstore.errors import InvalidInput

UsageError: Any = typer.BadParameter.__mro__[2]
"""What typer raises for a command line that makes no sense; it has no public name."""

app = typer.Typer(
    name="emstore",
    help=(
        "One place for all of an imaging lab's data: raw instrument files into sealed, verifiable, viewable Zarr.\n\n"
        "REF is STORE[/DATASET[/ARRAY[/vN]]]; STORE is a path or an s3://, gs:// or az:// URL; without vN the latest version is"
        " meant."
    ),
    epilog=f"\b\nExit codes:\n{as_text()}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: loading rich would take longer than all the rest
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import emstore

        typer.echo(f"emstore {emstore.__version__}")
        raise typer.Exit


VersionOption = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")]


@app.callback()
def options(version: VersionOption = False) -> None:
    """Take the options that stand before the verb."""


for verbs in (stores, sources, processing, making, reporting, integrity, exporting, lineage, plugins):
    verbs.register(app)


def script() -> NoReturn:
    """Run the command line and end the process; the entry point of the ``emstore`` script."""
    gc.set_threshold(100_000, 20, 20)  # looking for cycles again and again would take a tenth of a short command's time
    try:
        main()
    except SystemExit as ending:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # a reader that is gone
                stream.flush()
        # Everything is closed by now; taking the interpreter apart piece by piece takes as long as some commands.
        os._exit(ending.code if isinstance(ending.code, int) else 1)


def main() -> NoReturn:
    """Run the command line within this process; ends in `SystemExit` with the exit code."""
    as_json = any(argument.partition("=")[0] == "--json" for argument in sys.argv[1:])
    try:
        code = app(prog_name="emstore", standalone_mode=False)
    except UsageError as error:
        if as_json:
            context = getattr(error, "ctx", None)
            fail(
                Output(as_json),
                InvalidInput(error.format_message(), fix=f"see {context.command_path if context else 'emstore'} --help"),
            )
        error.show()
        code = error.exit_code
    except KeyboardInterrupt as error:
        fail(Output(as_json), error)
    raise SystemExit(code if isinstance(code, int) else 0)
