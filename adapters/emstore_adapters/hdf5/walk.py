"""What is inside an HDF5 file: every dataset that could be data, and why the others are not. Never leaves the file.

Only hard links and soft links that stay inside the file are followed. External links, raw data kept in other files and
virtual datasets over other files are how a hostile file would read what it should not, and how data goes missing
silently: each is named instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from emstore.errors import Capacity

if TYPE_CHECKING:
    import h5py

MAX_OBJECTS: Final = 200_000
MAX_DEPTH: Final = 64
MAX_MAPPINGS: Final = 10_000
"""A virtual dataset may be pieced together from at most this many parts."""


@dataclass
class Inventory:
    """Every object of a file by its path (no leading slash), in the file's own order."""

    groups: dict[str, "h5py.Group"] = field(default_factory=dict)
    numeric: dict[str, "h5py.Dataset"] = field(default_factory=dict)
    """Datasets of numbers with at least one axis and more than one value, once each."""
    aliases: dict[str, list[str]] = field(default_factory=dict)
    """Other paths of a numeric dataset."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Path -> why it is not data."""
    refused: dict[str, str] = field(default_factory=dict)
    """Path -> why data that is declared there is not read."""

    paths: dict[Any, str] = field(default_factory=dict)
    """Address of an object in the file -> its path."""

    def canonical(self, item: "h5py.Group | h5py.Dataset | None") -> str | None:
        """Return the path under which an object is listed, or ``None`` if it is not."""
        return None if item is None else self.paths.get(_address(item))


def take_inventory(file: "h5py.File", where: str) -> Inventory:
    """List a file's objects without following anything out of it.

    Raises
    ------
    Capacity
        More than `MAX_OBJECTS` objects, or groups nested deeper than `MAX_DEPTH`.
    """
    import h5py

    found = Inventory()
    seen = found.paths
    seen[_address(file)] = ""
    found.groups[""] = file
    stack = [("", _children(file, "", found))]
    count = 0
    while stack:
        above, children = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            continue
        count += 1
        if count > MAX_OBJECTS or len(stack) > MAX_DEPTH:
            raise Capacity(f"more than {MAX_OBJECTS} objects or {MAX_DEPTH} levels in one HDF5 file", where=where)
        name, item = child
        path = f"{above}/{name}" if above else name
        address = _address(item)
        if address in seen:
            if seen[address] in found.numeric:
                found.aliases.setdefault(seen[address], []).append(path)
            continue
        seen[address] = path
        if isinstance(item, h5py.Group):
            found.groups[path] = item
            stack.append((path, _children(item, path, found)))
        elif isinstance(item, h5py.Dataset):
            _sort_in(file, path, item, found)
    return found


def inside(file: "h5py.Group", path: str) -> "h5py.Group | h5py.Dataset | None":
    """Return the object at a path reached through links that stay inside the file, else ``None``."""
    import h5py

    at: Any = file
    parts = [part for part in path.split("/") if part and part != "."]
    if path.startswith("/"):
        at = file.file
    hops = 0
    while parts:
        hops += 1
        if hops > MAX_DEPTH * 2 or not isinstance(at, h5py.Group):
            return None
        name = parts.pop(0)
        link = at.get(name, getlink=True)
        if isinstance(link, h5py.SoftLink):
            target = link.path
            parts = [part for part in target.split("/") if part and part != "."] + parts
            at = at.file if target.startswith("/") else at
        elif isinstance(link, h5py.HardLink):
            at = at[name]
        else:
            return None
    return at if isinstance(at, h5py.Group | h5py.Dataset) else None


def _children(group: "h5py.Group", path: str, found: Inventory) -> Iterator[tuple[str, Any]]:
    """Yield hard-linked children first, then in-file aliases, so that an object is listed under its own path."""
    import h5py

    soft = []
    for name in group:
        link = group.get(name, getlink=True)
        here = f"{path}/{name}" if path else name
        if isinstance(link, h5py.HardLink):
            if name == "#refs#" and not path:
                continue  # MATLAB's pool of cell-array parts
            yield name, group[name]
        elif isinstance(link, h5py.ExternalLink):
            found.ignored[here] = f"a link to {link.path} in another file, {link.filename!r}: not followed; open that file itself"
        elif isinstance(link, h5py.SoftLink):
            soft.append((name, here, link))
    for name, here, link in soft:
        item = inside(group, link.path)
        if item is None:
            found.ignored[here] = f"a link to {link.path}, which is not in this file"
        elif isinstance(item, h5py.Dataset):
            yield name, item


def _sort_in(file: "h5py.File", path: str, dataset: "h5py.Dataset", found: Inventory) -> None:
    if dataset.shape is None or dataset.ndim == 0 or dataset.size <= 1:
        return  # a single value is metadata; the header keeps it
    kind = dataset.dtype.kind
    if dataset.dtype.subdtype is not None or kind not in "biufcV" or (kind == "V" and colours(dataset) is None):
        what = "a table" if dataset.dtype.names else "text, references or objects"
        found.ignored[path] = f"{what} of type {dataset.dtype}: not an array of numbers"
        return
    if 0 in dataset.shape:
        found.ignored[path] = f"empty, shape {dataset.shape}"
        return
    problem = outside(file, dataset)
    if problem is not None:
        found.refused[path] = problem
        return
    found.numeric[path] = dataset


def subgroups(group: "h5py.Group | h5py.Dataset | None") -> "list[h5py.Group]":
    """Return the groups right below a group, none for anything else."""
    import h5py

    if not isinstance(group, h5py.Group):
        return []
    found = (inside(group, name) for name in group)
    return [item for item in found if isinstance(item, h5py.Group)]


def colours(dataset: "h5py.Dataset") -> tuple[str, ...] | None:
    """Return the channel names of a struct that is one colour: the same type per channel, packed, named r, g, b (a)."""
    dtype = dataset.dtype
    names = dtype.names
    if names is None or len(names) not in (3, 4) or {n.lower()[:1] for n in names} not in ({*"rgb"}, {*"rgba"}):
        return None
    types = {dtype[name] for name in names}
    packed = sum(dtype[name].itemsize for name in names) == dtype.itemsize
    return tuple(names) if len(types) == 1 and packed and next(iter(types)).kind in "uif" else None


def outside(file: "h5py.File", dataset: "h5py.Dataset") -> str | None:
    """Say why a dataset's values are not all inside this file; ``None`` when they are."""
    import h5py

    if dataset.external:
        return f"its values are kept in another file, {dataset.external[0][0]!r}: not followed"
    if not dataset.is_virtual:
        return None
    sources = dataset.virtual_sources()
    if len(sources) > MAX_MAPPINGS:
        return f"pieced together from {len(sources)} parts; at most {MAX_MAPPINGS} are read"
    for source in sources:
        if source.file_name != ".":
            return f"a virtual dataset over another file, {source.file_name!r}: not followed; open that file itself"
        part = inside(file, "/" + source.dset_name.lstrip("/"))
        if not isinstance(part, h5py.Dataset) or part.is_virtual or part.external:
            return f"a virtual dataset over {source.dset_name!r}, which is not a plain dataset of this file"
    return None


def _address(item: "h5py.Group | h5py.Dataset") -> Any:
    import h5py

    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr
