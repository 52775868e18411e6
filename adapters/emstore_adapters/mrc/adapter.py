"""The MRC adapter: from headers to lazy volumes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from emstore.errors import SourceUnreadable
from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header, RawHeader, json_safe
from emstore.source import Source, SourceItem
from emstore.volume import LazyArray, Volume
from emstore_adapters.flat import ByteSource, EndOfData, FlatArray, PlainBytes
from emstore_adapters.gzip_stream import GzipBytes
from emstore_adapters.mrc import header as head
from emstore_adapters.mrc import sidecar as beside
from emstore_adapters.mrc.arrays import Bzip2Bytes, NibbleArray, PairArray

_VOLUME_STACKS: Final = range(401, 631)
_MRC2014: Final = 20140
_STEP: Final = 1 << 20


class MrcAdapter:
    """Reads MRC2014, CCP4 map and older MRC files."""

    name: ClassVar[str] = "mrc"
    version: ClassVar[str] = "1"
    formats: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "MRC": tuple(f".{name}{packing}" for name in ("mrc", "mrcs", "rec", "map") for packing in ("", ".gz", ".bz2")),
    }

    def sniff(self, item: SourceItem) -> int:
        """Recognise ``MAP `` at byte 208 with a sane header; files older than that only when their length fits exactly."""
        if item.is_folder:
            return 0
        packed = item.head[:3] == b"BZh" or item.head[:2] == b"\x1f\x8b"
        return head.recognise(head.unpacked_head(item.head), None if packed else item.size)

    def open(self, source: Source) -> Sequence[Volume]:
        """Return one volume per file.

        Raises
        ------
        SourceUnreadable
            The header makes no sense, or the mode is not known.
        SourceIncomplete
            The header promises more than the file holds; says how many sections are good.
        """
        stems = [_stem(item.path.name) for item in source.items]
        volumes = []
        for item, short in zip(source.items, stems, strict=True):
            try:
                volume = _open_one(item, short if stems.count(short) == 1 else _stem(item.name), source)
            except SourceUnreadable as error:
                source.skip(item.name, error.what, error)
                continue
            if volume is not None:
                volumes.append(volume)
        return volumes


@dataclass
class _Draft:
    """A volume in the making: the array's axes, and what is learnt on the way."""

    header: head.MrcHeader
    sections: int
    """Number of sections that are there."""
    axes: tuple[Axis, ...] = ()
    """Axes of the array, in the array's order."""
    disk: tuple[int, ...] = ()
    """Sizes of all axes slower than a row, in file order."""
    order: tuple[int, ...] = ()
    """Which axis of the file each axis of the array is."""
    notes: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


def _open_one(item: SourceItem, name: str, source: Source) -> Volume | None:
    data = _bytes_of(item)
    header = head.parse(_read(data, 0, head.HEADER_BYTES), item.name)
    there = _sections_there(item, data, header, source)
    if not there:
        return None
    extended = _read(data, head.HEADER_BYTES, header.extended) if header.extended <= head.MAX_PARSED else b""
    kind, records = head.sections(header, extended)
    terms, attributes = head.fei_facts(kind, records)
    draft = _Draft(header, there, attributes=attributes)
    info = beside.find(item.path, header) if not isinstance(data, GzipBytes | Bzip2Bytes) else None
    shape_known = info is not None and _as_scan(draft, info)
    if not shape_known:
        _as_header_says(draft, _voxel_size(draft, records if kind == "FEI" else None))
    tree = head.tree(header, kind, records)
    raw = [RawHeader(f"{item.path.name}.header", lambda: _read(data, 0, header.offset))]
    files = [item.path]
    if info is not None:
        tree["info.txt"] = dict(info.values)
        raw.append(RawHeader(info.path.name, info.path.read_bytes))
        terms |= info.terms()
        files += [info.path] if info.coordinates is None else [info.path, info.coordinates]
    scanned = info.scanned if info is not None else kind in ("FEI1", "FEI2") and int(records[0]["Instrument mode"]) == 2
    return Volume(
        name=name,
        data=_array(item, data, draft),
        grid=Grid(draft.axes),
        header=Header("MRC", tree, terms, tuple(raw)),
        modality="stem" if scanned else None,
        files=tuple(files),
        attributes={"mrc": json_safe(draft.attributes)} if draft.attributes else {},
        notes=tuple(draft.notes),
    )


def _bytes_of(item: SourceItem) -> ByteSource:
    if item.head.startswith(b"\x1f\x8b"):
        return GzipBytes(item.path, item.name)
    if item.head.startswith(b"BZh"):
        return Bzip2Bytes(item.path, item.name)
    return PlainBytes(item.path, item.name)


