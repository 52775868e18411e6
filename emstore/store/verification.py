"""Proving that a version is exactly what was sealed."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum

from emstore.errors import EmstoreError, NotFound
from emstore.store.documents import Manifest, ManifestEntry, Tombstone, digest
from emstore.store.layout import LEASES, MANIFEST, NODE, TXN, Place
from emstore.store.listing import places
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
    """What `verify` found for one version."""

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
    found = []
    for array in places(store, place):
        for number in numbers(store.backend, array):
            checked = _check(store, Place(array.dataset, array.array, number), data, advance)
            if checked is not None:
                found.append(checked)
    return found


def _check(store: Store, place: Place, data: bool, advance: Callable[[int], None]) -> Verification | None:
    backend = store.backend
    body = backend.find(place.prefix + NODE)
    if body is None:
        return None
    result = Verification(place, None, data=data)
    try:
        document, info = parse_seal(body, f"{store.url}/{place}")
        if isinstance(info, Tombstone):
            return None
    except EmstoreError as error:
        result.findings.append(Finding(place.prefix + NODE, Problem.CONTENT, error.what))
        return result
    result.version_id = info.seal
    if info.path != str(place) or info.store_id != store.id:
        result.findings.append(Finding(place.prefix + NODE, Problem.SWAPPED, f"it was sealed as {info.path}"))
    manifest_body = backend.find(place.prefix + MANIFEST)
    if manifest_body is None:
        result.findings.append(Finding(place.prefix + MANIFEST, Problem.MISSING))
        return result
    if digest(manifest_body) != info.manifest:
        result.findings.append(Finding(place.prefix + MANIFEST, Problem.CONTENT))
        return result
    manifest = Manifest.model_validate_json(manifest_body)
    del document
    result.objects = len(manifest.objects) + 2
    result.findings += _presence(store, place, manifest)
    bad = {finding.key for finding in result.findings}
    intact = [entry for entry in manifest.objects if place.prefix + entry.key not in bad]
    if data:
        result.findings += _content(store, place, manifest, intact, advance)
    result.nbytes = sum(entry.size for entry in intact)
    result.findings.sort(key=lambda f: f.key)
    return result


def _presence(store: Store, place: Place, manifest: Manifest) -> Iterator[Finding]:
    prefix = place.prefix
    there = {entry.key: entry.size for entry in store.backend.entries(prefix)}
    expected = {prefix + entry.key: entry.size for entry in manifest.objects}
    for key, size in expected.items():
        if key not in there:
            yield Finding(key, Problem.MISSING)
        elif there[key] != size:
            yield Finding(key, Problem.SIZE, f"{there[key]} bytes, sealed with {size}")
    own = {prefix + NODE, prefix + MANIFEST, prefix + TXN}
    for key in there:
        if key not in expected and key not in own and not key.startswith(prefix + LEASES):
            yield Finding(key, Problem.EXTRA)
    for key in store.backend.leftovers(prefix):
        path = store.backend.path(key)
        yield Finding(key, Problem.LINK if path is not None and path.is_symlink() else Problem.EXTRA)


def _content(
    store: Store, place: Place, manifest: Manifest, entries: list[ManifestEntry], advance: Callable[[int], None]
) -> Iterator[Finding]:
    by_digest = {entry.digest: entry.key for entry in manifest.objects}

    def look(entry: ManifestEntry) -> Finding | None:
        key = place.prefix + entry.key
        try:
            found = digest(store.backend.get(key))
        except EmstoreError as error:
            return Finding(key, Problem.UNREADABLE, error.what)
        advance(entry.size)
        if found == entry.digest:
            return None
        other = by_digest.get(found)
        return Finding(key, Problem.CONTENT) if other is None else Finding(key, Problem.SWAPPED, f"that of {other}")

    with ThreadPoolExecutor(4) as pool:
        yield from (finding for finding in pool.map(look, entries) if finding is not None)
