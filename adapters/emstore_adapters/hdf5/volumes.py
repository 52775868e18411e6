"""From the inventory of an HDF5 file to its Volumes: which datasets are signals, in which order, with which geometry."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from emstore.errors import EmstoreError, Kind, SourceUnreadable
from emstore.geometry import Axis, AxisKind, Grid
from emstore.geometry import units as unit_names
from emstore.header import Header
from emstore.source import Source
from emstore.volume import LazyArray, ValueScale, Volume, VolumeKind
from emstore_adapters.hdf5 import dm5, dump, exported, layouts
from emstore_adapters.hdf5.file import ChannelArray, H5Array, PermutedArray
from emstore_adapters.hdf5.walk import Inventory, colours, inside

if TYPE_CHECKING:
    import h5py

SHORT: Final = 64
"""A one-axis dataset of at most this many values, in a file that has images, is metadata: the header keeps it."""

MAX_CHUNK_COUNT: Final = 100_000
"""Chunks are counted, to see whether some were never written, up to this many."""

_PYRAMID: Final = re.compile(r"^t\d+/s\d+/([1-9]\d*)/cells$")
_LABELS: Final = frozenset({"labels", "label", "segmentation", "neuron_ids", "exported_watershed_masks"})


@dataclass(frozen=True)
class Signal:
    """One dataset that becomes a Volume."""

    path: str
    dataset: "h5py.Dataset"
    placed: layouts.Placed
    format: str
    scale: ValueScale | None = None
    terms: dict[str, Any] | None = None
    modality: str | None = None
    packed: bool = False
    """DM packed colours."""


def read_volumes(path: Path, where: str, file: "h5py.File", inventory: Inventory, source: Source) -> list[Volume]:
    """Return every signal of an open file, the most image-like first; tell `source` about the rest.

    Raises
    ------
    SourceUnreadable
        Nothing in it is an array of numbers; says what was there.
    """
    if dump.attribute(file, "ImarisDataSet") is not None:
        raise SourceUnreadable(
            "Imaris files are not supported", where=where, fix="export it as OME-TIFF or OME-Zarr", kind=Kind.SOURCE_UNSUPPORTED
        )
    if exported.is_exported(file):
        return [exported.exported_volume(path, where, file, inventory)]
    signals, unused = _signals(file, inventory)
    for name, reason in {**inventory.ignored, **unused}.items():
        source.ignore(f"{where}:{name}", reason)
    for name, reason in inventory.refused.items():
        source.skip(f"{where}:{name}", reason)
    header = dump.metadata(inventory)
    raw = (dump.raw_metadata(path, where),)
    volumes = []
    for signal in signals:
        try:
            data: LazyArray = H5Array.of(path, signal.dataset, where)
        except EmstoreError as error:
            source.skip(f"{where}:{signal.path}", error.what, error)
            continue
        data, axes = _arranged(data, signal)
        label = any(part in _LABELS for part in signal.path.lower().split("/")) and data.dtype.kind in "iub"
        volumes.append(
            Volume(
                name=signal.path,
                data=data,
                grid=Grid(axes),
                header=Header(signal.format, header, signal.terms or {}, raw),
                kind=VolumeKind.LABELS if label else VolumeKind.IMAGE,
                modality=signal.modality,
                scale=signal.scale,
                files=(path,),
                attributes={"path": f"/{signal.path}", **_aliases(inventory, signal.path)},
                notes=(*signal.placed.notes, *_unwritten(signal.dataset)),
            )
        )
    if not volumes and not inventory.refused and not signals:
        raise SourceUnreadable(_nothing(inventory), where=where, kind=Kind.SOURCE_UNSUPPORTED)
    return volumes


def _signals(file: "h5py.File", inventory: Inventory) -> tuple[list[Signal], dict[str, str]]:
    """Return the signals in order, and path -> reason for numeric datasets that are none."""
    if dm5.is_dm5(file):
        return _dm5_signals(inventory, file)
    found: dict[str, Signal] = {}
    used: set[str] = set()
    plottable = []
    for group, dataset in layouts.nexus_signals(file, inventory):
        path = inventory.canonical(dataset)
        if path is None or path in found:
            continue
        placed = layouts.nexus_axes(group, dataset)
        here = f"{group.name.strip('/')}/{dataset.name.rpartition('/')[2]}".strip("/")
        shown = here if here in inventory.aliases.get(path, ()) else path
        found[path] = Signal(shown, dataset, placed, "NeXus", _cf_scale(dataset))
        used |= placed.used
        plottable.append(path)
    for path, dataset in inventory.numeric.items():
        if path in found or dataset.is_scale:
            continue
        emd = layouts.emd_axes(inventory, path, dataset)
        program = (dump.text(file, "authoring_program") or "").strip() or "EMD"
        placed = emd or layouts.scale_axes(dataset) or layouts.attribute_axes(path, dataset)
        form = f"HDF5 ({program})" if emd is not None else "HDF5"
        found[path] = Signal(path, dataset, placed, form, _cf_scale(dataset), modality="stem" if _is_4dstem(placed) else None)
        used |= placed.used
    addresses = {inventory.canonical(inside(file, path)) for path in used}
    images = any(s.dataset.ndim >= 2 and p not in addresses for p, s in found.items())
    unused: dict[str, str] = {}
    kept = []
    for path, signal in found.items():
        pyramid = _PYRAMID.match(path)
        if path in plottable:
            kept.append(signal)
        elif path in addresses:
            continue  # the axes keep it
        elif pyramid:
            unused[path] = f"level {pyramid[1]} of a BigDataViewer pyramid; level 0 is read"
        elif images and signal.dataset.ndim == 1 and signal.dataset.size <= SHORT:
            unused[path] = f"a list of {signal.dataset.size} numbers beside images; the header keeps it"
        else:
            kept.append(signal)
    # Plottable signals came first, in the order the file means; the sort is stable.
    chosen = {inventory.canonical(file[path]) for path in plottable}
    kept.sort(key=lambda s: (0,) if inventory.canonical(s.dataset) in chosen else (1, *_likeness(s.dataset)))
    return kept, unused


def _dm5_signals(inventory: Inventory, file: "h5py.File") -> tuple[list[Signal], dict[str, str]]:
    thumbnails = dm5.thumbnails(file)
    kept, unused = [], {}
    for path, dataset in inventory.numeric.items():
        image = inventory.groups.get(path.removesuffix("/ImageData/Data"))
        if path in thumbnails:
            unused[path] = "the thumbnail"
        elif image is None or not path.endswith("/ImageData/Data"):
            unused[path] = "not an image of the image list"
        else:
            kept.append(
                Signal(
                    path,
                    dataset,
                    layouts.Placed(dm5.axes(image, dataset.shape)),
                    "Gatan DM5",
                    dm5.value_scale(image),
                    dm5.terms(image),
                    packed=dm5.colour(image, dataset.dtype),
                )
            )
    return kept, unused


def _arranged(data: LazyArray, signal: Signal) -> tuple[LazyArray, tuple[Axis, ...]]:
    """Return the array and its axes with any colours as a ``c`` axis in front of y, x."""
    axes = signal.placed.axes
    names = ("blue", "green", "red", "alpha") if signal.packed else colours(signal.dataset)
    if names is not None and isinstance(data, H5Array):
        kind = np.dtype(np.uint8) if signal.packed else signal.dataset.dtype[0]
        at = max(len(axes) - 2, 0)
        labels = tuple(name.lower() for name in names)
        colour = Axis("c", len(names), AxisKind.CHANNEL, labels=labels)
        if any(axis.name == "c" for axis in axes):
            colour = replace(colour, name="colour")
        return ChannelArray(data, len(names), kind), (*axes[:at], colour, *axes[at:])
    dims = [axis.name for axis in axes]
    if dims[-1] == "c" and dims[-3:-1] == ["y", "x"]:
        order = (*range(len(dims) - 3), len(dims) - 1, len(dims) - 3, len(dims) - 2)
        return PermutedArray(data, order), tuple(axes[i] for i in order)
    return data, axes


def _likeness(dataset: "h5py.Dataset") -> tuple[int, int, str]:
    """Order datasets: images and stacks before spectra and tables, larger before smaller, then by name."""
    shape = dataset.shape
    image = len(shape) >= 2 and min(shape[-2:]) > 1
    return (0 if image else 1, -int(np.prod(shape, dtype=object)), dataset.name)


def _cf_scale(dataset: "h5py.Dataset") -> ValueScale | None:
    """Return the linear map of the CF conventions (section 8.1) and the values' unit, ``None`` when neither is stated."""
    slope, offset = dump.number(dataset, "scale_factor"), dump.number(dataset, "add_offset")
    unit = unit_names.canonical(dump.text(dataset, "units"))
    if slope is None and offset is None and unit is None:
        return None
    return ValueScale(1.0 if slope is None else slope, 0.0 if offset is None else offset, unit)