def _read(data: ByteSource, offset: int, count: int) -> bytes:
    """Return up to `count` bytes; fewer where the data end."""
    buffer = bytearray(count)
    try:
        with data.open() as read_into:
            read_into(offset, memoryview(buffer))
    except EndOfData as error:
        return bytes(buffer[: max(0, error.have - offset)])
    return bytes(buffer)


def _sections_there(item: SourceItem, data: ByteSource, header: head.MrcHeader, source: Source) -> int:
    """Return how many sections the file holds, after `Source.skip` if it should be more.

    The length inside gzip is its last four bytes modulo 2**32; where those do not fit, or for bzip2 when a partial read is
    allowed, the stream is unpacked once and thrown away.
    """
    want = header.offset + header.nz * header.section_bytes
    have = item.size
    if isinstance(data, Bzip2Bytes):
        have = _length(data) if source.allow_partial else want
    elif isinstance(data, GzipBytes):
        with item.path.open("rb") as file:
            file.seek(-4, 2)
            trailer = int.from_bytes(file.read(4), "little")
        have = want if trailer == want % 2**32 else _length(data)
    if have >= want:
        return header.nz
    flat = _flat(item, data, header, (header.nz, header.ny))
    good = flat.good(have)
    source.skip(item.name, f"{header.nz - good} of {header.nz} sections are missing", flat.incomplete(have))
    return good


def _length(data: ByteSource) -> int:
    """Return the length of an unpacked stream by walking it."""
    waste, at = memoryview(bytearray(_STEP)), 0
    try:
        with data.open() as read_into:
            while True:
                read_into(at, waste)
                at += _STEP
    except EndOfData as error:
        return error.have


def _flat(
    item: SourceItem, data: ByteSource, header: head.MrcHeader, disk: tuple[int, ...], order: tuple[int, ...] | None = None
) -> FlatArray:
    """Return the numbers as they lie, in file order: `disk`, then a row."""
    shape = (*disk, *header.row)
    order = order or tuple(range(len(shape)))
    packed = not isinstance(data, PlainBytes)
    # Inside a stream, whole sections are as cheap as a part of one.
    whole = tuple(1 if axis < len(disk) - 1 else shape[axis] for axis in order) if packed else None
    return FlatArray(data, item.name, header.offset, shape, header.dtype, order, 0, "sections", whole)


def _array(item: SourceItem, data: ByteSource, draft: _Draft) -> LazyArray:
    header = draft.header
    if header.mode == 3:
        return PairArray(_flat(item, data, header, draft.disk), draft.order)
    if header.mode == 101:
        return NibbleArray(_flat(item, data, header, draft.disk), header.nx, draft.order)
    return _flat(item, data, header, draft.disk, draft.order)


