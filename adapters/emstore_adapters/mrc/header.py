"""The 1024-byte header and the extended header behind it."""

import bz2
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from emstore.errors import Kind, SourceIncomplete, SourceUnreadable
from emstore.header import json_safe, quantity

HEADER_BYTES: Final = 1024
MAX_EXTENDED: Final = 1 << 30
MAX_PARSED: Final = 64 << 20
"""Extended headers longer than this are kept raw and not parsed, bytes."""

_MODES: Final[Mapping[int, str]] = {0: "i1", 1: "i2", 2: "f4", 3: "i2", 4: "c8", 6: "u2", 12: "f2", 101: "u1"}
"""Mode -> type of one number as it lies in the file; mode 3 has two per value, mode 101 two values in one."""
_LONGEST: Final = 1 << 20
_IMOD_STAMP: Final = 1146047817
_IMOD_SIGNED_BYTES: Final = 1
_IMOD_ORIGIN_INVERTED: Final = 4
_OLD_FEI_BYTES: Final = 1024 * 128
_OLD_FEI_FIELDS: Final = (
    "a_tilt", "b_tilt", "x_stage", "y_stage", "z_stage", "x_shift", "y_shift", "defocus", "exp_time", "mean_int",
    "tilt_axis", "pixel_size", "magnification",
)  # fmt: skip
_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"


