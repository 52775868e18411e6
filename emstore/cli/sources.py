"""The verbs ``inspect`` and ``ingest``: from raw files to sealed versions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emstore.cli import text
from emstore.cli.command import JsonOption, command
from emstore.cli.output import Output

if TYPE_CHECKING:
    from emstore.inspection import Inspection
    from emstore.volume import Volume

Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files and folders that belong together.")]
TargetArgument = Annotated[str, typer.Argument(metavar="STORE/DATASET/ARRAY", help="Where the new version goes.")]
AdapterOption = Annotated[str | None, typer.Option("--adapter", help="Read with this adapter instead of finding it by content.")]
PartialOption = Annotated[
    bool, typer.Option("--allow-partial", help="Go on without data that cannot be read; the record then names what was left out.")
]
SelectOption = Annotated[str | None, typer.Option("--select", metavar="NAME", help="Take this signal: name or number.")]
AllOption = Annotated[bool, typer.Option("--all", help="Take every signal, each into ARRAY-NAME.")]
SpacingOption = Annotated[str | None, typer.Option("--spacing", metavar="Z,Y,X", help="Voxel size where the source has none.")]
UnitOption = Annotated[str | None, typer.Option("--unit", help="Unit of --spacing, e.g. nm.")]
LabelsOption = Annotated[bool, typer.Option("--labels", help="The values are labels (a mask), not intensities.")]
MemoryOption = Annotated[str, typer.Option("--memory", metavar="SIZE", help="Most memory to use, e.g. 512MiB or 4GiB.")]
PyramidOption = Annotated[bool, typer.Option("--pyramid/--no-pyramid", help="Also write coarser scale levels.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("inspect")(inspect)
    app.command("ingest")(ingest)


def inspect(
    sources: Sources, adapter: AdapterOption = None, allow_partial: PartialOption = False, as_json: JsonOption = False
) -> None:
    """Say what is in raw files and what ingest would take; copies nothing."""
    with command(as_json) as out:
        from emstore.inspection import inspect_each

        with inspect_each(sources, adapter=adapter, allow_partial=allow_partial) as found:
            out.result(_document(found), lambda: _words(out, found))


def ingest(
    sources: Sources,
    target: TargetArgument,
    adapter: AdapterOption = None,
    select: SelectOption = None,
    take_all: AllOption = False,
    spacing: SpacingOption = None,
    unit: UnitOption = None,
    labels: LabelsOption = False,
    memory: MemoryOption = "1GiB",
    pyramid: PyramidOption = True,
    allow_partial: PartialOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn raw files into a sealed version. Stopped or killed, the same command resumes."""
    with command(as_json) as out:
        budget, steps = text.parse_size(memory), text.parse_spacing(spacing)
        from emstore import ingestion
        from emstore.cli.stores import summary

        made = ingestion.ingest(
            sources,
            target,
            adapter=adapter,
            select=select,
            take_all=take_all,
            spacing=steps,
            unit=unit,
            labels=labels,
            memory=budget,
            pyramid=pyramid,
            allow_partial=allow_partial,
            listener=out.listener,
        )
        versions = [
            {
                **summary(one.version.store, one.version.place, one.version.info),
                "created": one.created,
                "notes": list(one.version.record.notes),
                "skipped": [{"name": left.name, "reason": left.reason} for left in one.version.record.skipped],
            }
            for one in made
        ]

        def words() -> None:
            for one in made:
                volume = one.version.info.volume
                what = f"{text.shape(volume.shape, volume.dims)} {volume.dtype}"
                out.say(f"{one.version.ref}  {'sealed' if one.created else 'was there already'}  {what}  {one.version.id}")

        out.result({"versions": versions}, words)


def _document(found: "Sequence[Inspection]") -> dict[str, Any]:
    # With several kinds of file nothing is taken without a choice.
    [only, *others] = found
    return {
        "adapter": None if others else only.adapter,
        "default": None if others or only.default is None else only.volumes[only.default].name,
        "volumes": [
            {"adapter": one.adapter, **_volume(volume, not others and k == one.default)}
            for one in found
            for k, volume in enumerate(one.volumes)
        ],
        "ignored": [{"name": left.name, "reason": left.reason} for left in found[-1].ignored],
        "skipped": [{"name": left.name, "reason": left.reason} for left in found[-1].skipped],
    }


def _volume(volume: "Volume", default: bool) -> dict[str, Any]:
    voxel = volume.grid.to_json()
    return {
        "name": volume.name,
        "default": default,
        "kind": str(volume.kind),
        "modality": volume.modality,
        "format": volume.header.format,
        "shape": list(volume.shape),
        "dims": list(volume.grid.dims),
        "dtype": str(volume.dtype),
        "bytes": volume.nbytes,
        "spacing": voxel["spacing"],
        "units": {axis.name: axis.unit for axis in volume.grid.axes},
        "voxel": voxel,
        "files": [str(path) for path in volume.files],
        "terms": dict(volume.header.terms),
        "notes": list(volume.notes),
    }


def _words(out: Output, found: "Sequence[Inspection]") -> None:
    for inspection in found:
        _signals(out, inspection, alone=len(found) == 1)
    if len(found) > 1:
        out.say("ingest takes one of these kinds at a time: name its files, or a folder of them alone")
    elif found[0].default is None:
        out.say("ingest needs --select NAME, or --all")
    elif len(found[0].volumes) > 1:
        out.say("* is taken unless --select NAME or --all says otherwise")
    for inspection in found:
        for volume in inspection.volumes:
            for note in volume.notes:
                out.say(f"{volume.name}: {note}")
    for what, left in (("left out", found[-1].skipped), ("ignored", found[-1].ignored)):
        for entry in left[:20]:
            out.say(f"{what}: {entry.name}: {entry.reason}")
        if len(left) > 20:
            out.say(f"{what}: and {len(left) - 20} more")


def _signals(out: Output, inspection: "Inspection", *, alone: bool) -> None:
    out.say(f"read by {inspection.adapter}: {len(inspection.volumes)} signal{'s' * (len(inspection.volumes) != 1)}")
    out.table(
        ("", "name", "shape", "type", "spacing", "size", "format"),
        [
            (
                f"{'*' if alone and k == inspection.default else ' '}{k + 1}",
                volume.name,
                text.shape(volume.shape, volume.grid.dims),
                volume.dtype,
                text.spacing(volume.grid),
                text.size(volume.nbytes),
                volume.header.format,
            )
            for k, volume in enumerate(inspection.volumes)
        ],
    )
