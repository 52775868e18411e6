"""noise.digital: a detector that counts electrons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Axis, AxisKind, Grid, units
from emstore.operation import Block, Operation, Result
from emstore.processor import Params
from emstore.processors.noise.streams import stream, tiles, widened
from emstore.volume import Region, Volume, VolumeKind

FRACTION = "beam fraction"
ELECTRONS = "electrons"
DOSE_UNIT = "electron/angstrom^2"
_MOST = 2.0**53


class DigitalParams(Params):
    """How many electrons there are to count."""

    dose: float | None = Field(
        None, gt=0, description="electrons per square angstrom; needed where the image is a fraction of the beam, else left out"
    )
    frames: int = Field(
        1, ge=1, le=100_000, description="frames of the same region, each with its own chance, along a new axis t"
    )
    seed: int = Field(0, ge=0, description="where the random numbers start")
    dtype: Literal["uint16", "uint32", "float32"] = Field("uint16", description="type of the counts")


@dataclass(frozen=True)
class Counting:
    """Makes blocks of counts."""

    factor: float
    """Expected electrons per unit of the image's values."""
    repeated: bool
    """Whether the result has a first axis that the image has not."""
    shape: tuple[int, ...]
    """Of the image."""
    seed: int
    dtype: np.dtype[Any]

    def needs(self, region: Region) -> tuple[Region, ...]:
        """Return every tile of the image that a region of the result touches."""
        return (widened(region[1:] if self.repeated else region, self.shape),)

    def apply(self, block: Block, arrays: Sequence[npt.NDArray[Any]], found: Any) -> npt.NDArray[Any]:
        """Return a block's counts."""
        expected = expected_electrons(arrays[0], self.factor)
        read = block.inputs[0]
        out = np.empty([part.stop - part.start for part in block.output], self.dtype)
        own = block.output[1:] if self.repeated else block.output
        cut = tuple(slice(o.start - r.start, o.stop - r.start) for o, r in zip(own, read, strict=True))
        frames = range(block.output[0].start, block.output[0].stop) if self.repeated else (0,)
        counts = np.empty(expected.shape, np.int64)
        for i, frame in enumerate(frames):
            for place, inside in tiles(read):
                counts[inside] = stream(self.seed, frame, *place).poisson(expected[inside])
            if self.dtype.kind == "u" and counts.max() > np.iinfo(self.dtype).max:
                raise InvalidInput(
                    f"a pixel counts {counts.max()} electrons, more than {self.dtype} holds", fix="use dtype=uint32"
                )
            out[i if self.repeated else ...] = counts[cut]
        return out


class Digital:
    """Counts electrons: every pixel is a Poisson variable, and nothing else is added."""

    name: ClassVar[str] = "noise.digital"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Count electrons at a dose: Poisson noise, one frame or many (Gambini et al., MLST 4, 2023)"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = DigitalParams

    def plan(self, volumes: Sequence[Volume], params: DigitalParams) -> Operation:
        """Say what to count.

        Where the image is a fraction of the beam (attribute ``quantity``), a pixel is expected to count fraction x dose x
        pixel area; where it is expected electrons already, its value. The counts of a pixel depend on the seed, its place and
        what is expected there, never on how the image was cut.

        Raises
        ------
        InvalidInput
            The image is neither; a dose is missing, or given where the image has one; pixels of unknown size; fewer than two
            axes.
        """
        [volume] = volumes
        grid = volume.grid
        if volume.kind is not VolumeKind.IMAGE or volume.dtype.kind not in "iuf" or len(grid.axes) < 2:
            raise InvalidInput("only images of real numbers, of two axes at least, count electrons", where=volume.name)
        factor, dose = _exposure(volume, params.dose)
        repeated = params.frames > 1
        if repeated:
            if "t" in grid.dims:
                raise InvalidInput("it has frames already: axis t", where=volume.name, fix="leave frames out")
            grid = Grid((Axis("t", params.frames, AxisKind.TIME), *grid.axes), grid.affine)
        result = Result.like(
            volume,
            grid=grid,
            dtype=np.dtype(params.dtype),
            scale=None,
            window=None,
            attributes={"quantity": ELECTRONS, "counted": True, "dose": dose},
        )
        work = Counting(factor, repeated, volume.shape, params.seed, result.dtype)
        return Operation(result, work.apply, needs=work.needs, work_bytes=24, seed=params.seed)


def _exposure(volume: Volume, dose: float | None) -> tuple[float, Mapping[str, Any] | None]:
    """Return the electrons expected per unit of the values, and the dose as attributes say it."""
    quantity = volume.attributes.get("quantity")
    if quantity == FRACTION:
        if dose is None:
            raise InvalidInput("the image is a fraction of the beam: it takes a dose", where=volume.name, fix="e.g. -p dose=1000")
        return dose * pixel_area(volume), {"value": dose, "unit": DOSE_UNIT}
    if quantity != ELECTRONS or volume.attributes.get("counted"):
        what = "counts" if quantity == ELECTRONS else f"{quantity or 'something unknown'}"
        raise InvalidInput(
            f"its values are {what}, not a fraction of the beam or expected electrons",
            where=volume.name,
            fix="use an image made by `emstore simulate`",
        )
    if dose is not None:
        raise InvalidInput("the image is of expected electrons: its dose is given", where=volume.name, fix="leave dose out")
    return 1.0, volume.attributes.get("dose")


def expected_electrons(values: npt.NDArray[Any], factor: float) -> npt.NDArray[np.float64]:
    """Return values times a factor, if so many electrons can be counted.

    Raises
    ------
    InvalidInput
        Negative values, NaN, infinity, or more than a double counts one by one.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float64)
        expected *= factor
    if not (expected >= 0).all() or (expected > _MOST).any():
        raise InvalidInput("holds values that are negative, not finite or too large: so many electrons cannot be counted")
    return expected


def pixel_area(volume: Volume) -> float:
    """Return the area of a pixel of the last two axes, square angstrom.

    Raises
    ------
    InvalidInput
        Kind ``bad_spacing``: it is not known.
    """
    area = 1.0
    for axis in volume.grid.axes[-2:]:
        if axis.spacing is None or axis.unit is None or not units.is_length(axis.unit):
            raise InvalidInput(
                f"the size of its pixels along {axis.name!r} is not known",
                where=volume.name,
                fix="state it with transform.calibrate",
                kind=Kind.BAD_SPACING,
            )
        area *= units.convert(axis.spacing, axis.unit, "angstrom")
    return area
