"""NanoMegas blockfiles: 4D-STEM of precession diffraction, 8 bit, each pattern behind a six-byte frame header.

Layout as written by ASTAR: a fixed header of 245 bytes, a note up to the virtual image, then the patterns. Raw header:
every byte before the first pattern (fixed header, note and virtual bright-field image).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from emstore.errors import SourceIncomplete, SourceUnreadable
from emstore.source import Source, SourceItem
from emstore_adapters.em import terms
from emstore_adapters.em.arrays import FramesArray
from emstore_adapters.em.axes import RawAxis
from emstore_adapters.em.formats import Format
from emstore_adapters.em.raw import outside
from emstore_adapters.em.signals import Signal, checked_shape

_MAGIC: Final = 0x0102
_FRAME_HEADER: Final = 6
_HEADER: Final = np.dtype(
    [
        ("ID", "S6"),
        ("MAGIC", "<u2"),
        ("Data_offset_1", "<u4"),
        ("Data_offset_2", "<u4"),
        ("UNKNOWN1", "<u4"),
        ("DP_SZ", "<u2"),
        ("DP_rotation", "<u2"),
        ("NX", "<u2"),
        ("NY", "<u2"),
        ("Scan_rotation", "<u2"),
        ("SX", "<f8"),
        ("SY", "<f8"),
        ("Beam_energy", "<u4"),
        ("SDP", "<u2"),
        ("Camera_length", "<u4"),
        ("Acquisition_time", "<f8"),
        ("Centering", "<f8", (8,)),
        ("Distortion", "<f8", (14,)),
    ]
)
_DAY_ZERO: Final = datetime(1899, 12, 30)


def read(item: SourceItem, source: Source) -> Sequence[Signal]:
    """Return the patterns of a scan, shape (scan y, scan x, ky, kx), uint8."""
    if len(item.head) < _HEADER.itemsize:
        raise SourceIncomplete("ends inside its header, so none of it is good", where=item.name)
    record = np.frombuffer(item.head, _HEADER, count=1)[0]
    if record["MAGIC"] != _MAGIC:
        raise SourceUnreadable(f"is a blockfile of unknown version {int(record['MAGIC']):#06x}", where=item.name)
    scan = (int(record["NY"]), int(record["NX"]))
    side = int(record["DP_SZ"])
    offset = int(record["Data_offset_2"])
    shape = checked_shape((*scan, side, side), np.dtype(np.uint8), item.name)
    if offset < _HEADER.itemsize:
        raise SourceUnreadable(f"puts its patterns at byte {offset}, inside its header", where=item.name)
    stride = _FRAME_HEADER + side * side
    whole = max(0, item.size - offset) // stride
    notes: tuple[str, ...] = ()
    if whole < scan[0] * scan[1]:
        rows = whole // scan[1]
        reason = f"holds {whole} of {scan[0] * scan[1]} patterns ({rows} of {scan[0]} whole scan rows)"
        source.skip(
            item.name, reason, SourceIncomplete(reason, where=item.name, fix="pass --allow-partial to keep the whole rows")
        )
        if rows == 0:
            return ()
        shape, notes = (rows, *shape[1:]), (f"{reason}; the whole rows were kept",)
    # The detector scale is stored as 100 x pixels per centimetre.
    step = 100.0 / float(record["SDP"]) if record["SDP"] else None
    axes = (
        RawAxis("y", shape[0], float(record["SY"]), unit="nm", navigate=True),
        RawAxis("x", shape[1], float(record["SX"]), unit="nm", navigate=True),
        RawAxis("dy", side, step, unit="cm", navigate=False),
        RawAxis("dx", side, step, unit="cm", navigate=False),
    )
    note = item.head[_HEADER.itemsize : int(record["Data_offset_1"])].decode("latin-1").strip("\x00")
    tree: dict[str, Any] = {name: record[name].tolist() for name in record.dtype.names or ()} | {"Note": note}
    tree["ID"] = record["ID"].decode("latin-1")
    facts: dict[str, Any] = {}
    terms.add(facts, terms.VENDOR, "NanoMegas")
    terms.add(facts, terms.VOLTAGE, float(record["Beam_energy"]), "volt")
    terms.add(facts, terms.CAMERA_LENGTH, float(record["Camera_length"]) / 10, "millimeter")
    days = float(record["Acquisition_time"])
    if 0 < days < 1e5:
        facts[terms.START] = (_DAY_ZERO + timedelta(days=days)).isoformat(timespec="seconds")
    data = FramesArray(
        item.name, shape, np.dtype(np.uint8), 2, lambda number: (item.path, offset + number * stride + _FRAME_HEADER)
    )
    raw = outside(item.path, f"{item.path.name}.header", [(offset, item.size)])
    return [Signal("", data, axes, Format.BLO, {"blockfile_header": tree}, facts, (raw,), (item.path,), "stem", notes=notes)]
