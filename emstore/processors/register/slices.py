"""register.slices: slices of a stack moved onto each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.geometry import AxisKind
from emstore.operation import Block, Operation, Reduction, Result
from emstore.processor import Params
from emstore.processors.interpolate.sampling import settle
from emstore.volume import Region, Volume, VolumeKind

Shifts = npt.NDArray[np.float64]


class SlicesParams(Params):
    """What is moved onto what, how finely, and what fills the border."""

    axis: str = Field("z", description="axis that counts the slices; each slice is moved along y and x")
    against: Literal["previous", "fixed"] = Field(
        "previous",
        description="previous: every slice is compared with the one before, and the shifts add up; "
        "fixed: every slice is compared with the one that stays",
    )
    stays: int = Field(0, ge=0, description="index of the slice that stays where it is")
    upsample: int = Field(1, ge=1, le=1000, description="shifts are found to 1/upsample of a pixel")
    normalization: Literal["phase", "none"] = Field(
        "phase", description="phase: phase correlation; none: cross-correlation, steadier on noisy slices"
    )
    order: Literal[0, 1, 3] = Field(
        1, description="moving by parts of a pixel: 0 to the nearest whole pixel (for labels), 1 linear, 3 cubic B-spline"
    )
    fill: float = Field(0.0, description="value of pixels that no slice covers after moving")


@dataclass(frozen=True)
class Stack:
    """How the axes of an array are slices: which count lines of slices, slices, channels, rows and columns."""

    lines: tuple[int, ...]
    axis: int
    channels: tuple[int, ...]
    rows: int
    columns: int

    def view(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view with axes lines ..., slice, channels ..., y, x."""
        return values.transpose((*self.lines, self.axis, *self.channels, self.rows, self.columns))

    def place(self, region: Region) -> tuple[slice, ...]:
        """Return where the slices of a region are among all slices: lines ..., slice."""
        return (*(region[i] for i in self.lines), region[self.axis])


@dataclass(frozen=True)
class Moving:
    """Finds how far slices are off, and moves them."""

    stack: Stack
    shape: tuple[int, ...]
    params: SlicesParams
    dtype: np.dtype[Any]

    def needs(self, region: Region) -> tuple[Region, ...]:
        """Return the slices of a region with the one before, or with the one that stays."""
        at = self.stack.axis
        if self.params.against == "fixed":
            fixed = slice(self.params.stays, self.params.stays + 1)
            return region, (*region[:at], fixed, *region[at + 1 :])
        return ((*region[:at], slice(region[at].start - 1, region[at].stop), *region[at + 1 :]),)

    def start(self) -> Shifts:
        """Return no shift at all, for every slice."""
        return np.zeros((*(self.shape[i] for i in self.stack.lines), self.shape[self.stack.axis], 2))

    def map(self, block: Block, arrays: Sequence[npt.NDArray[Any]]) -> Shifts:
        """Return the shift along y and x that every slice of a block needs, pixels; shape (lines ..., slices, 2)."""
        part = self.stack.place(block.output)
        shifts = np.zeros((*(s.stop - s.start for s in part), 2))
        images = self.stack.view(arrays[0])
        first = block.inputs[0][self.stack.axis].start
        fixed = self.stack.view(arrays[1]) if self.params.against == "fixed" else None
        for line in product(*map(range, shifts.shape[:-2])):
            reference = None if fixed is None else _image(fixed[line][0])
            for k in range(part[-1].start, part[-1].stop):
                if fixed is None:
                    if k == 0:
                        continue
                    reference = _image(images[line][k - 1 - first])
                elif k == self.params.stays:
                    continue
                assert reference is not None
                shifts[(*line, k - part[-1].start)] = self._shift(reference, _image(images[line][k - first]), k)
        return shifts

    def add(self, state: Shifts, block: Block, part: Shifts) -> Shifts:
        """Put a block's shifts in their place."""
        state[self.stack.place(block.output)] = part
        return state

    def finish(self, state: Shifts) -> Shifts:
        """Return the shift of every slice against the one that stays."""
        if self.params.against == "fixed":
            return state
        total = np.cumsum(state, axis=-2)
        # Sums of steps of 1/upsample are whole numbers of them: take what adding up rounded off away again.
        total = np.rint(total * self.params.upsample) / self.params.upsample
        return np.asarray(total - total[..., self.params.stays : self.params.stays + 1, :])

    def apply(self, block: Block, arrays: Sequence[npt.NDArray[Any]], found: Shifts) -> npt.NDArray[Any]:
        """Return a block with its slices moved."""
        out = np.empty([s.stop - s.start for s in block.output], self.dtype)
        images, moved = self.stack.view(block.crop(arrays[0])), self.stack.view(out)
        shifts = found[self.stack.place(block.output)]
        for index in product(*map(range, moved.shape[:-2])):
            slice_index = index[: len(self.stack.lines) + 1]
            y, x = (float(n) for n in shifts[slice_index])
            moved[index] = _moved(images[index], y, x, self.params.order, self.params.fill, self.dtype)
        return out

    def tell(self, found: Shifts) -> Mapping[str, Any]:
        """Return the shifts, and the part of all pixels that had to be filled."""
        rows, columns = self.shape[self.stack.rows], self.shape[self.stack.columns]
        steps = np.vectorize(lambda shift: _border(shift, self.params.order), otypes=[float])(found)
        kept = np.maximum(rows - steps[..., 0], 0) * np.maximum(columns - steps[..., 1], 0)
        return {
            "shifts": {"unit": "pixel", "order": [*("line",) * len(self.stack.lines), "slice", "y, x"], "values": found.tolist()},
            "filled": {"value": self.params.fill, "fraction": float(1 - kept.mean() / (rows * columns))},
        }

    def _shift(self, reference: npt.NDArray[np.float64], image: npt.NDArray[np.float64], k: int) -> Any:
        from skimage.registration import phase_cross_correlation

        for values, number in ((image, k), (reference, self.params.stays if self.params.against == "fixed" else k - 1)):
            if not np.isfinite(values).all():
                raise InvalidInput(f"slice {number} holds NaN or infinite values, which have no correlation")
        if np.ptp(image) == 0 or np.ptp(reference) == 0:
            return 0.0, 0.0  # nothing to compare
        shift, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
            reference,
            image,
            upsample_factor=self.params.upsample,
            normalization="phase" if self.params.normalization == "phase" else None,
        )
        return shift


