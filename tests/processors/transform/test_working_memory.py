"""Grid-changing processors take no more working memory than they say, whichever block they make."""

import tracemalloc
from math import prod
from typing import Any

import numpy as np
import pytest

from emstore.blocks.compute import Blocks, cut
from emstore.blocks.layout import _typical
from emstore.geometry import Axis
from emstore.operation import Block
from emstore.processor import Processor
from emstore.processors.interpolate import Cubic, Linear, Nearest
from emstore.processors.register import Slices
from emstore.processors.transform import Calibrate, Crop, Project, Regularise, Resample, Rescale
from in_blocks import axes_of, over, planned

SHAPE = (24, 192, 200)
SLACK = 2 << 20
"""What a processor may take whatever the block: sums a few rows long. Bytes; two and a half per voxel of the whole."""
COUNTS = 8 << 20
"""What counting different values may take, bytes."""

WORK: list[tuple[Processor, dict[str, Any]]] = [
    (Linear(), {"factor": 3}),
    (Cubic(), {"factor": 2, "axis": "x"}),
    (Nearest(), {"factor": 3, "axis": "y"}),
    (Cubic(), {"isotropic": True}),
    (Crop(), {"index": {"z": (3, 20), "x": (1, 200)}}),
    (Resample(), {"spacing": {"z": 1.5, "y": 2.5, "x": 0.8}, "method": "cubic"}),
    (Resample(), {"spacing": {"x": 4.0}, "method": "linear"}),
    (Resample(), {"spacing": {"z": 1.2, "y": 1.0}, "method": "linear"}),
    (Regularise(), {"method": "cubic"}),
    (Project(), {"how": "mean"}),
    (Project(), {"how": "sum", "axis": "x"}),
    (Project(), {"how": "max", "axis": "y"}),
    (Rescale(), {"values": (0, 100), "dtype": "float64"}),
    (Rescale(), {"percentiles": (1, 99), "dtype": "uint8"}),
    (Calibrate(), {"terms": {"sample/identifier_sample": "A"}}),
    (Slices(), {"upsample": 10}),
    (Slices(), {"against": "fixed", "upsample": 10, "order": 3}),
]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(("processor", "params"), WORK, ids=lambda v: v.name if hasattr(v, "name") else "-".join(v))
def test_no_block_takes_more_than_stated(processor: Processor, params: dict[str, Any], dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, SHAPE).astype(dtype) + (rng.random(SHAPE).astype(dtype) if dtype[0] == "f" else 0)
    if isinstance(processor, Slices):  # a slice at a time, so that few will do
        values = values[:5]
    z, y, x = axes_of("zyx", values.shape, z=3.0, y=2.0, x=2.0)
    if isinstance(processor, Regularise):
        z = Axis("z", SHAPE[0], unit="nanometer", positions=tuple(np.cumsum(rng.uniform(1, 4, SHAPE[0])).tolist()))
    volume = over(values.astype(dtype), z, y, x)
    operation = planned(processor, volume, **params)
    assert operation.result is not None
    assert operation.apply is not None
    grid = operation.result.grid
    found: Any = None
    if operation.reduction is not None:  # once, so that nothing is imported while it is measured
        from emstore.blocks.compute import Compute

        compute = Compute(operation, "it", (volume.data,))
        all_blocks = Blocks(operation, (values.shape,), cut(grid.shape, grid.shape))
        found = operation.reduction.finish(
            operation.reduction.add(operation.reduction.start(), all_blocks.at((0, 0, 0)), compute.map(all_blocks.at((0, 0, 0))))
        )
    slack = COUNTS if "percentiles" in params else SLACK
    for size in (grid.shape, (1, *grid.shape[1:])):
        blocks = Blocks(operation, (values.shape,), cut(grid.shape, size))
        for index in sorted({tuple(n // 2 for n in blocks.counts), (0, 0, 0)}):
            one = blocks.at(index)
            arrays = [volume.data[region].copy() for region in one.inputs]
            voxels = max([a.size for a in arrays] + [prod(s.stop - s.start for s in one.output)])
            allowed = operation.work_bytes * voxels + slack
            calls = [lambda: operation.apply(one, arrays, found)]  # type: ignore[misc] # noqa: B023
            if operation.reduction is not None:
                calls.append(lambda: operation.reduction.map(one, arrays))  # type: ignore[union-attr] # noqa: B023
            for call in calls:
                tracemalloc.start()
                result = call()
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                given = result.nbytes if isinstance(result, np.ndarray) else 0
                assert peak - given <= allowed, (size, index, (peak - given) / voxels, operation.work_bytes)


@pytest.mark.parametrize("factor", [2, 3, 4, 7])
@pytest.mark.parametrize("height", [1, 3, 8])
def test_no_block_reads_more_than_was_projected(factor: int, height: int) -> None:
    volume = over(np.zeros((30, 64, 64), np.uint16))
    operation = planned(Cubic(), volume, factor=factor)
    assert operation.result is not None
    shape = operation.result.grid.shape
    blocks = Blocks(operation, (volume.shape,), cut(shape, (height, 64, 64)))

    def read(one: Block) -> int:
        return prod(s.stop - s.start for s in one.inputs[0])

    # The blocks that the projection looks at stand for all of them.
    assert max(map(read, blocks)) == max(map(read, _typical(blocks)))
