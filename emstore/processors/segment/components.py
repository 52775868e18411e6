"""Connected components across blocks: label each block alone, join what meets at faces, number the whole."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.geometry import AxisKind
from emstore.operation import Array, Block, Operation, Reduction, Result
from emstore.processor import Params
from emstore.processors.segment.joining import Joining, add, finish, start
from emstore.volume import Volume, VolumeKind

DTYPE: Final = np.dtype(np.uint32)
_MASK_BYTES: Final = 32.0
_VALUED_BYTES: Final = 56.0
"""Working memory per voxel where every voxel, or every second one, is a part of its own; two blocks' parts wait to be added."""


class ComponentsParams(Params):
    """Parameters of `Components`."""

    connectivity: int = Field(1, ge=1, le=3, description="Neighbours share a face (1), also an edge (2), also a corner (3).")
    background: int = Field(0, description="Value that belongs to no component.")
    minimum_size: int = Field(1, ge=1, description="Components of fewer voxels become background.")
    together: bool = Field(False, description="All values but the background are one; else only equal values are connected.")
    maximum_parts: int = Field(
        1 << 22,
        ge=1,
        lt=1 << 31,
        description="Most components, counted anew in every block, to keep account of; each takes 48 bytes of memory.",
    )


class Components:
    """Connected components of labels or a mask, numbered from 1 in array order of their first voxels; 0 is background.

    The result equals `scipy.ndimage.label` of the whole array (with `together`, or for a mask) and
    `skimage.measure.label` (for labels), whatever the blocks. Components are connected along axes of space; every channel and
    time point has its own. Labels are uint32.

    One pass over the blocks keeps what can still change: size and first voxel of every component of `minimum_size` or at a face
    between blocks, and the faces that wait for the block on their other side. Parts that meet are joined as they do, and a second
    pass labels every block again, with the final numbers. What is kept grows with the number of components: its memory is counted
    in for as many as there may be, which are `maximum_parts`, and more are refused.
    """

    name: ClassVar[str] = "segment.components"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = (
        "Label the connected components of a mask or of labels, across blocks; small ones are dropped on demand"
    )
    inputs: ClassVar[tuple[str, ...]] = ("labels",)
    params: ClassVar[type[Params]] = ComponentsParams

    def plan(self, volumes: Sequence[Volume], params: ComponentsParams) -> Operation:
        """Say what to do.

        Raises
        ------
        InvalidInput
            The volume does not hold whole numbers or booleans; axes of space are not its last one to three; the connectivity
            has no meaning in so few of them; the background is no value of its type.
        Capacity
            Later, when the components have been counted: there are too many.
        """
        [volume] = volumes
        if volume.dtype.kind not in "biu":
            raise InvalidInput(
                f"{self.name} takes labels or a mask, not values of type {volume.dtype}",
                where=volume.name,
                fix="make classes first, e.g. with segment.threshold",
            )
        space = [axis.kind is AxisKind.SPACE for axis in volume.grid.axes]
        rank = sum(space)
        if not 1 <= rank <= 3 or not all(space[-rank:]):
            raise InvalidInput(f"its axes {', '.join(volume.grid.dims)} do not end in one to three of space", where=volume.name)
        if params.connectivity > rank:
            raise InvalidInput(
                f"connectivity {params.connectivity} needs as many axes of space; there are {rank}", where=self.name
            )
        info = None if volume.dtype.kind == "b" else np.iinfo(volume.dtype)
        lowest, highest = (0, 1) if info is None else (info.min, info.max)
        if not lowest <= params.background <= highest:
            raise InvalidInput(f"background {params.background} is no value of type {volume.dtype}", where=self.name)
        label = partial(_label, rank=rank, params=params)
        valued = volume.dtype.kind != "b" and not params.together
        value_bytes = volume.dtype.itemsize if valued else 0
        joining = Joining(volume.shape, rank, params.connectivity, params.minimum_size, params.maximum_parts, value_bytes)

        def of_block(block: Block, arrays: Sequence[Array]) -> dict[str, Any]:
            [values] = arrays
            labels, count = label(values)
            return joining.parts(block.output, labels, count, values if valued else None)

        def apply(block: Block, arrays: Sequence[Array], found: dict[str, Any]) -> Array:
            labels, count = label(arrays[0])
            numbers = np.zeros(count + 1, DTYPE)
            own = slice(*found["starts"][block.number : block.number + 2])
            numbers[found["ids"][own]] = found["numbers"][own]
            return numbers[labels]

        def tell(found: dict[str, Any]) -> dict[str, Any]:
            return {"components": found["count"], "components_dropped": found["dropped"]}

        return Operation(
            Result.like(volume, kind=VolumeKind.LABELS, dtype=DTYPE, scale=None, window=None),
            apply,
            Reduction(of_block, partial(start, joining), partial(add, joining), partial(finish, joining), joining.state_bytes),
            tell,
            work_bytes=_VALUED_BYTES if valued else _MASK_BYTES,
        )


def _label(values: npt.NDArray[Any], rank: int, params: ComponentsParams) -> tuple[npt.NDArray[np.int32], int]:
    """Return the components of one block, numbered from 1 in array order of their first voxels, and how many there are."""
    labels = np.empty(values.shape, np.int32)
    count = 0
    for index in np.ndindex(values.shape[:-rank]):
        out = labels[index]
        if params.together or values.dtype.kind == "b":
            found = _of_mask(values[index] != values.dtype.type(params.background), params.connectivity, out)
        else:
            found = _of_values(values[index], params, out)
        if count:
            np.add(out, count, out=out, where=out > 0)
        count += found
    return labels, count


def _of_mask(mask: npt.NDArray[np.bool_], connectivity: int, out: npt.NDArray[np.int32]) -> int:
    from scipy import ndimage

    return int(ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, connectivity), output=out))


def _of_values(values: npt.NDArray[Any], params: ComponentsParams, out: npt.NDArray[np.int32]) -> int:
    from skimage import measure

    background = np.asarray(params.background, values.dtype)
    if values.dtype == np.uint64:  # skimage compares signed integers; all that matters is which are equal
        values, background = values.view(np.int64), background.view(np.int64)
    # skimage 0.26 numbers arrays in another order where an axis has size 1.
    frame = np.atleast_1d(values.squeeze())
    label: Any = measure.label
    labels, found = label(frame, background=int(background), connectivity=min(params.connectivity, frame.ndim), return_num=True)
    out[...] = labels.reshape(out.shape)
    return int(found)
