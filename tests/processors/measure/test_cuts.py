"""However a volume is cut, the table is the same; every pass keeps to its memory and can travel."""

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emstore import registry
from emstore.operation import Block
from emstore.processor import Params
from measured import assert_same, measure, on_grid

NAMES = [f"measure.{name}" for name in ("histogram", "mse", "msssim", "overlap", "psnr", "roc", "ssim", "statistics")]
"""The measures of images of any kind; those of atomic columns have tests of their own."""
PARAMS: dict[str, dict[str, Any]] = {
    "measure.histogram": {"bins": 9, "range": (-5.0, 60.0)},
    "measure.psnr": {"data_range": "measured"},
    "measure.ssim": {"data_range": 200},
    "measure.msssim": {"data_range": 200},
    "measure.roc": {"range": (-500, 500), "bins": 50},
}
"""Parameters without which a processor says nothing."""
COUNTED = {"measure.statistics", "measure.histogram", "measure.overlap", "measure.roc"}
"""Those whose tables are exact for small integers."""
LABELS = {"measure.overlap"}


def arrays(name: str, shape: tuple[int, ...], dtype: str, seed: int) -> list[np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    low = 0 if np.dtype(dtype).kind == "u" else -20
    image = random.normal(30, 15, shape).clip(low, 90).astype(dtype)
    second = (image + random.normal(0, 8, shape)).clip(low, 90).astype(dtype)
    if name in LABELS:
        return [(one // 40).astype("i4") for one in (image, second)]
    if name == "measure.roc":
        return [image, second > 30]
    return [image, second][: len(registry.processor(name).inputs)]


@st.composite
def cases(draw: st.DrawFn, name: str) -> tuple[tuple[int, ...], tuple[int, ...], str | None, str, int]:
    least = {"measure.msssim": 161, "measure.ssim": 11}.get(name, 1)
    plane = tuple(draw(st.integers(least, least + 15)) for _ in range(2))
    shape = (*(draw(st.integers(1, 4)) for _ in range(draw(st.integers(0, 2)))), *plane)
    block = tuple(draw(st.integers(1, n)) for n in shape)
    dims = "tzyx"[-len(shape) :]
    axes = [None, *dims[:-2]] if least > 1 else [None, *dims]
    return (
        shape,
        block,
        draw(st.sampled_from(axes)),
        draw(st.sampled_from(["uint8", "int16", "float32", "float64"])),
        draw(st.integers(0, 99)),
    )


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_cut_gives_the_same_table(name: str, data: st.DataObject) -> None:
    shape, block, axis, dtype, seed = data.draw(cases(name))
    processor = registry.processor(name)
    volumes = [on_grid(one, "tzyx", role) for one, role in zip(arrays(name, shape, dtype, seed), processor.inputs, strict=True)]
    params = {**PARAMS.get(name, {}), **({"axis": axis} if "axis" in processor.params.model_fields else {})}
    exact = name in COUNTED and (name in LABELS or not dtype.startswith("float") or name != "measure.statistics")
    assert_same(measure(processor, *volumes, **params), measure(processor, *volumes, block=block, **params), exact=exact)


@pytest.mark.parametrize("name", NAMES)
def test_the_entry_point_has_the_name(name: str) -> None:
    processor = registry.processor(name)
    assert processor.name == name
    assert issubclass(processor.params, Params)
    assert all(field.description for field in processor.params.model_fields.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_a_block_takes_no_more_memory_than_said(name: str, dtype: str) -> None:
    processor = registry.processor(name)
    shape = (1, 700, 600)
    inputs = arrays(name, shape, dtype, 1)
    if inputs[0].dtype.kind == "f":
        inputs[0][0, ::90, ::50] = np.nan  # what is known must then be copied
    volumes = [on_grid(one, name=role) for one, role in zip(inputs, processor.inputs, strict=True)]
    operation = processor.plan(volumes, processor.params(**PARAMS.get(name, {})))
    whole = tuple(slice(0, n) for n in shape)
    block = Block(0, whole, (whole,) * len(inputs))
    assert operation.reduction is not None
    operation.reduction.map(block, inputs)  # what is imported does not count
    tracemalloc.start()
    try:
        operation.reduction.map(block, inputs)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= operation.work_bytes * inputs[0].size


@pytest.mark.parametrize("name", NAMES)
def test_passes_and_what_they_find_can_travel(name: str) -> None:
    processor = registry.processor(name)
    inputs = arrays(name, (2, 170, 165), "uint8", 2)
    volumes = [on_grid(one, name=role) for one, role in zip(inputs, processor.inputs, strict=True)]
    operation = processor.plan(volumes, processor.params(**PARAMS.get(name, {})))
    reduction = pickle.loads(pickle.dumps(operation.reduction))  # noqa: S301 - our own bytes
    whole = tuple(slice(0, n) for n in inputs[0].shape)
    block = Block(0, whole, (whole,) * len(inputs))
    part = pickle.dumps(reduction.map(block, inputs))
    assert len(part) < 1 << 21
    state = reduction.add(reduction.start(), block, pickle.loads(part))  # noqa: S301
    assert_same(reduction.finish(state), measure(processor, *volumes, **PARAMS.get(name, {})), exact=True)
