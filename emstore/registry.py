"""Finding the installed adapters, exporters, processors, reports, simulators and trainers, and the adapter that reads an item.

Built-in formats and third parties come through the same entry points. Nothing is imported before it is needed; a
plug-in that fails to load is an error that names it, since a silently missing reader would read the file as something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from emstore.adapter import Adapter
from emstore.errors import InvalidInput, Kind, NotFound, SourceUnreadable
from emstore.export import Exporter, TableExporter, WeightsExporter
from emstore.processor import Processor
from emstore.reporter import Reporter
from emstore.simulator import Simulator
from emstore.source import Source, SourceItem
from emstore.trainer import Trainer

ADAPTERS: Final = "emstore.adapters"
EXPORTERS: Final = "emstore.exporters"
PROCESSORS: Final = "emstore.processors"
REPORTS: Final = "emstore.reports"
SIMULATORS: Final = "emstore.simulators"
TRAINERS: Final = "emstore.trainers"


@dataclass(frozen=True)
class PluginEntry:
    """One installed plug-in, before or after it is imported."""

    name: str
    package: str
    """Distribution it comes from, e.g. ``emstore``."""
    package_version: str
    entry: EntryPoint

    def load(self) -> Any:
        """Import and build the plug-in.

        Raises
        ------
        InvalidInput
            It cannot be imported, or does not keep the contract.
        """
        try:
            return self.entry.load()()
        except Exception as error:  # a third party's module may raise anything at import
            raise InvalidInput(
                f"the plug-in {self.name!r} of package {self.package} cannot be loaded: {error}",
                fix=f"repair or uninstall {self.package}",
            ) from error


@cache
def adapters() -> Mapping[str, PluginEntry]:
    """Return the installed adapters by name, in alphabetical order."""
    return _installed(ADAPTERS)


@cache
def exporters() -> Mapping[str, PluginEntry]:
    """Return the installed exporters by name, in alphabetical order."""
    return _installed(EXPORTERS)


@cache
def processors() -> Mapping[str, PluginEntry]:
    """Return the installed processors by name, in alphabetical order."""
    return _installed(PROCESSORS)


@cache
def reports() -> Mapping[str, PluginEntry]:
    """Return the installed reports by name, in alphabetical order."""
    return _installed(REPORTS)


@cache
def simulators() -> Mapping[str, PluginEntry]:
    """Return the installed simulators by name, in alphabetical order."""
    return _installed(SIMULATORS)


@cache
def trainers() -> Mapping[str, PluginEntry]:
    """Return the installed trainers by name, in alphabetical order."""
    return _installed(TRAINERS)


@cache
def adapter(name: str) -> Adapter:
    """Return one adapter by name.

    Raises
    ------
    NotFound
        No installed adapter has that name; the message lists those that are there.
    """
    return _load(adapters(), name, Adapter, "adapter")  # type: ignore[no-any-return]


@cache
def exporter(name: str) -> Exporter | TableExporter | WeightsExporter:
    """Return one exporter by name: of volumes, of tables, of weights, or of several of these."""
    return _load(exporters(), name, (Exporter, TableExporter, WeightsExporter), "exporter")  # type: ignore[no-any-return]


@cache
def processor(name: str) -> Processor:
    """Return one processor by name.

    Raises
    ------
    NotFound
        No installed processor has that name; the message lists those that are there.
    """
    return _load(processors(), name, Processor, "processor")  # type: ignore[no-any-return]


@cache
def reporter(name: str) -> Reporter:
    """Return one report by name; otherwise as `processor`."""
    return _load(reports(), name, Reporter, "report")  # type: ignore[no-any-return]


@cache
def simulator(name: str) -> Simulator:
    """Return one simulator by name; otherwise as `processor`."""
    return _load(simulators(), name, Simulator, "simulator")  # type: ignore[no-any-return]


@cache
def trainer(name: str) -> Trainer:
    """Return one trainer by name; otherwise as `processor`."""
    return _load(trainers(), name, Trainer, "trainer")  # type: ignore[no-any-return]


def exporter_for(file_name: str) -> Exporter:
    """Return the exporter of volumes whose longest extension ends `file_name`.

    Raises
    ------
    InvalidInput
        No exporter writes a volume to such a file; the message lists the extensions that can be written.
    """
    return _exporter_for(file_name, Exporter, "image")  # type: ignore[no-any-return]


def table_exporter_for(file_name: str) -> TableExporter:
    """Return the exporter of tables whose longest extension ends `file_name`; otherwise as `exporter_for`."""
    return _exporter_for(file_name, TableExporter, "table")  # type: ignore[no-any-return]


def weights_exporter_for(file_name: str) -> WeightsExporter:
    """Return the exporter of weights whose longest extension ends `file_name`; otherwise as `exporter_for`."""
    return _exporter_for(file_name, WeightsExporter, "model")  # type: ignore[no-any-return]


def _exporter_for(file_name: str, contract: type | tuple[type, ...], word: str) -> Any:
    best: tuple[int, Any] | None = None
    known: list[str] = []
    for name in exporters():
        candidate = exporter(name)
        if not isinstance(candidate, contract):
            continue
        known += candidate.extensions
        for extension in candidate.extensions:
            if file_name.lower().endswith(extension) and (best is None or len(extension) > best[0]):
                best = len(extension), candidate
    if best is None:
        raise InvalidInput(
            f"no exporter writes this kind of file from {'an' if word == 'image' else 'a'} {word}",
            where=file_name,
            fix=f"use one of {' '.join(sorted(known))}",
        )
    return best[1]


def sniff(item: SourceItem) -> list[tuple[int, str]]:
    """Return ``(score, adapter name)`` of every adapter that can read an item, best first."""
    scores = [(adapter(name).sniff(item), name) for name in adapters()]
    return sorted(((score, name) for score, name in scores if score > 0), key=lambda pair: (-pair[0], pair[1]))


def match(source: Source, *, name: str | None = None) -> tuple[Adapter, Source]:
    """Return the one adapter for a source and the items it takes.

    Items that no adapter knows are set aside: by `Source.skip` (an error unless partial reads are allowed) when their
    extension says they should be readable, else by `Source.ignore`.

    Parameters
    ----------
    source : Source
        What the user pointed at.
    name : str, optional
        The adapter the user asked for; it gets every item.

    Raises
    ------
    SourceUnreadable
        Kind ``no_adapter``: nothing can read it.
    InvalidInput
        Kind ``ambiguous_source``: adapters tie on one file, or the files need different adapters.
    """
    if name is not None:
        return adapter(name), source
    taken, unknown = _claims(source)
    if len(taken) > 1:
        listing = "; ".join(
            f"{key}: {len(items)} file{'s' * (len(items) != 1)}, e.g. {items[0].name}" for key, items in sorted(taken.items())
        )
        raise InvalidInput(
            f"the files need different adapters ({listing})",
            fix="name the files or the folder of one kind only; `emstore inspect` tells what each kind holds",
            kind=Kind.AMBIGUOUS_SOURCE,
        )
    _set_aside(source, unknown)
    [(chosen, items)] = taken.items()
    return adapter(chosen), source.subset(items)


def match_each(source: Source) -> list[tuple[Adapter, Source]]:
    """Return every adapter that takes items of a source, by name, with its items; otherwise as `match`."""
    taken, unknown = _claims(source)
    _set_aside(source, unknown)
    return [(adapter(name), source.subset(items)) for name, items in sorted(taken.items())]


def _claims(source: Source) -> tuple[dict[str, list[SourceItem]], list[SourceItem]]:
    """Return the items that each adapter takes, at least one, and those that none knows."""
    taken: dict[str, list[SourceItem]] = {}
    unknown: list[SourceItem] = []
    for item in source.items:
        scores = sniff(item)
        item.forget_head()
        if not scores:
            unknown.append(item)
            continue
        if len(scores) > 1 and scores[0][0] == scores[1][0]:
            tied = [n for s, n in scores if s == scores[0][0]]
            raise InvalidInput(
                f"the adapters {' and '.join(tied)} are equally sure they can read it",
                where=item.name,
                fix=f"choose one with --adapter {tied[0]}",
                kind=Kind.AMBIGUOUS_SOURCE,
            )
        taken.setdefault(scores[0][1], []).append(item)
    if not taken:
        names = ", ".join(item.name for item in unknown[:3]) + (" ..." if len(unknown) > 3 else "")
        zipped = any(item.is_packed_zarr for item in unknown)
        raise SourceUnreadable(
            "it is a zipped Zarr store" if zipped else "no installed adapter recognises it",
            where=names,
            fix="unzip it first, then point at the folder"
            if zipped
            else "see `emstore adapters` for what can be read; the file may be damaged or need an extra",
            kind=Kind.SOURCE_UNSUPPORTED if zipped else Kind.NO_ADAPTER,
        )
    return taken, unknown


def _set_aside(source: Source, unknown: list[SourceItem]) -> None:
    claimed = {extension: n for n in adapters() for group in adapter(n).formats.values() for extension in group}
    for item in unknown:
        if item.is_packed_zarr:
            source.skip(item.name, "is a zipped Zarr store: unzip it first")
        elif item.extension in claimed:
            source.skip(item.name, f"looks like {claimed[item.extension]} by its name, but its content does not")
        else:
            source.ignore(item.name, "not a file any adapter knows")


def _installed(group: str) -> Mapping[str, PluginEntry]:
    found: dict[str, PluginEntry] = {}
    for entry in sorted(entry_points(group=group), key=lambda e: e.name):
        package = entry.dist.name if entry.dist else "?"
        if entry.name in found and found[entry.name].package != package:
            raise InvalidInput(
                f"packages {found[entry.name].package} and {package} both bring a plug-in named {entry.name!r}",
                fix="uninstall one of them",
            )
        found[entry.name] = PluginEntry(entry.name, package, entry.dist.version if entry.dist else "?", entry)
    return found


def _load(known: Mapping[str, PluginEntry], name: str, contract: type | tuple[type, ...], word: str) -> Any:
    if name not in known:
        raise NotFound(f"there is no {word} {name!r}", fix=f"installed: {', '.join(known) or 'none'}")
    plugin = known[name].load()
    if not isinstance(plugin, contract):
        raise InvalidInput(f"the {word} {name!r} of package {known[name].package} does not keep the contract")
    return plugin