def _image(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return a slice as doubles, the mean of its channels."""
    return np.asarray(values.reshape(-1, *values.shape[-2:]).mean(axis=0, dtype=np.float64))


def _border(shift: float, order: int) -> int:
    """Return the number of rows or columns that a shift leaves empty."""
    return abs(round(shift)) if order == 0 else ceil(abs(shift))


def _moved(image: npt.NDArray[Any], y: float, x: float, order: int, fill: float, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if order == 0:
        y, x = float(round(y)), float(round(x))
    if y.is_integer() and x.is_integer():  # pixels move unchanged, bit for bit
        out = np.full(image.shape, fill, dtype)
        onto, of = zip(*(_overlap(int(d), n) for d, n in zip((y, x), image.shape, strict=True)), strict=True)
        out[onto] = image[of]
        return out
    from scipy import ndimage

    values = ndimage.shift(image.astype(np.float64), (y, x), order=order, mode="constant", cval=fill, prefilter=order > 1)
    return settle(values, dtype)


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Return where the part that stays inside goes, and where it comes from."""
    left = max(0, size - abs(shift))
    return (slice(size - left, size), slice(0, left)) if shift >= 0 else (slice(0, left), slice(size - left, size))


class Slices:
    """Aligns the slices of a stack by phase correlation."""

    name: ClassVar[str] = "register.slices"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Move the slices of a stack onto each other by phase correlation (Guizar-Sicairos et al. 2008)"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = SlicesParams

    def plan(self, volumes: Sequence[Volume], params: SlicesParams) -> Operation:
        """Say how to align.

        Shifts are found by scikit-image's `phase_cross_correlation`, on the mean of the channels where there are some; every
        frame or other stack of a larger array is aligned on its own. A shift is known only up to the size of a slice: one of
        more than half of it is taken for one the other way. A slice without any
        detail does not move. The volume keeps its grid; shifts and the filled part of it are told in the result's attributes.

        Raises
        ------
        InvalidInput
            No such axis, no rows and columns, a slice to stay that is not there, complex values, labels with an order above 0,
            or a fill the type cannot say. While it runs: a slice with NaN.
        """
        [volume] = volumes
        stack = _stack(volume, params.axis)
        if params.stays >= volume.shape[stack.axis]:
            raise InvalidInput(
                f"there is no slice {params.stays} to stay",
                where=volume.name,
                fix=f"axis {params.axis} has {volume.shape[stack.axis]}",
            )
        if volume.dtype.kind == "c":
            raise InvalidInput("complex slices cannot be aligned", where=volume.name)
        if volume.kind is VolumeKind.LABELS and params.order != 0:
            raise InvalidInput(
                "labels are names, not amounts: they move by whole pixels only", where=volume.name, fix="use order=0"
            )
        result = Result.like(volume)
        if result.dtype.kind in "iu":
            limits = np.iinfo(result.dtype)
            if not (float(params.fill).is_integer() and limits.min <= params.fill <= limits.max):
                raise InvalidInput(f"{result.dtype} cannot hold the fill value {params.fill:g}", where=volume.name)
        work = Moving(stack, volume.shape, params, result.dtype)
        dims = volume.grid.dims
        fixed = params.against == "fixed"
        # Of two slices: both as doubles, their transforms, the product and the correlation. Blocks hold two of them, or one and
        # the one that stays.
        channels = prod(volume.shape[i] for i in stack.channels)
        return Operation(
            result,
            work.apply,
            Reduction(work.map, work.start, work.add, work.finish),
            tell=work.tell,
            whole=tuple(dims[i] for i in (*stack.channels, stack.rows, stack.columns)),
            needs=work.needs,
            reads=(0, 0) if fixed else (),
            work_bytes=8 + (112 if fixed else 56) / channels,
        )


def _stack(volume: Volume, axis: str) -> Stack:
    grid = volume.grid
    grid.axis(axis)
    if axis in ("y", "x") or not {"y", "x"} <= set(grid.dims):
        raise InvalidInput(
            f"slices are planes of y and x, counted by another axis; this volume has axes {', '.join(grid.dims)}",
            where=volume.name,
        )
    channels = tuple(i for i, a in enumerate(grid.axes) if a.kind is AxisKind.CHANNEL and a.name != axis)
    taken = {axis, "y", "x", *(grid.dims[i] for i in channels)}
    lines = tuple(i for i, name in enumerate(grid.dims) if name not in taken)
    return Stack(lines, grid.dims.index(axis), channels, grid.dims.index("y"), grid.dims.index("x"))
