"""The measure processors keep the processor contract, through stores and in measured memory."""

from typing import Any, ClassVar

import numpy as np

from emstore.processors import measure
from emstore.testing import ProcessorConformance, operations
from emstore.testing.processors import ProcessorCase
from emstore.volume import Volume

RANDOM = np.random.default_rng(2)


def pair(shape: tuple[int, ...], dtype: str, high: int = 200) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    image = RANDOM.integers(0, high, shape)
    return image.astype(dtype), (image + RANDOM.integers(0, 1 + high // 4, shape)).astype(dtype)


IMAGES = (pair((3, 17, 19), "uint8"), pair((2, 3, 14, 12), "float32"))


class Measured(ProcessorConformance):
    """Common to all; a plain class, so that pytest runs only those below."""

    volumes: ClassVar[Any] = IMAGES
    executors = ("threads",)
    examples = 5


class TestStatistics(Measured):
    processor = measure.Statistics
    volumes = (*(image for image, _ in IMAGES), pair((15, 16), "int16")[0])
    params = ({}, {"axis": "y", "percentiles": []})


class TestHistogram(Measured):
    processor = measure.Histogram
    volumes = tuple(image for image, _ in IMAGES)
    params = ({"bins": 10, "range": [0, 100]}, {"range": "measured"})


class TestMeanSquaredError(Measured):
    processor = measure.MeanSquaredError


class TestPeakSignalToNoise(Measured):
    processor = measure.PeakSignalToNoise
    params = ({"data_range": "measured"}, {"data_range": 100})


class TestStructuralSimilarity(Measured):
    processor = measure.StructuralSimilarity
    params = ({"data_range": 255}, {"data_range": 255, "window": "uniform"})


class TestMultiScaleSimilarity(Measured):
    processor = measure.MultiScaleSimilarity
    volumes = (pair((2, 170, 165), "uint8"),)
    params = ({"data_range": 255},)


class TestOverlap(Measured):
    processor = measure.Overlap
    volumes = (pair((4, 15, 16), "uint8", 4), pair((14, 15), "int32", 3))
    params = ({}, {"foreground": True})


class TestRocCurve(Measured):
    processor = measure.RocCurve
    volumes = tuple((a, b > 100) for a, b in IMAGES)
    params = ({"range": [0, 300], "bins": 40},)


def lattice(frames: int, height: int, width: int) -> np.ndarray[Any, Any]:
    """Gaussian columns nine pixels apart on a noisy background."""
    y, x = np.mgrid[:height, :width].astype("f8")
    clean = sum(np.exp(-((y - v) ** 2 + (x - u) ** 2) / 5) for v in range(6, height - 4, 9) for u in range(7, width - 4, 9))
    return (100 + 900 * np.asarray(clean) + RANDOM.normal(0, 5, (frames, height, width))).astype("f4")


class TestColumns(Measured):
    processor = measure.Columns
    volumes = (lattice(3, 24, 33),)
    params = ({"radius": 4}, {"radius": 4, "edges": "drop"})
    examples = 3

    def sized(self, case: ProcessorCase, voxels: int) -> tuple[Volume, ...]:
        """Return more frames, not larger ones, and less than asked for: a frame is fitted as a whole, which takes its time."""
        [volume] = case.volumes
        values = volume.data[tuple(slice(0, n) for n in volume.shape)]
        times = max(1, voxels // 64 // values.size)
        return (operations.with_values(volume, np.tile(values, (times, 1, 1))),)
