"""The skeleton of a TIFF file: its image file directories (IFDs), read without decoding anything.

tifffile does the real parsing. This module does what tifffile does not: say whether the chain of directories is whole,
check thousands of slice files at a few microseconds each, and tell header bytes from image bytes.
Source: TIFF 6.0, section 2; BigTIFF as specified by libtiff.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader, FileIO
from typing import Final

from emstore.errors import SourceIncomplete, SourceUnreadable

_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_FIRST: Final = 8 << 10
"""Most writers put the first directory at the beginning: it comes with the first read, bytes."""
_NEXT: Final = 1 << 10
"""What is read at once elsewhere: a usual directory, little of the image beside it, bytes."""
_MAX_VALUES: Final = 64 << 20
MAX_PAGES: Final = 1_000_000
_MAX_ENTRIES: Final = 65_536
_DAMAGED: Final = "the file is damaged or hostile: copy or export it again"


@dataclass(frozen=True)
class Tag:
    """One entry of a directory; its value is still in the file."""

    kind: int
    count: int
    at: int
    """Byte offset of the value."""


@dataclass(frozen=True)
class Directory:
    """One IFD."""

    tags: dict[int, Tag]
    following: int
    """Offset of the next one, 0 for none."""


def signature(head: bytes) -> tuple[str, bool] | None:
    """Return (byte order as in `struct`, whether BigTIFF) of the beginning of a TIFF file, else ``None``."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return None
    match struct.unpack(order + "H", head[2:4])[0]:
        case 42:
            return order, False
        case 43 if len(head) >= 16 and struct.unpack(order + "HH", head[4:8]) == (8, 0):
            return order, True
    return None


class Skeleton:
    """The directories of one open TIFF file.

    Parameters
    ----------
    file : binary file
        Open, unbuffered or not.
    name : str
        What to call it in messages.

    Raises
    ------
    SourceUnreadable
        It is no TIFF file.
    """

    def __init__(self, file: BufferedReader | FileIO, name: str) -> None:
        self._file = file
        self._name = name
        self._start = 0
        self._window = file.read(_FIRST) or b""
        self.size = file.seek(0, 2)
        known = signature(self._window)
        if known is None:
            raise SourceUnreadable("is not a TIFF file", where=name, fix="check that the file is what its name says")
        self.order, self.big = known
        self.first: int = self._unpack("Q" if self.big else "I", 8 if self.big else 4)

    def _bytes(self, at: int, count: int) -> bytes:
        if not (self._start <= at and at + count <= self._start + len(self._window)):
            if at + count > self.size:
                raise SourceIncomplete(
                    f"the file ends at byte {self.size}, inside its directory at byte {at}",
                    where=self._name,
                    fix="copy the file again",
                )
            self._file.seek(at)
            self._start, self._window = at, self._file.read(max(count, _NEXT)) or b""
        return self._window[at - self._start : at - self._start + count]

    def _unpack(self, form: str, at: int) -> int:
        number: int = struct.unpack(self.order + form, self._bytes(at, struct.calcsize(form)))[0]
        return number

    def directory(self, at: int) -> Directory:
        """Read the directory at byte `at`.

        Raises
        ------
        SourceIncomplete
            It lies beyond the end of the file.
        """
        head, entry, form = (8, 20, "HHQ") if self.big else (2, 12, "HHI")
        count = self._unpack("Q" if self.big else "H", at)
        if count > _MAX_ENTRIES:
            raise SourceUnreadable(
                f"the directory at byte {at} states {count} entries", where=self._name, fix="copy the file again"
            )
        body = self._bytes(at + head, count * entry)
        inline = entry - struct.calcsize("=" + form)
        tags: dict[int, Tag] = {}
        for i in range(count):
            code, kind, number = struct.unpack_from(self.order + form, body, i * entry)
            here = at + head + (i + 1) * entry - inline
            fits = _SIZES.get(kind, 1) * number <= inline
            # Offsets lie in the same directory: no need to look them up again.
            place = (
                here if fits else struct.unpack_from(self.order + ("Q" if self.big else "I"), body, (i + 1) * entry - inline)[0]
            )
            tags.setdefault(code, Tag(kind, number, place))
        try:
            following = self._unpack("Q" if self.big else "I", at + head + count * entry)
        except SourceIncomplete:
            following = 0  # some writers leave the last pointer out
        return Directory(tags, following)

    def integers(self, tag: Tag) -> tuple[int, ...]:
        """Return the value of a tag as integers, rationals as two each; empty where it holds none."""
        form = "2I" if tag.kind == 5 else _INTEGERS.get(tag.kind)
        if form is None or (tag.kind == 5 and tag.count != 1):
            return ()
        size = tag.count * _SIZES[tag.kind]
        if size > _MAX_VALUES:
            raise SourceUnreadable(f"a tag states {tag.count} values", where=self._name, fix=_DAMAGED)
        count = "" if tag.count == 1 else str(tag.count)
        return struct.unpack(f"{self.order}{count}{form}", self._bytes(tag.at, size))

    def chain(self) -> Iterator[Directory]:
        """Go through the directories in order.

        Raises
        ------
        SourceUnreadable
            The chain runs in a circle.
        SourceIncomplete
            It leads beyond the end of the file; says how many pages are good.
        """
        seen: set[int] = set()
        at = self.first
        while at:
            if at in seen or len(seen) >= MAX_PAGES:
                raise SourceUnreadable(
                    f"the chain of pages runs in a circle after page {len(seen)}",
                    where=self._name,
                    fix="the file is damaged or hostile",
                )
            seen.add(at)
            try:
                found = self.directory(at)
            except SourceIncomplete as error:
                raise SourceIncomplete(
                    f"the chain of pages leads beyond the end of the file: {len(seen) - 1} pages are good",
                    where=self._name,
                    fix="copy the file again, or pass --allow-partial to keep the good part",
                ) from error
            yield found
            at = found.following
        if not seen:
            raise SourceUnreadable("the file holds no pages", where=self._name, fix=_DAMAGED)

    def segments(self, found: Directory) -> tuple[Sequence[int], Sequence[int]]:
        """Return the offsets and sizes of a page's strips or tiles, bytes."""
        for offsets, sizes in ((324, 325), (273, 279)):
            if offsets in found.tags and sizes in found.tags:
                return self.integers(found.tags[offsets]), self.integers(found.tags[sizes])
        return (), ()

    def header_bytes(self, *images: tuple[int, int], most: int) -> bytes:
        """Return every byte of the file that belongs to no strip or tile, in file order, at most `most` of them.

        Parameters
        ----------
        *images : tuple of int
            Further ``(offset, size)`` of image data that no directory lists (ImageJ stacks).
        most : int
            Where to stop, bytes.
        """
        cuts = list(images)
        pending = []
        try:
            for found in self.chain():
                pending.append(found)
        except SourceUnreadable:
            pass  # a broken chain still has a header worth keeping
        seen: set[int] = set()
        while pending:
            found = pending.pop()
            cuts += zip(*self.segments(found), strict=False)
            for at in self.integers(found.tags[330]) if 330 in found.tags else ():
                if at and at not in seen and at < self.size:
                    seen.add(at)
                    pending.append(self.directory(at))
        kept, at = [], 0
        for offset, size in [*sorted(cuts), (self.size, 0)]:
            wanted = min(offset - at, most)
            if wanted > 0:
                self._file.seek(at)
                kept.append(self._file.read(wanted) or b"")
                most -= wanted
            at = max(at, offset + size)
        return b"".join(kept)
