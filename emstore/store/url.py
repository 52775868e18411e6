"""From a path or URL to a Backend, and from a reference to a store and a place in it."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError

from emstore.errors import InvalidInput, Kind, NotFound
from emstore.store.backend import Backend
from emstore.store.layout import Place

_REMOTE: Final = {"s3": "S3Store", "s3a": "S3Store", "gs": "GCSStore", "az": "AzureStore", "azure": "AzureStore"}
_WEB: Final = ("http", "https")
_CONNECT: Final = timedelta(seconds=5)
_RETRY: Final[Any] = {
    "max_retries": 10,
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=4), "base": 2},
    "retry_timeout": timedelta(seconds=18),
}
"""A busy or restarting service gets twenty seconds to recover; one that is down is told of within half a minute."""


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
    if is_remote(url):
        base, names = split(url)
        clean = "/".join([base, *names])
        scheme = base.partition("://")[0]
        try:
            return Backend(_web(clean) if scheme in _WEB else _remote(scheme, clean), clean)
        except (ValueError, BaseError) as error:
            raise InvalidInput("not a usable URL", where=clean, kind=Kind.BAD_REF) from error
    from obstore.store import LocalStore

    root = local_path(url)
    if not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir() raises for names that are too long
        raise NotFound("there is no such folder", where=str(url))
    return Backend(LocalStore(root), str(url).rstrip("/"), root)


def local_path(text: str) -> Path:
    """Return the absolute path that a path or ``file://`` URL means; links are not followed."""
    try:
        path = Path(text.removeprefix("file://")).expanduser()
    except RuntimeError as error:
        raise NotFound("there is no such user", where=text) from error
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def is_remote(url: str) -> bool:
    """Whether a reference leads to an object store or web server rather than a local path."""
    scheme, found, _ = url.partition("://")
    if not found or "/" in scheme or scheme == "file":
        return False
    if scheme.lower() not in (*_REMOTE, *_WEB):
        raise InvalidInput(
            f"{scheme}:// is not a storage emstore knows", fix="use a path or s3:// gs:// az://", kind=Kind.BAD_REF
        )
    return True


def split(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the host or bucket of a URL (``s3://bucket``) and the names below it.

    Raises
    ------
    InvalidInput
        Kind ``bad_ref``: no usable URL, or one that carries credentials, which no message repeats.
    """
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        base = f"{parts.scheme}://{host}{'' if parts.port is None else f':{parts.port}'}"
    except ValueError:  # its text may repeat a password
        raise InvalidInput("not a usable URL", kind=Kind.BAD_REF) from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidInput(
            "a URL must not carry credentials or parameters",
            where=f"{base}{parts.path}",
            fix="set them in the environment",
            kind=Kind.BAD_REF,
        )
    names = tuple(p for p in parts.path.split("/") if p)
    if not host or any(unquote(p) in (".", "..") or "\\" in p for p in names):
        raise InvalidInput("a URL needs a host or bucket and must not hold . or ..", where=base, kind=Kind.BAD_REF)
    return base, names


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


def _web(url: str) -> Any:
    from obstore.store import HTTPStore

    return HTTPStore.from_url(url, client_options={"allow_http": True, "connect_timeout": _CONNECT}, retry_config=_RETRY)


def _remote(scheme: str, url: str) -> Any:
    import obstore.store

    options: dict[str, Any] = {"retry_config": _RETRY, "client_options": {"connect_timeout": _CONNECT}}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if _REMOTE[scheme] == "S3Store" and endpoint:
        options["endpoint"] = endpoint
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
    return getattr(obstore.store, _REMOTE[scheme]).from_url(url, **options)
