"""``measure.profile`` and ``measure.residual``: what a line across an image, and the difference of two, say about columns."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Operation
from emstore.processor import Params
from emstore.processors.measure.columns.strain import Matrix
from emstore.processors.measure.frames import Frames
from emstore.processors.measure.pairs import same_values
from emstore.processors.measure.slices import plain
from emstore.table import Column, Table
from emstore.volume import ValueScale, Volume

_NEAR: Final = 2
"""Half the size of a Bragg spot, samples of the transform."""


class ProfileParams(Params):
    """Parameters of `Profile`."""

    start: tuple[float, float] = Field(description="Where the line begins: row and column, pixels.")
    stop: tuple[float, float] = Field(description="Where it ends.")
    width: float = Field(default=1.0, gt=0, le=1000, description="Pixels across the line that are averaged.")


class Profile:
    """Values along a line across every frame, averaged over a width, linearly interpolated, one sample per pixel."""

    name: ClassVar[str] = "measure.profile"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Measure a line profile across every frame"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = ProfileParams

    def plan(self, volumes: Sequence[Volume], params: ProfileParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        [volume] = volumes
        frames = _stored(volume)
        height, width = volume.shape[-2:]
        line = np.array(params.stop) - params.start
        length = float(np.hypot(*line))
        ends = np.array([params.start, params.stop])
        if length < 1 or (ends < 0).any() or (ends > [height - 1, width - 1]).any():
            raise InvalidInput(
                f"the line from {params.start} to {params.stop} is shorter than a pixel or leaves the {height} x {width} frame",
                where=volume.name,
            )
        along = np.linspace(0, 1, round(length) + 1)
        across = (np.arange(max(1, round(params.width))) - (max(1, round(params.width)) - 1) / 2) / length
        rows = params.start[0] + along[:, None] * line[0] + across * line[1]
        columns = params.start[1] + along[:, None] * line[1] - across * line[0]
        down, right = (axis.median_step() for axis in volume.grid.axes[-2:])
        same = volume.grid.axes[-2].unit == volume.grid.axes[-1].unit
        known = down is not None and right is not None and same
        steps = (down or 1.0, right or 1.0) if known else (1.0, 1.0)
        distance = along * float(np.hypot(line[0] * steps[0], line[1] * steps[1]))

        def values(number: int, frame: Matrix) -> Matrix:
            from scipy import ndimage

            sampled = ndimage.map_coordinates(frame, [rows.ravel(), columns.ravel()], order=1, mode="constant", cval=np.nan)
            inside = np.isfinite(sampled).reshape(rows.shape)
            total = np.where(inside, sampled.reshape(rows.shape), 0.0).sum(1)
            with np.errstate(invalid="ignore"):
                return np.asarray(total / inside.sum(1))

        def finish(found: list[Matrix]) -> Table:
            unit = volume.grid.axes[-1].unit if known else None
            columns = {
                "frame": Column(np.repeat(np.arange(len(found)), len(distance)), None, "number of the frame"),
                "distance": Column(np.tile(distance, len(found)), unit, "along the line"),
                "value": Column(np.concatenate(found), None, "mean across the line, stored values"),
            }
            return Table(f"profile of {volume.name}", columns)

        return Operation(
            None,
            reduction=frames.reduction(values, finish, part_bytes=12 * len(distance)),
            whole=("y", "x"),
            work_bytes=24.0 + 64.0 * rows.size / (height * width),
            tolerance=1e-9,
        )


class ResidualParams(Params):
    """Parameters of `Residual`."""

    threshold: float = Field(
        default=0.02, gt=0, lt=1, description="Least height of a Bragg spot of the denoised image, in parts of the strongest."
    )


class Residual:
    """What denoising took away: mean, variance over mean signal, and the power of its transform in the lattice's Bragg spots.

    Bragg spots are local maxima of the denoised frame's power spectrum (Hann window) above a threshold. The ratio is the mean
    power of the residual in the spots over that beside them, at the same distances from the origin: 1 on average for noise
    that is independent from pixel to pixel (of counts too: their variance follows the signal, and the spectrum is flat all the
    same), more where structure was taken away. Over few spots it scatters: compare means over frames.
    """

    name: ClassVar[str] = "measure.residual"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Measure what denoising took away: mean, variance and power of the residual in Bragg spots"
    inputs: ClassVar[tuple[str, ...]] = ("image", "denoised")
    params: ClassVar[type[Params]] = ResidualParams

    def plan(self, volumes: Sequence[Volume], params: ResidualParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        image, denoised = same_values(volumes)
        frames = _stored(image)
        height, width = image.shape[-2:]
        if min(height, width) < 16:
            raise InvalidInput(f"frames of {height} x {width} pixels are too small for a transform", where=image.name)
        names = {
            "mean": "mean of image minus denoised",
            "variance": "variance of it",
            "variance_over_signal": "variance over mean signal: 1 for Poisson noise of electrons",
            "spots": "Bragg spots, half of which mirror the others",
            "bragg_power_ratio": "mean power of the residual in the spots over that beside them",
        }

        def figures(number: int, noisy: Matrix, clean: Matrix) -> Matrix:
            return residual_figures(noisy, clean, params.threshold)

        def finish(found: list[Matrix]) -> Table:
            rows = np.stack(found)
            columns = {
                "frame": Column(np.arange(len(found)), None, "number of the frame"),
                **{name: Column(rows[:, i], None, said) for i, (name, said) in enumerate(names.items())},
            }
            ratio = rows[np.isfinite(rows[:, 4]), 4]
            summary: dict[str, Any] = {"bragg_power_ratio": plain(float(ratio.mean())) if len(ratio) else None}
            return Table(f"residual of {denoised.name} from {image.name}", columns, summary)

        return Operation(
            None,
            reduction=frames.reduction(figures, finish, part_bytes=192),
            whole=("y", "x"),
            work_bytes=160.0,
            tolerance=1e-9,
        )


def residual_figures(image: Matrix, denoised: Matrix, threshold: float) -> Matrix:
    """Return mean, variance, variance over signal, number of Bragg spots and their power ratio; NaN where not known."""
    from scipy import ndimage

    known = np.isfinite(image) & np.isfinite(denoised)
    if not known.all():
        return np.full(5, np.nan)
    residual = image - denoised
    mean, variance, signal = float(residual.mean()), float(residual.var()), float(denoised.mean())
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    pattern, power = (np.abs(np.fft.fft2((one - one.mean()) * window)) ** 2 for one in (denoised, residual))
    fy, fx = (np.fft.fftfreq(n) for n in image.shape)
    far = np.hypot(fy[:, None], fx)
    least = 4.0 / min(image.shape)  # below this are the window and slow shading
    outside = far > least
    strongest = float(pattern[outside].max())
    peak = outside & (pattern == ndimage.maximum_filter(pattern, 2 * _NEAR + 1, mode="wrap")) & (pattern > threshold * strongest)
    ratio = np.nan
    spots = ndimage.binary_dilation(np.pad(peak, _NEAR, mode="wrap"), np.ones((3, 3)))[_NEAR:-_NEAR, _NEAR:-_NEAR]
    ring = np.rint(far * min(image.shape) / 4).astype(np.int64)
    beside = outside & ~spots & np.isin(ring, ring[spots])
    if strongest > 0 and spots.any() and beside.any():
        level = np.bincount(ring[beside], power[beside], ring.max() + 1) / np.maximum(
            1, np.bincount(ring[beside], minlength=ring.max() + 1)
        )
        there = level[ring[spots]] > 0
        if there.any():
            ratio = float((power[spots][there] / level[ring[spots]][there]).mean())
    return np.array([mean, variance, variance / signal if signal > 0 else np.nan, float(peak.sum()), ratio])


def _stored(volume: Volume) -> Frames:
    """Return the frames of a volume with the values that are stored."""
    return replace(Frames.of(volume), scale=ValueScale())
