"""OME-Zarr images: which array is the image, and where its voxels are.

NGFF 0.1 to 0.5 ("multiscales", "axes", "coordinateTransformations", "labels", "plate", "well", "bioformats2raw.layout").
Level 0 is the image; coarser levels are derived from it and are left out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from emstore.errors import Capacity, SourceUnreadable
from emstore.geometry import Axis, AxisKind
from emstore.source import natural_key
from emstore.volume import VolumeKind
from emstore_adapters.calibrated import axis_name, calibrated, default_names, unique
from emstore_adapters.zarr.nodes import Node, read_node

MAX_IMAGES: Final = 10_000
_KINDS: Final = {"time": AxisKind.TIME, "channel": AxisKind.CHANNEL, "space": AxisKind.SPACE}


@dataclass(frozen=True)
class Image:
    """One multiscale image: where it lies and what the file says about it."""

    group: Node
    array: Node
    label: str
    multiscale: Mapping[str, Any]
    kind: VolumeKind = VolumeKind.IMAGE


def ome_attributes(node: Node) -> Mapping[str, Any]:
    """Return the OME metadata of a group: below ``ome`` since 0.5, at the top before."""
    ome = node.attributes.get("ome")
    return ome if isinstance(ome, dict) else node.attributes


def is_ome(node: Node) -> bool:
    """Say whether a group is an image, a plate, a well, a list of labels, or a series of images."""
    said = ome_attributes(node)
    return any(key in said for key in ("multiscales", "plate", "well", "labels", "bioformats2raw.layout"))


def images(node: Node) -> Iterator[Image]:
    """Yield every image at and below an OME-Zarr group.

    Raises
    ------
    SourceUnreadable
        The metadata name something that is not there.
    Capacity
        More than `MAX_IMAGES` images.
    """
    count = 0
    for image in _images(node, depth=0):
        count += 1
        if count > MAX_IMAGES:
            raise Capacity(f"more than {MAX_IMAGES} images in one store", where=node.where, fix="ingest its wells one by one")
        yield image


def _images(node: Node, *, depth: int) -> Iterator[Image]:
    said = ome_attributes(node)
    if depth > 8:
        raise Capacity("OME groups nested deeper than 8 levels", where=node.where)
    if "multiscales" in said:
        yield from _multiscales(node, said["multiscales"])
        labels = read_node(node.root, f"{node.path}/labels".lstrip("/"), node.where)
        if labels is not None and node.name != "labels":
            yield from _images(labels, depth=depth + 1)
        return
    if "plate" in said:
        below = [_path(well) for well in _list(said["plate"], "wells", node)]
    elif "well" in said:
        below = [_path(field) for field in _list(said["well"], "images", node)]
    elif isinstance(said.get("labels"), list):
        below = [str(name) for name in said["labels"]]
    elif "bioformats2raw.layout" in said:
        below = _series(node)
    else:
        return
    for path in below[: MAX_IMAGES + 1]:
        yield from _images(node.below(path), depth=depth + 1)


def _series(node: Node) -> list[str]:
    """Return the images of a bioformats2raw store: listed in the OME group, else numbered."""
    if (node.folder / "OME").is_dir():
        listed = ome_attributes(node.below("OME")).get("series")
        if isinstance(listed, list):
            return [str(name) for name in listed]
    names = [child.name for child in node.children() if child.name.isdigit()]
    return sorted(names, key=natural_key)


def _multiscales(node: Node, entries: Any) -> Iterator[Image]:
    if not isinstance(entries, list) or not entries:
        raise SourceUnreadable("its multiscales are not a list", where=_where(node))
    labelled = "image-label" in ome_attributes(node) or "/labels/" in f"/{node.path}"
    for number, entry in enumerate(entries[:64]):
        if not isinstance(entry, dict):
            raise SourceUnreadable("a multiscale is not a JSON object", where=_where(node))
        levels = _list(entry, "datasets", node)
        if not levels:
            raise SourceUnreadable("a multiscale names no array", where=_where(node))
        array = node.below(_path(levels[0]))
        if not array.is_array:
            raise SourceUnreadable(f"level 0, {array.path!r}, is no array", where=_where(node))
        name = entry.get("name")
        label = node.path or (name if isinstance(name, str) and 0 < len(name) < 200 and name != "/" else "image")
        if number:
            label = f"{label}-{number + 1}"
        yield Image(node, array, label, entry, VolumeKind.LABELS if labelled else VolumeKind.IMAGE)


def image_axes(image: Image, shape: tuple[int, ...]) -> tuple[tuple[Axis, ...], tuple[str, ...]]:
    """Return the axes of level 0 and notes on what could not be used.

    The position of sample i is ``S * (s * i + t) + T`` with the level's own scale and translation (s, t) first and the whole
    multiscale's (S, T) after (NGFF 0.5, "multiscales": applied in that order).
    """
    notes: list[str] = []
    entries = image.multiscale.get("axes")
    described = [{"name": e} if isinstance(e, str) else e for e in entries] if isinstance(entries, list) else []
    described = [e if isinstance(e, dict) else {} for e in described]
    if len(described) != len(shape):
        if described:
            notes.append(f"it names {len(described)} axes for {len(shape)} dimensions; they are not used")
        described = [{"name": name} for name in _old_names(len(shape))]
    scale, origin = np.ones(len(shape)), np.zeros(len(shape))
    stated = False
    for steps in (_list(image.multiscale, "datasets", image.group)[0], image.multiscale):
        found = steps.get("coordinateTransformations") if isinstance(steps, dict) else None
        for step in found if isinstance(found, list) else ():
            applied = _apply(step, scale, origin)
            if applied is None:
                notes.append(f"its transformation {str(step)[:80]} is not one that can be used")
            else:
                scale, origin = applied
                stated = True
    axes = []
    for i, (name, entry) in enumerate(zip(_names(described), described, strict=True)):
        unit = entry.get("unit") if isinstance(entry.get("unit"), str) else None
        kind = _KINDS.get(str(entry.get("type")))
        if kind is AxisKind.CHANNEL or (kind is None and name == "c"):
            axes.append(Axis(name, shape[i], AxisKind.CHANNEL, labels=_channels(image.group, shape[i])))
            continue
        step = float(scale[i]) if stated else None
        axes.append(calibrated(name, shape[i], scale=step, unit=unit, origin=float(origin[i]), kind=kind))
    return tuple(axes), tuple(notes)


def window(image: Image) -> tuple[float, float] | None:
    """Return the display range in stored values where all channels have the same."""
    found: set[tuple[float, float]] = set()
    for channel in _omero_channels(image.group):
        limits = channel.get("window")
        low, high = (limits.get("start"), limits.get("end")) if isinstance(limits, dict) else (None, None)
        if isinstance(low, int | float) and isinstance(high, int | float) and -math.inf < low < high < math.inf:
            found.add((float(low), float(high)))
    return found.pop() if len(found) == 1 else None


def _apply(step: Any, scale: Any, origin: Any) -> tuple[Any, Any] | None:
    if not isinstance(step, dict):
        return None
    kind = step.get("type")
    if kind == "identity":
        return scale, origin
    values = step.get(kind) if kind in ("scale", "translation") else None
    if not isinstance(values, list) or len(values) != len(scale) or not all(isinstance(v, int | float) for v in values):
        return None
    by = np.asarray(values, dtype=np.float64)
    return (scale * by, origin * by) if kind == "scale" else (scale, origin + by)


def _names(described: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return unique([axis_name(entry.get("name")) if isinstance(entry.get("name"), str) else None for entry in described])


def _old_names(ndim: int) -> tuple[str, ...]:
    """NGFF 0.1 and 0.2 arrays are always ``t, c, z, y, x``."""
    return default_names(ndim)


def _omero_channels(group: Node) -> list[Mapping[str, Any]]:
    omero = ome_attributes(group).get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    return [c for c in channels if isinstance(c, dict)] if isinstance(channels, list) else []


def _channels(group: Node, size: int) -> tuple[str, ...] | None:
    labels = [c.get("label") for c in _omero_channels(group)]
    if len(labels) != size or not all(isinstance(label, str) and label for label in labels):
        return None
    return tuple(str(label) for label in labels)


def _list(of: Any, key: str, node: Node) -> list[Any]:
    found = of.get(key) if isinstance(of, dict) else None
    if not isinstance(found, list):
        raise SourceUnreadable(f"its OME metadata have no list {key!r}", where=_where(node))
    return found


def _path(entry: Any) -> str:
    return str(entry.get("path", "")) if isinstance(entry, dict) else str(entry)


def _where(node: Node) -> str:
    return f"{node.where}/{node.path}".rstrip("/")
