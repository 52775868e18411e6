"""Small versions with several chunks, every voxel of which has a value of its own."""

from typing import Any

import numpy as np
import numpy.typing as npt

import emstore
from emstore.geometry import Axis, AxisKind
from sealed import seal, volume

KINDS = {"t": AxisKind.TIME, "c": AxisKind.CHANNEL}
SHAPES = {
    "line": {"x": 1000},
    "plane": {"y": 700, "x": 530},
    "box": {"z": 70, "y": 130, "x": 65},
    "slab": {"z": 3, "y": 300, "x": 260},
    "film": {"t": 9, "y": 130, "x": 70},
    "colours": {"c": 2, "z": 5, "y": 66, "x": 65},
}


def counted(shape: tuple[int, ...], dtype: str = "int32") -> npt.NDArray[Any]:
    """Return an array whose every value is its own place in array order."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def put(target: str, values: npt.NDArray[Any], dims: str, *, spacing: float | None = 2.0, **rest: Any) -> emstore.Version:
    """Seal an array as a version."""
    axes = [
        Axis(name, size, KINDS[name])
        if name in KINDS
        else Axis(name, size, spacing=spacing, unit=None if spacing is None else "nanometer")
        for name, size in zip(dims, values.shape, strict=True)
    ]
    return seal(volume("made", values, *axes, **rest), target)
