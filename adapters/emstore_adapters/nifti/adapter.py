"""The NIfTI adapter: from headers to lazy volumes."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from emstore.errors import SourceUnreadable
from emstore.source import Source, SourceItem
from emstore.volume import ValueScale, Volume, VolumeKind
from emstore_adapters.flat import FlatArray, PlainBytes
from emstore_adapters.gzip_stream import GzipBytes
from emstore_adapters.nifti.geometry import axis_names, grid_of
from emstore_adapters.nifti.image import Image, bytes_there, header_beside, kept_header, parse, recognise, stem

_LABEL_INTENT: Final = 1002


class NiftiAdapter:
    """Reads NIfTI-1 and NIfTI-2 images."""

    name: ClassVar[str] = "nifti"
    version: ClassVar[str] = "1"
    formats: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "NIfTI-1": (".nii", ".nii.gz", ".hdr", ".img"),
        "NIfTI-2": (".nii", ".nii.gz"),
    }

    def sniff(self, item: SourceItem) -> int:
        """Recognise the magic string of NIfTI-1 or NIfTI-2, plain or inside gzip; an ``.img`` by the header beside it."""
        if recognise(item.head) is not None:
            return 95
        header = header_beside(item.path)
        if header is None or item.is_folder:
            return 0
        try:
            return 90 if recognise(SourceItem(header, header.name).head) is not None else 0
        except SourceUnreadable:
            return 0

    def open(self, source: Source) -> Sequence[Volume]:
        """Return one volume per image; the two files of a pair are one image.

        Raises
        ------
        SourceUnreadable
            The header makes no sense, or the type of its voxels cannot be kept.
        SourceIncomplete
            The header promises more than the file holds; says how many slices or volumes are good.
        """
        headers: dict[Path, SourceItem] = {}
        for item in source.items:
            header = header_beside(item.path) if recognise(item.head) is None else None
            headers.setdefault(header or item.path, item if header is None else SourceItem(header, header.name))
        stems = [stem(item.path.name) for item in headers.values()]
        volumes = []
        for item, short in zip(headers.values(), stems, strict=True):
            try:
                volume = _open_one(item, short if stems.count(short) == 1 else stem(item.name), source)
            except SourceUnreadable as error:
                source.skip(item.name, error.what, error)
                continue
            if volume is not None:
                volumes.append(volume)
        return volumes


def _open_one(item: SourceItem, name: str, source: Source) -> Volume | None:
    image = parse(item)
    where = image.path.name if image.path != item.path else item.name
    disk_shape = image.disk_shape
    slow = next((axis for axis, size in enumerate(disk_shape) if size > 1), 0)
    noun = ("volumes", "slices", "rows")[min(max(slow - (len(image.shape) - 3) + 1, 0), 2)]
    have, want = bytes_there(image), image.offset + image.nbytes
    names, order = axis_names(image)
    array = FlatArray(PlainBytes(image.path, where), where, image.offset, disk_shape, image.dtype, order, slow, noun)
    if have < want:
        good = array.good(have)
        source.skip(where, f"{disk_shape[slow] - good} of {disk_shape[slow]} {noun} are missing", array.incomplete(have))
        if not good:
            return None
        disk_shape = (*disk_shape[:slow], good, *disk_shape[slow + 1 :])
    whole = None
    data: GzipBytes | PlainBytes = PlainBytes(image.path, where)
    if image.packed:
        data = GzipBytes(image.path, where, end=None if have < want else want)
        in_slice = ("c", "y", "x") if image.samples > 1 else ("y", "x")
        whole = tuple(disk_shape[axis] if n in in_slice else 1 for n, axis in zip(names, order, strict=True))
    array = FlatArray(data, where, image.offset, disk_shape, image.dtype, order, slow, noun, whole)
    grid, facts, notes = grid_of(image, names, array.shape)
    scale, window, more = _values(image)
    return Volume(
        name=name,
        data=array,
        grid=grid,
        header=kept_header(image),
        kind=VolumeKind.LABELS if _is_labels(image, scale) else VolumeKind.IMAGE,
        scale=scale,
        window=window,
        files=tuple(dict.fromkeys((item.path, image.path))),
        attributes={"nifti": facts},
        notes=(*image.notes, *notes, *more),
    )


def _values(image: Image) -> tuple[ValueScale | None, tuple[float, float] | None, list[str]]:
    """Return slope and intercept, the display range in stored values, and what is odd about them."""
    header, notes = image.header, []
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    scale = None
    if image.samples == 1 and slope != 0 and math.isfinite(slope):
        if not math.isfinite(intercept):
            notes.append(f"scl_slope is {slope:g} but scl_inter is {intercept}: the value scale is unknown.")
        elif (slope, intercept) != (1.0, 0.0):
            scale = ValueScale(slope, intercept)
    low, high = float(header["cal_min"]), float(header["cal_max"])
    window = None
    if math.isfinite(low) and math.isfinite(high) and low < high:
        ends = [(v - scale.intercept) / scale.slope for v in (low, high)] if scale else [low, high]
        window = (min(ends), max(ends))
    return scale, window, notes


def _is_labels(image: Image, scale: ValueScale | None) -> bool:
    return int(image.header["intent_code"]) == _LABEL_INTENT and image.dtype.kind in "iu" and image.samples == 1 and scale is None
