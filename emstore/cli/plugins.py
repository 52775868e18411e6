"""The verb ``adapters``: what is installed to read and to write; and how any kind of plug-in is listed and described."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emstore.cli.command import JsonOption, command

if TYPE_CHECKING:
    from emstore.cli.output import Output
    from emstore.registry import PluginEntry

NameArgument = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show what this one takes.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the app."""
    app.command("adapters")(adapters)


def adapters(as_json: JsonOption = False) -> None:
    """List the installed adapters and exporters, third parties' included."""
    with command(as_json) as out:
        from emstore import registry
        from emstore.errors import InvalidInput

        readers: list[dict[str, Any]] = []
        for name, entry in registry.adapters().items():
            found: dict[str, Any] = {"name": name, "package": entry.package, "package_version": entry.package_version}
            try:
                loaded = registry.adapter(name)
                found |= {"version": loaded.version, "formats": {k: list(v) for k, v in loaded.formats.items()}, "error": None}
            except InvalidInput as error:  # one broken plug-in does not hide the others
                found |= {"version": None, "formats": {}, "error": error.what}
            readers.append(found)
        writers: list[dict[str, Any]] = []
        for name, entry in registry.exporters().items():
            found = {"name": name, "package": entry.package, "package_version": entry.package_version}
            try:
                found |= {"extensions": list(registry.exporter(name).extensions), "error": None}
            except InvalidInput as error:
                found |= {"extensions": [], "error": error.what}
            writers.append(found)

        def words() -> None:
            rows = []
            for reader in readers:
                formats = "; ".join(_format(name, extensions) for name, extensions in reader["formats"].items())
                rows.append((reader["name"], f"{reader['package']} {reader['package_version']}", reader["error"] or formats))
            out.table(("reads", "package", "formats"), rows, fold=True)
            out.say("")
            out.table(
                ("writes", "package", "extensions"),
                [(w["name"], f"{w['package']} {w['package_version']}", w["error"] or " ".join(w["extensions"])) for w in writers],
            )

        out.result({"adapters": readers, "exporters": writers}, words)


def _format(name: str, extensions: list[str]) -> str:
    return f"{name} ({' '.join(extensions)})" if extensions else name


def show(word: str, name: str | None, as_json: bool) -> None:
    """List the installed plug-ins of a kind (``processor``, ``simulator`` ...); with a name, show what that one takes."""
    with command(as_json) as out:
        from emstore import registry

        entries, load = {
            "processor": (registry.processors, registry.processor),
            "report": (registry.reports, registry.reporter),
            "simulator": (registry.simulators, registry.simulator),
            "trainer": (registry.trainers, registry.trainer),
        }[word]
        if name is None:
            _show_all(out, word, entries(), load)
        else:
            loaded = load(name)
            _show_one(out, word, entries()[name], loaded)


def _show_all(out: "Output", word: str, entries: "Mapping[str, PluginEntry]", load: Callable[[str], Any]) -> None:
    from emstore.errors import InvalidInput

    found: list[dict[str, Any]] = []
    for each, entry in entries.items():
        told: dict[str, Any] = {"name": each, "package": entry.package, "package_version": entry.package_version}
        try:
            loaded = load(each)
            told |= {"version": loaded.version, "summary": loaded.summary, "inputs": _inputs(loaded), "error": None}
        except InvalidInput as error:  # one broken plug-in does not hide the others
            told |= {"version": None, "summary": None, "inputs": [], "error": error.what}
        found.append(told)

    def words() -> None:
        rows = [(each["name"], ", ".join(each["inputs"]), each["error"] or each["summary"]) for each in found]
        out.table((word, "takes", "what it does"), rows, fold=True)
        out.say("")
        out.say(f"`emstore {word}s NAME` shows the parameters")

    out.result({f"{word}s": found}, words)


def _show_one(out: "Output", word: str, entry: "PluginEntry", loaded: Any) -> None:
    from emstore.cli.parameters import told

    params, inputs = told(loaded.params), _inputs(loaded)
    document = {
        "name": entry.name,
        "version": loaded.version,
        "package": entry.package,
        "package_version": entry.package_version,
        "summary": loaded.summary,
        "inputs": inputs,
        "parameters": params,
        "schema": loaded.params.model_json_schema(),
    }

    def words() -> None:
        out.fields(
            [
                (word, f"{entry.name}, version {loaded.version}"),
                ("package", f"{entry.package} {entry.package_version}"),
                ("what it does", loaded.summary),
                ("takes", ", ".join(inputs).replace("*", " ...") or None),
            ]
        )
        if params:
            out.say("")
            rows = [
                (p["name"], p["type"], "needed" if p["required"] else json.dumps(p["default"]), p["description"]) for p in params
            ]
            out.table(("parameter", "type", "default", "meaning"), rows, fold=True)

    out.result(document, words)


def _inputs(loaded: Any) -> list[str]:
    """Return the roles of what a plug-in reads; a simulator reads nothing."""
    return list(getattr(loaded, "inputs", ()))
