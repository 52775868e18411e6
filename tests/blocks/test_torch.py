"""Operations on torch tensors: the same blocks, the same checks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve

from emstore.blocks.compute import evaluate
from emstore.errors import ProcessingFailed
from emstore.geometry import Axis
from emstore.operation import Operation, Result
from sealed import volume

KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32)


def smoothed(block, tensors, found):  # type: ignore[no-untyped-def]
    values = torch.nn.functional.pad(tensors[0].float()[None, None], (1,) * 6, mode="replicate")
    return block.crop(torch.nn.functional.conv3d(values, torch.from_numpy(KERNEL.copy())[None, None])[0, 0])


@given(st.tuples(*[st.integers(3, 12)] * 3), st.tuples(*[st.integers(1, 12)] * 3), st.sampled_from(["u1", ">i2", "f4"]))
@settings(deadline=None, max_examples=25)
def test_a_convolution_in_blocks_is_that_of_the_whole(shape: tuple[int, ...], block: tuple[int, ...], dtype: str) -> None:
    values = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    made = volume("v", values, *(Axis(name, n) for name, n in zip("zyx", shape, strict=True)))
    operation = Operation(Result.like(made, dtype=np.dtype("f4")), smoothed, halo=(1, 1, 1), arrays="torch")
    whole = convolve(values.astype("f8"), KERNEL[::-1, ::-1, ::-1], mode="nearest")
    np.testing.assert_allclose(evaluate(operation, [made], block=block), whole, rtol=1e-4, atol=1e-3)


def test_a_tensor_of_another_type_or_with_nan_is_refused() -> None:
    made = volume("v", np.ones((4, 5), "f4"), Axis("y", 4), Axis("x", 5))
    for give, what in ((lambda t: t.double(), "float64"), (lambda t: t * float("nan"), "NaN"), (lambda t: t[1:], r"\(3, 5\)")):
        operation = Operation(Result.like(made), lambda block, tensors, found, give=give: give(tensors[0]), arrays="torch")
        with pytest.raises(ProcessingFailed, match=what):
            evaluate(operation, [made])
