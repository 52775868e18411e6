"""The verb ``adapters``: what is installed to read and to write."""

from typing import Any

import typer

from emstore.cli.command import JsonOption, command


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
