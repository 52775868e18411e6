"""Making a version again from its Record, to see whether the same comes out, bit for bit.

A processed version is processed again from its inputs, found by their ids, and weights are trained again; an ingested one is
read again from its source files, whose digests are checked first; a simulated one is simulated again, with all its parts.
The result goes into a store of its own in the folder for temporary files, is laid out as its Record tells, compared object by
object with the manifest, and deleted; what a killed run left there, by the next one.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emstore import fingerprint, registry
from emstore.blocks.executors import Executor
from emstore.comparison import Difference, compare
from emstore.errors import EmstoreError, Interrupted, InvalidInput, Kind, NotFound
from emstore.events import Listener, silent
from emstore.geometry import AxisKind, Grid
from emstore.ingestion import ingest
from emstore.inspection import choose, open_source
from emstore.lineage.records import WEIGHTS
from emstore.processing import DEFAULT_MEMORY, process
from emstore.provenance.record import Input, Record
from emstore.simulation import simulate
from emstore.source import Source
from emstore.store import Place, Store, Version, create_store, load, open_store, open_version, versions
from emstore.training import train

BY_HAND = "Spacing set by hand: "
"""How the note begins that an ingest makes of ``--spacing``."""
_FOLDER: Final = "emstore-reproduce-"
_STORE: Final = "again.zarr"


@dataclass(frozen=True)
class Change:
    """Something that was otherwise when the version was made."""

    what: str
    then: str | None
    """``None`` when it was not there."""
    now: str | None


@dataclass(frozen=True)
class Reproduction:
    """What came out when a version was made again."""

    version: Version
    """The one that was sealed."""
    differences: tuple[Difference, ...]
    """What is not the same; empty when every object is, bit for bit."""
    changes: tuple[Change, ...]
    """What is not the same in the software and the machine."""
    deterministic: bool
    """What the Record says: whether the same was to be expected at all."""

    @property
    def identical(self) -> bool:
        """Whether all of it came out the same, bit for bit."""
        return not self.differences


def reproduce(
    ref: str,
    sources: Sequence[str | Path] = (),
    *,
    stores: Sequence[str] = (),
    memory: int = DEFAULT_MEMORY,
    device: str | None = None,
    executor: Executor | None = None,
    listener: Listener = silent,
) -> Reproduction:
    """Make a version again and compare.

    Parameters
    ----------
    ref : str
        ``STORE/DATASET/ARRAY[/vN]``.
    sources : sequence of path
        Of an ingested version: the files it was made from, given as they were given to the ingest.
    stores : sequence of str
        Of a processed version: further stores in which its inputs may be, as copies or where they are cited from.
    memory : int, bytes
        Budget of the whole process.
    device : str, optional
        ``cpu`` or ``cuda``; as it was then by default.
    executor : Executor, optional
        As in `emstore.processing.process`.
    listener : callable
        Told of progress.

    Returns
    -------
    Reproduction

    Raises
    ------
    InvalidInput
        The version was not made by an ingest, a process, a simulation or a training; or a source file is not the one it was
        made from (kind ``source_changed``).
    NotFound
        An input is in none of the stores, or the processor or adapter is not installed.
    EmstoreError
        As `emstore.processing.process` and `emstore.ingestion.ingest`.
    """
    version = open_version(ref)
    record = version.record
    again: Callable[[str], Version]
    if sources and record.activity.type != "ingest":
        raise InvalidInput(
            "it was made from other versions or parameters, not from files", where=version.ref, fix="leave the files out"
        )
    if record.activity.type == "process":
        known = [version.store, *map(open_store, stores)]
        inputs = [_find(cited, version, known) for cited in record.inputs if cited.role != WEIGHTS]
        weights = {cited.role: _find(cited, version, known) for cited in record.inputs if cited.role == WEIGHTS}

        def again(target: str) -> Version:
            return process(
                str(record.params["processor"]),
                inputs,
                target,
                params={**record.params["params"], **weights},
                memory=memory,
                executor=executor,
                device=device or str(record.params["device"]),
                plan_told=record.params["plan"],
                pyramid=version.levels > 1,
                listener=listener,
            ).version
    elif record.activity.type == "ingest":
        spacing, unit = _by_hand(record)
        _check_sources(record, sources, version)

        def again(target: str) -> Version:
            [done] = ingest(
                sources,
                target,
                adapter=str(record.params["adapter"]),
                select=str(record.params["volume"]),
                spacing=spacing,
                unit=unit,
                memory=memory,
                allow_partial=bool(record.params["allow_partial"]),
                plan_told=record.params["plan"],
                pyramid=version.levels > 1,
                listener=listener,
            )
            return done.version
    elif record.activity.type == "simulate":
        part = str(record.params["part"])

        def again(target: str) -> Version:
            made = simulate(
                str(record.params["simulator"]),
                target,
                params=record.params["params"],
                memory=memory,
                plans_told={part: record.params["plan"]},
                pyramid=version.levels > 1,
                listener=listener,
            )
            return made[list(record.params["parts"]).index(part)]
    elif record.activity.type == "train":
        known = [version.store, *map(open_store, stores)]
        inputs = [_find(cited, version, known) for cited in record.inputs]

        def again(target: str) -> Version:
            return train(
                str(record.params["trainer"]),
                inputs,
                target,
                params=record.params["params"],
                memory=memory,
                device=device or str(record.params["device"]),
                listener=listener,
            )
    else:
        raise InvalidInput(
            f"its Record says {record.activity.type!r}, which is not done by emstore alone",
            where=version.ref,
            fix="only what `ingest`, `process`, `simulate` and `train` made can be made again",
        )
    with _folder() as folder:
        target = f"{create_store(str(folder / _STORE)).url}/{version.place.dataset}/{version.place.array}"
        try:
            made = again(target)
        except Interrupted as error:
            raise Interrupted("stopped on request", where=version.ref, fix="nothing is kept; run the command again") from error
        except EmstoreError as error:
            if error.kind is Kind.DISK_FULL:
                error.fix = "free some space, or set TMPDIR to a folder that has it"
            raise
        return Reproduction(version, compare(version, made), _changes(record, made.record), record.random.deterministic)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that is gone afterwards, and clear those of runs that were killed.

    A lock on it, which ends with the process whatever becomes of it, says that it is in use.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with contextlib.suppress(OSError), _locked(path, wait=False) as file:
            inside = [each.name for each in path.iterdir()]
            if inside == [_STORE] and os.fstat(file).st_uid == os.getuid():  # nothing that others put there
                shutil.rmtree(path)
    path = Path(tempfile.mkdtemp(prefix=_FOLDER))
    try:
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # where there are no locks, nobody clears anything either
                stack.enter_context(_locked(path, wait=True))  # until then it is empty, which no leftover is
            yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[int]:
    """Lock a folder; an `OSError` where that is not possible, among others since a process has it."""
    import fcntl

    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield file
    finally:
        os.close(file)


def _find(cited: Input, version: Version, stores: Sequence[Store]) -> str:
    """Return a reference to an input: where it is cited, else wherever one of the stores has the very same version."""
    place = Place.parse(tuple(cited.ref.split("/")))
    for store in stores:
        try:
            found = load(store, place)
        except NotFound:
            continue
        if found.id == cited.id:
            return found.ref
    for store in stores:
        for state in versions(store, Place.parse(())):
            if state.info is not None and state.info.seal == cited.id:
                return f"{store.url}/{state.place}"
    where = "another store" if cited.store is not None else "its store"
    raise NotFound(
        f"the input {cited.ref} of {where} is not there ({cited.role}, id {cited.id})",
        where=version.ref,
        fix="name the store that has it with --store",
    )


def _check_sources(record: Record, sources: Sequence[str | Path], version: Version) -> None:
    """Refuse files other than those that the Record names."""
    wanted = {(source.name, source.size, source.digest) for source in record.sources}
    names = ", ".join(source.name for source in record.sources[:5]) + (" ..." if len(record.sources) > 5 else "")
    if not sources:
        raise InvalidInput(f"it was made from {names}", where=version.ref, fix="give these files after the REF")
    with Source.of(sources, allow_partial=bool(record.params["allow_partial"])) as source:
        inspection = open_source(*registry.match(source, name=str(record.params["adapter"])), source)
        [volume] = choose(inspection, str(record.params["volume"]), False)
        packed = {path: i.packed_in for i in source.items if i.packed_in is not None for path in (i.path, i.path.resolve())}
        marks = [fingerprint.Fingerprint.of(packed.get(file, file)) for file in volume.files]
        hasher = fingerprint.Hasher([mark.path for mark in marks], 1)
        try:
            digests = hasher.result()
        finally:
            hasher.close()
    for mark, digest in zip(marks, digests, strict=True):
        if (mark.name, mark.size, digest) not in wanted:
            known = mark.name in {source.name for source in record.sources}
            raise InvalidInput(
                "it is not the file that was ingested: its content differs" if known else "it was not among the files ingested",
                where=mark.name,
                fix=f"give {names} as they were",
                kind=Kind.SOURCE_CHANGED,
            )
    if missing := {name for name, _, _ in wanted} - {mark.name for mark in marks}:
        raise InvalidInput(f"{', '.join(sorted(missing))} was ingested, too", where=version.ref, fix="give every file")


def _by_hand(record: Record) -> tuple[tuple[float, ...] | None, str | None]:
    """Return the spacing that was given with the ingest, from the grid, and its unit as it was written."""
    said = next((note for note in record.notes if note.startswith(BY_HAND)), None)
    if said is None:
        return None, None
    grid = Grid.from_json(record.params["grid"])
    steps = tuple(axis.spacing for axis in grid.axes if axis.kind is AxisKind.SPACE)
    return tuple(step for step in steps if step is not None), said.removesuffix(".").rpartition(" ")[2]


def _changes(then: Record, now: Record) -> tuple[Change, ...]:
    """Return what is not the same in two Records, as far as results may depend on it."""
    old, new = _facts(then), _facts(now)
    return tuple(
        Change(what, old.get(what), new.get(what)) for what in [*old, *(new.keys() - old)] if old.get(what) != new.get(what)
    )


def _facts(record: Record) -> dict[str, str]:
    params: dict[str, Any] = record.params
    facts = {
        "python": record.environment.python,
        "platform": record.environment.platform,
        "device": record.environment.device,
        "installed packages": record.environment.lock,
        **{f"package {each.name}": each.version for each in record.software},
        **{f"model {each.name}": each.digest for each in record.models},
    }
    for what in ("processor", "adapter", "simulator", "trainer"):
        if what in params:
            facts[f"{what} {params[what]}"] = f"version {params[f'{what}_version']}"
    return facts


__all__ = ["Change", "Difference", "Reproduction", "reproduce"]
