"""Video against PyAV's own straight decoding, and against what was encoded."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from emstore.errors import SourceIncomplete, SourceUnreadable
from emstore.source import Source
from emstore.testing import AdapterConformance
from emstore.testing.samples import Sample
from emstore.volume import Volume
from emstore_adapters.video import VideoAdapter, signature
from whole import everything

ADAPTER = VideoAdapter()


def picture(number: int, height: int, width: int, form: str) -> npt.NDArray[Any]:
    y, x = np.mgrid[:height, :width]
    if form == "gray16le":
        return (400 * y + 30 * x + 50 * number).astype(np.uint16)
    if form == "gray":
        return (2 * y + x + 5 * number).astype(np.uint8)
    return np.stack([2 * y + x + number * k for k in (1, 3, 7)], axis=-1).astype(np.uint8)


def encode(
    path: Path,
    codec: str,
    *,
    form: str,
    pixels: str = "yuv420p",
    source: str = "rgb24",
    frames: int = 40,
    size: tuple[int, int] = (64, 96),
    times_ms: list[int] | None = None,
    sound: bool = False,
    muxer: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Encode moving gradients."""
    height, width = size
    with av.open(str(path), "w", format=form, options=muxer or {}) as movie:
        stream: Any = movie.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        audio: Any = movie.add_stream("aac", rate=8000) if sound else None
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, height, width, source), format=source).reformat(format=pixels)
            frame.pts = number if times_ms is None else times_ms[number]
            if times_ms is not None:
                frame.time_base = Fraction(1, 1000)
            movie.mux(stream.encode(frame))
        movie.mux(stream.encode())
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            movie.mux(audio.encode(silence))
            movie.mux(audio.encode())
    return path


def noise(path: Path) -> Path:
    """Encode what does not compress, 75 MB of values."""
    chance = np.random.default_rng(0)
    with av.open(str(path), "w") as movie:
        stream: Any = movie.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 1920, 1080, "yuv420p", 80_000_000
        for _ in range(12):
            frame = av.VideoFrame.from_ndarray(chance.integers(0, 255, (1080, 1920), dtype=np.uint8), format="gray")
            movie.mux(stream.encode(frame.reformat(format="yuv420p")))
        movie.mux(stream.encode())
    return path


