"""Writing movies to look at: ``.mp4`` for talks, ``.gif`` for pages. Eight bits per channel, so most data loses depth."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput, StorageFailed
from emstore.geometry import units
from emstore.volume import Volume
from emstore_adapters.exporters._slabs import slabs

_DEFAULT_FPS: Final = Fraction(10)
_ENCODERS: Final = ("libopenh264", "mpeg4")
"""Encoders under permissive licences or FFmpeg's own LGPL, best first. libx264 and libx265 are GPL and are left alone."""
_PERCENTILES: Final = (1.0, 99.8)
_SAMPLE_FRAMES: Final = 16
_SAMPLE_BYTES: Final = 32 << 20
_MPEG4_TICKS: Final = 60_000
"""MPEG-4 counts the ticks of a second in 16 bits."""
_GIF_TICK: Final = Fraction(1, 100)

Frame = npt.NDArray[np.uint8]


class MovieExporter:
    """Writes ``.mp4`` and ``.gif``: t (or z, n) as time, grey or RGB."""

    name: ClassVar[str] = "movie"
    extensions: ClassVar[tuple[str, ...]] = (".mp4", ".gif")
    compressed: ClassVar[tuple[str, ...]] = (".mp4", ".gif")

    def write(self, volume: Volume, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write frame by frame; see `emstore.export.Exporter`."""
        import av.error

        notes: list[str] = []
        _check_axes(volume, notes)
        film = _Film(volume, _window(volume, notes), advance)
        times = _times(volume, notes)
        try:
            (_write_gif if path.name.lower().endswith(".gif") else _write_mp4)(film, times, path, notes)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise StorageFailed(f"the movie could not be encoded: {error}", where=path.name) from error
        return tuple(notes)


@dataclass(frozen=True)
class _Film:
    """The frames of a volume, ready to encode."""

    volume: Volume
    window: tuple[float, float] | None
    """Stored values shown as black and white; ``None`` when they are bytes already."""
    advance: Callable[[int], None]

    @property
    def colour(self) -> bool:
        """Whether frames are RGB."""
        return "c" in self.volume.grid.dims

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.volume.shape[-2], self.volume.shape[-1]

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame: shape (y, x), or (y, x, 3) with colour; uint8."""
        whole = 3 if self.colour else 2
        for region in slabs(self.volume, whole=whole):
            values = self.volume.data[region]
            for frame in values.reshape(-1, *values.shape[-whole:]):
                shown = self._bytes(frame)
                yield np.ascontiguousarray(np.moveaxis(shown, 0, -1)[..., :3]) if self.colour else np.ascontiguousarray(shown)
                self.advance(frame.nbytes)

    def _bytes(self, frame: npt.NDArray[Any]) -> Frame:
        if self.window is None:
            return frame.astype(np.uint8, copy=False)
        low, high = self.window
        shown = (frame.astype(np.float32) - low) * (255.0 / (high - low))
        return np.asarray(np.nan_to_num(np.clip(np.rint(shown), 0, 255), nan=0.0)).astype(np.uint8)


def _check_axes(volume: Volume, notes: list[str]) -> None:
    dims = volume.grid.dims
    frames = [name for name in dims[:-2] if name != "c"]
    colours = volume.grid.axis("c").size if "c" in dims else 0
    if dims[-2:] != ("y", "x") or len(frames) > 1 or frames not in ([], ["t"], ["z"], ["n"]) or ("c" in dims and dims[-3] != "c"):
        raise InvalidInput(
            f"a movie shows t, z or n as time, and c, y, x as frames; this volume has the axes {', '.join(dims)}",
            where=volume.name,
            fix="choose one time, slice or channel first, or export to .h5",
        )
    if "c" in dims and colours not in (3, 4):
        raise InvalidInput(
            f"a movie is grey or RGB; this volume has {colours} channels", where=volume.name, fix="choose one channel"
        )
    if volume.dtype.kind == "c":
        raise InvalidInput("complex values cannot be shown as a movie", where=volume.name, fix="export to .h5")
    if colours == 4:
        notes.append("the transparency channel is left out")
    if frames and frames != ["t"]:
        notes.append(f"the axis {frames[0]} is shown as time")


def _window(volume: Volume, notes: list[str]) -> tuple[float, float] | None:
    """Choose what is black and what is white."""
    if volume.dtype == np.bool_:
        return 0.0, 1.0
    if volume.dtype == np.uint8 and volume.window is None:
        return None
    if volume.window is not None and volume.window[0] < volume.window[1]:
        low, high = volume.window
        why = "the source's display window"
    else:
        low, high = _percentiles(volume)
        why = f"the {_PERCENTILES[0]:g} to {_PERCENTILES[1]:g} percentile of a sample"
    notes.append(f"values are shown in 8 bits: {low:g} is black and {high:g} is white ({why}); what lies outside is clipped")
    return low, high


def _percentiles(volume: Volume) -> tuple[float, float]:
    """Return the display range of a few evenly spaced, evenly thinned frames."""
    frames = volume.shape[0] if len(volume.shape) > 2 and volume.grid.dims[0] != "c" else 1
    sample = []
    height, width = volume.shape[-2:]
    rows = max(1, min(height, _SAMPLE_BYTES // max(1, width * volume.dtype.itemsize)))
    top = (height - rows) // 2
    for at in np.unique(np.linspace(0, frames - 1, min(frames, _SAMPLE_FRAMES)).astype(int)):
        lead = [slice(0, n) for n in volume.shape[:-2]]
        if frames > 1:
            lead[0] = slice(int(at), int(at) + 1)
        values = volume.data[(*lead, slice(top, top + rows), slice(0, width))]
        flat = values.ravel()[:: max(1, values.size // 262_144)].astype(np.float64)
        sample.append(flat[np.isfinite(flat)])
    found = np.concatenate(sample)
    if found.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(found, _PERCENTILES))
    return (low, high) if low < high else (low, low + 1.0)


def _times(volume: Volume, notes: list[str]) -> tuple[Fraction, ...]:
    """Return when each frame begins and, last, when the movie ends; seconds."""
    frames = volume.shape[0] if volume.grid.dims[0] in ("t", "z", "n") else 1
    axis = volume.grid.axes[0]
    if axis.name == "t" and axis.known and axis.unit in units.TIMES:
        scale = units.factor(str(axis.unit), "second")
        if axis.positions is not None:
            at = [Fraction(v * scale).limit_denominator(1_000_000) for v in (axis.coordinates() - axis.coordinates()[0])]
            if all(a < b for a, b in itertools.pairwise(at)):
                last = Fraction((axis.median_step() or 0.1) * scale).limit_denominator(1_000_000)
                return (*at, at[-1] + last)
            notes.append("the frame times do not increase; frames are shown at an even pace")
        step = Fraction((axis.median_step() or 0.0) * scale).limit_denominator(1_000_000)
        if step > 0:
            return tuple(step * i for i in range(frames + 1))
    notes.append(f"the frame rate is not known; {_DEFAULT_FPS} frames per second are shown")
    return tuple(i / _DEFAULT_FPS for i in range(frames + 1))


def _write_mp4(film: _Film, times: tuple[Fraction, ...], path: Path, notes: list[str]) -> None:
    import av

    height, width = film.size
    tall, wide = height + height % 2, width + width % 2
    if (tall, wide) != (height, width):
        notes.append(f"padded from {height}x{width} to {tall}x{wide} pixels: the format needs even sides")
    codec = next((name for name in _ENCODERS if _can_encode(name)), None)
    if codec is None:
        raise InvalidInput("this installation of PyAV has no MP4 encoder that may be used", fix="export to .gif")
    notes.append(f"MP4 is lossy ({codec}): look at it, do not measure it")
    rate = (len(times) - 1) / (times[-1] - times[0])
    rate = rate.limit_denominator(max(1, int(_MPEG4_TICKS / rate)))
    even = all(b - a == times[1] - times[0] for a, b in itertools.pairwise(times))
    # Uneven frames are placed to the millisecond.
    base = 1 / rate if even else Fraction(1, 1000)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as movie:
        stream: Any = movie.add_stream(codec, rate=rate if even else Fraction(1000))
        stream.width, stream.height, stream.pix_fmt = wide, tall, "yuv420p"
        stream.codec_context.time_base = base
        stream.bit_rate = max(400_000, min(200_000_000, int(wide * tall * float(rate) * 2)))
        stream.codec_context.qmin, stream.codec_context.qmax = 1, 4
        for frame, time in zip(film, times, strict=False):
            padded = np.pad(frame, ((0, tall - height), (0, wide - width), *([(0, 0)] * (frame.ndim - 2))), mode="edge")
            picture: Any = av.VideoFrame.from_ndarray(padded, format="rgb24" if film.colour else "gray")
            picture = picture.reformat(format="yuv420p")
            picture.pts, picture.time_base = round(time / base), base
            movie.mux(stream.encode(picture))
        movie.mux(stream.encode())


def _can_encode(name: str) -> bool:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        Codec(name, "w")
    except UnknownCodecError:
        return False
    return True


def _write_gif(film: _Film, times: tuple[Fraction, ...], path: Path, notes: list[str]) -> None:
    import av

    height, width = film.size
    ticks = [round(t / _GIF_TICK) for t in times]
    if any(b - a < 2 for a, b in itertools.pairwise(ticks)):
        # Browsers slow delays under 20 ms down to 100 ms.
        notes.append("GIF cannot show more than 50 frames per second; it is slower than real time")
        ticks = [2 * i for i in range(len(times))]
    elif any(t * _GIF_TICK != at for t, at in zip(ticks, times, strict=True)):
        notes.append("GIF keeps frame times to 10 ms; they are rounded")
    if film.colour:
        notes.append("GIF colours are reduced to a fixed palette of 256")
    last = str(ticks[-1] - ticks[-2])
    with av.open(str(path), "w", format="gif", options={"final_delay": last}) as movie:
        stream: Any = movie.add_stream("gif", rate=100)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb8" if film.colour else "gray"
        stream.codec_context.time_base = _GIF_TICK
        for number, frame in enumerate(film):
            picture: Any = av.VideoFrame.from_ndarray(frame, format="rgb24" if film.colour else "gray")
            if film.colour:
                picture = picture.reformat(format="rgb8")
            picture.pts, picture.time_base = ticks[number], _GIF_TICK
            picture.duration = ticks[number + 1] - ticks[number]
            movie.mux(stream.encode(picture))
        movie.mux(stream.encode())
