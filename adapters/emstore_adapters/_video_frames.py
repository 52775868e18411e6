"""Frames of one video stream by number: counted from packets, decoded in order, reached by key-frame seeks."""

import bisect
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput, Kind, SourceIncomplete, SourceUnreadable
from emstore.source import SourceItem
from emstore.volume import Region

_GREY: Final = re.compile(r"^gray(8|9|10|12|14|16)?(le|be)?$")
_NO_SEEK: Final = frozenset({"gif", "mpeg"})
"""Containers read from the start: GIF frames build on each other, and MPEG streams are sought by guess."""
_MAX_FRAMES: Final = 10_000_000
_THREADS: Final = 4


def is_grey(pixel_format: str) -> bool:
    """Say whether frames of a pixel format are grey, and kept as they are."""
    return _GREY.match(pixel_format) is not None


@contextmanager
def reading(path: Path, form: str, name: str) -> Iterator[Any]:
    """Open a container and turn whatever FFmpeg throws into `SourceUnreadable`."""
    import av

    with _errors(name), av.open(str(path.absolute()), format=form, metadata_errors="replace") as container:
        yield container


@contextmanager
def _errors(name: str) -> Iterator[None]:
    import av.error

    try:
        yield
    except av.error.FFmpegError as error:
        raise SourceUnreadable(f"FFmpeg cannot read it: {error.strerror}", where=name, fix="play it or copy it again") from error
    except (ValueError, OverflowError, NotImplementedError, IndexError) as error:
        # PyAV's own complaints about streams it cannot map, e.g. an unknown codec or pixel format.
        if isinstance(error, InvalidInput):
            raise
        raise SourceUnreadable(f"cannot be decoded: {error}", where=name, kind=Kind.SOURCE_UNSUPPORTED) from error


@dataclass(frozen=True)
class Clip:
    """One video stream, counted."""

    item: SourceItem
    form: str
    """FFmpeg's name of the container."""
    stream: int
    """Index of the stream."""
    codec: str
    pixel_format: str
    size: tuple[int, int]
    """Height and width, pixels."""
    count: int
    """Number of frames the packets hold."""
    promised: int
    """Number of frames the container says, 0 if it does not."""
    good: int
    """Number of first frames that are surely whole if the file was cut."""
    times: tuple[int, ...] | None
    """Time of every frame in `tick`, in order of showing; ``None`` where the container has none."""
    keys: tuple[int, ...]
    """Numbers of the frames that decoding can begin at, in order."""
    tick: Fraction
    """Seconds."""
    rate: Fraction | None
    """Nominal frames per second."""
    start: int
    """Where the first frame begins in the file, bytes."""
    whole: bool
    """Whether the container says how many frames there are, and all of them are there."""
    notes: tuple[str, ...]

    @property
    def missing(self) -> bool:
        """Whether fewer frames are there than the container says."""
        return self.promised > 0 and not self.whole

    @property
    def seekable(self) -> bool:
        """Whether a frame can be reached without decoding all before it."""
        return self.times is not None and len(self.keys) > 1 and self.form not in _NO_SEEK

    @classmethod
    def scan(cls, item: SourceItem, form: str, number: int) -> "Clip":
        """Walk all packets of a stream, and decode the first frame for what only that tells."""
        seen = _Packets()
        with reading(item.path, form, item.name) as container:
            stream = container.streams[number]
            vp8 = stream.codec_context.name == "vp8"
            for packet in container.demux(stream):
                seen.add(packet, item.size, vp8)
            tick, rate = Fraction(stream.time_base or 0), stream.average_rate or stream.guessed_rate
            # In a GIF it is FFmpeg that counts, and only what is there.
            promised, codec = 0 if form == "gif" else int(stream.frames), str(stream.codec_context.name)
            aspect = stream.sample_aspect_ratio
        if not seen.count:
            raise SourceIncomplete("none of the frames is there: the file holds only its header", where=item.name)
        times = seen.times()
        with reading(item.path, form, item.name) as container:
            frame = next(container.decode(container.streams[number]), None)
            if frame is None:
                raise SourceUnreadable("no frame can be decoded", where=item.name)
            notes = _frame_notes(frame)
            pixel_format, size = frame.format.name, (frame.height, frame.width)
        if aspect and aspect != 1:
            notes.append(f"pixels are shown {aspect} times as wide as high; frames are kept as stored")
        if seen.empty:
            notes.append(f"{seen.empty} empty packets (frames dropped while recording) are left out")
        if times is None:
            notes.append("the container gives no frame times")
        order = {ticks: i for i, ticks in enumerate(times or ())}
        keys = tuple(sorted(order[ticks] for ticks in seen.keys if ticks in order))
        return cls(
            item, form, number, codec, pixel_format, size, seen.count, promised, seen.good(times), times, keys, tick,
            None if not rate else Fraction(rate), seen.start, seen.holds(promised), tuple(notes),
        )  # fmt: skip


