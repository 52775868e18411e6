"""transform.crop: a part of a volume, by index or by position."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Axis, units
from emstore.operation import Block, Operation, Result
from emstore.processor import Params
from emstore.volume import Region, Volume

Ends = tuple[float | None, float | None]


class CropParams(Params):
    """What to keep. An axis that is not named is kept whole."""

    index: Mapping[str, tuple[int | None, int | None]] = Field(
        default_factory=dict,
        description='per axis, first sample and the one after the last, e.g. {"z": [10, 20]}; null for the array\'s end',
    )
    position: Mapping[str, Ends] = Field(
        default_factory=dict,
        description="per axis, lowest and highest position of the voxel centres to keep, both included; null for the array's end",
    )
    unit: str | None = Field(None, description="unit of the positions; each axis's own when left out")


@dataclass(frozen=True)
class Cut:
    """Makes blocks of a part of a volume."""

    starts: tuple[int, ...]
    dtype: np.dtype[Any]

    def needs(self, region: Region) -> tuple[Region, ...]:
        """Return what a region of the result is made from."""
        return (tuple(slice(part.start + at, part.stop + at) for part, at in zip(region, self.starts, strict=True)),)

    def apply(self, block: Block, arrays: Sequence[npt.NDArray[Any]], found: Any) -> npt.NDArray[Any]:
        """Return a block: what was read of it."""
        return arrays[0].astype(self.dtype, copy=False)


class Crop:
    """Cuts a part out; every voxel stays where it is."""

    name: ClassVar[str] = "transform.crop"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Cut out a part of a volume, by index or by position; every voxel stays where it is"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = CropParams

    def plan(self, volumes: Sequence[Volume], params: CropParams) -> Operation:
        """Say what to keep.

        Raises
        ------
        InvalidInput
            No or an unknown axis, one given twice, nothing left of it, or positions along an axis of unknown spacing.
        """
        [volume] = volumes
        named = [*params.index, *params.position]
        if not named:
            raise InvalidInput(
                "nothing says what to keep", where=volume.name, fix='give index or position, e.g. index={"z": [10, 20]}'
            )
        if twice := set(params.index) & set(params.position):
            raise InvalidInput(f"axis {min(twice)!r} is cut by index and by position", where=volume.name)
        for name in named:
            volume.grid.axis(name)
        region = tuple(_part(volume, axis, params) for axis in volume.grid.axes)
        result = Result.like(
            volume,
            grid=volume.grid.cropped(region),
            attributes={
                "crop": {axis.name: [part.start, part.stop] for axis, part in zip(volume.grid.axes, region, strict=True)}
            },
        )
        work = Cut(tuple(part.start for part in region), result.dtype)
        return Operation(result, work.apply, needs=work.needs, work_bytes=0)


def _part(volume: Volume, axis: Axis, params: CropParams) -> slice:
    if axis.name in params.index:
        low, high = params.index[axis.name]
        start, stop = 0 if low is None else low, axis.size if high is None else high
    elif axis.name in params.position:
        start, stop = _between(volume, axis, params.position[axis.name], params.unit)
    else:
        start, stop = 0, axis.size
    if not 0 <= start < stop <= axis.size:
        at = axis.coordinates()
        reach = f", from {at.min():g} to {at.max():g} {axis.unit or ''}".rstrip() if axis.known else ""
        raise InvalidInput(
            f"nothing or more than there is would be kept of axis {axis.name!r}: samples {start} to {stop}",
            where=volume.name,
            fix=f"it has {axis.size} samples{reach}",
        )
    return slice(start, stop)


def _between(volume: Volume, axis: Axis, ends: Ends, unit: str | None) -> tuple[int, int]:
    if not axis.known:
        raise InvalidInput(
            f"positions along axis {axis.name!r} are not known",
            where=volume.name,
            fix="cut it by index, or state its spacing with transform.calibrate",
            kind=Kind.BAD_SPACING,
        )
    scale = 1.0
    if unit is not None:
        if axis.unit is None:
            raise InvalidInput(f"axis {axis.name!r} has no unit to convert {unit} to", where=volume.name, kind=Kind.BAD_UNIT)
        scale = units.factor(unit, axis.unit)
    at = axis.coordinates()
    # A centre that lies on an end is kept though the decimal fraction that was typed is not the double it is compared with.
    slack = 1e-9 * max(axis.median_step() or 0.0, float(np.abs(at).max()))
    low = -np.inf if ends[0] is None else ends[0] * scale - slack
    high = np.inf if ends[1] is None else ends[1] * scale + slack
    kept = np.flatnonzero((at >= low) & (at <= high))
    if kept.size == 0:
        return 0, 0
    if kept[-1] - kept[0] + 1 != kept.size:
        raise InvalidInput(f"positions along axis {axis.name!r} go back and forth: cut it by index", where=volume.name)
    return int(kept[0]), int(kept[-1]) + 1
