"""``measure.statistics``: count, mean, deviation, extremes and percentiles of every slice and of the whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Block, Operation, Reduction
from emstore.processor import Params
from emstore.processors.measure import counts
from emstore.processors.measure.slices import SliceParams, Slices, plain, real
from emstore.table import Column, Table
from emstore.volume import ValueScale, Volume

State = dict[str, Any]
Part = Mapping[str, npt.NDArray[Any]]

_WORK_BYTES = 24.0
"""What of a slice is known, that in double precision, and masks."""


class StatisticsParams(SliceParams):
    """Parameters of `Statistics`."""

    percentiles: tuple[Annotated[float, Field(ge=0, le=100)], ...] = Field(
        default=(1.0, 50.0, 99.0), description="Percentiles to find, percent; none lets blocks be smaller than a slice."
    )
    values: Literal["stored", "physical"] = Field(
        default="stored", description="Figures of the stored values, or of the physical ones they stand for."
    )


class Statistics:
    """Count, mean, standard deviation, minimum, maximum and percentiles.

    Integers of at most 16 bits are counted, and every figure follows from the counts: exact, however the volume is cut. Sums
    of squares of other types are merged pairwise (Chan, Golub & LeVeque, The American Statistician 37, 242, 1983). Percentiles
    of a slice are exact for every type, since blocks then hold whole slices; those of the whole only where values are
    counted (otherwise unknown, unless there is but one slice). The standard deviation is that of the values themselves
    (divisor n). NaN is left out and counted.
    """

    name: ClassVar[str] = "measure.statistics"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Measure mean, deviation, extremes and percentiles of every slice and of the whole"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = StatisticsParams

    def plan(self, volumes: Sequence[Volume], params: StatisticsParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        [volume] = volumes
        real(volume)
        scale = volume.scale or ValueScale()
        if params.values == "physical" and volume.scale is None:
            raise InvalidInput("its values have no physical scale", where=volume.name, fix="ask for values=stored")
        slices = Slices.of(volume, params.axis)
        percents = tuple(dict.fromkeys(params.percentiles))
        work = _Pass(
            title=f"statistics of {volume.name}",
            slices=slices,
            dtype=volume.dtype.newbyteorder("="),
            asked=percents,
            scale=scale if params.values == "physical" else ValueScale(),
            unit=_unit(scale, params.values),
        )
        return Operation(
            None,
            reduction=Reduction(work.map, work.start, work.add, work.finish),
            whole=slices.across(volume) if percents else (),
            work_bytes=_WORK_BYTES,
            tolerance=0.0 if work.exact else 1e-9,
        )


def _unit(scale: ValueScale, which: str) -> str | None:
    """Return the unit of the figures: stored values have it too where the scale changes nothing."""
    return scale.unit if which == "physical" or (scale.slope, scale.intercept) == (1, 0) else None


@dataclass(frozen=True)
class _Pass:
    """The pass over one volume."""

    title: str
    slices: Slices
    dtype: np.dtype[Any]
    asked: tuple[float, ...]
    """Percentiles of the values that the scale gives."""
    scale: ValueScale
    unit: str | None

    @property
    def percents(self) -> tuple[float, ...]:
        """Percentiles of the stored values: where the scale turns their order over, so does the rank."""
        return self.asked if self.scale.slope > 0 else tuple(100 - percent for percent in self.asked)

    @property
    def exact(self) -> bool:
        """Whether every value is counted."""
        return counts.countable(self.dtype)

    def start(self) -> State:
        """Return nothing seen, row by row."""
        n = self.slices.count
        state: State = {
            "count": np.zeros(n, np.int64),
            "unknown": np.zeros(n, np.int64),
            "low": np.zeros(n, self.dtype),
            "high": np.zeros(n, self.dtype),
            "percentiles": np.full((n, len(self.percents)), np.nan),
        }
        if self.exact:
            # Python's integers do not overflow: a slice may have any number of voxels.
            return {**state, "sum": [0] * n, "squares": [0] * n, "counts": np.zeros(counts.values_of(self.dtype).size, np.int64)}
        return {**state, "mean": np.zeros(n), "squares": np.zeros(n)}

    def map(self, block: Block, arrays: Sequence[npt.NDArray[Any]]) -> Part:
        """Return the figures of a block's part of every slice it touches."""
        values = block.crop(arrays[0])
        rows: list[dict[str, Any]] = []
        total = np.zeros(counts.values_of(self.dtype).size if self.exact else 0, np.int64)
        for (part,) in self.slices.parts(values):
            rows.append(self._counted(part, total) if self.exact else self._summed(part))
        return {**{key: np.array([row[key] for row in rows]) for key in rows[0]}, "counts": total}

    def _counted(self, part: npt.NDArray[Any], total: npt.NDArray[np.int64]) -> dict[str, Any]:
        values = counts.values_of(self.dtype)
        found = counts.count(part)
        total += found
        there = np.flatnonzero(found)
        number, value = found[there], values[there]
        return {
            "count": part.size,
            "unknown": 0,
            "sum": int(number @ value),
            "squares": int(number @ value**2),  # at most 2**32 each: no block in memory overflows
            "low": self.dtype.type(value[0]),
            "high": self.dtype.type(value[-1]),
            "percentiles": counts.percentiles(number, value, self.percents),
        }

    def _summed(self, part: npt.NDArray[Any]) -> dict[str, Any]:
        known = np.ravel(part)
        if self.dtype.kind == "f" and (unknown := np.isnan(known)).any():
            known = known[~unknown]
        if not known.size:
            zero, nothing = self.dtype.type(0), np.full(len(self.percents), np.nan)
            extremes = {"low": zero, "high": zero, "percentiles": nothing}
            return {"count": 0, "unknown": part.size, "mean": 0.0, "squares": 0.0, **extremes}
        with np.errstate(invalid="ignore", over="ignore"):  # infinite values have no mean: NaN
            mean = float(known.mean(dtype=np.float64))
            off = known - np.float64(mean)
            squares = float(off @ off)
            del off
            wide = known.astype(np.float64) if self.percents else np.zeros(1)
            found = np.percentile(wide, self.percents, overwrite_input=True)
        return {
            "count": known.size,
            "unknown": part.size - known.size,
            "mean": mean,
            "squares": squares,
            "low": known.min(),
            "high": known.max(),
            "percentiles": found,
        }

    def add(self, state: State, block: Block, part: Part) -> State:
        """Add a block's figures to those of its slices."""
        rows = self.slices.rows(block)
        at = slice(rows.start, rows.stop)
        before, new = state["count"][at], part["count"]
        for key, pick in (("low", np.minimum), ("high", np.maximum)):
            both = pick(state[key][at], part[key])
            state[key][at] = np.where(before == 0, part[key], np.where(new == 0, state[key][at], both))
        if self.exact:
            state["counts"] += part["counts"]
            for i, row in enumerate(rows):
                state["sum"][row] += int(part["sum"][i])
                state["squares"][row] += int(part["squares"][i])
        else:
            merged = _merge((before, state["mean"][at], state["squares"][at]), (new, part["mean"], part["squares"]))
            state["mean"][at], state["squares"][at] = merged
        state["percentiles"][at] = part["percentiles"]  # blocks hold whole slices when these are asked for
        state["count"][at] += new
        state["unknown"][at] += part["unknown"]
        return state

    def finish(self, state: State) -> Table:
        """Return the table."""
        number = state["count"]
        if self.exact:
            moments = [_exact(int(n), s, q) for n, s, q in zip(number, state["sum"], state["squares"], strict=True)]
            mean, deviation = (np.array(one) for one in zip(*moments, strict=True))
            total = _exact(int(number.sum()), sum(state["sum"]), sum(state["squares"]))
            quantiles = counts.percentiles(state["counts"], counts.values_of(self.dtype), self.percents)
        else:
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = np.where(number > 0, state["mean"], np.nan)
                deviation = np.sqrt(np.where(number > 0, state["squares"], np.nan) / number)
            total = _whole(number, state["mean"], state["squares"])
            quantiles = state["percentiles"][0] if self.slices.count == 1 else np.full(len(self.percents), np.nan)
        low, high = (np.where(number > 0, state[key].astype(np.float64), np.nan) for key in ("low", "high"))
        names = [f"p{percent:g}".replace(".", "_").replace("e-", "e_") for percent in self.asked]
        figures = {
            "mean": (self._value(mean), "mean"),
            "std": (np.abs(self.scale.slope) * deviation, "standard deviation (divisor n)"),
            "min": (self._value(low if self.scale.slope > 0 else high), "smallest value"),
            "max": (self._value(high if self.scale.slope > 0 else low), "largest value"),
        }
        for i, (name, percent) in enumerate(zip(names, self.asked, strict=True)):
            figures[name] = (self._value(state["percentiles"][:, i]), f"percentile {percent:g}")
        columns = {
            **self.slices.columns(),
            "count": Column(number, None, "values that are known"),
            "unknown": Column(state["unknown"], None, "values that are NaN"),
            **{name: Column(values, self.unit, told) for name, (values, told) in figures.items()},
        }
        known = number > 0
        whole = {
            "mean": self._value(total[0]),
            "std": abs(self.scale.slope) * total[1],
            "min": figures["min"][0][known].min(initial=np.inf),
            "max": figures["max"][0][known].max(initial=-np.inf),
            **{name: self._value(value) for name, value in zip(names, quantiles, strict=True)},
        }
        summary = {
            "count": int(number.sum()),
            "unknown": int(state["unknown"].sum()),
            **{key: plain(value) for key, value in whole.items()},
        }
        return Table(self.title, columns, summary, tuple(self._notes()))

    def _value(self, stored: Any) -> Any:
        return self.scale.slope * stored + self.scale.intercept

    def _notes(self) -> list[str]:
        notes = []
        if self.percents and not self.exact and self.slices.count > 1:
            notes.append(f"percentiles of the whole are not known: values of type {self.dtype.name} are too many to count")
        return notes


def _exact(number: int, total: int, squares: int) -> tuple[float, float]:
    """Return mean and standard deviation of integers from their exact sums."""
    if not number:
        return float("nan"), float("nan")
    return total / number, sqrt(Fraction(number * squares - total * total, number * number))


def _merge(a: tuple[Any, Any, Any], b: tuple[Any, Any, Any]) -> tuple[Any, Any]:
    """Return mean and sum of squared deviations of two parts together, each given with its count (Chan et al. 1983)."""
    (n, mean_a, squares_a), (m, mean_b, squares_b) = a, b
    share = m / np.maximum(n + m, 1)
    with np.errstate(invalid="ignore"):
        apart = mean_b - mean_a
        return mean_a + apart * share, squares_a + squares_b + apart**2 * n * share


def _whole(number: Any, mean: Any, squares: Any) -> tuple[float, float]:
    """Return mean and standard deviation of all slices together."""
    n, total_mean, total = 0, 0.0, 0.0
    for one in zip(number, mean, squares, strict=True):
        total_mean, total = _merge((n, total_mean, total), one)
        n += int(one[0])
    return (float(total_mean), sqrt(total / n)) if n else (float("nan"), float("nan"))