@dataclass
class _Packets:
    """What the packets of a stream say."""

    stamps: list[tuple[int | None, int | None]] = field(default_factory=list)
    """Presentation and decoding time of every frame, in file order."""
    keys: list[int] = field(default_factory=list)
    empty: int = 0
    discarded: int = 0
    hidden: int = 0
    damaged: bool = False
    start: int = 0

    @property
    def count(self) -> int:
        return len(self.stamps)

    def add(self, packet: Any, file_size: int, vp8: bool) -> None:
        """Count one packet; FFmpeg ends with one that has no data and no time."""
        if packet.size == 0:
            self.empty += packet.dts is not None
        elif packet.is_discard:
            self.discarded += 1  # an edit list cuts it off
        elif packet.is_corrupt or (packet.pos is not None and packet.pos >= 0 and packet.pos + packet.size > file_size):
            self.damaged = True
        elif vp8 and not bytes(packet)[0] >> 4 & 1:
            self.hidden += 1  # VP8 frames that are never shown (RFC 6386, section 9.1)
        elif self.count < _MAX_FRAMES:
            if not self.stamps:
                self.start = packet.pos or 0
            self.stamps.append((packet.pts, packet.dts))
            if packet.is_keyframe and packet.pts is not None:
                self.keys.append(packet.pts)

    def holds(self, promised: int) -> bool:
        """Say whether as many packets are there as the container says."""
        return not self.damaged and 0 < promised <= self.count + self.empty + self.discarded + self.hidden

    def times(self) -> tuple[int, ...] | None:
        """Return the time of every frame in order of showing; ``None`` unless every frame has its own."""
        shown = [pts for pts, _ in self.stamps if pts is not None]
        if len(shown) < self.count:
            shown = [dts for _, dts in self.stamps if dts is not None]
            self.keys.clear()  # frames cannot be told by these
        return tuple(sorted(shown)) if len(set(shown)) == self.count else None

    def good(self, times: tuple[int, ...] | None) -> int:
        """Return how many first frames cannot be among, or need, those that a cut took away.

        A missing packet is decoded later than the last one there, and shown no earlier than it is decoded.
        """
        last = self.stamps[-1][1]
        if times is None or any(pts is None for pts, _ in self.stamps):
            return self.count - 1
        if last is None:
            return bisect.bisect_left(times, max(self.keys, default=times[0]))
        # The last packet may itself be cut.
        return min(bisect.bisect_right(times, last), self.count - 1)


def _frame_notes(frame: Any) -> list[str]:
    notes, form = [], frame.format
    if frame.rotation:
        notes.append(f"a player would turn it by {frame.rotation} degrees; frames are kept as stored")
    if frame.interlaced_frame:
        notes.append("the video is interlaced: each frame holds two half pictures, taken one after the other")
    if is_grey(form.name):
        return notes
    bits = max(part.bits for part in form.components)
    if bits > 8:
        notes.append(f"colours of {bits} bits are reduced to 8")
    if len(form.components) in (2, 4):
        notes.append("transparency is left out")
    return notes


