"""The segment processors keep the processor contract, through stores and in measured memory."""

from typing import ClassVar

import numpy as np
from scipy import ndimage

from emstore.processors import segment
from emstore.testing import ProcessorConformance

RANDOM = np.random.default_rng(4)
SMOOTH = ndimage.gaussian_filter(RANDOM.standard_normal((6, 13, 14)), 1.5)
IMAGES = ((SMOOTH * 900 + 500).astype("u2"), SMOOTH[:3].astype("f4"))


class TestThreshold(ProcessorConformance):
    processor = segment.Threshold
    volumes = IMAGES
    params = ({"thresholds": [0.05, 600]},)
    executors = ("threads",)
    examples = 5


class TestOtsu(ProcessorConformance):
    processor = segment.Otsu
    volumes = IMAGES
    params = ({}, {"classes": 3, "per": "slice"})
    examples = 5


class TestIsodata(ProcessorConformance):
    processor = segment.Isodata
    volumes = IMAGES
    params = ({}, {"per": "slice"})
    executors = ("threads",)
    examples = 5


class TestComponents(ProcessorConformance):
    processor = segment.Components
    volumes: ClassVar = (SMOOTH > 0.05, (SMOOTH * 30).clip(0, 4).astype("u1"))
    params = ({}, {"connectivity": 3, "minimum_size": 5}, {"together": True})
    block_by_block = True
    examples = 8
