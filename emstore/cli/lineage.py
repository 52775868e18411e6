"""The verbs ``lineage`` and ``find``: where a version comes from, and which versions there are that ..."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emstore.cli import text
from emstore.cli.command import JsonOption, command

if TYPE_CHECKING:
    from emstore.lineage.graph import Lineage
    from emstore.lineage.search import Found


class Format(StrEnum):
    """How a lineage is shown."""

    TREE = "tree"
    JSON = "json"
    SVG = "svg"
    PROV = "prov"
    CRATE = "crate"


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("lineage")(lineage)
    app.command("find")(find)


def lineage(
    ref: Annotated[str, typer.Argument(metavar="REF", help="STORE/DATASET/ARRAY[/vN], or the id of a version or its start.")],
    up: Annotated[bool, typer.Option("--up", help="What it was made from; so when neither way is named.")] = False,
    down: Annotated[bool, typer.Option("--down", help="What was made from it.")] = False,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="Most steps to take; all when left out.")] = None,
    how: Annotated[
        Format, typer.Option("--format", help="A tree, JSON, a picture, W3C PROV-JSON, or an RO-Crate 1.2 (a folder).")
    ] = Format.TREE,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="A new file (for crate: folder) to write instead of printing.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a version was made from, and what was made from it, across datasets, models and stores.

    Every store that was ever named to `lineage` or `find` takes part. What is in a store that is not known appears by its id.
    """
    with command(as_json) as out:
        from emstore.errors import InvalidInput
        from emstore.lineage.graph import lineage as gather

        if how is Format.CRATE and output is None:
            raise InvalidInput("an RO-Crate is a folder", fix="say where, e.g. --output crate")
        _check_free(output)
        found = gather(ref, up=up or not down, down=down, depth=depth)
        for note in found.notes:
            out.note(note)
        if output is not None:
            _write(found, how, Path(output))
            said = f"wrote {output}: {len(found.nodes)} version{'s' * (len(found.nodes) != 1)}"
            document = {"root": found.root, "format": str(how), "file": output, "nodes": len(found.nodes)}
            out.result(document, lambda: out.say(said))
            return
        if as_json:
            out.close()
            shown = found.json() if how in (Format.TREE, Format.JSON) else [_wrapped(found, how)]
            sys.stdout.writelines(piece.replace("\n", " ") for piece in shown)
            sys.stdout.write("\n")
        elif how is Format.JSON:
            sys.stdout.writelines(found.json())
        else:
            for line in _text(found, how).splitlines():
                out.say(line)


def find(
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="What has to hold; '' for everything.")],
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="REF", help="STORE[/DATASET[/ARRAY]] to look in; every known store when left out."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find versions by what their metadata and Records say.

    \b
    Conditions, joined by and, or, not and parentheses:
      modality == "ct" and spacing.z > 2 mm     == != < <= > >=, numbers with units
      name ~ "knee*left"                        holds such text; * stands for anything
      created > 2026-01-31                      a day, or 2026-01-31T12:00 (UTC)
      processor == "denoise.gaussian" and params.sigma >= 2
      made_with("mri/raw/v1")                   an input, model or program of the last step
      descends("mri/raw")                       among what it was made from, any steps away
      stale                                     an input has a newer version
      terms.voltage > 100 kV                    facts of the instrument, by their last words
      summary.psnr > 30                         figures of a table

    \b
    Fields: ref store dataset array version id kind modality name format dtype
      shape.AXIS spacing.AXIS levels stored created activity maker processor adapter
      simulator trainer software device model input source note seed deterministic
      derived deidentified params.NAME attributes.NAME terms.NAME summary.NAME stale
      latest
    """  # noqa: D301 - \b is what typer knows a block of lines by
    with command(as_json) as out:
        from emstore.geometry import Grid
        from emstore.lineage.search import find as search

        answer = search(expression, *(refs or ()))

        def row(found: "Found") -> tuple[str, ...]:
            facts = found.facts
            volume, voxel = facts.seal["volume"], facts.seal["voxel"]
            shape = text.shape(volume["shape"], volume["dims"])
            made = f"{facts.activity} {facts.maker}"
            spacing = text.spacing(Grid.from_json(voxel)) if voxel.get("axes") else ""
            return found.ref, facts.kind, shape, spacing, made, f"{facts.created:%Y-%m-%d %H:%M}"

        def words() -> None:
            out.table(("version", "kind", "shape", "spacing", "made by", "sealed"), [row(each) for each in answer.found])
            if not answer.found:
                out.note("no version is like that")

        for note in answer.notes:
            out.note(note)
        document = {"expression": expression, "found": [_summary(f) for f in answer.found], "notes": list(answer.notes)}
        out.result(document, words)


def _summary(found: "Found") -> dict[str, Any]:
    facts = found.facts
    volume = facts.seal["volume"]
    return {
        "ref": found.ref,
        "id": found.id,
        "store": facts.store[1],
        "kind": facts.kind,
        "name": volume["name"],
        "modality": facts.modality,
        "shape": volume["shape"],
        "dims": volume["dims"],
        "dtype": volume["dtype"],
        "spacing": facts.seal["voxel"].get("spacing"),
        "activity": facts.activity,
        "maker": facts.maker,
        "created": facts.created.isoformat(),
    }


def _text(found: "Lineage", how: Format) -> str:
    match how:
        case Format.SVG:
            return found.svg()
        case Format.PROV:
            return found.prov()
    return found.tree()


def _wrapped(found: "Lineage", how: Format) -> str:
    text = _text(found, how)
    document = json.loads(text) if how is Format.PROV else {"root": found.root, "format": str(how), "content": text}
    return json.dumps(document, allow_nan=False)


def _check_free(output: str | None) -> None:
    from emstore.errors import Conflict, NotFound

    if output is None:
        return
    path = Path(output)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise Conflict("there is something already", where=output, fix="name something new")
    if not path.absolute().parent.is_dir():
        raise NotFound("there is no such folder", where=str(path.parent), fix="make it first")


def _write(found: "Lineage", how: Format, path: Path) -> None:
    from emstore.errors import StorageFailed

    try:
        if how is Format.CRATE:
            found.crate(path)
            return
        with path.open("w", encoding="utf-8") as file:
            file.writelines(found.json() if how is Format.JSON else (_text(found, how), "\n"))
    except OSError as error:
        raise StorageFailed(f"it cannot be written: {error.strerror}", where=str(path), fix="choose another place") from error
