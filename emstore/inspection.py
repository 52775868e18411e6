"""What a source holds, and which of it is meant: nothing is copied.

`inspect` opens what the user named. `ingest` goes through the same doors, so what was inspected is what gets ingested.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from emstore import registry
from emstore.adapter import Adapter
from emstore.errors import InvalidInput, Kind, NotFound
from emstore.header import plain_text
from emstore.source import Skipped, Source
from emstore.volume import Volume, VolumeKind

LISTED: Final = 10
"""Most signals that an error message lists."""


@dataclass(frozen=True)
class Inspection:
    """What a source holds."""

    adapter: str
    volumes: tuple[Volume, ...]
    default: int | None
    """Index of the volume that is taken when none is chosen; ``None`` when the user must choose."""
    ignored: tuple[Skipped, ...]
    """Files without array data."""
    skipped: tuple[Skipped, ...]
    """Data that cannot be read; only with ``allow_partial``."""


@contextmanager
def inspect(paths: Sequence[str | Path], *, adapter: str | None = None, allow_partial: bool = False) -> Iterator[Inspection]:
    """Open sources and say what is in them; nothing is copied.

    The volumes may be read as long as the context is open.

    Parameters
    ----------
    paths : sequence of path
        Files and folders that belong together.
    adapter : str, optional
        Adapter to use; found by content when left out.
    allow_partial : bool
        Go on without data that cannot be read, and say what was left out.
    """
    with Source.of(paths, allow_partial=allow_partial) as source:
        yield open_source(*registry.match(source, name=adapter), source)


@contextmanager
def inspect_each(
    paths: Sequence[str | Path], *, adapter: str | None = None, allow_partial: bool = False
) -> Iterator[tuple[Inspection, ...]]:
    """Open sources of any mixture of formats and say what each adapter finds; as `inspect` where there is one.

    `ingest` takes one of them at a time. Data that cannot be used are in the last one's `skipped` and `ignored`.
    """
    with Source.of(paths, allow_partial=allow_partial) as source:
        matched = registry.match_each(source) if adapter is None else [registry.match(source, name=adapter)]
        yield tuple(open_source(reader, items, source) for reader, items in matched)


def open_source(adapter: Adapter, source: Source, whole: Source) -> Inspection:
    """Open what an adapter takes (`source`) of all that the user named (`whole`); both share the lists of what is left."""
    volumes = tuple(_named_apart(adapter.open(source)))
    if not volumes:
        raise NotFound(
            "it holds no array data",
            where=", ".join(item.name for item in source.items[:3]),
            fix="; ".join(f"{s.name}: {s.reason}" for s in source.ignored[:3]) or None,
        )
    said = {s.name for s in (*source.skipped, *source.ignored)}
    used = {file for volume in volumes for file in volume.files}
    # Format libraries may name a file otherwise than the user did: in full, with links followed.
    if any(item.path not in used for item in whole.items):
        used |= {file.resolve() for file in used}
    unused = [item for item in whole.items if item.path not in used and item.path.resolve() not in used]
    # A companion that is nothing by itself, such as a text beside an image, was of use after all.
    companions = {item.name for item in whole.items} - {item.name for item in unused}
    source.ignored[:] = [left for left in source.ignored if left.name not in companions]
    own = {item.path for item in source.items}
    for item in unused:
        if item.path in own and item.name not in said and not (item.is_folder and _uses(item.path.resolve(), used)):
            source.skip(item.name, f"the {adapter.name} adapter did not use it")
    # A single file may hold side signals (spectra, thumbnails): its first is the one meant. Several files that do not form
    # one volume, and several images of one folder, are several data sets: taking one would silently drop the others.
    images = sum(volume.kind is VolumeKind.IMAGE for volume in volumes)
    alone = len(source.items) == 1 and (images <= 1 or not source.items[0].is_folder)
    default = 0 if len(volumes) == 1 or alone else None
    return Inspection(adapter.name, volumes, default, tuple(source.ignored), tuple(source.skipped))


def _named_apart(volumes: Sequence[Volume]) -> Iterator[Volume]:
    """Give every volume a plain name that no other has: files of several folders may hold signals of the same name."""
    names = [plain_text(volume.name) for volume in volumes]
    stems = [plain_text(volume.files[0].stem) if volume.files else "" for volume in volumes]
    taken: set[str] = set()
    for volume, name, stem in zip(volumes, names, stems, strict=True):
        if names.count(name) > 1 and stem and not name.startswith(stem):
            name = f"{stem} {name}"
        base, number = name, 2
        while name in taken:
            name, number = f"{base} {number}", number + 1
        taken.add(name)
        yield replace(volume, name=name, notes=tuple(plain_text(note) for note in volume.notes))


def _uses(folder: Path, used: set[Path]) -> bool:
    return any(folder in file.parents for file in used)


def choose(inspection: Inspection, select: str | None, take_all: bool) -> list[Volume]:
    """Return the volumes that the user means: one by name or number, all, or the default.

    Raises
    ------
    NotFound
        No volume has that name or number; the message lists those there are.
    InvalidInput
        Kind ``ambiguous_source``: there are several data sets and none was chosen.
    """
    volumes = inspection.volumes
    names = "; ".join(f"{k}: {v.name} {'x'.join(map(str, v.shape))} {v.dtype}" for k, v in enumerate(volumes[:LISTED], 1))
    if len(volumes) > LISTED:
        names += f"; and {len(volumes) - LISTED} more, see `emstore inspect`"
    if select is not None and take_all:
        raise InvalidInput("--select and --all exclude each other")
    if take_all:
        return list(volumes)
    if select is not None:
        found = [v for v in volumes if v.name == select]
        if not found and select.isdigit() and 1 <= int(select) <= len(volumes):
            found = [volumes[int(select) - 1]]
        if not found:
            raise NotFound(f"no signal is called {select!r}", fix=f"there are {names}")
        return found
    if inspection.default is None:
        raise InvalidInput(
            f"there are {len(volumes)} data sets: {names}",
            fix="choose one with --select NAME (or its number), or take each with --all",
            kind=Kind.AMBIGUOUS_SOURCE,
        )
    return [volumes[inspection.default]]
