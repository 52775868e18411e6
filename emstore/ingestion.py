"""Raw files in, sealed versions out: the first use case.

Match an adapter, open the volumes, choose (all in `emstore.inspection`), then for each one reserve a version, stream the data,
and seal it with its Record.
"""

import re
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import emstore
from emstore import fingerprint, registry
from emstore.errors import Damaged, Interrupted, InvalidInput, Kind, NotFound
from emstore.events import Advanced, Finished, Listener, Noted, Started, silent
from emstore.geometry import AxisKind
from emstore.inspection import Inspection, choose, open_source
from emstore.labels import as_labels
from emstore.provenance import environment
from emstore.provenance.record import Activity, Left, Random, Record, Software, SourceFile
from emstore.source import Source
from emstore.store import (
    LONGEST_NAME,
    Place,
    Store,
    Transaction,
    Version,
    begin,
    canonical,
    digest,
    load,
    open_version,
    plan_version,
    resolve_target,
    seal_volume,
)
from emstore.store.plan import same_plan
from emstore.volume import Volume

DEFAULT_MEMORY: Final = 1 << 30
"""Memory budget of the whole process unless the caller states one, bytes."""


@dataclass(frozen=True)
class Ingested:
    """One result of an ingest."""

    version: Version
    created: bool
    """``False`` when exactly this had been ingested before and the existing version is returned."""


def ingest(
    paths: Sequence[str | Path],
    target: str,
    *,
    adapter: str | None = None,
    select: str | None = None,
    take_all: bool = False,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    labels: bool = False,
    memory: int = DEFAULT_MEMORY,
    pyramid: bool = True,
    allow_partial: bool = False,
    plan_told: Mapping[str, Any] | None = None,
    listener: Listener = silent,
) -> list[Ingested]:
    """Turn raw files into sealed versions.

    Parameters
    ----------
    paths : sequence of path
        Files and folders that belong together.
    target : str
        ``STORE/DATASET/ARRAY``. With several volumes each goes to ``ARRAY-<its name>``.
    adapter : str, optional
        Adapter to use; found by content when left out.
    select : str, optional
        Name, or number from 1, of the one volume to take.
    take_all : bool
        Take every volume.
    spacing : sequence of float, optional
        Distance between samples of the spatial axes in array order (``z, y, x``), in `unit`, where the source does not say.
    unit : str, optional
        Unit of `spacing`; must be given with it.
    labels : bool
        The values are labels (a mask, a segmentation), whatever the source says of them: no value is ever averaged. Whole
        numbers in floats become int32, booleans uint8. Any other value ends the ingest.
    memory : int
        Budget for the whole process, bytes.
    pyramid : bool
        Also write coarser scale levels.
    allow_partial : bool
        Go on without data that cannot be read; the Record then names it.
    plan_told : mapping, optional
        How another version says it was laid out (``record.params["plan"]``): do it likewise, where that can still be done.
    listener : callable
        Told of progress.

    Returns
    -------
    list of Ingested
        One per volume taken, in order.

    Raises
    ------
    InvalidInput, NotFound, SourceUnreadable, SourceIncomplete, Capacity, Conflict, StorageFailed
        See `emstore.errors`. Nothing is visible unless whole; the same call resumes what was interrupted.
    """
    store, place = resolve_target(target)
    assert place.array is not None
    with Source.of(paths, allow_partial=allow_partial) as source:
        inspection = open_source(*registry.match(source, name=adapter), source)
        for left in inspection.skipped:
            listener(Noted(target, f"left out {left.name}: {left.reason}"))
        chosen = [_with_spacing(v, spacing, unit) for v in choose(inspection, select, take_all)]
        chosen = [as_labels(v) for v in chosen] if labels else chosen
        if select is None and not take_all and (others := len(inspection.volumes) - 1):
            listener(
                Noted(target, f"{others} more signal{'s' * (others > 1)} not taken; see `emstore inspect`, --select and --all")
            )
        packed = {path: i.packed_in for i in source.items if i.packed_in is not None for path in (i.path, i.path.resolve())}
        names = _array_names(place.array, chosen)
        store.backend.probe()
        job = _Job(store, inspection, packed, labels, memory, pyramid, allow_partial, plan_told, listener, {})
        return [_ingest_one(job, Place(place.dataset, name), volume) for name, volume in zip(names, chosen, strict=True)]


