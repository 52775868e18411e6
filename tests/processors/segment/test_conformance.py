"""The segment processors keep the processor contract, through stores and in measured memory."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from scipy import ndimage

from emstore.blocks.compute import evaluate
from emstore.operation import Operation
from emstore.processors import segment
from emstore.testing import ProcessorConformance, operations
from emstore.testing.processors import ProcessorCase

RANDOM = np.random.default_rng(4)
SMOOTH = ndimage.gaussian_filter(RANDOM.standard_normal((9, 22, 25)), 1.5)
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
    examples = 8

    def _reaches_out(self, case: ProcessorCase, operation: Operation, shape: tuple[int, ...]) -> Iterator[str]:
        """A block is labelled as a whole, so each is tried as it was cut, with what was found in the same blocks."""
        volumes = operations.copying(case.volumes)
        whole = evaluate(operation, volumes)
        for size in sorted({tuple(-(-n // k) for n in shape) for k in (2, 3)}):
            found = operations.reduced(operation, volumes, size)
            for block in operations.blocks(operation, volumes, size):
                made = self._made(operation, operations.poisoned(operation, case.volumes, block), block, found)
                if difference := operations.differ(whole[block.output], made, 0.0):
                    yield f"{case.name}, block {block.output}: {difference}"
