"""The denoise processors keep the processor contract, through stores and in measured memory."""

from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import pytest

from emstore.processors import denoise
from emstore.testing import ProcessorConformance
from emstore.testing.processors import ProcessorCase
from emstore.volume import Volume

RANDOM = np.random.default_rng(3)
COUNTS = RANDOM.poisson(40, (4, 11, 12)).astype("u2")
FLOATS = RANDOM.normal(100, 5, (2, 2, 9, 10)).astype("f4")
STABILISED = {"dtype": "same", "stabilise": {"gain": 2.0, "read_noise": 1.0}}


class Denoised(ProcessorConformance):
    """Common to all; a plain class, so that pytest runs only those below."""

    volumes: ClassVar[Any] = (COUNTS, FLOATS)
    executors = ("threads",)
    examples = 4

    def sized(self, case: ProcessorCase, voxels: int) -> tuple[Volume, ...]:
        """Return less than asked for: these methods take their time, and `test_rules` weighs every array of theirs."""
        return super().sized(case, voxels // 4)


class TestGaussian(Denoised):
    processor = denoise.Gaussian
    params = ({}, STABILISED)
    executors = ("threads", "processes")


class TestMedian(Denoised):
    processor = denoise.Median
    params = ({}, {"size": 5, "axes": "volume"})


class TestNonLocalMeans(Denoised):
    processor = denoise.NonLocalMeans
    params = (
        {"distance": 1, "patch": 3, **STABILISED},
        {"distance": 1, "patch": 3, "axes": "volume", "sigma": 3.0},
        {"distance": 2},
    )


class TestTotalVariation(Denoised):
    processor = denoise.TotalVariation
    params = ({"iterations": 5, **STABILISED}, {"iterations": 5, "axes": "volume"})


@pytest.mark.skipif(find_spec("bm3d") is None, reason="the extra bm3d is not installed (its licence is non-commercial)")
class TestBm3d(Denoised):
    processor = denoise.Bm3d
    volumes = (RANDOM.poisson(40, (2, 16, 17)).astype("u2"),)
    params = (STABILISED,)
    examples = 2

    def sized(self, case: ProcessorCase, voxels: int) -> tuple[Volume, ...]:
        """Return less than asked for: BM3D takes its time, and its memory grows with a slice, which these still are."""
        return super().sized(case, voxels // 32)
