"""transform.project: the brightest, darkest, mean or sum along an axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.geometry import Axis, AxisKind, Grid
from emstore.operation import Block, Operation, Result
from emstore.processor import Params
from emstore.volume import Region, ValueScale, Volume, VolumeKind

How = Literal["max", "min", "mean", "sum"]


class ProjectParams(Params):
    """What becomes of a line."""

    axis: str = Field("z", description="axis to project along")
    how: How = Field(description="max, min, mean or sum of the values along the axis")


@dataclass(frozen=True)
class Along:
    """Makes blocks of a projection."""

    axis: int
    size: int
    how: How
    dtype: np.dtype[Any]

    def needs(self, region: Region) -> tuple[Region, ...]:
        """Return whole lines."""
        return ((*region[: self.axis], slice(0, self.size), *region[self.axis + 1 :]),)

    def apply(self, block: Block, arrays: Sequence[npt.NDArray[Any]], found: Any) -> npt.NDArray[Any]:
        """Return a block, of size 1 along the axis."""
        values = arrays[0]
        with np.errstate(over="ignore", invalid="ignore"):
            if self.how in ("max", "min"):
                best = np.asarray((np.max if self.how == "max" else np.min)(values, axis=self.axis, keepdims=True))
                # Of the two zeros either may come out as the greatest: one of them must.
                return (best + 0 if best.dtype.kind == "f" else best).astype(self.dtype, copy=False)
            total = self._sum(values)
            return (total / self.size if self.how == "mean" else total).astype(self.dtype, copy=False)

    def _sum(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if values.dtype.kind in "biu" and values.dtype.itemsize <= 4:
            return np.asarray(np.sum(values, axis=self.axis, keepdims=True, dtype=self._whole(values.dtype)))
        # Sums of doubles depend on their order, which NumPy chooses by the array's layout: one sample after the other it is.
        # Their real and imaginary parts are summed apart by NumPy too.
        shape = tuple(1 if i == self.axis else n for i, n in enumerate(values.shape))
        total = np.zeros(shape, np.complex128 if values.dtype.kind == "c" else np.float64)
        plane = [slice(None)] * values.ndim
        for k in range(values.shape[self.axis]):
            plane[self.axis] = slice(k, k + 1)
            total += values[tuple(plane)]
        return total

    @staticmethod
    def _whole(dtype: np.dtype[Any]) -> type[np.integer[Any]]:
        return np.int64 if dtype.kind == "i" else np.uint64


class Project:
    """Flattens a volume along an axis."""

    name: ClassVar[str] = "transform.project"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = (
        "Take the maximum, minimum, mean or sum along an axis, which stays with one sample as thick as all were"
    )
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = ProjectParams

    def plan(self, volumes: Sequence[Volume], params: ProjectParams) -> Operation:
        """Say how to project.

        The axis stays, with size 1, its one sample centred on those it was made from and as thick as all of them, so that the
        projection keeps its place in the world. Maximum and minimum keep the type. A mean is float32 for integers of up to 16
        bits, of the type it was for other floats, else float64. A sum is 64-bit: whole for integers of up to 32 bits, which can
        not overflow, else float64 (complex128). NaN in a line is NaN in its projection.

        Raises
        ------
        InvalidInput
            The axis is unknown, or these values have no maximum (complex ones) or no mean (labels).
        """
        [volume] = volumes
        axis = volume.grid.axis(params.axis)
        if volume.kind is VolumeKind.LABELS and params.how in ("mean", "sum"):
            raise InvalidInput(f"labels are names, not amounts: they have no {params.how}", where=volume.name, fix="use how=max")
        if volume.dtype.kind == "c" and params.how in ("max", "min"):
            raise InvalidInput("complex values have no order, so no maximum or minimum", where=volume.name)
        dtype = _type(volume.dtype, params.how)
        scale, window = volume.scale, volume.window
        if params.how == "sum":
            window = None
            if scale is not None:
                scale = ValueScale(scale.slope, scale.intercept * axis.size, scale.unit)
        attributes: dict[str, Any] = {"projection": {"axis": axis.name, "how": params.how, "samples": axis.size}}
        dose = volume.attributes.get("dose")
        if params.how == "sum" and axis.kind is AxisKind.TIME and isinstance(dose, Mapping):
            attributes["dose"] = {**dose, "value": float(np.sum(dose["value"])) * (1 if np.ndim(dose["value"]) else axis.size)}
        result = Result.like(
            volume,
            grid=_flattened(volume.grid, axis, params.how),
            dtype=dtype,
            scale=scale,
            window=window,
            attributes=attributes,
        )
        work = Along(result.grid.dims.index(axis.name), axis.size, params.how, dtype)
        # The largest array is what is read; sums are as large as the block, 8 or 16 bytes, and once more in the result's type.
        item = 32 if volume.dtype.kind == "c" else 16
        return Operation(result, work.apply, needs=work.needs, work_bytes=item / axis.size + (8 if axis.size == 1 else 0))


def _type(dtype: np.dtype[Any], how: How) -> np.dtype[Any]:
    native = dtype.newbyteorder("=")
    if how in ("max", "min"):
        return native
    if how == "mean":
        return native if native.kind in "fc" else np.dtype(np.float32 if native.itemsize <= 2 else np.float64)
    if native.kind == "c":
        return np.dtype(np.complex128)
    if native.kind == "f" or native.itemsize > 4:
        return np.dtype(np.float64)
    return np.dtype(np.int64 if native.kind == "i" else np.uint64)


def _flattened(grid: Grid, axis: Axis, how: How) -> Grid:
    if axis.positions is None:
        flat = grid.resampled(axis.name, 1, first=(axis.size - 1) / 2, step=axis.size)
    else:
        at = axis.coordinates()
        step = axis.median_step()
        if step is None:
            return grid
        thick = float(at.max() - at.min()) + step
        flat = grid.with_axis(
            replace(axis, size=1, positions=None, spacing=thick, origin=float(at.max() + at.min()) / 2, labels=None)
        )
    if axis.labels is None:
        return flat
    return replace(flat, axes=tuple(replace(a, labels=(how,)) if a.name == axis.name else a for a in flat.axes))
