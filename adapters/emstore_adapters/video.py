"""Reading video with PyAV (FFmpeg): MP4, MOV, AVI, Matroska, WebM, MPEG and GIF.

Rules, each stated in the volume's notes where it was used:

- Frames are RGB (``t, c, y, x``, uint8) as FFmpeg converts them; grey pixel formats stay grey (``t, y, x``) as stored.
- Frames are counted by walking all packets at open, without decoding any but the first; the container's own count is not
  believed. Each has its true time; the time axis is uniform where that is so to within one tick of the stream's clock.
- What a player would do to show it (rotation, pixel aspect, repeats) is noted, never applied. Sound is left out.
- FFmpeg is told which format to expect by the file's signature, so no file can make it open playlists or addresses.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from emstore.errors import Capacity, Kind, SourceIncomplete, SourceUnreadable
from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header, RawHeader, json_safe
from emstore.source import Source, SourceItem
from emstore.volume import Volume
from emstore_adapters._video_frames import Clip, VideoArray, is_grey, reading
from emstore_adapters._video_length import container_facts, piece

_MAX_FRAME_BYTES: Final = 1 << 30
_MAX_OPENING: Final = 16 << 20
_NOT_VIDEO_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis", b"jp2 ", b"jpx ", b"crx ", b"M4A ", b"M4B "}
)


class VideoAdapter:
    """Reads video files."""

    name: ClassVar[str] = "video"
    version: ClassVar[str] = "1"
    formats: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "MP4, QuickTime": (".mp4", ".m4v", ".mov"),
        "AVI": (".avi",),
        "Matroska, WebM": (".mkv", ".webm"),
        "MPEG": (".mpg", ".mpeg"),
        "GIF": (".gif",),
    }

    def sniff(self, item: SourceItem) -> int:
        """Recognise the container's signature."""
        found = signature(item.head)
        return 0 if found is None else 60 if found == "mpeg" else 90

    def open(self, source: Source) -> Sequence[Volume]:
        """Return one volume per video stream.

        Raises
        ------
        SourceUnreadable
            FFmpeg cannot read it, or it holds no pictures.
        SourceIncomplete
            The file ends early; says how many frames are good.
        """
        stems = [Path(item.path.name).stem for item in source.items]
        volumes: list[Volume] = []
        for item, short in zip(source.items, stems, strict=True):
            name = short if stems.count(short) == 1 else str(Path(item.name).with_suffix(""))
            try:
                volumes += _open_one(item, name, source)
            except SourceUnreadable as error:
                source.skip(item.name, error.what, error)
        return volumes


def signature(head: bytes) -> str | None:
    """Return FFmpeg's name of the container whose signature begins a file, or ``None``."""
    if head[4:8] == b"ftyp":
        return None if head[8:12] in _NOT_VIDEO_BRANDS else "mov"
    if head[4:8] in (b"moov", b"mdat", b"wide") and int.from_bytes(head[:4], "big") in (0, 1, *range(8, 1 << 31)):
        return "mov"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    return "mpeg" if head[:4] == b"\x00\x00\x01\xba" else None


def _open_one(item: SourceItem, name: str, source: Source) -> list[Volume]:
    form = signature(item.head)
    if form is None:
        raise SourceUnreadable("is not a video in a known container", where=item.name, kind=Kind.SOURCE_UNSUPPORTED)
    facts = container_facts(item, form)
    with reading(item.path, form, item.name) as container:
        streams = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not streams:
            raise SourceUnreadable("holds no video stream", where=item.name, kind=Kind.SOURCE_UNSUPPORTED)
        others = sorted({stream.type for stream in container.streams if stream.type not in ("video", "data")})
        numbers = [stream.index for stream in streams]
        tree = _tree(container, streams)
    volumes = []
    for number in numbers:
        clip = Clip.scan(item, form, number)
        volume = _volume(clip, name if len(numbers) == 1 else f"{name}-{number}", facts, others, tree, source)
        if volume is not None:
            volumes.append(volume)
    return volumes


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition).lower()