@dataclass(frozen=True)
class MrcHeader:
    """What the header says, checked."""

    fields: Any
    """The header as mrcfile's record type."""
    order: str
    """Byte order, ``<`` or ``>``."""
    nx: int
    """Columns, rows and sections as they lie in the file."""
    ny: int
    nz: int
    mode: int
    extended: int
    """Length of the extended header, bytes."""
    axes: tuple[int, int, int]
    """Which of x, y, z (0, 1, 2) the columns, rows and sections are."""

    @property
    def offset(self) -> int:
        """Where the values begin, bytes."""
        return HEADER_BYTES + self.extended

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one number as it lies in the file."""
        code = _MODES[self.mode]
        if self.mode == 0 and self.unsigned_bytes:
            code = "u1"
        return np.dtype(code).newbyteorder(self.order)  # type: ignore[arg-type]

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one row in numbers of `dtype`."""
        if self.mode == 3:
            return (self.nx, 2)
        return ((self.nx + 1) // 2,) if self.mode == 101 else (self.nx,)

    @property
    def section_bytes(self) -> int:
        """Length of one section, bytes."""
        return self.ny * math.prod(self.row) * self.dtype.itemsize

    @property
    def imod_flags(self) -> int | None:
        """IMOD's flags, if IMOD wrote the file."""
        stamp, flags = (int(v) for v in np.frombuffer(bytes(self.fields["extra2"]), self.order + "i4")[10:12])
        return flags if stamp == _IMOD_STAMP else None

    @property
    def unsigned_bytes(self) -> bool:
        """Whether mode 0 is unsigned: so in files by IMOD that do not set its flag for signed bytes."""
        flags = self.imod_flags
        return flags is not None and not flags & _IMOD_SIGNED_BYTES

    @property
    def origin_inverted(self) -> bool:
        """Whether the origin has IMOD's old sign."""
        return bool((self.imod_flags or 0) & _IMOD_ORIGIN_INVERTED)


def unpacked_head(head: bytes) -> bytes:
    """Return the first bytes of a file, those of the stream inside when it is gzip or bzip2; empty if that fails."""
    try:
        if head.startswith(_GZIP):
            return zlib.decompressobj(31).decompress(head, HEADER_BYTES)
        if head.startswith(_BZIP2):
            return bz2.BZ2Decompressor().decompress(head, HEADER_BYTES)
    except (zlib.error, OSError, EOFError, ValueError):
        return b""
    return head


def recognise(head: bytes, size: int | None) -> int:
    """Say how surely bytes begin an MRC file, 0 to 100.

    Parameters
    ----------
    head : bytes
        First bytes of the (unpacked) file.
    size : int, optional
        Its whole length; without it an old file, which has no signature, is never recognised.
    """
    if len(head) < HEADER_BYTES:
        return 0
    sane = [order for order in "<>" if _sane(head, order)]
    if head[208:212] == b"MAP ":
        return 0 if not sane else 95 if head[212] in (0x44, 0x11) else 80
    if not sane or size is None:
        return 0
    nx, ny, nz, mode = struct.unpack_from(f"{sane[0]}4i", head)
    (extended,) = struct.unpack_from(f"{sane[0]}i", head, 92)
    mapping = struct.unpack_from(f"{sane[0]}3i", head, 64)
    values = nx * ny * nz * np.dtype(_MODES[mode]).itemsize * (2 if mode == 3 else 1)
    exact = size == HEADER_BYTES + extended + values
    return 35 if exact and sorted(mapping) == [1, 2, 3] and mode != 101 else 0


def _sane(head: bytes, order: str) -> bool:
    nx, ny, nz, mode = struct.unpack_from(f"{order}4i", head)
    (extended,) = struct.unpack_from(f"{order}i", head, 92)
    return all(0 < n <= _LONGEST for n in (nx, ny)) and 0 < nz < 1 << 31 and mode in _MODES and 0 <= extended <= MAX_EXTENDED


def parse(head: bytes, name: str) -> MrcHeader:
    """Check the first 1024 bytes and give them names.

    Raises
    ------
    SourceIncomplete
        The file ends within its header.
    SourceUnreadable
        The header makes no sense, or the mode is not known (kind ``source_unsupported``).
    """
    from mrcfile.dtypes import HEADER_DTYPE

    if len(head) < HEADER_BYTES:
        raise SourceIncomplete(f"the file ends within its header, after {len(head)} bytes: 0 sections are good", where=name)
    stamped = {0x44: "<", 0x11: ">"}.get(head[212])
    order = next((o for o in ([stamped] if stamped else []) + ["<", ">"] if o and _sane(head, o)), None)
    if order is None:
        (mode,) = struct.unpack_from(f"{stamped or '<'}i", head, 12)
        if 0 <= mode <= 1024 and mode not in _MODES:
            raise SourceUnreadable(
                f"MRC mode {mode} is not supported",
                where=name,
                fix=f"modes {', '.join(map(str, _MODES))} can be read; convert it with IMOD's newstack",
                kind=Kind.SOURCE_UNSUPPORTED,
            )
        raise SourceUnreadable("the MRC header makes no sense in either byte order", where=name, fix="copy the file again")
    fields = np.frombuffer(head[:HEADER_BYTES], HEADER_DTYPE.newbyteorder(order))[0]
    columns, rows, slow = (int(fields[key]) - 1 for key in ("mapc", "mapr", "maps"))
    # Some programs leave the mapping at zero: then the usual one is meant.
    axes = (columns, rows, slow) if sorted((columns, rows, slow)) == [0, 1, 2] else (0, 1, 2)
    nx, ny, nz, mode, extended = (int(fields[key]) for key in ("nx", "ny", "nz", "mode", "nsymbt"))
    return MrcHeader(fields, order, nx, ny, nz, mode, extended, axes)


def sections(header: MrcHeader, extended: bytes) -> tuple[str | None, Any]:
    """Return the kind of extended header and its records, one per section; ``None, None`` if it is not one we know.

    ``FEI1`` and ``FEI2`` records are typed by mrcfile; the older FEI one is 1024 records of 128 bytes.
    """
    from mrcfile.dtypes import get_ext_header_dtype

    kind = bytes(header.fields["exttyp"]).rstrip(b"\x00 ")
    if len(extended) > MAX_PARSED:
        return None, None
    if kind in (b"FEI1", b"FEI2"):
        dtype: Any = get_ext_header_dtype(kind, header.order)
        (stride,) = struct.unpack_from(f"{header.order}i", extended) if len(extended) >= 4 else (0,)
        count = min(header.nz, len(extended) // stride) if stride >= dtype.itemsize else 0
        if not count:
            return None, None
        padded = np.frombuffer(extended, np.uint8)[: count * stride].reshape(count, stride)[:, : dtype.itemsize]
        return kind.decode(), np.ascontiguousarray(padded).view(dtype)[:, 0]
    if not kind and len(extended) == _OLD_FEI_BYTES:
        record = np.dtype([(n, f"{header.order}f4") for n in _OLD_FEI_FIELDS] + [("unused", "V76")])
        records = np.frombuffer(extended, record)[: min(header.nz, 1024)]
        return (
            ("FEI", records) if np.isfinite(records["pixel_size"]).all() and (records["pixel_size"] > 0).all() else (None, None)
        )
    return None, None


def tree(header: MrcHeader, kind: str | None, records: Any) -> dict[str, Any]:
    """Return the parsed header, JSON-safe. Fields that differ between sections are lists, the others single values."""
    fields = header.fields
    parsed: dict[str, Any] = {
        name: _plain(fields[name]) for name in fields.dtype.names if name not in ("label", "extra1", "extra2", "machst")
    }
    count = min(max(int(fields["nlabl"]), 0), 10)
    parsed["labels"] = [bytes(v).decode("latin-1").rstrip("\x00 ") for v in fields["label"][:count]]
    parsed["machine_stamp"] = bytes(fields["machst"]).hex()
    parsed["byte_order"] = "little" if header.order == "<" else "big"
    if header.imod_flags is not None:
        parsed["imod_flags"] = header.imod_flags
    if records is not None:
        found = {}
        for name in records.dtype.names:
            if records.dtype[name].kind == "V":
                continue
            column = records[name]
            found[name] = _plain(column[0]) if (column == column[0]).all() else [_plain(v) for v in column]
        parsed[f"{kind} extended header"] = found
    return {str(k): json_safe(v) for k, v in parsed.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.void) and value.dtype.names:
        return {name: value[name].item() for name in value.dtype.names}
    if isinstance(value, bytes):
        return value.decode("latin-1").rstrip("\x00 ")
    return value.item() if isinstance(value, np.generic) else value


def fei_facts(kind: str | None, records: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the NXem terms and the per-section attributes of an FEI extended header.

    A bit of ``Bitmask 1`` says whether each of its first fields is set (FEI, "MRC2014 extended header", metadata version 0).
    """
    if records is None:
        return {}, {}
    if kind == "FEI":
        return {}, {"tilt_angles": {"values": [float(v) for v in records["a_tilt"]], "unit": "degree"}}
    first = records[0]
    terms: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    mask = int(first["Bitmask 1"])
    column, lens = "instrument/ebeam_column", "instrument/optics"

    def put(path: str, field: str, unit: str, bit: int | None = None) -> None:
        value = float(first[field])
        if math.isfinite(value) and (mask >> bit & 1 if bit is not None else value != 0):
            terms[path] = quantity(value, unit)

    put(f"{column}/electron_source/voltage", "HT", "volt", 5)
    put("instrument/ebeam_column/dose", "Dose", "electron/meter^2", 6)
    put("instrument/stage/tilt1", "Alpha tilt", "degree", 7)
    put("instrument/stage/tilt2", "Beta tilt", "degree", 8)
    for letter, bit in (("X", 9), ("Y", 10), ("Z", 11)):
        put(f"instrument/stage/position/{letter.lower()}", f"{letter}-Stage", "meter", bit)
    put(f"{lens}/defocus", "Defocus", "meter", 22)
    put(f"{lens}/camera_length", "Camera length", "meter")
    put(f"{lens}/semi_convergence_angle", "Convergence angle", "radian")
    put("instrument/scan_controller/dwell_time", "Dwell time", "second")
    put("instrument/detector/exposure_time", "Integration time", "second")
    if mask >> 31 & 1:
        terms[f"{lens}/magnification"] = float(first["Magnification"])
    for path, field in (
        ("instrument/fabrication/model", "Microscope type"),
        ("instrument/fabrication/identifier", "D-Number"),
        ("instrument/program", "Application"),
        ("instrument/detector/name", "STEM Detector name" if int(first["Instrument mode"]) == 2 else "Camera name"),
    ):
        if text := _plain(first[field]):
            terms[path] = text
    if mask >> 7 & 1:
        attributes["tilt_angles"] = {"values": [float(v) for v in records["Alpha tilt"]], "unit": "degree"}
    return terms, json_safe(attributes)
