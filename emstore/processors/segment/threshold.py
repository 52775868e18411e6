"""Classes by thresholds that the user gives."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Array, Block, Operation, Result
from emstore.processor import Params
from emstore.processors.segment.classes import check_numbers, class_type, classify
from emstore.volume import ValueScale, Volume, VolumeKind


class ThresholdParams(Params):
    """Parameters of `Threshold`."""

    thresholds: Annotated[
        tuple[float, ...],
        Field(min_length=1, max_length=255, description="Rising thresholds, in `units`. A value >= one has passed it."),
    ]
    units: Literal["stored", "physical"] | None = Field(
        None,
        description="Whether thresholds are stored values, or physical ones (slope * stored + intercept, e.g. HU). "
        "Must be said where the volume has a scale.",
    )


class Threshold:
    """Class of a value: how many of the given thresholds it has reached (``value >= threshold``); 0 is below the first.

    NaN is in class 0. With `units` ``physical`` the values compared are ``slope * stored + intercept`` in 64-bit floats.
    """

    name: ClassVar[str] = "segment.threshold"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Part values into classes at given thresholds: value >= threshold"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = ThresholdParams

    def plan(self, volumes: Sequence[Volume], params: ThresholdParams) -> Operation:
        """Say what to do.

        Raises
        ------
        InvalidInput
            Thresholds do not rise; the volume is no image of real numbers; its scale makes the thresholds ambiguous, or it
            has none to make physical values with.
        """
        [volume] = volumes
        check_numbers(volume, self.name)
        thresholds = params.thresholds
        if any(b <= a for a, b in pairwise(thresholds)):
            raise InvalidInput("thresholds must rise, each above the one before", where=self.name)
        scale = _scale(volume, params.units)
        told: dict[str, Any] = {"thresholds": list(thresholds), "rule": "value >= threshold", "units": params.units or "stored"}
        if scale is not None:
            told["unit"] = scale.unit
        dtype = class_type(len(thresholds) + 1)

        def apply(block: Block, arrays: Sequence[Array], found: None) -> Array:
            [values] = arrays
            if scale is not None:
                values = values.astype(np.float64)
                values *= scale.slope
                values += scale.intercept
            out = np.empty(values.shape, dtype)
            classify(values, thresholds, out, including=True)
            return out

        result = Result.like(volume, kind=VolumeKind.LABELS, dtype=dtype, scale=None, window=None, attributes=told)
        return Operation(result, apply, work_bytes=2.0 if scale is None else 10.0)


def _scale(volume: Volume, units: str | None) -> ValueScale | None:
    """Return the scale to compare physical values by, ``None`` to compare stored ones."""
    scaled = volume.scale is not None and (volume.scale.slope, volume.scale.intercept) != (1.0, 0.0)
    if scaled and units is None:
        raise InvalidInput(
            "its stored values are not its physical ones, so it must be said which of them the thresholds are",
            where=volume.name,
            fix="add units=physical or units=stored",
        )
    if units == "physical" and volume.scale is None:
        raise InvalidInput("has no scale from stored to physical values", where=volume.name, fix="use units=stored")
    return volume.scale if units == "physical" else None
