"""``measure.columns``: the atomic columns of every frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Array, Operation
from emstore.processor import Params
from emstore.processors.measure.columns.gaussians import AMPLITUDE, BACKGROUND, SIGMA, X, Y
from emstore.processors.measure.columns.localise import Located, Search, locate
from emstore.processors.measure.columns.peaks import LEAST_AREA
from emstore.processors.measure.frames import Frames, unit_of
from emstore.processors.measure.slices import plain
from emstore.processors.noise.digital import ELECTRONS, FRACTION, pixel_area
from emstore.table import Column, Table
from emstore.volume import ValueScale, Volume, VolumeKind

_PIXEL_BYTES: Final = 135.0
"""What a fit keeps per pixel of a frame: the image and the model in several forms, cells, distances."""
_COLUMN_BYTES: Final = 5_000.0
"""What it keeps per column: the couplings with its neighbours."""
_FIXED_BYTES: Final = float(40 << 20)
"""What working on groups of windows takes, however large the frame."""
_NAMES: Final = (
    "frame", "y_index", "x_index", "amplitude", "sigma", "background", "y_index_error", "x_index_error", "amplitude_error",
    "converged", "at_edge",
)  # fmt: skip
_Rows = npt.NDArray[np.float64]
_Part = tuple[int, _Rows]
"""Peaks of a frame that were no columns, and its rows, shape (N, len(_NAMES))."""


class ColumnsParams(Params):
    """Parameters of `Columns`. Those of the peak finder are the thesis's (StatSTEM's) where it states them."""

    method: Literal["least_squares", "poisson"] = Field(
        default="least_squares", description="Least squares, or maximum likelihood of Poisson counts (electron images only)."
    )
    threshold: float = Field(
        default=0.12, ge=0, lt=1, description="Least height of a peak in the smoothed image, in parts of its range."
    )
    radius: float = Field(
        default=10.0, ge=1, le=200, description="Pixels up to this distance from a column and nearest to it are fitted, pixels."
    )
    min_distance: float = Field(default=0.0, ge=0, description="Of two peaks nearer than this the higher stays, pixels.")
    smoothing: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Gaussian smoothing before peaks are looked for, standard deviation in pixels; left out: a column's width.",
    )
    invert: bool = Field(default=False, description="Columns are dark, as in bright field.")
    significance: float = Field(
        default=5.0, ge=0, description="Least amplitude of a column in standard errors of itself; less is taken for noise."
    )
    edge: float | None = Field(
        default=None,
        ge=0,
        description="Columns nearer to the frame's border than this are at its edge, pixels; left out: the radius.",
    )
    edges: Literal["mark", "drop"] = Field(default="mark", description="What becomes of columns at the edge.")
    dose: float | None = Field(
        default=None,
        gt=0,
        description="Take a beam fraction as the electrons expected at this dose, electron/angstrom^2: with method=poisson the "
        "errors are then the Cramer-Rao bound.",
    )
    arrays: Literal["numpy", "torch"] = Field(default="numpy", description="Library that fits; torch runs on a GPU too.")


class Columns:
    """Positions, heights and widths of the atomic columns of every frame, with standard errors.

    Peaks of the smoothed image, whatever the lattice, then one fit of 2-D Gaussians with widths and backgrounds of their own to
    all columns of a frame together (`emstore.processors.measure.columns.gaussians` has the model). A frame is the last two axes,
    ``y`` and ``x``; frames are numbered in the order of the axes before. Values that are not finite count as unknown.

    Errors: with ``poisson`` the Cramer-Rao bound at the fit; with ``least_squares`` those of the fit, from the model's own
    variance for electrons and from each column's residual otherwise. Positions come in the axes' units, errors too; an axis of
    unknown spacing gives pixels.
    """

    name: ClassVar[str] = "measure.columns"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Measure atomic columns of every frame by joint Gaussian fits, with standard errors (after StatSTEM)"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = ColumnsParams

    def plan(self, volumes: Sequence[Volume], params: ColumnsParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        [volume] = volumes
        frames = Frames.of(volume)
        if volume.kind is not VolumeKind.IMAGE:
            raise InvalidInput("columns are looked for in an image, not in labels", where=volume.name)
        electrons, factor = _electrons(volume, params)
        frames = replace(frames, scale=ValueScale(frames.scale.slope * factor, frames.scale.intercept * factor))
        work = _Pass(
            title=f"columns of {volume.name}",
            frames=frames,
            unit="electron" if electrons else None,
            drop=params.edges == "drop",
            edge=params.radius if params.edge is None else params.edge,
            invalid_below=0.0 if params.method == "poisson" else None,
            search=Search(
                method=params.method,
                threshold=params.threshold,
                radius=params.radius,
                min_distance=params.min_distance,
                smoothing=params.smoothing,
                invert=params.invert,
                significance=params.significance,
                counts=electrons,
            ),
        )
        frame = prod(volume.shape[-2:])
        most = frame / LEAST_AREA + 1
        return Operation(
            None,
            reduction=frames.reduction(work.measure, work.finish, part_bytes=8 * len(_NAMES) * most),
            whole=("y", "x"),
            work_bytes=_PIXEL_BYTES + (_COLUMN_BYTES * most + _FIXED_BYTES) / frame,
            arrays=params.arrays,
            tolerance=0.0,
            deterministic=params.arrays == "numpy",
        )


def _electrons(volume: Volume, params: ColumnsParams) -> tuple[bool, float]:
    """Return whether the fit is one of electrons, and what turns physical values into them."""
    quantity = volume.attributes.get("quantity")
    if params.dose is not None:
        if quantity != FRACTION:
            raise InvalidInput(
                f"a dose turns a beam fraction into electrons, and its values are {quantity or 'of unknown quantity'}",
                where=volume.name,
                fix="leave dose out",
            )
        return True, params.dose * pixel_area(volume)
    if params.method == "poisson" and quantity != ELECTRONS:
        raise InvalidInput(
            f"method=poisson needs counted electrons, and its values are {quantity or 'of unknown quantity'}",
            where=volume.name,
            fix="use method=least_squares, or give a dose where the values are a beam fraction",
        )
    return quantity == ELECTRONS, 1.0


@dataclass(frozen=True)
class _Pass:
    """The pass over all frames."""

    title: str
    frames: Frames
    unit: str | None
    drop: bool
    edge: float
    invalid_below: float | None
    """Values below this cannot be what the method needs."""
    search: Search

    def measure(self, number: int, frame: Array) -> _Part:
        """Return the columns of a frame."""
        if self.invalid_below is not None and bool((frame < self.invalid_below).any()):
            raise InvalidInput(
                f"frame {number} has negative values, which are no electrons",
                where=self.title,
                fix="use method=least_squares",
            )
        located = locate(frame, self.search)
        return located.dropped, self._rows(number, located, (frame.shape[0], frame.shape[1]))

    def _rows(self, number: int, located: Located, shape: tuple[int, int]) -> _Rows:
        theta, errors = located.theta, located.errors
        y, x = theta[:, Y], theta[:, X]
        border = np.minimum.reduce([y, shape[0] - 1 - y, x, shape[1] - 1 - x])
        columns = [np.full(len(theta), float(number)), *theta.T[[Y, X, AMPLITUDE, SIGMA, BACKGROUND]]]
        columns += [*errors.T[[Y, X, AMPLITUDE]], located.converged.astype(np.float64), (border < self.edge).astype(np.float64)]
        rows = np.stack(columns, axis=1)
        return rows[border >= self.edge] if self.drop else rows

    def finish(self, parts: list[_Part]) -> Table:
        """Return the table."""
        rows = np.concatenate([part[1] for part in parts])
        of = dict(zip(_NAMES, rows.T, strict=True))
        down, across = self.frames.axes
        errors = {
            name: np.where(np.isfinite(of[f"{name}_index_error"]), of[f"{name}_index_error"], np.nan)
            * (axis.median_step() or 1.0)
            for name, axis in (("y", down), ("x", across))
        }
        converged, at_edge = of["converged"] > 0, of["at_edge"] > 0
        columns = {
            **self.frames.places("column", of["frame"], of["y_index"], of["x_index"]),
            "amplitude": Column(of["amplitude"], self.unit, "height above the background; negative where columns are dark"),
            "sigma": Column(of["sigma"], None, "standard deviation of the Gaussian, pixels"),
            "background": Column(of["background"], self.unit, "what the Gaussians stand on, near this column"),
            "y_error": Column(errors["y"], unit_of(down), "standard error of y"),
            "x_error": Column(errors["x"], unit_of(across), "standard error of x"),
            "amplitude_error": Column(
                np.where(np.isfinite(of["amplitude_error"]), of["amplitude_error"], np.nan),
                self.unit,
                "standard error of amplitude",
            ),
            "converged": Column(converged, None, "whether the fit settled, inside its limits"),
            "at_edge": Column(at_edge, None, f"nearer than {self.edge:g} pixels to the border of the frame"),
        }
        frames = self.frames.count
        dropped = sum(part[0] for part in parts)
        summary: dict[str, Any] = {
            "frames": frames,
            "columns": len(rows),
            "converged": int(converged.sum()),
            "at_edge": int(at_edge.sum()),
            "peaks_dropped": dropped,
            "sigma": plain(float(np.median(of["sigma"]))) if len(rows) else None,
            "y_error": plain(float(np.sqrt(np.nanmean(errors["y"] ** 2)))) if np.isfinite(errors["y"]).any() else None,
            "x_error": plain(float(np.sqrt(np.nanmean(errors["x"] ** 2)))) if np.isfinite(errors["x"]).any() else None,
        }
        return Table(self.title, columns, summary, tuple(self._notes(frames, [len(part[1]) for part in parts], dropped)))

    def _notes(self, frames: int, counts: list[int], dropped: int) -> list[str]:
        notes = ["the model is a Gaussian sampled at pixel centres and a background per column, all columns of a frame together"]
        if empty := counts.count(0):
            notes.append(f"{empty} of {frames} frames have no column that stands out of the noise")
        if dropped:
            notes.append(f"{dropped} peaks were no columns: too faint, outside the frame, or a second one in the same place")
        return notes


__all__ = ["Columns", "ColumnsParams"]
