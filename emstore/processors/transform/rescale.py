"""transform.rescale: values mapped linearly onto another range, into another type."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from emstore.errors import InvalidInput
from emstore.operation import Block, Operation, Reduction, Result
from emstore.processor import Params
from emstore.processors.interpolate.sampling import settle
from emstore.processors.transform.distribution import LARGEST, Distribution
from emstore.volume import ValueScale, Volume, VolumeKind

Range = tuple[float, float]
_SEGMENT = 1 << 16


class RescaleParams(Params):
    """From where to where. Give either `values` or `percentiles`."""

    values: Range | None = Field(None, description="stored values to map to the two ends, low and high, e.g. [0, 4095]")
    percentiles: Range | None = Field(
        None, description="percentiles of all values of the volume to map to the two ends, e.g. [0.5, 99.5]"
    )
    dtype: Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"] = Field(
        description="type of the result"
    )
    to: Range | None = Field(
        None, description="the two ends of the result; the type's whole range for integers, 0 and 1 for floats when left out"
    )

    @model_validator(mode="after")
    def _ends(self) -> "RescaleParams":
        if (self.values is None) == (self.percentiles is None):
            raise ValueError("give either values or percentiles, e.g. percentiles=[0.5, 99.5]")
        for name, ends in (("values", self.values), ("percentiles", self.percentiles), ("to", self.to)):
            if ends is not None and not ends[0] < ends[1]:
                raise ValueError(f"{name}: the low end must be below the high one, got {ends[0]:g} and {ends[1]:g}")
        if self.percentiles is not None and not (0 <= self.percentiles[0] and self.percentiles[1] <= 100):
            raise ValueError("percentiles lie from 0 to 100")
        if self.to is not None and not np.dtype(self.dtype).kind == "f":
            limits = np.iinfo(self.dtype)
            if self.to[0] < limits.min or self.to[1] > limits.max:
                raise ValueError(f"to: {self.dtype} holds {limits.min} to {limits.max} only")
        return self

    @property
    def ends(self) -> Range:
        """The two ends of the result."""
        if self.to is not None:
            return self.to
        if np.dtype(self.dtype).kind == "f":
            return 0.0, 1.0
        limits = np.iinfo(self.dtype)
        return float(limits.min), float(limits.max)


@dataclass(frozen=True)
class Stretch:
    """Makes blocks of stretched values."""

    values: Range | None
    ends: Range
    dtype: np.dtype[Any]

    def map(self, block: Block, arrays: Sequence[npt.NDArray[Any]]) -> tuple[Any, Any, int]:
        """Count a block's values."""
        counted = Distribution.of(arrays[0])
        return counted.keys, counted.counts, counted.dropped

    def add(self, state: Distribution, block: Block, part: tuple[Any, Any, int]) -> Distribution:
        """Join counts."""
        return state.plus(Distribution(*part))

    def apply(self, block: Block, arrays: Sequence[npt.NDArray[Any]], found: Range | None) -> npt.NDArray[Any]:
        """Return a block: a line through the two ends, cut at both."""
        low, high = found or self.values or (0.0, 0.0)
        bottom, top = self.ends
        half = 1.0 if np.isfinite(high - low) else 0.5  # the distance of the largest doubles is none
        source = arrays[0].reshape(-1)
        out = np.empty(source.size, self.dtype)
        for first in range(0, source.size, _SEGMENT):
            part = source[first : first + _SEGMENT].astype(np.float64)
            if self.dtype.kind != "f" and np.isnan(part).any():
                raise InvalidInput(f"there are NaN values, which {self.dtype} cannot say", fix="use dtype=float32")
            if low == high:  # percentiles only: a line that steep is a step
                part = np.where(np.isnan(part), part, np.where(part > high, top, bottom))
            else:
                np.clip(part, low, high, out=part)
                part *= half
                part -= low * half
                part /= high * half - low * half
                part *= top - bottom
                part += bottom
            out[first : first + _SEGMENT] = settle(np.clip(part, bottom, top, out=part), self.dtype)
        return out.reshape(arrays[0].shape)


@dataclass(frozen=True)
class Ends:
    """Finds the two percentiles."""

    percents: Range

    def finish(self, state: Distribution) -> Range:
        """Return them.

        Raises
        ------
        InvalidInput
            One of them is infinite, or there is no value but NaN.
        """
        low, high = state.percentiles(self.percents)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InvalidInput(
                f"percentiles {self.percents[0]:g} and {self.percents[1]:g} are {low:g} and {high:g}",
                fix="take percentiles further in, so that they leave infinite values out, or state values",
            )
        return low, high

    @staticmethod
    def tell(found: Range) -> dict[str, Any]:
        """Return the percentiles as the result keeps them."""
        return {"rescaled_from": list(found)}


class Rescale:
    """Maps values linearly onto another range."""

    name: ClassVar[str] = "transform.rescale"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = (
        "Map values linearly from a range, or from percentiles of the whole volume, onto another; the ends are cut"
    )
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = RescaleParams

    def plan(self, volumes: Sequence[Volume], params: RescaleParams) -> Operation:
        """Say how to rescale.

        Values beyond the two ends become the ends; integers are rounded half to even. Percentiles leave NaN out and are those
        of `numpy.percentile` for any volume of at most `LARGEST` different values (every integer type of 16 bits); beyond that
        see `Distribution`.
        Where both percentiles are one value, what is above it becomes the high end and all else the low one: a volume of one
        value becomes the low end.

        The map to physical values is kept where the range is stated, and left out where percentiles decide it.

        Raises
        ------
        InvalidInput
            The volume holds labels or complex values.
        """
        [volume] = volumes
        if volume.kind is VolumeKind.LABELS:
            raise InvalidInput("labels are names, not amounts: they cannot be rescaled", where=volume.name)
        if volume.dtype.kind == "c":
            raise InvalidInput("complex values have no order to rescale", where=volume.name)
        ends = params.ends
        notes: tuple[str, ...] = ()
        attributes: dict[str, Any] = {"rescaled_to": list(ends)}
        if "quantity" in volume.attributes:
            attributes["quantity"] = "rescaled"
        if params.values is not None:
            attributes["rescaled_from"] = list(params.values)
        elif volume.scale is not None:
            notes = ("the map to physical values is left out: percentiles decide the new values",)
        result = Result.like(
            volume,
            dtype=np.dtype(params.dtype),
            scale=_scale(volume.scale, params),
            window=ends,
            attributes=attributes,
            notes=notes,
        )
        work = Stretch(params.values, ends, result.dtype)
        if params.percentiles is None:
            return Operation(result, work.apply, work_bytes=volume.dtype.itemsize)
        found = Ends(params.percentiles)
        return Operation(
            result,
            work.apply,
            Reduction(work.map, Distribution.empty, work.add, found.finish),
            tell=found.tell,
            # A copy where a view cannot be flattened; counting sorts some ten thousand values at once.
            work_bytes=volume.dtype.itemsize + 32,
        )


def _scale(scale: ValueScale | None, params: RescaleParams) -> ValueScale | None:
    if scale is None or params.values is None:
        return None
    low, high = params.values
    bottom, top = params.ends
    step = (high - low) / (top - bottom)  # old stored values per new one
    return ValueScale(scale.slope * step, scale.intercept + scale.slope * (low - bottom * step), scale.unit)


__all__ = ["LARGEST", "Rescale", "RescaleParams"]
