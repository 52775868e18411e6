"""From the nodes of a Zarr folder to Volumes."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from emstore.errors import EmstoreError, Kind, SourceUnreadable
from emstore.geometry import Grid
from emstore.header import Header, json_safe
from emstore.source import Source, SourceItem
from emstore.volume import Volume, VolumeKind
from emstore_adapters.zarr import ome, plain
from emstore_adapters.zarr.array import ZarrArray, translated
from emstore_adapters.zarr.nodes import Node, arrays_below, read_node

_COARSER: Final = re.compile(r"^s[1-9]\d*/")
"""Where emstore keeps the coarser levels of a version that OME-Zarr cannot hold."""


def read_volumes(item: SourceItem, source: Source) -> list[Volume]:
    """Return every image of one store, the most image-like first; tell `source` about the rest.

    Raises
    ------
    SourceUnreadable
        Damaged metadata, or nothing in it is an array of numbers.
    """
    with translated(item.name):
        root = read_node(item.path, "", item.name)
        if root is None:
            raise SourceUnreadable("it is no Zarr group or array", where=item.name)
        return _ome_volumes(root, source) if ome.is_ome(root) else _plain_volumes(root, source)


def _ome_volumes(root: Node, source: Source) -> list[Volume]:
    found = []
    for image in ome.images(root):
        try:
            data = ZarrArray.of(image.array)
            axes, notes = ome.image_axes(image, data.shape)
            grid, more = _own_grid(image.group, Grid(axes))
        except EmstoreError as error:
            source.skip(f"{root.where}/{image.array.path}", error.what, error)
            continue
        said = ome.ome_attributes(image.group)
        version = said.get("version") or image.multiscale.get("version")
        found.append(
            Volume(
                name=image.label if image.group.path else (image.label or Path(root.where).stem),
                data=data,
                grid=grid,
                header=_header(f"OME-Zarr {version}" if isinstance(version, str) else "OME-Zarr", root, image.group, image.array),
                kind=image.kind,
                window=ome.window(image),
                files=_files((root, image.group, image.array)),
                attributes={"path": image.array.path, "omero": json_safe(said["omero"])}
                if "omero" in said
                else {"path": image.array.path},
                notes=(*notes, *more, *_missing(data)),
            )
        )
    return found


def _plain_volumes(root: Node, source: Source) -> list[Volume]:
    arrays = {node.path: node for node in arrays_below(root)}
    found = []
    for node in arrays.values():
        here = f"{root.where}/{node.path}".rstrip("/")
        shape = node.metadata.get("shape")
        if plain.is_coordinate(node, arrays):
            continue  # the axes keep it
        if "emstore" in root.attributes and _COARSER.match(node.path):
            source.ignore(here, "a coarser level")
            continue
        if isinstance(shape, list) and (not shape or 0 in shape):
            source.ignore(here, f"a single value or empty, shape {shape}")
            continue
        try:
            data = ZarrArray.of(node)
            axes, used = plain.plain_axes(node, data.shape, arrays)
            grid, notes = _own_grid(root, Grid(axes)) if node.path == "s0/image" else (Grid(axes), ())
        except EmstoreError as error:
            if "are not numbers" in error.what:
                source.ignore(here, error.what)
            else:
                source.skip(here, error.what, error)
            continue
        found.append(
            Volume(
                name=node.path or Path(root.where).stem or "array",
                data=data,
                grid=grid,
                header=_header(f"Zarr v{node.format}", root, *_parents(root, node), node, *used),
                kind=VolumeKind.LABELS if _is_labels(node) else VolumeKind.IMAGE,
                scale=plain.value_scale(node.attributes),
                files=_files((root, *_parents(root, node), node, *used)),
                attributes={"path": node.path},
                notes=(*notes, *_missing(data)),
            )
        )
    if not found and not source.skipped:
        raise SourceUnreadable("the Zarr folder holds no array of numbers", where=root.where, kind=Kind.SOURCE_UNSUPPORTED)
    return sorted(found, key=_likeness)


def _own_grid(group: Node, grid: Grid) -> tuple[Grid, tuple[str, ...]]:
    """Return the exact grid where emstore wrote the image: OME metadata alone lose obliqueness and irregular slices."""
    own = group.attributes.get("emstore")
    voxel = own.get("voxel") if isinstance(own, dict) else None
    if not isinstance(voxel, dict):
        return grid, ()
    try:
        exact = Grid.from_json(voxel)
    except (EmstoreError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return grid, ("its emstore.voxel record cannot be read; the OME metadata are used",)
    return (exact, ()) if exact.shape == grid.shape else (grid, ("its emstore.voxel record does not fit the array",))


def _header(form: str, *nodes: Node) -> Header:
    once = {node.path: node for node in nodes}
    tree: dict[str, Any] = {}
    for path, node in once.items():
        document: Mapping[str, Any] = {k: v for k, v in node.metadata.items() if k not in ("attributes", "consolidated_metadata")}
        tree[f"/{path}"] = json_safe({"metadata": document, "attributes": node.attributes})
    return Header(form, tree, {}, tuple(raw for node in once.values() for raw in node.raw()))


def _files(nodes: Iterable[Node]) -> tuple[Path, ...]:
    """Return the documents, and the folders of the arrays, whose chunks are too many to name."""
    nodes = list(nodes)
    named = [file for node in nodes for file in node.files if not node.is_array] + [
        node.folder for node in nodes if node.is_array
    ]
    return tuple(dict.fromkeys(named))


def _parents(root: Node, node: Node) -> list[Node]:
    parts = node.path.split("/")[:-1]
    found = (read_node(root.root, "/".join(parts[: i + 1]), root.where) for i in range(len(parts)))
    return [parent for parent in found if parent is not None]


def _missing(data: ZarrArray) -> tuple[str, ...]:
    gone, of, fill = data.missing()
    return (f"{gone} of {of} chunks are not stored; they read as the fill value {fill}",) if gone else ()


def _is_labels(node: Node) -> bool:
    kind = str(node.metadata.get("data_type") or node.metadata.get("dtype"))
    return "labels" in node.path.split("/") and "int" in kind.replace("<i", "int").replace("<u", "int").replace("|u", "int")


def _likeness(volume: Volume) -> tuple[int, int]:
    """Order arrays: images and stacks before lists, larger before smaller."""
    image = len(volume.shape) >= 2 and min(volume.shape[-2:]) > 1
    return 0 if image else 1, -math.prod(volume.shape)
