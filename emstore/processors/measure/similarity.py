"""``measure.ssim``: structural similarity to a reference."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Block, Operation, Reduction
from emstore.processor import Params
from emstore.processors.measure.pairs import RANGE_HELP, ROLES, DataRange, same_values, type_range
from emstore.processors.measure.slices import SliceParams, Slices, plain
from emstore.processors.measure.windows import Window
from emstore.table import Column, Table
from emstore.volume import Volume

Array = npt.NDArray[np.float64]

_WORK_BYTES = 80.0
"""Both slices, their products and the fields of local statistics in double precision."""


class StructuralSimilarityParams(SliceParams):
    """Parameters of `StructuralSimilarity`."""

    data_range: DataRange = Field(description=f"{RANGE_HELP}, in stored values; measure.statistics finds what occurs.")
    window: Literal["gaussian", "uniform"] = Field(default="gaussian", description="Shape of the window.")
    size: int | None = Field(
        default=None, ge=3, le=255, description="Side of the window, samples, odd; left out: 11 gaussian, 7 uniform."
    )
    sigma: float = Field(default=1.5, gt=0, description="Standard deviation of the gaussian window, samples.")


class StructuralSimilarity:
    """Structural similarity index (Wang, Bovik, Sheikh & Simoncelli, IEEE Trans. Image Process. 13, 600, 2004).

    The window lies in the slice, over its last two axes; the index is averaged over every window that lies wholly inside, as
    the authors do. Constants are K1 = 0.01 and K2 = 0.03. The gaussian window (11 wide, sigma 1.5) weighs variances as a
    population, the uniform one (7 wide) as a sample, each as `skimage.metrics.structural_similarity` does. Windows with a NaN
    are left out and counted.
    """

    name: ClassVar[str] = "measure.ssim"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Measure structural similarity to a reference (Wang et al. 2004), with an explicit data range"
    inputs: ClassVar[tuple[str, ...]] = ROLES
    params: ClassVar[type[Params]] = StructuralSimilarityParams

    def plan(self, volumes: Sequence[Volume], params: StructuralSimilarityParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        image, reference = same_values(volumes)
        span = type_range(image, reference) if params.data_range == "dtype" else params.data_range
        size = params.size or (11 if params.window == "gaussian" else 7)
        if size % 2 == 0:
            raise InvalidInput(f"a window of {size} samples has no centre", fix="give an odd size")
        window = Window.of(params.window, size, params.sigma)
        slices, plane = slice_planes(image, params.axis, size)
        halo = tuple(window.radius if i in plane else 0 for i in range(len(image.shape)))
        work = _Pass(f"similarity of {image.name} to {reference.name}", slices, window, span, image.shape, plane)
        return Operation(
            None,
            reduction=Reduction(work.map, work.start, work.add, work.finish),
            halo=halo,
            work_bytes=_WORK_BYTES,
            tolerance=1e-9,
        )


def slice_planes(volume: Volume, axis: str | None, least: int) -> tuple[Slices, tuple[int, int]]:
    """Return the slices along an axis, and which two axes the window lies in: the last two others.

    Raises
    ------
    InvalidInput
        A slice has fewer than two axes, or is smaller than `least` samples.
    """
    slices = Slices.of(volume, axis)
    names = slices.across(volume)
    if len(names) < 2:
        raise InvalidInput(f"a slice along {axis} has no plane for a window", where=volume.name, fix="choose another axis")
    plane = tuple(volume.grid.dims.index(name) for name in names[-2:])
    sides = [volume.shape[i] for i in plane]
    if min(sides) < least:
        raise InvalidInput(
            f"a slice is {sides[0]} x {sides[1]} samples and the window needs {least} both ways",
            where=volume.name,
            fix="choose a smaller window or another axis",
        )
    return slices, (plane[0], plane[1])


@dataclass(frozen=True)
class _Pass:
    """The pass over both volumes."""

    title: str
    slices: Slices
    window: Window
    range: float
    shape: tuple[int, ...]
    plane: tuple[int, int]

    def start(self) -> Array:
        """Return nothing seen: sum of indices, windows, windows with NaN; shape (3, slices)."""
        return np.zeros((3, self.slices.count))

    def map(self, block: Block, arrays: Sequence[npt.NDArray[Any]]) -> Array:
        """Return the sums over windows whose centre is in the block and that lie inside the volume."""
        inner = [self._inner(block, axis) for axis in range(len(self.shape))]
        if any(part.start >= part.stop for part in inner):
            return np.zeros((3, len(self.slices.rows(block))))
        pair = [np.moveaxis(one[tuple(inner)], self.plane, (-2, -1)) for one in arrays]
        return np.array([self._sums(image, reference) for image, reference in self._rows(*pair)]).T

    def _inner(self, block: Block, axis: int) -> slice:
        """Return what of a block's input is needed for windows inside the volume, along one axis."""
        out, read = block.output[axis], block.inputs[0][axis]
        if axis not in self.plane:
            return slice(out.start - read.start, out.stop - read.start)
        r = self.window.radius
        first, last = max(out.start, r), min(out.stop, self.shape[axis] - r)
        return slice(first - r - read.start, max(last + r, first - r) - read.start) if first < last else slice(0, 0)

    def _rows(self, *pair: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
        """Yield both volumes' parts of every slice."""
        if self.slices.axis is None:
            yield pair
            return
        place = self.slices.place - sum(axis < self.slices.place for axis in self.plane)
        yield from zip(*(np.moveaxis(one, place, 0) for one in pair), strict=True)

    def _sums(self, image: npt.NDArray[Any], reference: npt.NDArray[Any]) -> tuple[float, int, int]:
        luminance, structure = self.window.similarity(image, reference, self.range)
        luminance *= structure
        unknown = int(np.count_nonzero(np.isnan(luminance)))
        return float(np.nansum(luminance)), luminance.size - unknown, unknown

    def add(self, state: Array, block: Block, part: Array) -> Array:
        """Add up, slice by slice."""
        return add_rows(state, self.slices.rows(block), part)

    def finish(self, state: Array) -> Table:
        """Return the table."""
        described = Figure("ssim", "structural similarity, 1 for equal images", "windows")
        return mean_table(self.title, self.slices, state, described, self.range)


@dataclass(frozen=True)
class Figure:
    """What a table of means is about."""

    name: str
    description: str
    of: str
    """What each mean is taken over."""


def add_rows(state: Array, rows: range, part: Array) -> Array:
    """Add a block's sums to those of its slices; `state` is changed."""
    state[:, rows.start : rows.stop] += part
    return state


def mean_table(title: str, slices: Slices, state: Array, figure: Figure, span: float) -> Table:
    """Return the mean of every slice and of the whole, from sums, numbers and numbers of unknown values, shape (3, slices)."""
    total, number, unknown = state
    with np.errstate(invalid="ignore"):
        found = total / number
        whole = float(np.divide(total.sum(), number.sum()))
    columns = {
        **slices.columns(),
        "count": Column(number.astype(np.int64), None, f"{figure.of} compared"),
        "unknown": Column(unknown.astype(np.int64), None, f"{figure.of} with a NaN"),
        figure.name: Column(found, None, figure.description),
    }
    summary = {"count": int(number.sum()), "unknown": int(unknown.sum()), figure.name: plain(whole), "data_range": span}
    return Table(title, columns, summary)
