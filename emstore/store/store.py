"""A store: creating one, opening one, and finding what a reference means."""

import json
import uuid
from dataclasses import dataclass

from pydantic import ValidationError

from emstore.errors import Conflict, EmstoreError, InvalidInput, Kind, NotFound, StorageFailed
from emstore.store.backend import Backend
from emstore.store.documents import StoreInfo, canonical
from emstore.store.layout import LAYOUT, NODE, Place
from emstore.store.url import candidates, is_remote, local_path, open_backend


@dataclass(frozen=True)
class Store:
    """An opened store."""

    url: str
    """Path or URL, without credentials."""
    backend: Backend
    info: StoreInfo

    @property
    def id(self) -> str:
        """The store's identity, ``urn:uuid:...``."""
        return self.info.store_id


def create_store(url: str) -> Store:
    """Create an empty store at a path or URL.

    Raises
    ------
    Conflict
        Something is there already.
    StorageFailed
        Kind ``store_unsafe``: the storage does not honour create-only writes.
    """
    if not is_remote(url):
        folder = local_path(url)
        try:
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                what = "there is a store already" if (folder / NODE).exists() else "the folder is not empty"
                raise Conflict(what, where=url, fix="choose another place, or use the store that is there")
            folder.mkdir(parents=True, exist_ok=True)
        except EmstoreError:
            raise
        except OSError as error:
            raise StorageFailed(
                f"a store cannot be made there: {error.strerror}", where=url, fix="choose another place, or check who may write"
            ) from error
    backend = open_backend(url)
    if backend.find(NODE) is not None:
        raise Conflict("there is a store already", where=url, fix="choose another place, or use the store that is there")
    backend.probe()
    info = StoreInfo(store_id=f"urn:uuid:{uuid.uuid4()}")
    body = {"zarr_format": 3, "node_type": "group", "attributes": {"emstore": info.model_dump(mode="json")}}
    if not backend.put_new(NODE, canonical(body)):
        raise Conflict("somebody else created a store here just now", where=url)
    backend.sync([NODE])
    return Store(url, backend, info)


def open_store(url: str) -> Store:
    """Open the store at exactly this path or URL.

    Raises
    ------
    NotFound
        There is no store.
    """
    store = _try_open(url)
    if store is None:
        raise NotFound("there is no emstore store here", where=url, fix=f"create one with `emstore init {url}`")
    return store


def resolve(ref: str) -> tuple[Store, Place]:
    """Find the store a reference lies in, and the place in it.

    Parameters
    ----------
    ref : str
        ``STORE[/DATASET[/ARRAY[/vN]]]``.

    Raises
    ------
    NotFound
        No folder on the way is a store.
    """
    for url, names in candidates(ref):
        store = _try_open(url)
        if store is not None:
            return store, Place.parse(names)
    raise NotFound("there is no emstore store on this path", where=ref, fix="create one with `emstore init STORE`")


def resolve_target(target: str) -> tuple[Store, Place]:
    """Find the store and the array that a new version is to go to.

    Raises
    ------
    InvalidInput
        Kind ``bad_ref``: not STORE/DATASET/ARRAY.
    NotFound
        No folder on the way is a store.
    """
    store, place = resolve(target)
    if place.array is None or place.version is not None:
        raise InvalidInput("the target must be STORE/DATASET/ARRAY", where=target, kind=Kind.BAD_REF)
    return store, place


def _try_open(url: str) -> Store | None:
    try:
        backend = open_backend(url)
    except NotFound:
        return None
    body = backend.find(NODE)
    if body is None:
        return None
    try:
        info = json.loads(body)["attributes"]["emstore"]
        if info["kind"] != "store":
            return None
        if info["layout"] != LAYOUT:
            raise InvalidInput(
                f"this store has layout {info['layout']}; this emstore reads layout {LAYOUT}",
                where=url,
                fix="use the emstore version that wrote it",
                kind=Kind.INVALID_INPUT,
            )
        return Store(url, backend, StoreInfo.model_validate(info))
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        if isinstance(error, InvalidInput):
            raise
        return None
