"""Proving that a version is exactly what was sealed."""

from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum

from emstore.errors import EmstoreError, NotFound
from emstore.store.documents import (
    ArrayInfo,
    DatasetInfo,
    Manifest,
    ManifestEntry,
    Tombstone,
    VersionInfo,
    digest,
    group_document,
)
from emstore.store.layout import LEASES, MANIFEST, NODE, TXN, Place
from emstore.store.listing import seal_is_gone
from emstore.store.store import Store
from emstore.store.transaction import numbers
from emstore.store.version import parse_seal


class Problem(StrEnum):
    """What is wrong with an object."""

    MISSING = "missing"
    SIZE = "wrong size"
    CONTENT = "wrong content"
    SWAPPED = "holds another object's content"
    EXTRA = "not part of the version"
    LINK = "is a link"
    UNREADABLE = "cannot be read"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    key: str
    """Relative to the store."""
    problem: Problem
    detail: str = ""


@dataclass
class Verification:
    """What `verify` found for one version, or for a dataset or array whose own document is damaged."""

    place: Place
    version_id: str | None
    objects: int = 0
    nbytes: int = 0
    """Stored bytes; hashed bytes when the data was checked."""
    data: bool = False
    """Whether every byte was hashed."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the version is exactly what was sealed."""
        return not self.findings


def verify(
    store: Store, place: Place, *, data: bool = False, advance: Callable[[int], None] = lambda n: None
) -> list[Verification]:
    """Check every sealed version at or below a place; unfinished and aborted ones are not an error.

    Parameters
    ----------
    store, place : Store, Place
        What to check.
    data : bool
        Hash every byte, not only look at presence and size.
    advance : callable
        Called with the number of bytes checked since the last call.
    """
    if place.version is not None:
        checked = _check(store, place, data, advance)
        if checked is None:
            raise NotFound("there is no such sealed version", where=f"{store.url}/{place}", fix="see `emstore status`")
        return [checked]
    found: list[Verification] = []
    for dataset in [place.dataset] if place.dataset else _names(store, ""):
        arrays = [place.array] if place.array else _names(store, f"{dataset}/")
        ours = {array: _numbers(store, Place(dataset, array)) for array in arrays}
        found += _group(store, Place(dataset), any(ours.values()))
        for array, reserved in ours.items():
            found += _group(store, Place(dataset, array), bool(reserved))
            for number in reserved:
                checked = _check(store, Place(dataset, array, number), data, advance)
                if checked is not None:
                    found.append(checked)
    if place.prefix and not found and store.backend.find(place.prefix + NODE) is None:
        raise NotFound("there is nothing by that name", where=f"{store.url}/{place}", fix="see `emstore ls`")
    return found


def _names(store: Store, prefix: str) -> list[str]:
    return [name for name in store.backend.children(prefix) if not name.startswith(".")]


def _numbers(store: Store, array: Place) -> list[int]:
    """Return the version numbers of an array that something of ours lies under."""
    keys = [(n, Place(array.dataset, array.array, n).prefix) for n in numbers(store.backend, array)]
    return [n for n, prefix in keys if any(store.backend.find(prefix + key) is not None for key in (NODE, TXN))]


def _group(store: Store, place: Place, ours: bool) -> Iterator[Verification]:
    """Check the document of a dataset or array; a folder without one is a stranger's unless versions lie below."""
    key = place.prefix + NODE
    body = store.backend.find(key)
    if body == group_document(ArrayInfo() if place.array else DatasetInfo()) or (body is None and not ours):
        return
    yield Verification(place, None, findings=[Finding(key, Problem.MISSING if body is None else Problem.CONTENT)])


def _check(store: Store, place: Place, data: bool, advance: Callable[[int], None]) -> Verification | None:
    backend = store.backend
    body = backend.find(place.prefix + NODE)
    result = Verification(place, None, data=data)
    if body is None:
        if not seal_is_gone(store, place):
            return None
        result.findings.append(Finding(place.prefix + NODE, Problem.MISSING))
        return result
    try:
        _, info = parse_seal(body, f"{store.url}/{place}")
        if isinstance(info, Tombstone):
            return None
    except EmstoreError as error:
        result.findings.append(Finding(place.prefix + NODE, Problem.CONTENT, error.what))
        return result
    result.version_id = info.seal
    if info.path != str(place) or info.store_id != store.id:
        result.findings.append(Finding(place.prefix + NODE, Problem.SWAPPED, _sealed_as(info, store)))
    manifest_body = backend.find(place.prefix + MANIFEST)
    if manifest_body is None:
        result.findings.append(Finding(place.prefix + MANIFEST, Problem.MISSING))
        return result
    if digest(manifest_body) != info.manifest:
        result.findings.append(Finding(place.prefix + MANIFEST, Problem.CONTENT))
        return result
    manifest = Manifest.model_validate_json(manifest_body)
    result.objects = len(manifest.objects) + 2
    result.findings += _presence(store, place, manifest)
    bad = {finding.key for finding in result.findings}
    intact = [entry for entry in manifest.objects if not _within(place.prefix + entry.key, bad)]
    if data:
        result.findings += _content(store, place, manifest, intact, advance)
    result.nbytes = sum(entry.size for entry in intact)
    result.findings.sort(key=lambda f: f.key)
    return result


def _sealed_as(info: VersionInfo, store: Store) -> str:
    return f"it was sealed as {info.path}{'' if info.store_id == store.id else ' of another store'}"


def _presence(store: Store, place: Place, manifest: Manifest) -> Iterator[Finding]:
    prefix = place.prefix
    there = {entry.key: entry.size for entry in store.backend.entries(prefix)}
    expected = {prefix + entry.key: entry.size for entry in manifest.objects}
    hidden = {key: store.backend.path(key) for key in store.backend.leftovers(prefix)}
    links = {key for key, path in hidden.items() if path is not None and path.is_symlink()}
    for key in hidden:
        yield Finding(key, Problem.LINK if key in links else Problem.EXTRA)
    # What a link stands for is said once.
    behind = {key for key in {*there, *expected} if _within(key, links)} if links else set()
    expected = {key: size for key, size in expected.items() if key not in behind}
    for key, size in expected.items():
        if key not in there:
            yield Finding(key, Problem.MISSING)
        elif there[key] != size:
            yield Finding(key, Problem.SIZE, f"{there[key]} bytes, sealed with {size}")
    own = {prefix + NODE, prefix + MANIFEST}
    for key in there:
        if key not in expected and key not in own | behind and not key.startswith(prefix + LEASES):
            yield Finding(key, Problem.EXTRA)


def _within(key: str, keys: Container[str]) -> bool:
    """Whether a key, or a folder it lies in, is one of `keys`."""
    parts = key.split("/")
    return any("/".join(parts[:n]) in keys for n in range(len(parts), 0, -1))


def _content(
    store: Store, place: Place, manifest: Manifest, entries: list[ManifestEntry], advance: Callable[[int], None]
) -> Iterator[Finding]:
    by_digest = {entry.digest: entry.key for entry in manifest.objects}

    def look(entry: ManifestEntry) -> Finding | None:
        key = place.prefix + entry.key
        try:
            _, found = store.backend.digest(key)
        except EmstoreError as error:
            return Finding(key, Problem.UNREADABLE, error.what)
        advance(entry.size)
        if found == entry.digest:
            return None
        other = by_digest.get(found)
        return Finding(key, Problem.CONTENT) if other is None else Finding(key, Problem.SWAPPED, f"that of {other}")

    with ThreadPoolExecutor(4) as pool:
        yield from (finding for finding in pool.map(look, entries) if finding is not None)
