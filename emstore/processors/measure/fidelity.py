"""``measure.mse`` and ``measure.psnr``: how far an image is from a reference, voxel by voxel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.operation import Block, Operation, Reduction
from emstore.processor import Params
from emstore.processors.measure.pairs import RANGE_HELP, ROLES, FoundRange, same_values, type_range
from emstore.processors.measure.slices import SliceParams, Slices, plain
from emstore.table import Column, Table
from emstore.volume import Volume

State = dict[str, npt.NDArray[np.float64]]

_WORK_BYTES = 24.0
"""The difference of a slice and what of it is known, in double precision."""


class PeakSignalToNoiseParams(SliceParams):
    """Parameters of `PeakSignalToNoise`."""

    data_range: FoundRange = Field(description=f"{RANGE_HELP}, or 'measured' for what the reference spans, in stored values.")


class MeanSquaredError:
    """Mean of the squared differences of stored values. Voxels that are NaN in either volume are left out and counted.

    Squares are added in double precision, which for integers of at most 16 bits is exact up to 2e6 voxels of the largest
    difference, and beyond to rounding.
    """

    name: ClassVar[str] = "measure.mse"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Measure the mean squared and root mean square difference from a reference"
    inputs: ClassVar[tuple[str, ...]] = ROLES
    params: ClassVar[type[Params]] = SliceParams

    def plan(self, volumes: Sequence[Volume], params: SliceParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        image, reference = same_values(volumes)
        return _operation(_Pass(f"difference of {image.name} from {reference.name}", Slices.of(image, params.axis)))


class PeakSignalToNoise:
    """Peak signal-to-noise ratio, ``10 log10(range**2 / mse)`` decibels, with the data range said outright.

    ``measured`` takes maximum minus minimum of the whole reference, as far as it was compared; against a constant no ratio
    is known. An image equal to its reference has an infinite ratio in its row, and none in the summary.
    """

    name: ClassVar[str] = "measure.psnr"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Measure the peak signal-to-noise ratio against a reference, with an explicit data range"
    inputs: ClassVar[tuple[str, ...]] = ROLES
    params: ClassVar[type[Params]] = PeakSignalToNoiseParams

    def plan(self, volumes: Sequence[Volume], params: PeakSignalToNoiseParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        image, reference = same_values(volumes)
        span: float | str = type_range(image, reference) if params.data_range == "dtype" else params.data_range
        return _operation(_Pass(f"noise of {image.name} against {reference.name}", Slices.of(image, params.axis), span))


def _operation(work: "_Pass") -> Operation:
    return Operation(
        None,
        reduction=Reduction(work.map, work.start, work.add, work.finish),
        work_bytes=_WORK_BYTES,
        tolerance=1e-9,
    )


@dataclass(frozen=True)
class _Pass:
    """The pass over both volumes."""

    title: str
    slices: Slices
    range: float | str | None = None
    """Data range, ``measured``, or ``None`` when no ratio is asked for."""

    def start(self) -> State:
        """Return nothing seen."""
        n = self.slices.count
        return {key: np.zeros(n) for key in ("count", "unknown", "squares")} | {"ends": np.array([np.inf, -np.inf])}

    def map(self, block: Block, arrays: Sequence[npt.NDArray[Any]]) -> State:
        """Return sums of squares of a block's part of every slice it touches."""
        rows = []
        ends = np.array([np.inf, -np.inf])
        for image, reference in self.slices.parts(block.crop(arrays[0]), block.crop(arrays[1], of=1)):
            with np.errstate(invalid="ignore", over="ignore"):
                off = image.astype(np.float64).ravel()
                off -= reference.ravel()
                known = ~np.isnan(off)
                number = int(np.count_nonzero(known))
                if number < off.size:
                    off = off[known]
                rows.append((number, image.size - number, float(off @ off)))
            if self.range == "measured" and number:
                seen = reference.ravel() if number == image.size else reference.ravel()[known]
                ends = np.array([min(ends[0], float(seen.min())), max(ends[1], float(seen.max()))])
        return {**dict(zip(("count", "unknown", "squares"), np.array(rows, np.float64).T, strict=True)), "ends": ends}

    def add(self, state: State, block: Block, part: State) -> State:
        """Add up, slice by slice."""
        rows = self.slices.rows(block)
        for key in ("count", "unknown", "squares"):
            state[key][rows.start : rows.stop] += part[key]
        state["ends"] = np.array([min(state["ends"][0], part["ends"][0]), max(state["ends"][1], part["ends"][1])])
        return state

    def finish(self, state: State) -> Table:
        """Return the table."""
        number = state["count"]
        with np.errstate(invalid="ignore", divide="ignore"):
            error = state["squares"] / number
            whole = float(np.divide(state["squares"].sum(), number.sum()))
        columns = {
            **self.slices.columns(),
            "count": Column(number.astype(np.int64), None, "voxels compared"),
            "unknown": Column(state["unknown"].astype(np.int64), None, "voxels that are NaN in either"),
            "mse": Column(error, None, "mean squared difference"),
            "rmse": Column(np.sqrt(error), None, "root mean square difference"),
        }
        summary: dict[str, Any] = {
            "count": int(number.sum()),
            "unknown": int(state["unknown"].sum()),
            "mse": plain(whole),
            "rmse": plain(np.sqrt(whole)),
        }
        notes = []
        if self.range is not None:
            span = float(state["ends"][1] - state["ends"][0]) if self.range == "measured" else float(self.range)
            if not (np.isfinite(span) and span > 0):
                notes.append("the reference is constant or endless, so that no data range is measured and no ratio known")
                span = np.nan
            columns["psnr"] = Column(_ratio(span, error), "decibel", "peak signal-to-noise ratio")
            summary |= {"psnr": plain(float(_ratio(span, np.array(whole)))), "data_range": plain(span)}
            if whole == 0 and span > 0:
                notes.append("the image equals the reference: its ratio is infinite")
        return Table(self.title, columns, summary, tuple(notes))


def _ratio(span: float, error: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        found: npt.NDArray[np.float64] = 10 * np.log10(span**2 / error)
    return found
