"""The grid-changing processors keep the processor contract, through stores and in measured memory."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from emstore.geometry import Axis, Grid
from emstore.processors import interpolate, register, transform
from emstore.testing import ProcessorConformance
from emstore.testing.processors import ProcessorCase
from emstore.volume import MemoryArray, Volume
from in_blocks import axes_of, over

RANDOM = np.random.default_rng(6)
COUNTS = over(RANDOM.integers(0, 60000, (5, 9, 8), "u2"), *axes_of("zyx", (5, 9, 8), z=2.0, y=1.0, x=1.0))
FRAMES = over(RANDOM.normal(size=(2, 3, 7, 6)).astype("f4"), *axes_of("tzyx", (2, 3, 7, 6), t=0.5, z=2.0, y=1.0, x=1.0))


class Changed(ProcessorConformance):
    """Common to all; a plain class, so that pytest runs only those below."""

    volumes: ClassVar[Any] = (COUNTS,)
    executors = ("threads",)
    examples = 4


class TestNearest(Changed):
    processor = interpolate.Nearest
    params = ({"factor": 2},)


class TestLinear(Changed):
    processor = interpolate.Linear
    volumes = (COUNTS, FRAMES)
    params = ({"isotropic": True},)


class TestCubic(Changed):
    processor = interpolate.Cubic
    params = ({"factor": 3}, {"factor": 2, "axis": "x"})
    executors = ("threads", "processes")


class TestCrop(Changed):
    processor = transform.Crop
    volumes = (COUNTS, FRAMES)
    params = ({"index": {"z": [1, None]}, "position": {"x": [2.0, 5.5]}},)


class TestResample(Changed):
    processor = transform.Resample
    params = ({"spacing": {"z": 1.3, "x": 2.2}, "method": "cubic"},)


class TestRegularise(Changed):
    processor = transform.Regularise
    volumes = (
        over(RANDOM.normal(size=(5, 8, 7)), Axis("z", 5, unit="nanometer", positions=(0.0, 2, 3, 5, 9)), *axes_of("yx", (8, 7))),
    )
    params = ({"method": "linear"},)

    def sized(self, case: ProcessorCase, voxels: int) -> tuple[Volume, ...]:
        """Return slices at positions as unequal as before."""
        [volume] = super().sized(case, voxels)
        at = np.cumsum(np.random.default_rng(1).uniform(1, 3, volume.shape[0]))
        z = replace(volume.grid.axes[0], spacing=None, positions=tuple(at.tolist()))
        values = volume.data[tuple(slice(0, n) for n in volume.shape)]
        return (replace(volume, data=MemoryArray(values), grid=Grid((z, *volume.grid.axes[1:]))),)


class TestProject(Changed):
    processor = transform.Project
    params = ({"how": "mean"}, {"how": "max", "axis": "x"})


class TestRescale(Changed):
    processor = transform.Rescale
    params = ({"percentiles": [1, 99], "dtype": "uint8"}, {"values": [0, 1], "dtype": "float32"})


class TestCalibrate(Changed):
    processor = transform.Calibrate
    params = ({"spacing": {"z": 3}, "terms": {"sample/identifier_sample": "A7"}},)


class TestSlices(Changed):
    processor = register.Slices
    volumes = (COUNTS, FRAMES)
    params = ({"upsample": 4}, {"against": "fixed", "order": 3})

    def sized(self, case: ProcessorCase, voxels: int) -> tuple[Volume, ...]:
        """Return less than asked for: a slice is compared at a time, so that more slices only take longer."""
        return super().sized(case, voxels // 4)
