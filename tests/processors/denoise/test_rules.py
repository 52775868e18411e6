"""What holds for every denoise processor: names, light imports, refusals, pickling, honest memory."""

import pickle
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

from emstore.blocks.compute import regions
from emstore.errors import InvalidInput
from emstore.geometry import Axis, AxisKind
from emstore.operation import Block
from emstore.processor import Processor
from emstore.processors.denoise import Bm3d, Gaussian, Median, NonLocalMeans, TotalVariation
from emstore.volume import VolumeKind
from in_blocks import over, planned

EVERY: dict[str, Any] = {
    "denoise.gaussian": Gaussian,
    "denoise.median": Median,
    "denoise.nlm": NonLocalMeans,
    "denoise.tv": TotalVariation,
    "denoise.bm3d": Bm3d,
}
FREE = [Gaussian, Median, NonLocalMeans, TotalVariation]


@pytest.mark.parametrize("name", EVERY)
def test_names(name: str) -> None:
    assert EVERY[name].name == name
    assert isinstance(EVERY[name](), Processor)


def test_imports_are_light() -> None:
    code = (
        "import sys, emstore.processors.denoise; "
        "print(sorted({n.split('.')[0] for n in sys.modules} & {'scipy', 'skimage', 'bm3d', 'torch', 'zarr', 'xarray'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("cls", FREE)
def test_labels_complex_numbers_and_other_spaces_are_refused(cls: Any) -> None:
    with pytest.raises(InvalidInput, match="names cannot be averaged"):
        planned(cls(), over(np.ones((4, 5, 6), np.uint8), kind=VolumeKind.LABELS))
    with pytest.raises(InvalidInput, match="complex64"):
        planned(cls(), over(np.ones((4, 5, 6), np.complex64)))
    with pytest.raises(InvalidInput, match="one image"):
        planned(cls(), over(np.ones((4, 5, 6))), over(np.ones((4, 5, 6))))
    pattern = over(np.ones((5, 6)), Axis("ky", 5, AxisKind.RECIPROCAL), Axis("kx", 6, AxisKind.RECIPROCAL))
    with pytest.raises(InvalidInput, match="of space") as caught:
        planned(cls(), pattern)
    assert caught.value.fix is not None
    assert caught.value.fix.endswith('axes=["ky", "kx"]')
    planned(cls(), pattern, axes=("ky", "kx"))


@pytest.mark.parametrize("cls", FREE)
def test_an_operation_travels(cls: Any) -> None:
    volume = over(np.random.default_rng(0).normal(100, 5, (3, 12, 14)))
    operation = planned(cls(), volume)
    full = tuple(slice(0, n) for n in volume.shape)
    block = Block(0, full, (full,))
    here, there = operation.apply, pickle.loads(pickle.dumps(operation.apply))  # noqa: S301  # made on the line itself
    assert here is not None
    np.testing.assert_array_equal(here(block, [volume.data[full]], 5.0), there(block, [volume.data[full]], 5.0))
    if operation.reduction is not None:
        pickle.dumps(operation.reduction)


CASES = [
    (Gaussian, {}, "uint8", (48, 48, 48)),
    (Gaussian, {"dtype": "same", "stabilise": {"read_noise": 1}}, "uint16", (48, 48, 48)),
    (Gaussian, {}, "float64", (48, 48, 48)),
    (Median, {}, "uint8", (48, 48, 48)),
    (Median, {}, "float32", (48, 48, 48)),
    (Median, {}, "float16", (48, 48, 48)),
    (Median, {}, "uint64", (48, 48, 48)),
    (NonLocalMeans, {"distance": 2}, "uint8", (1, 300, 300)),
    (NonLocalMeans, {"distance": 2, "dtype": "same", "stabilise": {}}, "uint16", (1, 300, 300)),
    (NonLocalMeans, {"distance": 1, "patch": 3, "dtype": "float64", "sigma": 5.0}, "uint8", (1, 200, 200)),
    (NonLocalMeans, {"distance": 2, "patch": 3, "axes": "volume"}, "float32", (6, 100, 100)),
    (TotalVariation, {"iterations": 5}, "uint8", (1, 400, 400)),
    (TotalVariation, {"iterations": 5, "dtype": "same", "stabilise": {}}, "uint16", (1, 400, 400)),
    (TotalVariation, {"iterations": 5, "axes": "volume"}, "float64", (40, 60, 60)),
]


@pytest.mark.parametrize(("cls", "params", "dtype", "size"), CASES)
def test_memory_is_what_was_said(cls: Any, params: dict[str, Any], dtype: str, size: tuple[int, ...]) -> None:
    """A block in the middle of the volume where the method may be cut, the second time, when libraries are loaded."""
    rng = np.random.default_rng(0)
    shape = tuple(n if n in (1, 6) else n + 40 for n in size)
    values = rng.uniform(100, 150, shape).astype(dtype)
    if values.dtype == np.uint64:
        values = rng.integers(0, 2**64, shape, np.uint64)
    if cls is Median and values.dtype.kind == "f":
        values.flat[::97] = np.nan
    volume = over(values)
    operation = planned(cls(), volume, **params)
    assert operation.apply is not None
    assert operation.result is not None
    names = volume.grid.dims
    output = tuple(
        slice(0, n) if name in operation.whole or n == b else slice(20, 20 + b)
        for n, b, name in zip(shape, size, names, strict=True)
    )
    block = Block(0, output, regions(operation, [shape], output))
    part = np.ascontiguousarray(values[block.inputs[0]])
    given = np.zeros([s.stop - s.start for s in output], operation.result.dtype)
    largest = max(part.size, given.size)

    def peak(function: Any) -> float:
        tracemalloc.start()
        try:
            function()
            return float(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()

    if operation.reduction is not None:
        reduction = operation.reduction
        assert peak(lambda: reduction.map(block, [part])) <= operation.work_bytes * largest + 100_000
    operation.apply(block, [part], 5.0)
    used = peak(lambda: operation.apply(block, [part], 5.0)) - given.nbytes  # type: ignore[misc]
    assert used <= operation.work_bytes * largest + 100_000
