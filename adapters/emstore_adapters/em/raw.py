"""The instrument's header, byte for byte: a file without its pixel data."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from emstore.errors import Capacity, SourceUnreadable
from emstore.header import RawHeader

MAX_RAW: Final = 256 << 20
"""Largest raw header kept, bytes."""


def outside(path: Path, name: str, spans: Iterable[tuple[int, int]]) -> RawHeader:
    """Return the bytes of a file outside its pixel data, in file order and glued together.

    Parameters
    ----------
    path, name
        The file, and the name to keep the header under.
    spans : iterable of (int, int)
        Offset and length of every block of pixel data, bytes.
    """
    ordered = sorted(spans)

    def read() -> bytes:
        parts: list[bytes] = []
        total = 0
        try:
            with path.open("rb") as file:
                end = file.seek(0, 2)
                at = 0
                for start, length in [*ordered, (end, 0)]:
                    if start > at:
                        total += min(start, end) - at
                        if total > MAX_RAW:
                            raise Capacity(f"the header is larger than {MAX_RAW} bytes", where=name)
                        file.seek(at)
                        parts.append(file.read(min(start, end) - at))
                    at = max(at, start + length)
        except Capacity:
            raise
        except OSError as error:
            raise SourceUnreadable(f"cannot be read: {error}", where=name) from error
        return b"".join(parts)

    return RawHeader(name, read)
