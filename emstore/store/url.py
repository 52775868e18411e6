"""From a path or URL to a Backend, and from a reference to a store and a place in it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from emstore.errors import InvalidInput, Kind, NotFound
from emstore.store.backend import Backend
from emstore.store.layout import Place

_REMOTE: Final = {"s3": "S3Store", "s3a": "S3Store", "gs": "GCSStore", "az": "AzureStore", "azure": "AzureStore"}
_WEB: Final = ("http", "https")


@dataclass(frozen=True)
class Ref:
    """A reference as the user wrote it, split into its store and the place in it."""

    store: str
    """Path or URL of the store, without a trailing slash."""
    place: Place

    def __str__(self) -> str:
        return f"{self.store}/{self.place}" if str(self.place) else self.store


def open_backend(url: str) -> Backend:
    """Return the storage at a path or URL. Sends no request.

    Parameters
    ----------
    url : str
        A path, or a ``file:// s3:// gs:// az://`` URL; ``http(s)://`` for reading. Credentials come from the environment,
        never from the URL.
    """
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise InvalidInput(
            "a URL must not carry credentials", where=_clean(url), fix="set them in the environment", kind=Kind.BAD_REF
        )
    if parts.scheme in _REMOTE:
        return Backend(_remote(parts.scheme, url), _clean(url))
    if parts.scheme in _WEB:
        from obstore.store import HTTPStore

        return Backend(HTTPStore.from_url(url, client_options={"allow_http": True}), _clean(url))
    if "://" in url and parts.scheme != "file":
        raise InvalidInput(
            f"{parts.scheme}:// is not a storage emstore knows", fix="use a path or s3:// gs:// az://", kind=Kind.BAD_REF
        )
    from obstore.store import LocalStore

    root = Path(parts.path if parts.scheme == "file" else url).expanduser()
    root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links
    if not root.is_dir():
        raise NotFound("there is no such folder", where=str(url))
    return Backend(LocalStore(root), str(url).rstrip("/"), root)


def is_remote(url: str) -> bool:
    """Whether a reference leads to an object store or web server rather than a local path."""
    return urlsplit(url).scheme in (*_REMOTE, *_WEB)


def split(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the part of a reference that cannot be split (``s3://bucket``, ``/`` or the first folder) and the rest's names."""
    parts = urlsplit(text)
    if parts.scheme in (*_REMOTE, *_WEB):
        names = tuple(p for p in parts.path.split("/") if p)
        if any(p in (".", "..") for p in names):
            raise InvalidInput("a URL must not hold . or ..", where=_clean(text), kind=Kind.BAD_REF)
        return urlunsplit((parts.scheme, parts.netloc, "", "", "")), names
    raise InvalidInput("not a URL", where=text)


def candidates(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the ways to split a reference into a store and up to three names below it, deepest store first."""
    if not text:
        raise InvalidInput("the reference is empty", kind=Kind.BAD_REF)
    if is_remote(text):
        base, names = split(text)
        return [("/".join([base, *names[: len(names) - k]]), names[len(names) - k :]) for k in range(min(3, len(names)) + 1)]
    path = Path(text.removeprefix("file://"))
    found = []
    tail: tuple[str, ...] = ()
    for _ in range(4):
        found.append((str(path), tail))
        if path.name in ("", ".", "..") or path.parent == path:
            break
        tail = (path.name, *tail)
        path = path.parent
    return found


def _remote(scheme: str, url: str) -> Any:
    import obstore.store

    options: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if _REMOTE[scheme] == "S3Store" and endpoint:
        options["endpoint"] = endpoint
        options["client_options"] = {"allow_http": endpoint.startswith("http://")}
    return getattr(obstore.store, _REMOTE[scheme]).from_url(url, **options)


def _clean(url: str) -> str:
    parts = urlsplit(url)
    if not parts.scheme:
        return url
    host = parts.hostname or ""
    return urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", "")).rstrip("/")
