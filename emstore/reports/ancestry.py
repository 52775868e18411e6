"""What a report is drawn from, and what that was made from, as far as the stores at hand hold it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from emstore.errors import EmstoreError, InvalidInput, Kind, NotFound
from emstore.provenance.record import Input
from emstore.reporter import Given
from emstore.store import Place, State, Store, Version, load, open_version, resolve, versions
from emstore.volume import VolumeKind

LONGEST_LABEL: Final = 60
"""Characters: what a legend has room for."""


def labelled(argument: str) -> tuple[str | None, str]:
    """Return label and REF of ``label=REF`` or ``REF``; a path with ``=`` before its first ``/`` is written ``./a=b``.

    Raises
    ------
    InvalidInput
        Kind ``bad_ref``: a label without a REF, or a REF without a label before its ``=``. Kind ``bad_name``: no label to show.
    """
    label, equals, ref = argument.partition("=")
    if not equals or "/" in label or ":" in label:
        return None, argument
    if not label.strip() or not ref:
        raise InvalidInput("a label needs words before = and a version after it", where=argument, kind=Kind.BAD_REF)
    label = label.strip()
    if len(label) > LONGEST_LABEL or label.startswith("_"):
        raise InvalidInput(
            f"a label has at most {LONGEST_LABEL} characters and begins with none of _", where=label[:80], kind=Kind.BAD_NAME
        )
    return label, ref


def gather(arguments: Sequence[str]) -> list[Given]:
    """Open the versions that were named, and what they were made from.

    Parameters
    ----------
    arguments : sequence of str
        ``[label=]REF``; a store or a dataset stands for the latest version of every array in it.

    Returns
    -------
    list of Given
        In the order of the arguments, each once. What they were made from is found in the stores that were named.

    Raises
    ------
    InvalidInput
        One version under two labels, or nothing but what was named before.
    NotFound, Damaged
        As `emstore.open`.
    """
    named: dict[str, tuple[str | None, Version]] = {}
    stores: dict[str, Store] = {}
    for argument in arguments:
        label, ref = labelled(argument)
        for version in _opened(ref):
            before = named.get(version.id, (label, version))[0]
            if before is not None and label is not None and before != label:
                raise InvalidInput(f"it is called both {before!r} and {label!r}", where=version.ref, fix="give it one label")
            named[version.id] = before or label, version
            stores[version.store.id] = version.store
    family = _Family(stores, {id_: label for id_, (label, _) in named.items()})
    return [family.given(version) for _, version in named.values()]


def everything(named: Iterable[Given]) -> list[Given]:
    """Return what was named, then all it was made from, each once."""
    found: dict[int, Given] = {id(given): given for given in named}
    waiting = list(found.values())
    while waiting:
        for _, parent in waiting.pop(0).inputs:
            if parent is not None and id(parent) not in found:
                found[id(parent)] = parent
                waiting.append(parent)
    return list(found.values())


def _opened(ref: str) -> list[Version]:
    store, place = resolve(ref)
    if place.array is not None:
        return [open_version(ref)]
    latest: dict[tuple[str | None, str | None], Version] = {}
    for one in versions(store, place):
        if one.state is State.SEALED:
            latest[one.place.dataset, one.place.array] = load(store, one.place)
    if not latest:
        raise NotFound("there is no sealed version in it", where=ref, fix="see `emstore ls`")
    return list(latest.values())


class _Family:
    """Versions by id, each made into one object."""

    def __init__(self, stores: dict[str, Store], labels: dict[str, str | None]) -> None:
        self._stores = stores
        self._labels = labels
        self._known: dict[str, Given] = {}
        self._lost: set[str] = set()

    def given(self, version: Version) -> Given:
        """Return a version with all it was made from. Ancestors are opened before those made from them: chains may be long."""
        waiting = [version]
        while waiting:
            at = waiting[-1]
            wanted = {one.id: one for one in at.record.inputs if one.id not in self._known and one.id not in self._lost}
            found = {id_: self._found(one, at.store) for id_, one in wanted.items()}
            self._lost |= {id_ for id_, parent in found.items() if parent is None}
            if parents := [parent for parent in found.values() if parent is not None]:
                waiting += parents
                continue
            waiting.pop()
            inputs = tuple((one.role, self._known.get(one.id)) for one in at.record.inputs)
            self._known.setdefault(at.id, replace(self._alone(at), inputs=inputs))
        return self._known[version.id]

    def _found(self, one: Input, home: Store) -> Version | None:
        store = home if one.store is None else self._stores.get(one.store)
        try:
            version = None if store is None else load(store, Place.parse(tuple(one.ref.split("/"))))
        except EmstoreError:  # purged, or never there: the page names it as not found
            return None
        return version if version is not None and version.id == one.id else None

    def _alone(self, version: Version) -> Given:
        return Given(
            ref=str(version.place),
            id=version.id,
            store=version.store.id,
            record=version.record,
            kind=VolumeKind(version.info.volume.kind),
            size=_size(version),
            read=partial(_content, version),
            label=self._labels.get(version.id),
            asked=version.id in self._labels,
        )


def _content(version: Version) -> Any:
    return version.table() if version.is_table else version.weights() if version.is_model else version.volume()


def _size(version: Version) -> str:
    volume = version.info.volume
    if version.is_table:
        return f"{volume.shape[0]} rows" if volume.shape else "a table"
    if version.is_model:
        return "weights"
    return ", ".join(f"{name} {size}" for name, size in zip(volume.dims, volume.shape, strict=True)) + f", {volume.dtype}"


__all__ = ["everything", "gather", "labelled"]
