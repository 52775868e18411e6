"""Movies as PyAV and Pillow read them."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from emstore.errors import InvalidInput
from emstore.export import export
from emstore.geometry import Axis, AxisKind, Grid
from export_volumes import axes, numbers, volume

SHAPE = (12, 48, 64)


def gradients(colour: bool = False) -> npt.NDArray[np.uint8]:
    """Return moving smooth gradients over all 256 levels, shape (t, y, x) or (t, c, y, x)."""
    t, y, x = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    grey = 127.5 + 127.5 * np.sin((x + 2 * y + 3 * t) / 20)
    if not colour:
        return np.rint(grey).astype(np.uint8)
    return np.rint(np.stack([grey, 255 - grey, grey / 2 + 60], axis=1)).astype(np.uint8)


def timed(values: npt.NDArray[Any], dims: str, **time: Any) -> Any:
    names = dims.split()
    rest = axes(names[1:], values.shape[1:])
    return volume(values, Grid((Axis("t", values.shape[0], AxisKind.TIME, **time), *rest)))


def decode(path: Path, form: str = "gray") -> tuple[list[npt.NDArray[Any]], list[float], Any]:
    with av.open(str(path)) as movie:
        frames = list(movie.decode(video=0))
        return (
            [f.to_ndarray(format=form) for f in frames],
            [float(f.pts * f.time_base) for f in frames],
            movie.streams.video[0].codec.name,
        )


def psnr(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> float:
    error = float(np.mean((one.astype(float) - two.astype(float)) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize("rate", [10.0, 24.0, 25.0, 29.97, 700.0, 0.5, 217.869674])
def test_mp4_has_the_frames_size_pace_and_look(tmp_path: Path, rate: float) -> None:
    values = gradients()
    notes = export(timed(values, "t y x", spacing=1000 / rate, unit="millisecond"), tmp_path / "a.mp4")
    frames, times, codec = decode(tmp_path / "a.mp4")
    assert len(frames) == SHAPE[0]
    assert frames[0].shape == SHAPE[1:]
    assert np.diff(times) == pytest.approx(1 / rate, rel=1e-3)
    assert min(psnr(got, sent) for got, sent in zip(frames, values, strict=True)) > 30
    assert codec != "h264" or "libx264" not in " ".join(notes)
    assert any("lossy" in note for note in notes)
    assert not any("frame rate is not known" in note for note in notes)


def test_mp4_in_colour(tmp_path: Path) -> None:
    values = gradients(colour=True)
    export(timed(values, "t c y x", spacing=0.04, unit="second"), tmp_path / "a.mp4")
    frames, _, _ = decode(tmp_path / "a.mp4", "rgb24")
    assert min(psnr(np.moveaxis(got, -1, 0), sent) for got, sent in zip(frames, values, strict=True)) > 30


def test_odd_sides_are_padded_and_said(tmp_path: Path) -> None:
    values = gradients()[:, :47, :61]
    notes = export(timed(values, "t y x", spacing=0.1, unit="second"), tmp_path / "a.mp4")
    frames, _, _ = decode(tmp_path / "a.mp4")
    assert frames[0].shape == (48, 62)
    assert min(psnr(got[:47, :61], sent) for got, sent in zip(frames, values, strict=True)) > 30
    assert any("padded from 47x61 to 48x62" in note for note in notes)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_uneven_times_are_kept(tmp_path: Path, name: str) -> None:
    at = (0.0, 0.1, 0.3, 0.35, 1.0)
    export(timed(gradients()[:5], "t y x", positions=tuple(v + 7 for v in at), unit="second"), tmp_path / name)
    frames, times, _ = decode(tmp_path / name)
    assert len(frames) == 5
    assert times == pytest.approx(at, abs=1e-3)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_an_unknown_pace_is_ten_and_said(tmp_path: Path, name: str) -> None:
    notes = export(volume(gradients(), "t y x"), tmp_path / name)
    _, times, _ = decode(tmp_path / name)
    assert np.diff(times) == pytest.approx(0.1)
    assert any("10 frames per second" in note for note in notes)


def test_slices_become_frames_and_said(tmp_path: Path) -> None:
    notes = export(volume(gradients(), "z y x"), tmp_path / "a.mp4")
    assert len(decode(tmp_path / "a.mp4")[0]) == SHAPE[0]
    assert "the axis z is shown as time" in notes


def test_gif_is_exact_in_grey(tmp_path: Path) -> None:
    values = gradients()
    values[4] = values[3]  # two frames alike must stay two
    notes = export(timed(values, "t y x", spacing=0.05, unit="second"), tmp_path / "a.gif")
    assert notes == ()
    frames, times, _ = decode(tmp_path / "a.gif")
    assert np.array_equal(frames, values)
    assert times == pytest.approx(0.05 * np.arange(12))
    with Image.open(tmp_path / "a.gif") as image:
        durations = []
        for number in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(number)
            durations.append(image.info["duration"])
            assert np.array_equal(np.asarray(image.convert("L")), values[number]), number
    assert durations == [50] * 12


def test_gif_in_colour_is_reduced_and_said(tmp_path: Path) -> None:
    values = gradients(colour=True)
    notes = export(timed(values, "t c y x", spacing=0.05, unit="second"), tmp_path / "a.gif")
    frames, _, _ = decode(tmp_path / "a.gif", "rgb24")
    assert len(frames) == 12
    assert min(psnr(np.moveaxis(got, -1, 0), sent) for got, sent in zip(frames, values, strict=True)) > 15
    assert any("palette" in note for note in notes)


def test_gif_times_are_rounded_and_said(tmp_path: Path) -> None:
    notes = export(timed(gradients(), "t y x", spacing=1 / 30, unit="second"), tmp_path / "a.gif")
    assert any("10 ms" in note for note in notes)
    fast = export(timed(gradients(), "t y x", spacing=0.001, unit="second"), tmp_path / "b.gif")
    assert any("50 frames per second" in note for note in fast)
    assert np.diff(decode(tmp_path / "b.gif")[1]) == pytest.approx(0.02)


def test_the_window_sets_black_and_white(tmp_path: Path) -> None:
    values = np.linspace(-1000, 3000, 12 * 48 * 64).reshape(SHAPE).astype(np.int16)
    made = volume(values, Grid(axes("t y x", SHAPE)), window=(0.0, 2000.0))
    notes = export(made, tmp_path / "a.gif")
    frames, _, _ = decode(tmp_path / "a.gif")
    expected = np.clip(np.rint((values.astype(float)) * 255 / 2000), 0, 255)
    assert np.max(np.abs(np.array(frames, float) - expected)) <= 1
    assert any("0 is black and 2000 is white (the source's display window)" in note for note in notes)


def test_without_a_window_percentiles_are_used_and_said(tmp_path: Path) -> None:
    values = numbers(SHAPE, "f4")
    values[0, 0, 0], values[0, 0, 1] = 1e9, np.nan
    notes = export(volume(values, "z y x"), tmp_path / "a.gif")
    frames, _, _ = decode(tmp_path / "a.gif")
    low, high = np.nanpercentile(values, (1.0, 99.8))
    expected = np.clip(np.rint((values - low) * 255 / (high - low)), 0, 255)
    usable = np.isfinite(values)
    assert np.max(np.abs(np.array(frames, float) - expected)[usable]) <= 1
    assert any("percentile" in note for note in notes)


def test_booleans_are_black_and_white(tmp_path: Path) -> None:
    values = numbers(SHAPE, "?")
    export(volume(values, "z y x"), tmp_path / "a.gif")
    assert np.array_equal(np.array(decode(tmp_path / "a.gif")[0]) == 255, values)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_single_image_is_a_movie_too(tmp_path: Path, name: str) -> None:
    export(volume(gradients()[0], "y x"), tmp_path / name)
    frames, _, _ = decode(tmp_path / name)
    assert len(frames) == 1
    assert psnr(frames[0], gradients()[0]) > 30


@pytest.mark.parametrize(
    ("values", "dims"),
    [
        (numbers((2, 2, 8, 8), "u1"), "t z y x"),
        (numbers((2, 2, 8, 8), "u1"), "t c y x"),
        (numbers((2, 8, 8), "c8"), "t y x"),
        (numbers((8, 8), "u1"), "y energy"),
    ],
)
def test_what_a_movie_cannot_show_is_refused(tmp_path: Path, values: npt.NDArray[Any], dims: str) -> None:
    with pytest.raises(InvalidInput):
        export(volume(values, dims), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []
