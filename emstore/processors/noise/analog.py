"""noise.analog: a detector that gives an intensity, with noise and background on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Block, Operation, Result
from emstore.processor import Params
from emstore.processors.noise.detector import BLEND, BLUR, POINTS, analog
from emstore.processors.noise.digital import DOSE_UNIT, FRACTION, expected_electrons, pixel_area
from emstore.processors.noise.streams import stream
from emstore.volume import Volume, VolumeKind

ANALOG = "analog"


class AnalogParams(Params):
    """What is added, in this order; the image is brought to [0, 1] after each step."""

    dose: float = Field(gt=0, description="electrons per square angstrom: Poisson noise")
    variance: float = Field(0.0, ge=0, le=1, description="variance of the Gaussian noise, on the scale of [0, 1]")
    points: int = Field(POINTS, ge=0, le=10_000, description="white points that make the background; 0 for no background")
    blur: float = Field(BLUR, gt=0, le=1, description="sigma that blurs the points, as a fraction of the image's shorter edge")
    blend: float = Field(BLEND, ge=0, lt=1, description="weight of the background in the sum")
    seed: int = Field(0, ge=0, description="where the random numbers start")


@dataclass(frozen=True)
class Detecting:
    """Makes blocks of whole frames."""

    params: AnalogParams
    area: float
    """Of a pixel, square angstrom."""

    def apply(self, block: Block, arrays: Sequence[npt.NDArray[Any]], found: Any) -> npt.NDArray[np.float32]:
        """Return a block's frames."""
        out = np.empty(arrays[0].shape, np.float32)
        lines = [range(part.start, part.stop) for part in block.output[:-2]]
        for place in product(*lines):
            index = tuple(at - part.start for at, part in zip(place, block.output, strict=False))
            out[index] = self._frame(arrays[0][index], stream(self.params.seed, *place))
        return out

    def _frame(self, fraction: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        params = self.params
        expected = expected_electrons(fraction, params.dose * self.area)
        return analog(expected, rng, variance=params.variance, points=params.points, blur=params.blur, blend=params.blend)


class Analog:
    """Poisson noise, Gaussian noise and an uneven background, each followed by a stretch to [0, 1]."""

    name: ClassVar[str] = "noise.analog"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Add Poisson noise, Gaussian noise and an uneven background, scaled to [0, 1] (Gambini, 2023, ch. 4)"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = AnalogParams

    def plan(self, volumes: Sequence[Volume], params: AnalogParams) -> Operation:
        """Say what to add: to every frame of the last two axes by itself, with random numbers of its own.

        Raises
        ------
        InvalidInput
            The image is no fraction of the beam, its pixels are of unknown size, or it has fewer than two axes.
        """
        [volume] = volumes
        if volume.kind is not VolumeKind.IMAGE or volume.dtype.kind not in "iuf" or len(volume.grid.axes) < 2:
            raise InvalidInput("only images of real numbers, of two axes at least, can be detected", where=volume.name)
        if (quantity := volume.attributes.get("quantity")) != FRACTION:
            raise InvalidInput(
                f"its values are {quantity or 'something unknown'}, not a fraction of the beam",
                where=volume.name,
                fix="use an image made by `emstore simulate`",
            )
        work = Detecting(params, pixel_area(volume))
        result = Result.like(
            volume,
            dtype=np.dtype(np.float32),
            scale=None,
            window=(0.0, 1.0),
            attributes={"quantity": ANALOG, "dose": {"value": params.dose, "unit": DOSE_UNIT}},
        )
        return Operation(result, work.apply, whole=volume.grid.dims[-2:], work_bytes=40, seed=params.seed)