def _is_4dstem(placed: layouts.Placed) -> bool:
    return [axis.name for axis in placed.axes][-2:] == ["ky", "kx"]


def _aliases(inventory: Inventory, shown: str) -> dict[str, list[str]]:
    for path, others in inventory.aliases.items():
        if shown == path or shown in others:
            return {"aliases": [f"/{name}" for name in (path, *others) if name != shown]}
    return {}


def _unwritten(dataset: "h5py.Dataset") -> tuple[str, ...]:
    """Say how much of a dataset was never written: HDF5 reads that as its fill value, which may mean a broken recording."""
    if dataset.is_virtual:
        return ()
    if dataset.chunks is None:
        stored = dataset.id.get_storage_size()
        return () if stored else (f"the values were never written; all of them read as {dataset.fillvalue}",)
    expected = int(np.prod([-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)], dtype=object))
    if expected > MAX_CHUNK_COUNT:
        return ()
    there = dataset.id.get_num_chunks()
    if there >= expected:
        return ()
    return (f"{expected - there} of {expected} chunks were never written; they read as {dataset.fillvalue}",)


def _nothing(inventory: Inventory) -> str:
    why = "; ".join(f"{name}: {reason}" for name, reason in list(inventory.ignored.items())[:5])
    return "the HDF5 file holds no array of numbers" + (f" ({why})" if why else "")
