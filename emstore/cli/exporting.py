"""The verb ``export``: a version as a file other programs read."""

from typing import Annotated

import typer

from emstore.cli.command import JsonOption, command


def register(app: typer.Typer) -> None:
    """Add the verb to the app."""
    app.command("export")(export)


def export(
    ref: Annotated[str, typer.Argument(metavar="REF", help="STORE/DATASET/ARRAY[/vN]")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where to; the extension chooses the format (see `emstore adapters`).")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a version as NIfTI, TIFF, OME-TIFF, MRC, HDF5, MP4 or GIF, a table as CSV, a model as .npz."""
    with command(as_json) as out:
        from emstore.export import export as write
        from emstore.store import open_version

        version = open_version(ref)
        subject = version.table() if version.is_table else version.weights() if version.is_model else version.volume()
        lost = write(subject, file, force=force, listener=out.listener)
        out.result(
            {"ref": version.ref, "id": version.id, "file": file, "lost": list(lost)},
            lambda: out.say(f"wrote {file} from {version.ref}"),
        )
