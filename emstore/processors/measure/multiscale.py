"""``measure.msssim``: structural similarity over five scales."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.operation import Block, Operation, Reduction
from emstore.processor import Params
from emstore.processors.measure.pairs import RANGE_HELP, ROLES, DataRange, same_values, type_range
from emstore.processors.measure.similarity import Figure, add_rows, mean_table, slice_planes
from emstore.processors.measure.slices import SliceParams, Slices
from emstore.processors.measure.windows import Window
from emstore.table import Table
from emstore.volume import Volume

Array = npt.NDArray[np.float64]

WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003, section 3.2)."""
_WINDOW: Final = Window.of("gaussian", 11, 1.5)
_WORK_BYTES: Final = 100.0


class MultiScaleSimilarityParams(SliceParams):
    """Parameters of `MultiScaleSimilarity`."""

    data_range: DataRange = Field(description=f"{RANGE_HELP}, in stored values; measure.statistics finds what occurs.")


class MultiScaleSimilarity:
    """Multi-scale structural similarity (Wang, Simoncelli & Bovik, Asilomar Conference on Signals, 1398, 2003).

    Every slice, over its last two axes, is compared at five scales, each the mean of 2 x 2 samples of the one before (the last
    row or column of an odd number doubled): contrast and structure at all of them, luminance at the coarsest. A scale whose
    mean is negative counts as 0, since a root of it is no number. The figure of the whole is the mean over the images.
    Blocks hold whole slices.
    """

    name: ClassVar[str] = "measure.msssim"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = (
        "Measure multi-scale structural similarity to a reference (Wang et al. 2003), with an explicit data range"
    )
    inputs: ClassVar[tuple[str, ...]] = ROLES
    params: ClassVar[type[Params]] = MultiScaleSimilarityParams

    def plan(self, volumes: Sequence[Volume], params: MultiScaleSimilarityParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        image, reference = same_values(volumes)
        span = type_range(image, reference) if params.data_range == "dtype" else params.data_range
        # The coarsest scale is rounded up at every halving and must still hold one window.
        least = (_WINDOW.size - 1) * 2 ** (len(WEIGHTS) - 1) + 1
        slices, plane = slice_planes(image, params.axis, least)
        work = _Pass(f"multi-scale similarity of {image.name} to {reference.name}", slices, span, plane)
        return Operation(
            None,
            reduction=Reduction(work.map, work.start, work.add, work.finish),
            whole=tuple(image.grid.dims[axis] for axis in plane),
            work_bytes=_WORK_BYTES,
            tolerance=1e-9,
        )


@dataclass(frozen=True)
class _Pass:
    """The pass over both volumes."""

    title: str
    slices: Slices
    range: float
    plane: tuple[int, int]

    def start(self) -> Array:
        """Return nothing seen: sum over images, images, images with NaN; shape (3, slices)."""
        return np.zeros((3, self.slices.count))

    def map(self, block: Block, arrays: Sequence[npt.NDArray[Any]]) -> Array:
        """Return the sums over the images of a block."""
        found = np.zeros((3, len(self.slices.rows(block))))
        image, reference = (np.moveaxis(block.crop(one, of=i), self.plane, (-2, -1)) for i, one in enumerate(arrays))
        place = self.slices.place - sum(axis < self.slices.place for axis in self.plane)
        for index in np.ndindex(image.shape[:-2]):
            value = multiscale(image[index], reference[index], self.range)
            row = 0 if self.slices.axis is None else index[place]
            found[:, row] += (0, 0, 1) if np.isnan(value) else (value, 1, 0)
        return found

    def add(self, state: Array, block: Block, part: Array) -> Array:
        """Add up, slice by slice."""
        return add_rows(state, self.slices.rows(block), part)

    def finish(self, state: Array) -> Table:
        """Return the table."""
        described = Figure("msssim", "multi-scale structural similarity, 1 for equal images", "images")
        return mean_table(self.title, self.slices, state, described, self.range)


def multiscale(image: npt.NDArray[Any], reference: npt.NDArray[Any], span: float) -> float:
    """Return the index of two images, shape (y, x); NaN when either holds one."""
    a, b = image.astype(np.float64), reference.astype(np.float64)
    value = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            a, b = _halve(a), _halve(b)
        luminance, structure = _WINDOW.similarity(a, b, span)
        last = scale == len(WEIGHTS) - 1
        mean = float((luminance * structure).mean() if last else structure.mean())
        value *= mean if np.isnan(mean) else max(mean, 0.0) ** weight
    return value


def _halve(values: Array) -> Array:
    """Return the means of 2 x 2 samples."""
    padded = np.pad(values, [(0, n % 2) for n in values.shape], mode="edge")
    return (padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]) / 4
