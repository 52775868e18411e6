"""Gatan DigitalMicrograph 3 and 4: a tree of tags with the pixel arrays inside it.

The tags are parsed by rosettasciio; pixels are read by range from where it found them. Raw header: every byte of the
file outside the pixel arrays (thumbnails included), in file order. See `emstore_adapters.em.raw.outside`; the spans are
in the Volume's attribute ``pixel_spans``.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from emstore.errors import Capacity, Kind, SourceIncomplete, SourceUnreadable
from emstore.source import Source, SourceItem
from emstore.volume import LazyArray, ValueScale
from emstore_adapters.em import terms
from emstore_adapters.em.arrays import ColourArray, DecodedArray, FramesArray, HalfPlaneArray, contiguous
from emstore_adapters.em.axes import RawAxis
from emstore_adapters.em.library import guarded, require
from emstore_adapters.em.raw import outside
from emstore_adapters.em.signals import Signal, checked_shape

MAX_TAGS: Final = 64 << 20
"""Most bytes of tags parsed: they become Python objects several times that size."""

_COLOUR: Final = frozenset({8, 23})
_HALF_PLANE: Final = frozenset({27, 28})
_OLD_PACKED: Final = 5


def read(item: SourceItem, source: Source) -> Sequence[Signal]:
    """Return every image of a file but its thumbnails."""
    name = f"Gatan DM{item.head[3]}"
    require(name, item.name)
    promised = _promised_size(item.head)
    try:
        with guarded(item.name) as notes:
            images, tags, spans = _parse(item)
    except SourceUnreadable as error:
        if item.size < promised:
            raise SourceIncomplete(
                f"holds {item.size} of the {promised} bytes its header promises; no image of it is whole",
                where=item.name,
                fix="copy it again from the instrument",
            ) from error
        raise
    if not images:
        raise SourceUnreadable("holds no image", where=item.name, kind=Kind.SOURCE_UNSUPPORTED)
    signals = []
    for image in images:
        with guarded(item.name) as more:
            signals.append(_signal(item, name, image, tags, spans, [*notes, *more]))
    return signals


def _promised_size(head: bytes) -> int:
    """Return the file size that the header states: version 3 counts from byte 16, version 4 from byte 24 (0: not stated)."""
    if len(head) < 16:
        return 0
    size: int = struct.unpack(">I", head[4:8])[0] if head[3] == 3 else struct.unpack(">Q", head[4:12])[0]
    return size + (16 if head[3] == 3 else 24) if 0 < size < 1 << 50 else 0


def _parse(item: SourceItem) -> tuple[list[Any], dict[str, Any], list[tuple[int, int]]]:
    from rsciio.digitalmicrograph._api import DigitalMicrographReader, ImageObject

    size = item.size

    class Bounded(DigitalMicrographReader):  # type: ignore[misc]  # untyped library
        """Refuses lengths that the file cannot hold, before anything of that length is made."""

        parsed = 0

        def read_array(self, size: int, enc_eltype: int, extra: Any = None, skip: bool = False) -> Any:
            self._check(size, 0 if skip else size)
            return super().read_array(size, enc_eltype, extra, skip)

        def read_string(self, length: int, skip: bool = False) -> Any:
            self._check(length, 0 if skip else length)
            return super().read_string(length, skip)

        def parse_tag_header(self) -> Any:
            self._check(0, 16)
            return super().parse_tag_header()

        def _check(self, count: int, cost: int) -> None:
            if not 0 <= count <= item.size - self.f.tell():
                raise EOFError(f"a tag of {count} values at byte {self.f.tell()} of {item.size}")
            self.parsed += cost
            if self.parsed > MAX_TAGS:
                raise Capacity(f"holds more than {MAX_TAGS} bytes of tags", where=item.name)

    with item.path.open("rb") as file:
        reader = Bounded(file)
        reader.parse_file()
        images = [ImageObject(image, file) for image in reader.get_image_dictionaries() or []]
        everything = reader.tags_dict.pop("ImageList", {})
    spans = []
    for image in everything.values():
        data = image.get("ImageData", {}).get("Data") if isinstance(image, dict) else None
        if isinstance(data, dict) and "offset" in data:
            spans.append((int(data["offset"]), max(0, min(int(data["size_bytes"]), size))))
    return images, reader.tags_dict, spans


def _signal(
    item: SourceItem, name: str, image: Any, tags: dict[str, Any], spans: list[tuple[int, int]], notes: list[str]
) -> Signal:
    tree = {**tags, "ImageList": {"TagGroup0": image.imdict.to_dict()}}
    own = tree["ImageList"]["TagGroup0"].get("ImageTags", {})
    origin = own.get("source", {}).get("Tags at creation") if isinstance(own.get("source"), dict) else None
    facts = terms.collect(terms.DM, origin if isinstance(origin, dict) else own)
    terms.add(facts, terms.VENDOR, "Gatan")
    when = own.get("DataBar", {})
    terms.add(facts, terms.START, f"{when.get('Acquisition Date', '')} {when.get('Acquisition Time', '')}")
    data = _data(item, image)
    colour = isinstance(data, ColourArray)
    sizes = data.shape[1:] if colour else data.shape
    axes = tuple(RawAxis.of(axis, size) for axis, size in zip(image.get_axes_dict(), sizes, strict=True))
    if sizes != tuple(image.shape):
        notes.append(f"declared {image.shape[-1]} wide; half a transform of odd width unpacks to {sizes[-1]} columns")
    if colour:
        axes = (RawAxis("c", 4, labels=("R", "G", "B", "A")), *axes)
    brightness = image.intensity_calibration
    slope, zero = float(brightness.get("Scale", 1)), float(brightness.get("Origin", 0))
    # DigitalMicrograph: value = scale * (stored - origin).
    scale = ValueScale(slope, 0.0 - slope * zero, brightness["Units"] or None) if (slope, zero) != (1, 0) and slope else None
    return Signal(
        str(image.title or ""),
        data,
        axes,
        name,
        tree,
        facts,
        (outside(item.path, item.path.name, spans),),
        (item.path,),
        _modality(image.signal_type, own),
        scale,
        {"pixel_spans": [list(span) for span in sorted(spans)]},
        tuple(notes),
    )


def _data(item: SourceItem, image: Any) -> LazyArray:
    where = item.name
    code = int(image.imdict.ImageData.DataType)
    pixels = image.imdict.ImageData.Data
    offset, stored = int(pixels.offset), int(pixels.size_bytes)
    declared = tuple(int(size) for size in image.shape)
    dtype = np.dtype(np.uint8) if code in _COLOUR else _dtype(image.dtype, where)
    if pixels.get("endian") == "big":
        dtype = dtype.newbyteorder(">")
    shape = checked_shape(declared, dtype, where)
    on_disk = shape
    if code in _COLOUR:
        on_disk = (*shape, 4)
    elif code in _HALF_PLANE:
        if len(shape) != 2:
            raise SourceUnreadable(f"a packed transform of shape {shape} is not known", where=where, kind=Kind.SOURCE_UNSUPPORTED)
        on_disk = (shape[0], shape[1] // 2 + 1)
    needed = int(np.prod(on_disk, dtype=np.float64)) * dtype.itemsize
    if needed > stored:
        raise SourceUnreadable(f"declares shape {shape} but keeps {stored} of its {needed} bytes", where=where)
    if offset + needed > item.size:
        row = max(1, needed // shape[0])
        raise SourceIncomplete(
            f"ends inside its pixel data: {max(0, item.size - offset) // row} of {shape[0]} planes or rows are whole",
            where=where,
            fix="copy it again from the instrument",
        )
    base: FramesArray = contiguous(item.path, where, offset, on_disk, dtype)
    if code in _COLOUR:
        return ColourArray(base, (2, 1, 0, 3))
    if code in _HALF_PLANE:
        return HalfPlaneArray(base)
    if code == _OLD_PACKED:
        flat = contiguous(item.path, where, offset, (needed // dtype.itemsize,), dtype)

        def unpack() -> Any:
            with guarded(where):
                return np.asarray(image.unpack_packed_complex(flat[(slice(0, flat.shape[0]),)]))

        return DecodedArray(where, shape, np.dtype(np.complex64), unpack)
    return base


def _dtype(found: Any, where: str) -> np.dtype[Any]:
    if found == "not_implemented":
        raise SourceUnreadable("holds no pixel values", where=where, kind=Kind.SOURCE_UNSUPPORTED)
    dtype: np.dtype[Any] = np.dtype(found)
    return dtype


def _modality(signal_type: str, tags: dict[str, Any]) -> str:
    if signal_type in ("EELS", "CL"):
        return signal_type.lower()
    if signal_type.startswith("EDS"):
        return "eds"
    mode = str(terms.at(tags, ("Microscope Info", "Illumination Mode")) or "").upper()
    if "STEM" in mode:
        return "stem"
    if "SEM" in mode:
        return "sem"
    return "stem" if "DigiScan" in tags else "tem"
