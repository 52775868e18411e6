"""Random access to a gzip file without ever unpacking it as a whole.

The stream is inflated forward only, straight into the reader's buffer. Every `CHECKPOINT_BYTES` of output the inflate
state is copied (about 40 KiB each), so that going back, or jumping ahead over ground already covered, inflates at most
that much again. Reading slabs in file order inflates the file once. Members that follow each other (RFC 1952, section
2.2) are read as one stream; zlib checks each member's CRC-32 and length when its end is reached.
"""

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, Final

from emstore.errors import SourceIncomplete, SourceUnreadable
from emstore_adapters.flat import EndOfData, ReadInto

CHECKPOINT_BYTES: Final = 16 << 20
MAX_CHECKPOINTS: Final = 2048
"""Beyond this many, every second one is dropped and the distance doubles: at most about 80 MiB of states."""

_FEED: Final = 256 << 10
_TAKE: Final = 1 << 20
_WBITS: Final = 31  # 15-bit window, gzip wrapper
MAGIC: Final = b"\x1f\x8b"
MAX_RATIO: Final = 1032
"""Deflate never makes data smaller than 1/1032 (zlib's technical notes, "maximum compression factor")."""


@dataclass(frozen=True)
class _Checkpoint:
    out: int
    packed: int
    state: Any  # zlib.Decompress has no public type


class GzipBytes:
    """The unpacked bytes of a gzip file, as a `ByteSource`.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        What to call it in messages.
    end : int, optional
        Number of unpacked bytes that matter: reading up to there also checks the stream's CRC and length.
    """

    def __init__(self, path: Path, name: str, *, end: int | None = None) -> None:
        self._path = path
        self._name = name
        self._end = end
        self._lock = threading.Lock()
        self._every = CHECKPOINT_BYTES
        self._checkpoints = [_Checkpoint(0, 0, zlib.decompressobj(_WBITS))]
        self._restore(self._checkpoints[0])

    @contextmanager
    def open(self) -> Iterator[ReadInto]:
        """Take the stream for one series of reads; other threads wait."""
        with self._lock:
            try:
                with self._path.open("rb") as file:
                    yield lambda offset, out: self._read_into(file, offset, out)
            except zlib.error as error:
                at = self._out
                self._restore(self._checkpoints[0])
                raise SourceUnreadable(
                    f"the gzip stream is damaged near unpacked byte {at}: {error}", where=self._name, fix="copy the file again"
                ) from error
            except OSError as error:
                if isinstance(error, SourceUnreadable):
                    raise
                raise SourceUnreadable(f"cannot be read: {error.strerror}", where=self._name) from error

    def _restore(self, point: _Checkpoint) -> None:
        self._out = point.out
        self._packed = point.packed
        self._inflate = point.state.copy()
        self._tail = b""
        self._pending = True  # the state may still hold output that needs no more input
        self._ended = False

    def _read_into(self, file: BufferedReader | FileIO, offset: int, out: memoryview) -> None:
        best = max((c for c in self._checkpoints if c.out <= offset), key=lambda c: c.out)
        if offset < self._out or best.out > self._out:
            self._restore(best)
        # Between two opens of the file only `_packed` says where we are.
        file.seek(self._packed + len(self._tail))
        while self._out < offset:
            if not self._step(file, min(_TAKE, offset - self._out)):
                raise EndOfData(self._out)
        done = 0
        while done < len(out):
            data = self._step(file, min(_TAKE, len(out) - done))
            if not data:
                raise EndOfData(self._out)
            out[done : done + len(data)] = data
            done += len(data)
        if self._end is not None and self._out >= self._end:
            self._check_end(file)

    def _step(self, file: BufferedReader | FileIO, most: int) -> bytes:
        """Inflate at most `most` bytes; empty at the end of the data, whole or cut off."""
        while not self._ended:
            if not self._tail and not self._pending:
                self._tail = file.read(_FEED) or b""
                if not self._tail:
                    return b""
            given = len(self._tail)
            data: bytes = self._inflate.decompress(self._tail, most)
            self._pending = len(data) == most
            if self._inflate.eof:
                rest = self._inflate.unused_data
                self._packed += given - len(rest)
                self._next_member(file, rest)
            else:
                self._tail = self._inflate.unconsumed_tail
                self._packed += given - len(self._tail)
            if data:
                self._out += len(data)
                self._remember()
                return data
        return b""

    def _next_member(self, file: BufferedReader | FileIO, rest: bytes) -> None:
        """Go on with the member that follows, if one does; zero padding and anything else end the stream."""
        self._pending = False
        if len(rest) < len(MAGIC):
            rest += file.read(_FEED) or b""
        if rest.startswith(MAGIC):
            self._inflate = zlib.decompressobj(_WBITS)
            self._tail = rest
        else:
            self._tail = b""
            self._ended = True

    def _remember(self) -> None:
        if self._ended or self._out - self._checkpoints[-1].out < self._every:
            return
        if len(self._checkpoints) >= MAX_CHECKPOINTS:
            self._checkpoints = self._checkpoints[::2]
            self._every *= 2
        self._checkpoints.append(_Checkpoint(self._out, self._packed, self._inflate.copy()))

    def _check_end(self, file: BufferedReader | FileIO) -> None:
        """Read on to the trailer, so that its CRC and length are checked; a little extra data is let pass."""
        spare = _TAKE
        while not self._ended and spare > 0:
            data = self._step(file, spare)
            spare -= len(data)
            if not data and not self._ended:
                raise SourceIncomplete(
                    "the gzip trailer is cut off: all slices are there, but the checksum that proves them is not",
                    where=self._name,
                    fix="copy the file again",
                )


def unpacked_prefix(packed: bytes, most: int) -> bytes:
    """Return up to `most` unpacked bytes from the beginning of a gzip file; empty when it is none."""
    try:
        return zlib.decompressobj(_WBITS).decompress(packed, most)
    except zlib.error:
        return b""


def stated_size(path: Path) -> int:
    """Return the unpacked size modulo 2**32 that the last member's trailer states (RFC 1952, ISIZE)."""
    with path.open("rb") as file:
        file.seek(-4, 2)
        return int.from_bytes(file.read(4), "little")


def unpacked_size(path: Path, most: int) -> int:
    """Count the unpacked bytes there really are, up to `most`, in bounded memory."""
    stream = GzipBytes(path, path.name)
    scratch = memoryview(bytearray(_TAKE))
    done = 0
    try:
        with stream.open() as read_into:
            while done < most:
                n = min(_TAKE, most - done)
                read_into(done, scratch[:n])
                done += n
    except EndOfData as error:
        return error.have
    return done