def _volume(clip: Clip, name: str, facts: Any, others: list[str], tree: Mapping[str, Any], source: Source) -> Volume | None:
    item, notes = clip.item, list(clip.notes)
    lost = clip.missing or (facts.cut and not clip.whole)
    good = clip.good if lost else clip.count
    if lost:
        promised = max(clip.promised or 0, clip.count)
        of = f" of {promised}" if clip.promised else ""
        error = SourceIncomplete(
            f"the file ends early: {good}{of} frames are good",
            where=item.name,
            fix="copy the file again, or pass --allow-partial",
        )
        source.skip(item.name, f"{max(promised - good, 0) or 'some'} frames are missing", error)
        if good < 1:
            return None
    height, width = clip.size
    grey = is_grey(clip.pixel_format)
    if height * width * (2 if grey else 3) > _MAX_FRAME_BYTES:
        raise Capacity(f"one frame is {width} by {height} pixels", where=item.name, fix="cut it to a part first")
    if clip.promised and clip.promised != clip.count and not clip.missing:
        notes.append(f"the container says {clip.promised} frames; {clip.count} are there")
    if facts.cut and not lost:
        notes.append("the file ends early, but every frame the container counts is there")
    if others:
        notes.append(f"left out: {', '.join(others)}")
    axes = [_time_axis(clip, good)]
    if not grey:
        axes.append(Axis("c", 3, AxisKind.CHANNEL, labels=("red", "green", "blue")))
    axes += [Axis("y", height), Axis("x", width)]
    return Volume(
        name=name,
        data=VideoArray(clip, good),
        grid=Grid(tuple(axes)),
        header=Header(f"video ({clip.codec})", tree, {}, tuple(RawHeader(n, r) for n, r in facts.raw) or (_opening(clip),)),
        files=(item.path,),
        notes=tuple(notes),
    )


def _opening(clip: Clip) -> RawHeader:
    """Return what stands before the first frame."""
    return RawHeader(f"{clip.item.path.name}.header", partial(piece, clip.item.path, 0, min(max(clip.start, 16), _MAX_OPENING)))


def _time_axis(clip: Clip, good: int) -> Axis:
    """Return the time axis: uniform where every frame is within a tick of an even pace, else the true positions."""
    if clip.times is None:
        return Axis("t", good, AxisKind.TIME)
    at = np.array([float(ticks * clip.tick) for ticks in clip.times[:good]])
    if good == 1:
        return Axis("t", 1, AxisKind.TIME, unit="second", origin=float(at[0]))
    tick = float(clip.tick)
    # The stream's nominal rate, where it fits, is the number its maker meant; else the mean pace.
    for step in (float(1 / clip.rate) if clip.rate else 0.0, float(at[-1] - at[0]) / (good - 1)):
        if step > 0 and np.max(np.abs(at - at[0] - step * np.arange(good))) <= tick * 1.0001:
            return Axis("t", good, AxisKind.TIME, spacing=step, unit="second", origin=float(at[0]))
    return Axis("t", good, AxisKind.TIME, unit="second", positions=tuple(float(v) for v in at))


def _tree(container: Any, streams: Sequence[Any]) -> dict[str, Any]:
    found = {
        "container": container.format.name,
        "duration_s": None if container.duration is None else container.duration / 1e6,
        "metadata": dict(container.metadata),
        "streams": [
            {
                "index": stream.index,
                "codec": stream.codec_context.name,
                "profile": stream.profile,
                "pixel_format": stream.codec_context.pix_fmt,
                "width": stream.codec_context.width,
                "height": stream.codec_context.height,
                "average_rate": str(stream.average_rate),
                "time_base": str(stream.time_base),
                "frames": stream.frames,
                "metadata": dict(stream.metadata),
            }
            for stream in streams
        ],
    }
    return {str(k): json_safe(v) for k, v in found.items()}