@dataclass(frozen=True)
class _Job:
    """What all volumes of one ingest share."""

    store: Store
    inspection: Inspection
    packed: dict[Path, Path]
    labels: bool
    memory: int
    pyramid: bool
    allow_partial: bool
    plan_told: Mapping[str, Any] | None
    listener: Listener
    digests: dict[fingerprint.Fingerprint, str]
    """Digests of source files already known: several volumes may come from one file."""


def _ingest_one(job: _Job, place: Place, volume: Volume) -> Ingested:
    started = datetime.now(UTC)
    marks = [fingerprint.Fingerprint.of(job.packed.get(file, file)) for file in volume.files]
    plan = None if job.plan_told is None else same_plan(volume, job.plan_told, memory=job.memory)
    plan = plan or plan_version(volume, pyramid=job.pyramid, memory=job.memory)
    adapter = registry.adapter(job.inspection.adapter)
    params: dict[str, Any] = {
        "adapter": adapter.name,
        "adapter_version": adapter.version,
        "volume": volume.name,
        "grid": volume.grid.to_json(),
        "plan": plan.to_json(),
        "allow_partial": job.allow_partial,
    }
    if job.labels:
        params["labels"] = True
    settings = digest(
        canonical(
            {
                "activity": "ingest",
                "emstore": emstore.__version__,
                "params": params,
                "sources": [[m.name, m.size, m.modified] for m in marks],
                "skipped": [[s.name, s.reason] for s in job.inspection.skipped],
            }
        )
    )
    if (same := _made_of_the_same(job, place, params, settings, marks)) is not None:
        return Ingested(same, created=False)
    held = begin(job.store.backend, place, settings=settings, task=f"ingest {volume.name}", store_id=job.store.id)
    if not isinstance(held, Transaction):
        return Ingested(load(job.store, held.place), created=False)
    task = f"{job.store.url}/{held.place}"
    job.listener(Started(task, volume.nbytes))
    for note in volume.notes:
        job.listener(Noted(task, note))
    unhashed = [mark for mark in marks if mark not in job.digests]
    hasher = fingerprint.Hasher([mark.path for mark in unhashed], volume.nbytes)

    def advance(count: int) -> None:
        hasher.advance(count)
        job.listener(Advanced(task, count))

    def record() -> Record:
        job.digests.update(zip(unhashed, hasher.result(), strict=True))
        for mark in marks:
            mark.check_unchanged()
        return _record(job, volume, params, marks, started)

    try:
        seal_volume(held, volume, plan, record, advance=advance)
    except KeyboardInterrupt as error:
        held.release()
        raise Interrupted("stopped on request", where=task, fix="run the same command again: it resumes") from error
    except BaseException as error:
        if getattr(error, "kind", None) == Kind.SOURCE_CHANGED:
            held.abort("the source changed while it was read")
        else:
            held.release()
        raise
    finally:
        hasher.close()
    version = load(job.store, held.place)
    job.listener(Finished(task, version.id))
    return Ingested(version, created=True)


def _made_of_the_same(
    job: _Job, place: Place, params: dict[str, Any], settings: str, marks: list[fingerprint.Fingerprint]
) -> Version | None:
    """Return the latest version when it was made in the same way of the same bytes, and only the files' times differ.

    A copied or touched file is not a new one. The files are read only when their names and sizes agree.
    """
    try:
        latest = open_version(f"{job.store.url}/{place}")
    except (NotFound, Damaged):
        return None
    record = latest.record
    made_alike = (
        record.params_digest == digest(canonical(params))
        and Software(name="emstore", version=emstore.__version__) in record.software
        and [(s.name, s.reason) for s in record.skipped] == [(s.name, s.reason) for s in job.inspection.skipped]
        and [(s.name, s.size) for s in record.sources] == [(m.name, m.size) for m in marks]
    )
    if not made_alike or latest.info.settings == settings:  # with equal times `begin` finds it without reading anything
        return None
    unhashed = [mark for mark in marks if mark not in job.digests]
    hasher = fingerprint.Hasher([mark.path for mark in unhashed], 1)
    try:
        job.digests.update(zip(unhashed, hasher.result(), strict=True))
    finally:
        hasher.close()
    return latest if [s.digest for s in record.sources] == [job.digests[mark] for mark in marks] else None


