"""The measure processors keep the processor contract, through stores and in measured memory."""

from typing import Any, ClassVar

import numpy as np

from emstore.processors import measure
from emstore.testing import ProcessorConformance

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
