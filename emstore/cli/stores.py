"""The verbs ``init ls info status``: what is in a store."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from emstore.cli import text
from emstore.cli.command import JsonOption, command
from emstore.cli.output import Output

if TYPE_CHECKING:
    from emstore.store import Store, Version, VersionState
    from emstore.store.documents import VersionInfo

SOURCES_SHOWN: Final = 5
"""Most source files listed by ``info`` one by one; ``--json`` lists all."""

Ref = Annotated[str, typer.Argument(metavar="REF", help="STORE[/DATASET[/ARRAY[/vN]]]")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    app.command("init")(init)
    app.command("ls")(ls)
    app.command("info")(info)
    app.command("status")(status)


def init(store: Annotated[str, typer.Argument(metavar="STORE", help="A new path or URL.")], as_json: JsonOption = False) -> None:
    """Create an empty store."""
    with command(as_json) as out:
        from emstore.store import create_store

        made = create_store(store)
        out.result({"store": made.url, "store_id": made.id}, lambda: out.say(f"created an empty store at {made.url}"))


def ls(ref: Ref, as_json: JsonOption = False) -> None:
    """List the sealed versions at or below REF."""
    with command(as_json) as out:
        from emstore.geometry import Grid
        from emstore.store import resolve, versions

        store, place = resolve(ref)
        found = [(state, state.info) for state in versions(store, place) if state.info is not None]

        def words() -> None:
            heads = ("version", "shape", "type", "spacing", "levels", "stored", "sealed")
            out.table(
                heads,
                [
                    (
                        state.place,
                        text.shape(info.volume.shape, info.volume.dims),
                        info.volume.dtype,
                        "" if info.volume.kind in ("table", "model") else text.spacing(Grid.from_json(info.voxel)),
                        len(info.volume.levels),
                        text.size(info.contents.nbytes),
                        _when(state),
                    )
                    for state, info in found
                ],
            )
            if not found:
                out.note("there is no sealed version here")

        out.result({"store": store.url, "versions": [summary(store, state.place, info) for state, info in found]}, words)


def info(ref: Ref, as_json: JsonOption = False) -> None:
    """Show what a version is and how it came to be; for a store or dataset, what it holds."""
    with command(as_json) as out:
        from emstore.store import open_version, resolve

        store, place = resolve(ref)
        if place.array is None:
            _info_store(out, store, ref)
        else:
            _info_version(out, open_version(ref))


def status(ref: Ref, as_json: JsonOption = False) -> None:
    """Show the state of every version number: sealed, being written, unfinished, or aborted."""
    with command(as_json) as out:
        from emstore.store import resolve, versions

        store, place = resolve(ref)
        found = versions(store, place)
        document = [
            {
                "ref": f"{store.url}/{state.place}",
                "state": str(state.state),
                "task": state.task,
                "since": None if state.since is None else state.since.isoformat(),
                "reason": state.reason,
                "id": None if state.info is None else state.info.seal,
            }
            for state in found
        ]

        def words() -> None:
            rows = [(state.place, state.state, _when(state), state.reason or state.task or "") for state in found]
            out.table(("version", "state", "since", "what"), rows)

        out.result({"store": store.url, "versions": document}, words)


def summary(store: "Store", place: object, info: "VersionInfo") -> dict[str, Any]:
    """Return what ``--json`` says of one version in a list."""
    return {
        "ref": f"{store.url}/{place}",
        "id": info.seal,
        "name": info.volume.name,
        "kind": info.volume.kind,
        "modality": info.volume.modality,
        "format": info.header.format,
        "shape": list(info.volume.shape),
        "dims": list(info.volume.dims),
        "dtype": info.volume.dtype,
        "spacing": info.voxel["spacing"],
        "units": {axis["name"]: axis["unit"] for axis in info.voxel["axes"]},
        "levels": len(info.volume.levels),
        "objects": info.contents.objects,
        "stored_bytes": info.contents.nbytes,
        "sealed": info.record.activity.ended.isoformat(),
    }


def _info_store(out: Output, store: "Store", ref: str) -> None:
    from emstore.store import State, resolve, versions

    _, place = resolve(ref)
    found = versions(store, place)
    counts = {str(state): sum(v.state is state for v in found) for state in State}
    document: dict[str, Any] = {
        "ref": ref,
        "store": store.url,
        "store_id": store.id,
        "layout": store.info.layout,
        "datasets": sorted({str(v.place.dataset) for v in found}),
        "arrays": sorted({f"{v.place.dataset}/{v.place.array}" for v in found}),
        "states": counts,
        "stored_bytes": sum(v.info.contents.nbytes for v in found if v.info is not None),
    }

    def words() -> None:
        out.fields(
            [
                ("store", store.url),
                ("id", store.id),
                ("layout", store.info.layout),
                ("datasets", ", ".join(document["datasets"]) or "none"),
                ("arrays", ", ".join(document["arrays"]) or "none"),
                ("versions", ", ".join(f"{n} {state}" for state, n in counts.items() if n) or "none"),
                ("stored", text.size(document["stored_bytes"])),
            ]
        )

    out.result(document, words)


def _info_version(out: Output, version: "Version") -> None:
    info, record = version.info, version.record
    document = {
        **summary(version.store, version.place, info),
        "voxel": info.voxel,
        "scale": info.volume.scale,
        "window": info.volume.window,
        "attributes": info.volume.attributes,
        "terms": info.header.terms,
        "notes": list(info.volume.notes),
        "record": record.model_dump(mode="json"),
    }

    def words() -> None:
        sources = record.sources
        shown = sources if len(sources) <= SOURCES_SHOWN else sources[: SOURCES_SHOWN - 1]
        rest = sources[len(shown) :]
        out.fields(
            [
                ("version", version.ref),
                ("id", version.id),
                ("signal", info.volume.name),
                ("format", info.header.format),
                ("modality", info.volume.modality),
                ("shape", text.shape(info.volume.shape, info.volume.dims)),
                ("type", info.volume.dtype),
                *_content_fields(version),
                ("stored", f"{text.size(info.contents.nbytes)} in {info.contents.objects} objects"),
                ("made by", f"{record.activity.type} {record.activity.name}, {record.activity.ended:%Y-%m-%d %H:%M:%S} UTC"),
                *(("source", f"{source.name}, {text.size(source.size)}, {source.digest}") for source in shown),
                ("", f"and {len(rest)} more sources, {text.size(sum(s.size for s in rest))}" if rest else None),
                *((name, _term(value)) for name, value in info.header.terms.items()),
                *(("note", note) for note in info.volume.notes),
                *(("left out", f"{left.name}: {left.reason}") for left in record.skipped),
            ]
        )

    out.result(document, words)


def _content_fields(version: "Version") -> list[tuple[str, object]]:
    if version.is_table:
        return _table_fields(version.info.volume.attributes)
    return _model_fields(version) if version.is_model else _image_fields(version)


def _model_fields(version: "Version") -> list[tuple[str, object]]:
    """Return what a network is, its arrays with their shapes, and how the training went."""
    told, nodes = version.info.volume.attributes, version.document["consolidated_metadata"]["metadata"]
    arrays = ((name, nodes[f"{version.info.volume.levels[0]}/{name}"]) for name in told["arrays"])
    return [
        ("architecture", told["architecture"]),
        ("parameters", version.info.volume.shape[0]),
        ("weights", told["digest"]),
        ("licence", told["licence"] or "unknown"),
        *((name, _term(value)) for name, value in told["settings"].items()),
        *(("array", f"{name}: {'x'.join(map(str, node['shape'])) or 'one'} {node['data_type']}") for name, node in arrays),
        *((name, "unknown" if value is None else _term(value)) for name, value in told["figures"].items()),
    ]


def _image_fields(version: "Version") -> list[tuple[str, object]]:
    info, grid = version.info, version.grid()
    return [
        ("values", _values(info.volume.scale)),
        ("spacing", text.spacing(grid)),
        ("space", text.space(grid)),
        ("levels", len(info.volume.levels)),
    ]


def _table_fields(attributes: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Return a table's columns, then its figures of the whole."""
    from emstore.geometry import units

    columns = [
        ("column", column["name"] + (f" [{units.symbol(column['unit'])}]" if column["unit"] else "") + _about(column))
        for column in attributes["columns"]
    ]
    figures = [(name, "unknown" if value is None else _term(value)) for name, value in attributes["summary"].items()]
    return [*columns, *figures]


def _about(column: Mapping[str, Any]) -> str:
    return f": {column['description']}" if column["description"] else ""


def _values(scale: Mapping[str, Any] | None) -> str | None:
    """Return how stored values become physical ones, where they differ."""
    if scale is None:
        return None
    if (scale["slope"], scale["intercept"]) == (1, 0):
        return None if scale["unit"] is None else str(scale["unit"])
    offset = f" {'-' if scale['intercept'] < 0 else '+'} {abs(scale['intercept']):g}" if scale["intercept"] else ""
    return f"{scale['slope']:g} x stored{offset}{' ' + scale['unit'] if scale['unit'] else ''}"


def _term(value: Any) -> str:
    if not (isinstance(value, dict) and "value" in value):
        return f"{value:g}" if isinstance(value, float) else str(value)
    number, unit = text.quantity(value["value"], value["unit"])
    return f"{number:.6g} {unit}"


def _when(state: "VersionState") -> str:
    return "" if state.since is None else f"{state.since:%Y-%m-%d %H:%M}"
