"""transform.accumulate: sums of more and more frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Block, Operation, Result
from emstore.processor import Params
from emstore.volume import Region, ValueScale, Volume, VolumeKind


class AccumulateParams(Params):
    """Which frames are summed."""

    axis: str = Field("t", description="axis of the frames; they must lie on each other (see register.slices)")


@dataclass(frozen=True)
class Adding:
    """Makes blocks of sums."""

    axis: int
    dtype: np.dtype[Any]

    def needs(self, region: Region) -> tuple[Region, ...]:
        """Return all frames up to the last of a region."""
        return ((*region[: self.axis], slice(0, region[self.axis].stop), *region[self.axis + 1 :]),)

    def apply(self, block: Block, arrays: Sequence[npt.NDArray[Any]], found: Any) -> npt.NDArray[Any]:
        """Return a block's sums, frame after frame, so that they do not depend on how the frames were cut."""
        frames = np.moveaxis(arrays[0], self.axis, 0)
        out = np.empty([part.stop - part.start for part in block.output], self.dtype)
        sums = np.moveaxis(out, self.axis, 0)
        total = np.zeros(frames.shape[1:], np.float64 if self.dtype.kind == "f" else self.dtype)
        first = block.output[self.axis].start
        for k, frame in enumerate(frames):
            total += frame
            if k >= first:
                sums[k - first] = total
        return out


class Accumulate:
    """Sums frame 0, frames 0 to 1, frames 0 to 2 and so on: the same region at a growing dose."""

    name: ClassVar[str] = "transform.accumulate"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Sum more and more frames of one region: a series of growing dose (Gambini, 2023, section 3.4)"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = AccumulateParams

    def plan(self, volumes: Sequence[Volume], params: AccumulateParams) -> Operation:
        """Say what to sum.

        Sums of integers are exact: 64-bit for those of 64 or 32 bits, else 32-bit, which holds 65,535 frames of any value.
        Sums of floats are taken in double precision and kept in single, or double where the frames are. A dose in the
        attributes becomes one per frame.

        Raises
        ------
        InvalidInput
            No such axis, labels or complex values, or a value scale that is not a plain factor.
        """
        [volume] = volumes
        axis = volume.grid.axis(params.axis)
        at = volume.grid.dims.index(axis.name)
        if volume.kind is not VolumeKind.IMAGE or volume.dtype.kind not in "iuf":
            raise InvalidInput("only images of real numbers can be summed", where=volume.name)
        scale = volume.scale or ValueScale()
        if scale.intercept:
            raise InvalidInput(
                f"its values have an offset of {scale.intercept:g}, which a sum would count again with every frame",
                where=volume.name,
                fix="take it off with transform.rescale first",
            )
        attributes: dict[str, Any] = {"accumulated": axis.name}
        dose = volume.attributes.get("dose")
        if isinstance(dose, dict) and isinstance(dose.get("value"), int | float):
            attributes["dose"] = {**dose, "value": [dose["value"] * (k + 1) for k in range(axis.size)]}
        result = Result.like(volume, dtype=_type(volume.dtype, axis.size), window=None, attributes=attributes)
        work = Adding(at, result.dtype)
        return Operation(result, work.apply, needs=work.needs, work_bytes=16)


def _type(dtype: np.dtype[Any], frames: int) -> np.dtype[Any]:
    if dtype.kind == "f":
        return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    wide = 8 if dtype.itemsize >= 4 or frames > 65535 else 4
    return np.dtype(f"{'i' if dtype.kind == 'i' else 'u'}{wide}")
