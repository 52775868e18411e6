"""The size that a compressed frame states about itself, read before a decoder allocates for it.

Sources: ISO/IEC 10918-1 B.2.2 (JPEG frame header), ISO/IEC 14495-1 C.2.2 (JPEG-LS uses the same one),
ISO/IEC 15444-1 A.5.1 (JPEG 2000 SIZ).
"""

import struct
from typing import Final

_NO_PARAMETERS: Final = frozenset({0x01, *range(0xD0, 0xDA)})
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


def stated_size(data: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) that a JPEG, JPEG-LS or JPEG 2000 codestream states; ``None`` when it states none."""
    if data[:4] == b"\xff\x4f\xff\x51" and len(data) >= 24:
        width, height, left, top = struct.unpack(">4I", data[8:24])
        return height - top, width - left
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _NO_PARAMETERS:
            at += 2
            continue
        if marker == 0xDA:
            return None
        if marker in _FRAME_HEADERS and at + 9 <= len(data):
            rows, columns = struct.unpack(">HH", data[at + 5 : at + 9])
            return rows, columns
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None