CLIPS: dict[str, Callable[[Path], Path]] = {
    "b-frames.mp4": lambda p: encode(p, "libx264", form="mp4", g="10", bf="2", muxer={"movflags": "faststart"}),
    "index-last.mp4": lambda p: encode(p, "mpeg4", form="mp4", g="10"),
    "ten-bit.mov": lambda p: encode(
        p, "libx265", form="mov", pixels="yuv420p10le", **{"x265-params": "keyint=12:log-level=none"}
    ),
    "b-frames.mkv": lambda p: encode(p, "libx264", form="matroska", g="10", bf="2"),
    "mpeg4.avi": lambda p: encode(p, "mpeg4", form="avi", g="10", bf="2"),
    "hidden-frames.webm": lambda p: encode(
        p, "libvpx", form="webm", g="10", **{"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"}
    ),
    "vp9.webm": lambda p: encode(p, "libvpx-vp9", form="webm", g="10", deadline="realtime"),
    "grey-sixteen.mkv": lambda p: encode(p, "ffv1", form="matroska", pixels="gray16le", source="gray16le"),
    "grey-odd-width.mkv": lambda p: encode(p, "ffv1", form="matroska", pixels="gray", source="gray", size=(33, 71)),
    "gradients.gif": lambda p: encode(p, "gif", form="gif", pixels="rgb8"),
    "stream.mpg": lambda p: encode(p, "mpeg2video", form="mpeg", g="10", bf="2"),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {name: make(folder / name) for name, make in CLIPS.items()}


def opened(path: Path, *, allow_partial: bool = False) -> Volume:
    [volume] = ADAPTER.open(Source.of([path], allow_partial=allow_partial))
    return volume


def straight(path: Path, *, grey: bool) -> list[npt.NDArray[Any]]:
    """Decode every frame in order, as a user of PyAV would."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        if grey:
            return [frame.to_ndarray() for frame in frames]
        return [np.moveaxis(frame.to_ndarray(format="rgb24"), -1, 0) for frame in frames]


class TestVideo(AdapterConformance):
    adapter = VideoAdapter
    examples = 8
    test_slices_read_what_they_need = None  # frames lean on those before them
    open_share = 1.2  # counting frames walks all packets
    spare_memory = 32 << 20  # decoders hold reference frames in several threads

    @pytest.fixture(scope="class")
    @classmethod
    def files(cls, clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
        large = noise(tmp_path_factory.mktemp("large") / "large.mp4")
        # A cut MPEG program stream does not say how long it should be.
        samples = [Sample((path,), random_access=False, truncatable=path.suffix != ".mpg") for path in clips.values()]
        return [*samples, Sample((large,), random_access=False)]

    def reference(self, sample: Sample) -> dict[str, npt.NDArray[Any]]:
        path = sample.paths[0]
        if path.stem == "large":
            return {}
        return {path.stem: np.stack(straight(path, grey=path.name.startswith("grey")))}


@pytest.mark.parametrize("name", CLIPS)
def test_frames_read_in_any_order_equal_straight_decoding(clips: dict[str, Path], name: str) -> None:
    volume = opened(clips[name])
    expected = straight(clips[name], grey=name.startswith("grey"))
    assert volume.shape == (40, *expected[0].shape)
    rest = tuple(slice(0, n) for n in volume.shape[1:])
    for number in [39, 0, 17, 16, 17, 30, 31, 38, 5, 11]:
        assert np.array_equal(volume.data[(slice(number, number + 1), *rest)][0], expected[number]), number


def test_lossless_grey_is_what_was_encoded(clips: dict[str, Path]) -> None:
    sixteen, odd = opened(clips["grey-sixteen.mkv"]), opened(clips["grey-odd-width.mkv"])
    assert sixteen.dtype == np.uint16
    assert np.array_equal(everything(sixteen), [picture(i, 64, 96, "gray16le") for i in range(40)])
    assert np.array_equal(everything(odd), [picture(i, 33, 71, "gray") for i in range(40)])


@pytest.mark.parametrize("name", CLIPS)
def test_every_pace_is_25_per_second(clips: dict[str, Path], name: str) -> None:
    axis = opened(clips[name]).grid.axis("t")
    assert axis.unit == "second"
    assert axis.spacing == pytest.approx(0.04, rel=1e-9)


def test_spacing_is_unknown_and_colours_are_named(clips: dict[str, Path]) -> None:
    grid = opened(clips["b-frames.mp4"]).grid
    assert grid.dims == ("t", "c", "y", "x")
    assert grid.axis("c").labels == ("red", "green", "blue")
    assert (grid.axis("y").spacing, grid.axis("x").spacing, grid.axis("y").unit) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "form", "codec", "pixels"), [("a.mkv", "matroska", "ffv1", "gray"), ("a.gif", "gif", "gif", "gray")]
)
def test_uneven_frames_keep_their_times(tmp_path: Path, name: str, form: str, codec: str, pixels: str) -> None:
    times = [0, 40, 100, 130, 500, 510, 700, 1000]
    path = encode(tmp_path / name, codec, form=form, pixels=pixels, source="gray", frames=8, times_ms=times)
    axis = opened(path).grid.axis("t")
    assert axis.spacing is None
    assert axis.positions == pytest.approx([t / 1000 for t in times], abs=1e-9)


def test_bikes_equal_straight_decoding(instrument_file: Callable[[str], Path]) -> None:
    path = instrument_file("video/bikes.mp4")
    volume = opened(path)
    assert volume.shape == (250, 3, 272, 640)
    assert volume.grid.axis("t").spacing == pytest.approx(0.04)
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % 41 == 0 or number > 246:
                got = volume.data[slice(number, number + 1), slice(0, 3), slice(0, 272), slice(0, 640)][0]
                assert np.array_equal(np.moveaxis(got, 0, -1), frame.to_ndarray(format="rgb24")), number
    assert number == 249


def test_sound_is_left_out_with_a_note(tmp_path: Path) -> None:
    volume = opened(encode(tmp_path / "talk.mp4", "mpeg4", form="mp4", sound=True))
    assert "left out: audio" in volume.notes


def test_depth_is_noted(clips: dict[str, Path]) -> None:
    assert "colours of 10 bits are reduced to 8" in opened(clips["ten-bit.mov"]).notes


def test_a_turned_video_is_noted_not_turned(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as movie:
        stream: Any = movie.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(90)
        for number in range(3):
            movie.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, 64, 96, "rgb24"), format="rgb24")))
        movie.mux(stream.encode())
    volume = opened(path)
    assert volume.shape == (3, 3, 64, 96)
    assert any("turn it by" in note and "90" in note for note in volume.notes)


@pytest.mark.parametrize("name", ["b-frames.mp4", "b-frames.mkv", "mpeg4.avi", "gradients.gif", "vp9.webm"])
@pytest.mark.parametrize("share", [0.65, 0.75, 0.85])
def test_a_cut_file_says_how_many_frames_are_good(clips: dict[str, Path], tmp_path: Path, name: str, share: float) -> None:
    whole = straight(clips[name], grey=False)
    cut = tmp_path / name
    data = clips[name].read_bytes()
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceIncomplete, match=r"\d+( of 40)? frames are good") as error:
        opened(cut)
    volume = opened(cut, allow_partial=True)
    good = volume.shape[0]
    assert f"{good} of 40 frames" in str(error.value) or f"{good} frames" in str(error.value)
    assert 1 <= good < 40
    assert np.array_equal(everything(volume), whole[:good])


def test_a_cut_behind_the_last_frame_loses_nothing(clips: dict[str, Path], tmp_path: Path) -> None:
    cut = tmp_path / "mpeg4.avi"
    data = clips["mpeg4.avi"].read_bytes()
    cut.write_bytes(data[: data.index(b"idx1") + 8])
    volume = opened(cut)
    assert np.array_equal(everything(volume), straight(clips["mpeg4.avi"], grey=False))
    assert any("ends early" in note for note in volume.notes)


def test_an_mp4_without_its_index_is_incomplete(clips: dict[str, Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    data = clips["index-last.mp4"].read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceIncomplete, match="none of the frames"):
        opened(cut)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\x00\x00\x00\x18ftypheic", None),
        (b"\x00\x00\x00\x18ftypavif", None),
        (b"\x00\x00\x00\x18ftypM4A ", None),
        (b"\x00\x00\x00\x18ftypisom", "mov"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"#EXTM3U\nhttp://example.org/a.ts\n", None),
        (b"ffconcat version 1.0\nfile a.mp4\n", None),
        (b"GIF89a", "gif"),
    ],
)
def test_signatures(head: bytes, found: str | None) -> None:
    assert signature(head) == found


def test_a_playlist_in_disguise_opens_nothing_else(tmp_path: Path, clips: dict[str, Path]) -> None:
    path = tmp_path / "list.mp4"
    path.write_bytes(b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isommp42\n#EXTM3U\n" + str(clips["b-frames.mp4"]).encode())
    with pytest.raises(SourceUnreadable):
        opened(path)


def test_recognising_imports_no_decoder() -> None:
    code = "import sys, emstore_adapters.video as v; v.signature(b'GIF89a'); print('av' in sys.modules)"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "False"
