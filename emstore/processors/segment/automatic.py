"""Classes by thresholds found from the values: one set for the whole volume, or one for every slice."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.operation import Array, Block, Operation, Reduction, Result
from emstore.processor import Params
from emstore.processors.segment.classes import check_numbers, class_type, classify
from emstore.processors.segment.criteria import Counts, isodata, otsu
from emstore.processors.segment.levels import Histogram, histogram, merged, value_at
from emstore.volume import Region, Volume, VolumeKind

Thresholds = tuple[int | float, ...]
Find = Callable[[Counts], tuple[int, ...] | None]

_PER = "Find thresholds once for the whole volume, or for every slice (the last two axes) alone."


class OtsuParams(Params):
    """Parameters of `Otsu`."""

    classes: int = Field(2, ge=2, le=16, description="Number of classes.")
    per: Literal["volume", "slice"] = Field("volume", description=_PER)


class IsodataParams(Params):
    """Parameters of `Isodata`."""

    per: Literal["volume", "slice"] = Field("volume", description=_PER)


class Otsu:
    """Classes by Otsu's thresholds, which make the variance between the classes largest.

    A value above (``>``) a threshold belongs to the next class. Integers that span less than 65536 are counted one by one, so
    thresholds equal `skimage.filters.threshold_otsu`'s as long as its 32-bit sums are exact, which they stop to be at 2**24
    voxels; other values are counted at 32768 to 65536 equal levels whose width is a power of two. NaN and infinities are not
    counted; NaN is in class 0. Where a volume or slice has fewer distinct values than `classes`, all of it is class 0 and its
    thresholds are null.
    """

    name: ClassVar[str] = "segment.otsu"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Part values into two or more classes by Otsu's thresholds (Otsu 1979), per volume or per slice"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = OtsuParams

    def plan(self, volumes: Sequence[Volume], params: OtsuParams) -> Operation:
        """Say what to do.

        Raises
        ------
        InvalidInput
            The volume is no image of real numbers, or has no slices.
        """
        return _operation(self.name, volumes[0], params.classes, params.per, lambda counts: otsu(counts, params.classes))


class Isodata:
    """Two classes by the ISODATA threshold, which lies midway between the means of the two.

    A value above (``>``) the threshold is in class 1. Of several such thresholds the lowest is taken, as
    `skimage.filters.threshold_isodata` does. Counting is as for `Otsu`.
    """

    name: ClassVar[str] = "segment.isodata"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = (
        "Part values into two classes by the ISODATA threshold (Ridler and Calvard 1978), per volume or per slice"
    )
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = IsodataParams

    def plan(self, volumes: Sequence[Volume], params: IsodataParams) -> Operation:
        """Say what to do.

        Raises
        ------
        InvalidInput
            The volume is no image of real numbers, or has no slices.
        """

        def find(counts: Counts) -> tuple[int, ...] | None:
            level = isodata(counts)
            return None if level is None else (level,)

        return _operation(self.name, volumes[0], 2, params.per, find)


def _operation(name: str, volume: Volume, classes: int, per: str, find: Find) -> Operation:
    check_numbers(volume, name)
    if per == "slice" and len(volume.shape) < 2:
        raise InvalidInput("has one axis and so no slices", where=volume.name, fix="use per=volume")
    leading = volume.shape[:-2] if per == "slice" else ()
    kind = volume.dtype.kind
    dtype = class_type(classes)

    def thresholds(counted: Histogram | None) -> Thresholds | None:
        levels = None if counted is None else find(counted[2])
        return None if counted is None or levels is None else tuple(value_at(counted, level, kind) for level in levels)

    def of_slices(block: Block, arrays: Sequence[Array]) -> dict[int, Thresholds | None]:
        return {number: thresholds(histogram(arrays[0][part])) for number, part in _parts(block.output, leading)}

    def apply(block: Block, arrays: Sequence[Array], found: dict[int, Thresholds | None]) -> Array:
        [values] = arrays
        out = np.empty(values.shape, dtype)
        for number, part in _parts(block.output, leading):
            classify(values[part], found[number] or (), out[part], including=False)
        return out

    if per == "volume":
        reduction = Reduction(
            map=lambda block, arrays: histogram(arrays[0]),
            start=lambda: None,
            add=lambda state, block, part: merged(state, part),
            finish=lambda state: {0: thresholds(state)},
        )
    else:

        def add(state: dict[int, Any], block: Block, part: dict[int, Any]) -> dict[int, Any]:
            state.update(part)
            return state

        reduction = Reduction(map=of_slices, start=dict, add=add, finish=lambda state: state)

    def tell(found: dict[int, Thresholds | None]) -> dict[str, Any]:
        lists = [None if found[i] is None else list(found[i] or ()) for i in range(len(found))]
        return {"rule": "value > threshold", "thresholds": lists[0] if per == "volume" else lists, "thresholds_per": per}

    return Operation(
        Result.like(volume, kind=VolumeKind.LABELS, dtype=dtype, scale=None, window=None),
        apply,
        reduction,
        tell,
        work_bytes=4.0,
        whole=volume.grid.dims[-2:] if per == "slice" else (),
    )


def _parts(region: Region, leading: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
    """Return number (in array order along the leading axes) and index within the region of every part with own thresholds."""
    spans = region[: len(leading)]
    found = []
    for index in np.ndindex(*(s.stop - s.start for s in spans)):
        number = 0
        for i, s, n in zip(index, spans, leading, strict=True):
            number = number * n + s.start + i
        found.append((number, index))
    return found


__all__ = ["Isodata", "IsodataParams", "Otsu", "OtsuParams"]
