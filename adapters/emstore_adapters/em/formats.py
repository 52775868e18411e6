"""Which formats this adapter knows, and how to tell them by their first bytes."""

import json
import re
import struct
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from emstore.source import SourceItem


class Format(StrEnum):
    """One file format, by the name people use."""

    DM = "Gatan DM3/DM4"
    VELOX = "Velox EMD"
    BERKELEY = "Berkeley EMD"
    SER = "FEI TIA SER"
    EMI = "FEI TIA EMI"
    HSPY = "HyperSpy hspy"
    ZSPY = "HyperSpy zspy"
    BLO = "NanoMegas blockfile"
    TVIPS = "TVIPS"
    TVIPS_PART = "TVIPS continuation"


EXTENSIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        Format.DM: (".dm3", ".dm4"),
        Format.VELOX: (".emd",),
        Format.BERKELEY: (".emd",),
        Format.SER: (".ser",),
        Format.EMI: (".emi",),
        Format.HSPY: (".hspy", ".hdf5"),
        Format.ZSPY: (".zspy",),
        Format.BLO: (".blo",),
        Format.TVIPS: (".tvips",),
    }
)

HDF5_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_PART: Final = re.compile(r"_(\d{3})\.tvips$", re.IGNORECASE)
_SCORE: Final = {Format.TVIPS_PART: 60}
_SURE: Final = 97


def sniff(item: SourceItem) -> tuple[Format, int] | None:
    """Return the format of an item and how sure that is, or ``None``; never raises on any bytes.

    The names of an HDF5 file's root group usually lie in its first 64 KiB. Only where they do not is the file opened,
    which reads a few kilobytes of metadata and no values but Velox's one-line version.
    """
    try:
        found = _zspy_folder(item.path) if item.is_folder else _by_bytes(item)
    except OSError:
        return None
    return None if found is None else (found, _SCORE.get(found, _SURE))


def part_number(path: Path) -> int | None:
    """Return the number of a TVIPS part from its name (``scan_002.tvips``: 2), or ``None``."""
    match = _PART.search(path.name)
    return None if match is None else int(match[1])


def _by_bytes(item: SourceItem) -> Format | None:
    head = item.head
    if head.startswith(HDF5_SIGNATURE):
        return _hdf5(item)
    if head.startswith(b"PK\x03\x04"):
        zspy = b".zattrs" in head and (b"ZSpy" in head or (b"Experiments/" in head and b".zgroup" in head))
        return Format.ZSPY if zspy else None
    if head[:4] in (b"\0\0\0\x03", b"\0\0\0\x04"):
        return Format.DM if _is_dm(head) else None
    if head[:4] == b"II\x97\x01":
        return Format.SER
    if head[:4] == b"JK\0\x02":
        return Format.EMI
    if head[:6] == b"IMGBLO":
        return Format.BLO
    return _tvips(item)


def _is_dm(head: bytes) -> bool:
    # version, size (4 or 8 bytes), byte order (0 or 1), then the root group: sorted, open, number of tags
    at = 8 if head[3] == 3 else 12
    return len(head) >= at + 6 and head[at : at + 4] in (b"\0\0\0\0", b"\0\0\0\x01") and head[at + 4] < 2 and head[at + 5] < 2


def _tvips(item: SourceItem) -> Format | None:
    head = item.head
    if len(head) >= 256:
        size, version, width, height, bits = struct.unpack("<5I", head[:20])
        if version in (1, 2) and 256 <= size < 1 << 20 and 0 < width < 1 << 16 and 0 < height < 1 << 16 and bits in (8, 16, 32):
            if b"TVIPS" in head[52:256] or b"HYPERSPY" in head[52:256]:
                return Format.TVIPS
    if len(head) >= 28 and (part_number(item.path) or 0) > 0:
        # A continuation has no header, only frames: time in seconds since 1970, milliseconds, ..., mode.
        _, seconds, milliseconds, _, _, _, mode = struct.unpack("<4IfII", head[:28])
        if 0 < seconds and milliseconds < 1000 and mode in (1, 2):
            return Format.TVIPS_PART
    return None


def _hdf5(item: SourceItem) -> Format | None:
    head = item.head
    if b"Experiments\0" in head and b"HyperSpy" in head:
        return Format.HSPY
    if b"authoring_program" in head:
        return None  # EMD 1.0 as py4DSTEM writes it: the hdf5 adapter's
    if b"version_major" in head and b"emd_group_type" in head:
        return Format.BERKELEY
    # The tables and descriptions of frames that Velox writes lie near the start of most files.
    if b"FrameLookupTable\0" in head or b'"MetadataDefinitionVersion"' in head:
        return Format.VELOX
    import h5py

    try:
        with h5py.File(item.path, "r") as file:
            return _hdf5_root(file)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError, RecursionError):
        # Cut short: what is left of the root group's names must do.
        return Format.VELOX if all(word in head for word in (b"Data\0", b"Version\0", b"Features\0", b"Presentation\0")) else None


def _hdf5_root(file: Any) -> Format | None:
    names = set(file.keys())
    kind = file.attrs.get("file_format")
    if _word(kind).lower() == "hyperspy":
        return Format.HSPY
    if "emd_group_type" in file.attrs or "authoring_program" in file.attrs:
        return None  # EMD 1.0 as py4DSTEM writes it: the hdf5 adapter's
    if {"Version", "Data"} <= names:
        version = file["Version"]
        if version.shape == (1,) and version.dtype.kind in "OS":
            stated = json.loads(_word(version[0]))
            if isinstance(stated, dict) and stated.get("format") in ("Velox", "DevelopersKit"):
                return Format.VELOX
        return None
    if "Experiments" in names and kind is None:
        group = file["Experiments"]
        return Format.HSPY if any("data" in group[key] and "axis-0" in group[key] for key in list(group.keys())[:8]) else None
    groups = [file] + [file[name] for name in list(names)[:32] if file.get(name, getclass=True).__name__ == "Group"]
    return Format.BERKELEY if any("version_major" in group.attrs and "version_minor" in group.attrs for group in groups) else None


def _word(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _zspy_folder(path: Path) -> Format | None:
    for name in (".zattrs", "zarr.json"):
        mark = path / name
        if mark.is_file():
            with mark.open("rb") as file:
                text = file.read(65536)
            if b'"file_format"' in text and b'"ZSpy"' in text:
                return Format.ZSPY
    return None
