"""The verbs ``report`` and ``reports``: a page with figures from versions."""

from typing import Annotated

import typer

from emstore.cli import text
from emstore.cli.command import JsonOption, command
from emstore.cli.plugins import NameArgument, show
from emstore.cli.processing import ParamOption, parameters


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("report")(report)
    app.command("reports")(reports)


def report(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A report (see `emstore reports`).")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[LABEL=]REF...",
            help="What to draw from; a store or dataset stands for all in it. LABEL is what the page calls it.",
        ),
    ] = None,
    *,
    file: Annotated[str, typer.Argument(metavar="OUT.html", help="Where the page goes.")],
    param: ParamOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write an HTML page with figures and tables from versions, readable anywhere without a network."""
    with command(as_json) as out:
        from emstore.reports import report as write

        made = write(name, inputs or [], file, params=parameters(param or []), force=force)
        document = {"file": file, "size": made.nbytes, "title": made.page.title, "versions": list(made.versions)}
        out.result(document, lambda: out.say(f"wrote {file} ({text.size(made.nbytes)}) from {len(made.versions)} versions"))


def reports(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """List the installed reports, third parties' included; with NAME, what it takes."""
    show("report", name, as_json)