def _as_scan(draft: _Draft, info: beside.Sidecar) -> bool:
    """Take the axes from a Direct Electron sidecar where it knows better than the header."""
    header = draft.header
    if not info.scanned:
        return False
    shape = info.scan_shape(header.nz)
    if shape is None:
        kept = info.positions(header.nz)
        draft.notes.append("the beam was scanned over a list of positions, not a full raster: frames are kept as a stack")
        if kept is not None:
            draft.attributes["scan_positions_xy"] = kept[: draft.sections]
        known = any(info.number(f"Diffraction Pixel Size {letter}") for letter in "XY")
        frame = info.frame_axes(header.ny, header.nx) if known else (Axis("y", header.ny), Axis("x", header.nx))
        draft.axes = (Axis("n", draft.sections, AxisKind.OTHER), *frame)
        draft.disk = (draft.sections, header.ny)
    else:
        repeats, rows, columns = shape
        frames = (rows, columns)
        if draft.sections < header.nz:  # a part of the movie: whole rows of the first scan, or whole scans
            repeats = draft.sections // (rows * columns)
            frames = (rows if repeats else draft.sections // columns, columns)
            repeats = max(repeats, 1)
            if not frames[0]:
                return False
        lead = (Axis("t", repeats, AxisKind.TIME),) if shape[0] > 1 else ()
        draft.axes = (*lead, *info.scan_axes(*frames), *info.frame_axes(header.ny, header.nx))
        draft.disk = (*(axis.size for axis in lead), *frames, header.ny)
        draft.notes.append(f"the scan of {rows} by {columns} positions is taken from {info.path.name}")
    if any(axis.name == "ky" and axis.known for axis in draft.axes):
        draft.notes.append(f"{info.path.name} does not name the unit of the diffraction pixel size; it is read as 1/nanometer")
    draft.order = tuple(range(len(draft.axes)))
    return True


def _voxel_size(draft: _Draft, old_fei: Any) -> dict[str, float | None]:
    """Return the voxel size along x, y, z in ångström; ``None`` where unknown."""
    fields = draft.header.fields
    sizes: dict[str, float | None] = {}
    for letter in "xyz":
        cell, grid = float(fields["cella"][letter]), int(fields[f"m{letter}"])
        size = cell / grid if grid > 0 else math.nan
        sizes[letter] = size if math.isfinite(size) and size > 0 else None
    placeholder = {size for size in sizes.values() if size is not None} == {1.0}
    if old_fei is not None:
        # The first FEI extended header keeps the pixel size itself, in metre; the cell is a placeholder.
        sizes = {"x": float(old_fei["pixel_size"][0]) * 1e10, "y": float(old_fei["pixel_size"][0]) * 1e10, "z": None}
        draft.notes.append("the pixel size is taken from the FEI extended header")
    elif placeholder and int(fields["nversion"]) < _MRC2014:
        sizes = dict.fromkeys("xyz")
        draft.notes.append("the voxel size of 1 ångström on every axis is what old programs write when they do not know: unknown")
    angles = [float(fields["cellb"][key]) for key in ("alpha", "beta", "gamma")]
    if any(0 < angle != 90.0 for angle in angles):
        draft.notes.append(f"the cell angles are {angles} degrees: the axes are not at right angles")
    return sizes


def _as_header_says(draft: _Draft, sizes: Mapping[str, float | None]) -> None:
    header, fields = draft.header, draft.header.fields
    group, mz = int(fields["ispg"]), int(fields["mz"])
    letters = [("x", "y", "z")[axis] for axis in reversed(header.axes)]  # of sections, rows, columns
    origins = _origins(draft, sizes)
    disk_axes: dict[str, tuple[int, Axis]] = {}
    for at, (letter, size) in enumerate(zip(letters, (draft.sections, header.ny, header.nx), strict=True)):
        step = sizes[letter]
        disk_axes[letter] = at, Axis.measured(letter, size, step, "angstrom", origin=0.0 if step is None else origins[letter])
    names = ["z", "y", "x"]
    draft.disk = (draft.sections, header.ny)
    if letters != names:
        draft.notes.append(f"the file is ordered {', '.join(letters)}; it is read as z, y, x")
    if group in _VOLUME_STACKS and 0 < mz <= draft.sections and header.nz % mz == 0 and letters == names:
        volumes = draft.sections // mz
        draft.disk = (volumes, mz, header.ny)
        z = disk_axes["z"][1]
        draft.axes = (Axis("n", volumes, AxisKind.OTHER), replace(z, size=mz), disk_axes["y"][1], disk_axes["x"][1])
        draft.order = (0, 1, 2, 3)
        draft.notes.append(f"space group {group}: a stack of {volumes} volumes")
        return
    if letters == names and draft.sections == 1 and header.nz == 1:
        # One image: its section axis says nothing.
        draft.disk = (header.ny,)
        draft.axes = (disk_axes["y"][1], disk_axes["x"][1])
        draft.order = (0, 1)
        return
    draft.axes = tuple(disk_axes[letter][1] for letter in names)
    draft.order = tuple(disk_axes[letter][0] for letter in names)
    if group == 0 and mz <= 1 and letters == names:
        draft.axes = (Axis("n", draft.sections, AxisKind.OTHER), *draft.axes[1:])
        draft.notes.append("space group 0 with mz 1: a stack of images")
    elif group == 0:
        draft.notes.append("space group 0 says a stack of images, mz says a volume: read as a volume")


def _origins(draft: _Draft, sizes: Mapping[str, float | None]) -> dict[str, float]:
    """Return the position of the first voxel along x, y, z in ångström: the origin, else the start indices."""
    header, fields = draft.header, draft.header.fields
    origin = {letter: float(fields["origin"][letter]) for letter in "xyz"}
    if all(math.isfinite(v) for v in origin.values()) and any(origin.values()):
        return {letter: -v if header.origin_inverted else v for letter, v in origin.items()}
    # The start indices count along columns, rows and sections, whichever axes those are.
    starts = dict(zip((("x", "y", "z")[axis] for axis in header.axes), ("nxstart", "nystart", "nzstart"), strict=True))
    return {letter: int(fields[starts[letter]]) * (sizes[letter] or 0.0) for letter in "xyz"}


def _stem(name: str) -> str:
    path = Path(name)
    return str(path.with_suffix("").with_suffix("") if path.suffix.lower() in (".gz", ".bz2") else path.with_suffix(""))
