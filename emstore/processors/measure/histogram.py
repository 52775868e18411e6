"""``measure.histogram``: how often values occur."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from emstore.errors import InvalidInput
from emstore.operation import Block, Operation, Reduction
from emstore.processor import Params
from emstore.processors.measure import counts
from emstore.processors.measure.slices import real
from emstore.table import Column, Table
from emstore.volume import Volume

_WORK_BYTES = 20.0


class HistogramParams(Params):
    """Parameters of `Histogram`."""

    bins: int | None = Field(
        default=None,
        ge=1,
        le=1 << 20,
        description="Number of bins of equal width; left out: one per value, for integers of at most 16 bits.",
    )
    range: Literal["dtype", "measured"] | tuple[float, float] = Field(
        description="Lower edge of the first bin and upper edge of the last, in stored values; 'dtype' for an integer type's "
        "range, 'measured' for the extremes that occur (integers of at most 16 bits)."
    )

    @model_validator(mode="after")
    def _ascending(self) -> "HistogramParams":
        if isinstance(self.range, tuple) and not self.range[0] < self.range[1]:
            raise ValueError("the range must go from a smaller to a larger value")
        if isinstance(self.range, tuple) and self.bins is None:
            raise ValueError("say how many bins the range is cut into")
        return self


class Histogram:
    """Counts of stored values in bins of equal width, the last one closed, as `numpy.histogram` has them. Exact.

    Rows are bins. Without a number of bins every integer value has its own, whose two edges are that value.
    """

    name: ClassVar[str] = "measure.histogram"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Count how often values occur"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = HistogramParams

    def plan(self, volumes: Sequence[Volume], params: HistogramParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        [volume] = volumes
        real(volume)
        dtype = volume.dtype.newbyteorder("=")
        if not counts.countable(dtype):
            if params.bins is None or params.range == "measured":
                raise InvalidInput(
                    f"values of type {dtype.name} are too many to count one by one",
                    where=volume.name,
                    fix="give the number of bins and their range; measure.statistics finds the extremes",
                )
            if params.range == "dtype" and dtype.kind == "f":
                raise InvalidInput("floating-point types have no range", where=volume.name, fix="give the range as two numbers")
        work = _Pass(f"histogram of {volume.name}", dtype, params.bins, params.range)
        return Operation(None, reduction=Reduction(work.map, work.start, work.add, work.finish), work_bytes=_WORK_BYTES)


@dataclass(frozen=True)
class _Pass:
    """The pass over one volume: counts of every value where those are few, of every bin where not, and of NaN."""

    title: str
    dtype: np.dtype[Any]
    bins: int | None
    range: str | tuple[float, float]

    @property
    def _every(self) -> bool:
        return counts.countable(self.dtype)

    def start(self) -> npt.NDArray[np.int64]:
        """Return zeros: one count per value or bin, then those below, above, and not a number."""
        return np.zeros((counts.values_of(self.dtype).size if self._every else self._edges(None).size - 1) + 3, np.int64)

    def map(self, block: Block, arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
        """Return the counts of a block."""
        values = block.crop(arrays[0])
        if self._every:
            return np.concatenate([counts.count(values), [0, 0, 0]])
        edges = self._edges(None)
        unknown = int(np.isnan(values).sum()) if self.dtype.kind == "f" else 0
        below, above = int((values < edges[0]).sum()), int((values > edges[-1]).sum())
        with np.errstate(invalid="ignore"):
            found, _ = np.histogram(values, edges.size - 1, (edges[0], edges[-1]))
        return np.concatenate([found, [below, above, unknown]])

    def add(self, state: npt.NDArray[np.int64], block: Block, found: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Add up."""
        return state + found

    def finish(self, state: npt.NDArray[np.int64]) -> Table:
        """Return the table."""
        found, (below, above, unknown) = state[:-3], (int(n) for n in state[-3:])
        if self._every:
            values = counts.values_of(self.dtype)
            there = values[found > 0]
            edges = self._edges((int(there[0]), int(there[-1])))
            if self.bins is None:
                inside = (values >= edges[0]) & (values <= edges[-1])
                low = high = values[inside]
                return self._table(low, high, found[inside], (0, 0, 0))
            below, above = int(found[values < edges[0]].sum()), int(found[values > edges[-1]].sum())
            found, _ = np.histogram(values, edges.size - 1, (edges[0], edges[-1]), weights=found)
        else:
            edges = self._edges(None)
        return self._table(edges[:-1], edges[1:], found.astype(np.int64), (below, above, unknown))

    def _edges(self, extremes: tuple[int, int] | None) -> npt.NDArray[np.float64]:
        low: float
        high: float
        if isinstance(self.range, tuple):
            low, high = self.range
        elif self.range == "measured" and extremes is not None:
            low, high = extremes
        elif self.dtype.kind == "b":
            low, high = 0, 1
        else:
            low, high = int(np.iinfo(self.dtype).min), int(np.iinfo(self.dtype).max)
        if low == high and self.bins is not None:
            low, high = low - 0.5, high + 0.5  # as numpy.histogram does for a constant
        return np.linspace(low, high, (self.bins or 1) + 1)

    def _table(
        self, low: npt.NDArray[Any], high: npt.NDArray[Any], found: npt.NDArray[np.int64], outside: tuple[int, int, int]
    ) -> Table:
        columns = {
            "low": Column(low, None, "lower edge, part of the bin"),
            "high": Column(high, None, "upper edge, part of the last bin only" if self.bins else "the same: a bin is one value"),
            "count": Column(found, None, "values in the bin"),
        }
        summary = dict(zip(("below", "above", "unknown"), outside, strict=True))
        return Table(self.title, columns, {"count": int(found.sum()), **summary})
