"""Groups and arrays of a Zarr folder, read from their metadata documents alone.

Zarr v2 keeps them in ``.zgroup``, ``.zarray`` and ``.zattrs``, v3 in ``zarr.json``. No path that a document names may lead out
of the folder, neither by ``..`` nor by a symbolic link.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from emstore.errors import Capacity, SourceUnreadable
from emstore.header import RawHeader
from emstore.source import natural_key

MAX_DOCUMENT: Final = 64 << 20
MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 32


@dataclass(frozen=True)
class Node:
    """One group or array."""

    root: Path
    """The store's folder."""
    path: str
    """Path below it, ``""`` for the root itself."""
    where: str
    """Name for errors."""
    format: int
    """Zarr format, 2 or 3."""
    is_array: bool
    attributes: Mapping[str, Any]
    metadata: Mapping[str, Any]
    """The whole ``zarr.json``, ``.zarray`` or ``.zgroup``."""
    files: tuple[Path, ...]
    """The documents it was read from."""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.root / self.path

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    def below(self, path: str) -> "Node":
        """Return the node at a path below this one.

        Raises
        ------
        SourceUnreadable
            There is none, or the path leads out of the store.
        """
        node = read_node(self.root, f"{self.path}/{path}" if self.path else path, self.where)
        if node is None:
            raise SourceUnreadable(f"it names {path!r}, which is not there", where=f"{self.where}/{self.path}".rstrip("/"))
        return node

    def children(self) -> Iterator["Node"]:
        """Yield the groups and arrays right below a group, in natural order."""
        entries = sorted(self.folder.iterdir(), key=lambda entry: natural_key(entry.name))
        for entry in entries:
            if entry.name.startswith(".") or entry.is_symlink() or not entry.is_dir():
                continue
            node = read_node(self.root, f"{self.path}/{entry.name}" if self.path else entry.name, self.where)
            if node is not None:
                yield node

    def raw(self) -> tuple[RawHeader, ...]:
        """Return its documents byte for byte; the folders are spelled with dots: ``labels.cells.zarr.json``."""
        prefix = "".join(f"{part}." for part in self.path.split("/") if part)
        return tuple(RawHeader(f"{prefix}{file.name.lstrip('.')}", file.read_bytes) for file in self.files if file.stat().st_size)


def read_node(root: Path, path: str, where: str) -> Node | None:
    """Read the group or array at a path of a store, ``None`` when there is neither.

    Raises
    ------
    SourceUnreadable
        The path leads out of the store, or a document is damaged.
    """
    path = checked_path(root, path, where)
    folder = root / path
    here = f"{where}/{path}".rstrip("/")
    file = folder / "zarr.json"
    if file.is_file():
        document = _document(root, file, here)
        return Node(
            root, path, where, 3, document.get("node_type") == "array", _mapping(document.get("attributes")), document, (file,)
        )
    for mark, is_array in ((".zarray", True), (".zgroup", False)):
        file = folder / mark
        if file.is_file():
            extra = folder / ".zattrs"
            attributes = _document(root, extra, here) if extra.is_file() else {}
            files = (file, extra) if extra.is_file() else (file,)
            return Node(root, path, where, 2, is_array, attributes, _document(root, file, here), files)
    return None


def checked_path(root: Path, path: str, where: str) -> str:
    """Return a path of a store without empty parts.

    Raises
    ------
    SourceUnreadable
        It leads out of the store.
    """
    pure = PurePosixPath(path)
    bad = pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or len(path) > 4096
    inside = False
    if not bad:
        try:
            inside = (root / pure).resolve().is_relative_to(root.resolve())
        except (OSError, RuntimeError, ValueError):
            inside = False
    if bad or not inside:
        raise SourceUnreadable(
            f"it names {path[:200]!r}, which leads out of the store", where=where, fix="do not trust this store"
        )
    return "" if pure == PurePosixPath(".") else pure.as_posix()


def arrays_below(node: Node) -> Iterator[Node]:
    """Yield a node if it is an array, else every array below it, depth first.

    Raises
    ------
    Capacity
        More than `MAX_NODES` groups and arrays, or deeper than `MAX_DEPTH`.
    """
    count = 0
    stack = [iter((node,))]
    while stack:
        child = next(stack[-1], None)
        if child is None:
            stack.pop()
            continue
        count += 1
        if count > MAX_NODES or len(stack) > MAX_DEPTH:
            raise Capacity(f"more than {MAX_NODES} groups and arrays, or {MAX_DEPTH} levels", where=node.where)
        if child.is_array:
            yield child
        else:
            stack.append(child.children())


def _document(root: Path, file: Path, where: str) -> Mapping[str, Any]:
    try:
        if not file.resolve().is_relative_to(root.resolve()):
            raise SourceUnreadable(f"{file.name} is a link out of the store", where=where, fix="do not trust this store")
        if file.stat().st_size > MAX_DOCUMENT:
            raise Capacity(f"{file.name} is larger than {MAX_DOCUMENT} bytes", where=where)
        document = json.loads(file.read_bytes())
    except OSError as error:
        if isinstance(error, SourceUnreadable):
            raise
        raise SourceUnreadable(f"{file.name} cannot be read: {error.strerror}", where=where) from error
    except (ValueError, RecursionError) as error:
        raise SourceUnreadable(f"{file.name} is not JSON: {error}", where=where, fix="copy the store again") from error
    if not isinstance(document, dict):
        raise SourceUnreadable(f"{file.name} is not a JSON object", where=where, fix="copy the store again")
    return document


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