def _record(
    job: _Job,
    volume: Volume,
    params: dict[str, Any],
    marks: list[fingerprint.Fingerprint],
    started: datetime,
) -> Record:
    plugin = registry.adapters()[job.inspection.adapter]
    us = Software(name="emstore", version=emstore.__version__)
    theirs = Software(name=plugin.package, version=plugin.package_version)
    return Record(
        activity=Activity(
            id=f"urn:uuid:{uuid.uuid4()}",
            type="ingest",
            name=job.inspection.adapter,
            started=started,
            ended=datetime.now(UTC),
        ),
        sources=tuple(
            SourceFile(
                name=mark.name, size=mark.size, digest=job.digests[mark], format=volume.file_format or volume.header.format
            )
            for mark in marks
        ),
        params=params,
        params_digest=digest(canonical(params)),
        software=(us,) if theirs == us else (us, theirs),
        environment=environment.current(),
        random=Random(deterministic=True),
        agent=us,
        skipped=tuple(Left(name=s.name, reason=s.reason) for s in job.inspection.skipped),
        ignored=tuple(Left(name=s.name, reason=s.reason) for s in job.inspection.ignored),
        notes=volume.notes,
    )


def _with_spacing(volume: Volume, spacing: Sequence[float] | None, unit: str | None) -> Volume:
    if spacing is None and unit is None:
        return volume
    if spacing is None or unit is None:
        raise InvalidInput(
            "--spacing and --unit belong together", fix="give both, e.g. --spacing 10,5,5 --unit nm", kind=Kind.BAD_UNIT
        )
    axes = [axis.name for axis in volume.grid.axes if axis.kind is AxisKind.SPACE]
    if len(axes) != len(spacing):
        raise InvalidInput(
            f"{len(spacing)} spacings for the {len(axes)} spatial axes {','.join(axes)}", where=volume.name, kind=Kind.BAD_SPACING
        )
    given = dict(zip(axes, spacing, strict=True))
    grid = volume.grid.with_spacing(given, unit)
    said = ", ".join(f"{name} {value:g}" for name, value in given.items())
    return replace(volume, grid=grid, notes=(*volume.notes, f"Spacing set by hand: {said} {unit}."))


def _array_names(array: str, volumes: Sequence[Volume]) -> list[str]:
    """Return a name per volume, ``ARRAY-<signal>``; where that is too long, each part gets half the room at least."""
    if len(volumes) == 1:
        return [array]
    slugs = [re.sub(r"[^a-z0-9]+", "-", volume.name.lower()).strip("-") or "signal" for volume in volumes]
    spread = Counter(word for slug in slugs for word in set(slug.split("-")))
    room = LONGEST_NAME - 1
    stem = _without_middle(array, max(room // 2, room - max(map(len, slugs))))
    names: list[str] = []
    for slug in slugs:
        name, count = f"{stem}-{_telling(slug, spread, room - len(stem))}", 2
        while name in names:
            number = f"-{count}"
            name, count = f"{stem}-{_telling(slug, spread, room - len(stem) - len(number))}{number}", count + 1
        names.append(name)
    return names


def _telling(slug: str, spread: Mapping[str, int], longest: int) -> str:
    """Return a signal's name cut to a length: the words that the fewest other signals have are kept, then the first ones."""
    if len(slug) <= longest:
        return slug
    words = slug.split("-")
    kept: list[int] = []
    for i in sorted(range(len(words)), key=lambda i: (spread[words[i]], i)):
        if len("-".join(words[k] for k in (*kept, i))) <= longest:
            kept.append(i)
    return "-".join(words[i] for i in sorted(kept)) or _without_middle(slug, longest)


def _without_middle(name: str, longest: int) -> str:
    """Return a name cut to a length; both its ends stay."""
    if len(name) <= longest:
        return name
    tail = (longest - 1) // 2
    return f"{name[: longest - 1 - tail].rstrip('-._')}-{name[-tail:].lstrip('-._')}"
