"""JPEG and PNG: single pictures, and folders of frames.

Rules
-----
- A folder of pictures is a series along ``t`` with unknown time step: nothing in the files says what lies between two of
  them. Frames keep the natural order of their names; one that differs from the first in size, samples or type is an error
  by name; only where the names are no numbered series are pictures that do not fit each other volumes of their own.
  Folders inside folders are series of their own.
- Grey pictures have no channel axis; RGB, RGBA, CMYK and grey with alpha have one, ``c``, in front of ``y, x``.
- PNG with a colour table keeps its indices; the table is in the header. One-bit PNG gives booleans; 2 and 4 bits come
  spread over 0 to 255, as the PNG standard's sample depth scaling says. 16-bit PNG is exact, colour included.
- Dots per inch are a print setting and never a pixel size. An EXIF orientation is noted, not applied.
- The raw header is every chunk of a PNG but its image data, and every JPEG segment before the first scan.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity, EmstoreError, Kind, SourceIncomplete, SourceUnreadable
from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header, json_safe
from emstore.source import Source, SourceItem
from emstore.volume import Region, Volume
from emstore_adapters.flat import checked_region
from emstore_adapters.folder_stack import bundled, by_folder, is_numbered, naming_notes, stack_name, unique_names

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_END_OF_JPEG: Final = b"\xff\xd9"
_TAIL: Final = 64 << 10
"""Where the end of a JPEG is looked for: some cameras append a preview or padding."""
_MAX_HEADER: Final = 64 << 20
_LABELS: Final = {
    "RGB": ("red", "green", "blue"), "RGBA": ("red", "green", "blue", "alpha"), "LA": ("grey", "alpha"),
    "CMYK": ("cyan", "magenta", "yellow", "black"),
}  # fmt: skip
_PNG_MODES: Final = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_SOF: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})


@dataclass(frozen=True)
class _Facts:
    """What a picture's own header says."""

    format: str
    width: int
    height: int
    mode: str
    dtype: np.dtype[Any]
    header: tuple[tuple[int, int], ...]
    """Byte ranges ``(offset, size)`` that are not image data."""
    whole: bool
    """Whether the file ends as the format says it must."""

    @property
    def samples(self) -> int:
        """Samples per pixel."""
        return len(_LABELS.get(self.mode, ("",)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame, ``(c,) y, x``."""
        return (*((self.samples,) if self.samples > 1 else ()), self.height, self.width)


class FramesAdapter:
    """Reads JPEG and PNG pictures and folders of them."""

    name: ClassVar[str] = "frames"
    version: ClassVar[str] = "1"
    formats: ClassVar[Mapping[str, tuple[str, ...]]] = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg", ".jpe")}

    def sniff(self, item: SourceItem) -> int:
        """Recognise the signatures of PNG and JPEG."""
        return 90 if item.head.startswith((_PNG, _JPEG)) else 0

    def open(self, source: Source) -> Sequence[Volume]:
        """Return one volume per picture, or per folder of pictures.

        Raises
        ------
        SourceUnreadable
            A picture is damaged, or kind ``source_inconsistent``: a frame does not fit the others.
        SourceIncomplete
            A picture is cut off; says how many frames are good.
        Capacity
            A picture is larger than Pillow's ``Image.MAX_IMAGE_PIXELS``.
        """
        volumes: list[Volume | None] = []
        for folder, items in by_folder(source.items).items():
            if _belong_together(folder, items):
                volumes.append(_series(folder, items, source))
            else:
                volumes += [_series(folder, [item], source) for item in items]
        return unique_names([volume for volume in volumes if volume is not None])


@dataclass(frozen=True)
class FrameArray:
    """A `LazyArray` over pictures, one file per frame. A frame can only be decoded whole."""

    paths: Sequence[Path]
    names: Sequence[str]
    """What to call the files in messages."""
    facts: _Facts
    """Of every frame."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis: ``(t,) (c,) y, x``."""
        return (*((len(self.paths),) if len(self.paths) > 1 else ()), *self.facts.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples."""
        return self.facts.dtype

    @property
    def block(self) -> tuple[int, ...]:
        """One whole frame."""
        return (*((1,) if len(self.paths) > 1 else ()), *self.facts.shape)

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region, decoding the frames it touches.

        Raises
        ------
        SourceIncomplete, SourceUnreadable
            A frame is cut off or damaged, or is no longer what it was.
        """
        checked = checked_region(region, self.shape)
        out = np.empty(tuple(part.stop - part.start for part in checked), self.dtype)
        if not out.size:
            return out
        if len(self.paths) == 1:
            out[...] = self._frame(0)[checked]
            return out
        for i, number in enumerate(range(checked[0].start, checked[0].stop)):
            out[i] = self._frame(number)[checked[1:]]
        return out

    def _frame(self, number: int) -> npt.NDArray[Any]:
        name = self.names[number]
        values = _decode(self.paths[number], name, self.facts)
        values = np.moveaxis(values, -1, 0) if values.ndim == 3 else values
        if values.shape != self.facts.shape or values.dtype != self.facts.dtype:
            raise SourceUnreadable(
                f"decodes to {values.shape} {values.dtype} where its header says {self.facts.shape} {self.facts.dtype}",
                where=name,
                fix="copy the file again",
            )
        return values


def _decode(path: Path, name: str, facts: _Facts) -> npt.NDArray[Any]:
    """Return the samples of one picture, shape (y, x) or (y, x, c)."""
    from PIL import JpegImagePlugin, PngImagePlugin

    try:
        if facts.format == "PNG" and facts.dtype.itemsize == 2 and facts.samples > 1:
            # Pillow keeps only 8 bits of 16-bit colour.
            import imagecodecs

            exact: npt.NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
            return exact
        # The plug-ins themselves: Image.open would also try every other format.
        opener: Any = PngImagePlugin.PngImageFile if facts.format == "PNG" else JpegImagePlugin.JpegImageFile
        with path.open("rb") as file, opener(file) as picture:
            values = np.asarray(picture)
            return values.astype(facts.dtype, copy=False)
    except EmstoreError:
        raise
    except Exception as error:
        text = str(error)
        kind = SourceIncomplete if "truncated" in text.lower() or isinstance(error, EOFError) else SourceUnreadable
        raise kind(f"this frame cannot be decoded: {text}", where=name, fix="copy the file again") from error


def _belong_together(folder: str, items: Sequence[SourceItem]) -> bool:
    """Return whether pictures are one series: by their names, or because they fit each other."""
    if len(items) == 1 or is_numbered([item.name for item in items]):
        return True
    try:
        _series(folder, items, Source(tuple(items)))
    except SourceUnreadable as error:
        return error.kind is not Kind.SOURCE_INCONSISTENT
    return True


def _series(folder: str, items: Sequence[SourceItem], source: Source) -> Volume | None:
    first: _Facts | None = None
    used: list[SourceItem] = []
    for item in items:
        try:
            facts = _facts(item, len(used), len(items))
            if first is not None:
                _compare(facts, first, item, used[0])
        except SourceUnreadable as error:
            source.skip(item.name, error.what, error)
            continue
        first = first or facts
        used.append(item)
    if first is None:
        return None
    array = FrameArray(tuple(item.path for item in used), tuple(item.name for item in used), first)
    axes = [Axis("y", first.height), Axis("x", first.width)]
    if first.samples > 1:
        axes.insert(0, Axis("c", first.samples, AxisKind.CHANNEL, labels=_LABELS[first.mode]))
    name = used[0].path.stem
    tree, notes = _described(used[0], first)
    if len(used) > 1:
        name = stack_name(folder, used)
        axes.insert(0, Axis("t", len(used), AxisKind.TIME))
        notes += naming_notes([item.name.rpartition("/")[2] for item in used])
        notes.append(f"{len(used)} pictures are the frames of one series, in natural order of their names; times are unknown.")
    return Volume(
        name=name.rpartition("/")[2],
        data=array,
        grid=Grid(tuple(axes)),
        header=Header(first.format, tree, raw=bundled(name, used, _header_bytes)),
        files=tuple(array.paths),
        attributes={"frames": {"mode": first.mode}},
        notes=tuple(notes),
    )


def _compare(facts: _Facts, first: _Facts, item: SourceItem, against: SourceItem) -> None:
    differences = [
        f"{what} {mine} instead of {theirs}"
        for what, mine, theirs in (
            ("format", facts.format, first.format),
            ("size", f"{facts.width}x{facts.height}", f"{first.width}x{first.height}"),
            ("mode", facts.mode, first.mode),
            ("type", facts.dtype, first.dtype),
        )
        if mine != theirs
    ]
    if differences:
        raise SourceUnreadable(
            f"the frame does not fit the first, {against.name}: {', '.join(differences)}",
            where=item.name,
            fix="move it out of the folder, or pass --allow-partial to go on without it",
            kind=Kind.SOURCE_INCONSISTENT,
        )


def _facts(item: SourceItem, before: int, of: int) -> _Facts:
    """Read a picture's own header.

    Raises
    ------
    SourceUnreadable, SourceIncomplete, Capacity
        It is no picture, cut off, an animation, or too large.
    """
    from PIL import Image

    try:
        facts = _png(item) if item.head.startswith(_PNG) else _jpeg(item)
    except (struct.error, IndexError):
        facts = None
    if facts is None or not facts.whole:
        raise SourceIncomplete(
            f"the picture is cut off: {before} of {of} frames are good so far",
            where=item.name,
            fix="copy the file again, or pass --allow-partial to go on without it",
        )
    if facts.width < 1 or facts.height < 1:
        raise SourceUnreadable(f"states the size {facts.width}x{facts.height}", where=item.name, fix="copy the file again")
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and facts.width * facts.height > most:
        raise Capacity(
            f"a picture of {facts.width}x{facts.height} pixels is beyond the limit of {most}",
            where=item.name,
            fix="check that the file is not damaged, or convert it to TIFF",
        )
    return facts


def _png(item: SourceItem) -> _Facts | None:
    """Walk the chunks of a PNG (PNG 3rd edition, section 5.3); ``None`` where it is cut off."""
    if item.head[12:16] != b"IHDR":
        raise SourceUnreadable("the PNG does not begin with its header", where=item.name, fix="copy the file again")
    width, height, depth, colour = struct.unpack(">IIBB", item.head[16:26])
    if colour not in _PNG_MODES:
        raise SourceUnreadable(f"states the PNG colour type {colour}", where=item.name, fix="copy the file again")
    mode = _PNG_MODES[colour]
    dtype = np.dtype(np.uint16 if depth == 16 else np.bool_ if depth == 1 and mode == "L" else np.uint8)
    kept, whole, data = [(0, 8)], False, False
    with item.path.open("rb", buffering=0) as file:
        at, size = 8, item.size
        while at + 12 <= size:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            if kind == b"acTL":
                raise SourceUnreadable(
                    "animated PNG is not supported", where=item.name, fix="export its frames", kind=Kind.SOURCE_UNSUPPORTED
                )
            if kind == b"IDAT":
                data = True
            else:
                kept.append((at, min(length + 12, size - at)))
            at += length + 12
            if kind == b"IEND":
                whole = data and at <= size
                break
    return _Facts("PNG", width, height, mode, dtype, tuple(kept), whole)


def _jpeg(item: SourceItem) -> _Facts | None:
    """Walk the segments of a JPEG up to the first scan (ITU-T T.81, annex B); ``None`` where it is cut off."""
    with item.path.open("rb") as file:
        at, size, frame = 2, item.size, None
        while True:
            file.seek(at)
            head = file.read(4)
            if len(head) < 4:
                return None
            if head[0] != 0xFF:
                raise SourceUnreadable(f"the JPEG has no marker at byte {at}", where=item.name, fix="copy the file again")
            if head[1] == 0xFF:
                at += 1
                continue
            if head[1] in _SOF:
                frame = struct.unpack(">BHHB", file.read(8)[:6])
            at += 2 + int.from_bytes(head[2:], "big")
            if head[1] == 0xDA:
                break
        tail_at = max(size - _TAIL, at)
        file.seek(tail_at)
        whole = at <= size and _END_OF_JPEG in file.read(_TAIL)
    if frame is None:
        raise SourceUnreadable("the JPEG states no size", where=item.name, fix="copy the file again")
    depth, height, width, samples = frame
    mode = {1: "L", 3: "RGB", 4: "CMYK"}.get(samples)
    if depth != 8 or mode is None:
        raise SourceUnreadable(
            f"JPEG with {samples} samples of {depth} bits is not supported",
            where=item.name,
            fix="convert it to TIFF or PNG",
            kind=Kind.SOURCE_UNSUPPORTED,
        )
    return _Facts("JPEG", width, height, mode, np.dtype(np.uint8), ((0, min(at, size)),), whole)


def _header_bytes(item: SourceItem) -> bytes:
    """Return a picture's bytes without its image data, in file order, at most `_MAX_HEADER` of them."""
    facts = _png(item) if item.head.startswith(_PNG) else _jpeg(item)
    kept, left = [], _MAX_HEADER
    with item.path.open("rb") as file:
        for offset, size in facts.header if facts else ():
            file.seek(offset)
            kept.append(file.read(min(size, left)))
            left -= len(kept[-1])
    return b"".join(kept)


def _described(item: SourceItem, facts: _Facts) -> tuple[Mapping[str, Any], list[str]]:
    """Return the parsed header of the first frame, and notes on it."""
    from PIL import JpegImagePlugin, PngImagePlugin

    notes: list[str] = []
    info: dict[str, Any] = {}
    exif: dict[str, Any] = {}
    palette = None
    try:
        opener: Any = PngImagePlugin.PngImageFile if facts.format == "PNG" else JpegImagePlugin.JpegImageFile
        with item.path.open("rb") as file, opener(file) as picture:
            info = {key: value for key, value in picture.info.items() if key not in ("exif", "icc_profile", "parsed_exif")}
            # Without such a chunk Pillow would decode the whole picture to look for one behind it.
            exif = {str(tag): value for tag, value in picture.getexif().items()} if "exif" in picture.info else {}
            palette = picture.getpalette() if facts.mode == "P" else None
    except Exception as error:
        raise SourceUnreadable(f"its metadata cannot be read: {error}", where=item.name, fix="copy the file again") from error
    if exif:
        info["exif"] = exif
        if exif.get("274", 1) != 1:
            notes.append(f"EXIF asks viewers to turn the picture (orientation {exif['274']}); values are kept as stored.")
    if palette is not None:
        info["palette"] = palette
        notes.append("values are indices into the colour table that is kept in the header.")
    if "dpi" in info:
        notes.append("dots per inch are a print setting: the pixel size is unknown.")
    if facts.mode == "CMYK":
        notes.append("CMYK values are as the decoder gives them; some programs store them inverted.")
    tree: Mapping[str, Any] = json_safe({"format": facts.format, "mode": facts.mode, "info": info})
    return tree, notes