@dataclass
class _Decoder:
    """A decoder that stands at one frame of a clip."""

    clip: Clip
    container: Any = None
    frames: Iterator[Any] | None = None
    at: int = 0
    """Number of the frame that `frames` gives next."""
    sought: bool = False
    """Whether `frames` began at a key frame, so that its first frame must be recognised by its time."""
    can_seek: bool = True

    def close(self) -> None:
        """Let go of the file."""
        if self.container is not None:
            self.container.close()
        self.container = self.frames = None

    def go_to(self, number: int) -> None:
        """Stand at, or not far before, a frame."""
        clip = self.clip
        key = clip.keys[bisect.bisect_right(clip.keys, number) - 1] if clip.seekable and clip.keys[0] <= number else 0
        forward = self.frames is not None and self.at <= number
        if forward and (not self.can_seek or key <= self.at):
            return
        if not forward or self.container is None:
            self._restart()
        if self.can_seek and clip.seekable and clip.times is not None and key > 0:
            stream = self.container.streams[clip.stream]
            self.container.seek(clip.times[key], stream=stream, backward=True)
            self.frames, self.sought = self.container.decode(stream), True

    def next(self) -> Any:
        """Return the next frame; its number is then ``at - 1``."""
        assert self.frames is not None
        frame = next(self.frames, None)
        if frame is None:
            return None
        if self.sought:
            times = self.clip.times or ()
            place = bisect.bisect_left(times, frame.pts) if frame.pts is not None else len(times)
            if place >= len(times) or times[place] != frame.pts:
                return self._lost()
            self.at, self.sought = place, False
        self.at += 1
        return frame

    def _lost(self) -> Any:
        """Give up seeking in this file: go back to the start and count."""
        self.can_seek = False
        self._restart()
        return self.next()

    def _restart(self) -> None:
        import av

        self.close()
        self.container = av.open(str(self.clip.item.path.absolute()), format=self.clip.form, metadata_errors="replace")
        stream = self.container.streams[self.clip.stream]
        stream.codec_context.thread_count = _THREADS
        stream.thread_type = "AUTO"
        self.frames, self.at, self.sought = self.container.decode(stream), 0, False


class VideoArray:
    """A `LazyArray` of the first `good` frames of a clip; one decoder, shared by threads in turn.

    Parameters
    ----------
    clip : Clip
        The stream.
    good : int
        Number of frames.
    """

    def __init__(self, clip: Clip, good: int) -> None:
        self._clip = clip
        self._good = good
        self._grey = is_grey(clip.pixel_format)
        self._decoder = _Decoder(clip)
        self._lock = threading.Lock()
        self._last: tuple[int, npt.NDArray[Any]] | None = None

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(t, y, x) for grey, (t, c, y, x) for RGB."""
        return (self._good, *self._clip.size) if self._grey else (self._good, 3, *self._clip.size)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """uint8, or uint16 for grey of more than 8 bits."""
        match = _GREY.match(self._clip.pixel_format)
        return np.dtype(np.uint16 if match and int(match[1] or 8) > 8 else np.uint8)

    @cached_property
    def block(self) -> tuple[int, ...]:
        """One whole frame."""
        return (1, *self.shape[1:])

    @property
    def sequential(self) -> bool:
        """Frames build on those before them."""
        return True

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Read one region.

        Raises
        ------
        SourceIncomplete
            The stream ends before the frame.
        SourceUnreadable
            A frame cannot be decoded.
        """
        parts = [part.indices(size) for part, size in zip(region, self.shape, strict=True)]
        if any(step != 1 for _, _, step in parts):
            raise InvalidInput("only slices of step 1 can be read")
        (first, stop, _), *within = parts
        inner = tuple(slice(a, max(a, b)) for a, b, _ in within)
        out = np.empty([max(0, b - a) for a, b, _ in parts], self.dtype)
        with self._lock, _errors(self._clip.item.name):
            try:
                for number in range(first, stop):
                    out[number - first] = self._frame(number)[inner]
            except BaseException:
                self._decoder.close()
                raise
        return out

    def _frame(self, number: int) -> npt.NDArray[Any]:
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        decoder = self._decoder
        decoder.go_to(number)
        frame = None
        while decoder.at <= number or decoder.sought:
            frame = decoder.next()
            if frame is None:
                raise SourceIncomplete(
                    f"the stream ends after {decoder.at} of {self._clip.count} frames",
                    where=self._clip.item.name,
                    fix="copy the file again",
                )
            if decoder.at > number + 1:  # the seek went past it
                decoder.can_seek = False
                decoder.go_to(number)
        values = self._values(frame, number)
        self._last = number, values
        return values

    def _values(self, frame: Any, number: int) -> npt.NDArray[Any]:
        if (frame.height, frame.width) != self._clip.size or frame.format.name != self._clip.pixel_format:
            raise SourceUnreadable(
                f"frame {number} is {frame.width}x{frame.height} {frame.format.name}, unlike the first one",
                where=self._clip.item.name,
                kind=Kind.SOURCE_INCONSISTENT,
            )
        if not self._grey:
            return np.moveaxis(frame.to_ndarray(format="rgb24"), -1, 0)
        plane = frame.planes[0]
        stored = self.dtype.newbyteorder(">" if self._clip.pixel_format.endswith("be") else "<")
        rows = np.frombuffer(plane, stored).reshape(-1, plane.line_size // stored.itemsize)
        return rows[: frame.height, : frame.width].astype(self.dtype)
