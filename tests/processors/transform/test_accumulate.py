"""transform.accumulate: NumPy's cumulative sum, exact."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emstore.errors import InvalidInput
from emstore.processors.transform import Accumulate
from emstore.testing import ProcessorConformance
from emstore.volume import ValueScale, VolumeKind
from in_blocks import arrays, axes_of, over, planned, run, same_whatever_the_blocks


@given(arrays(types=("u1", "i1", "<u2", ">u2", "i2", "i4", "u8", "f4")), st.tuples(*[st.integers(1, 5)] * 3))
def test_sums_are_exact(values: npt.NDArray[Any], block: tuple[int, ...]) -> None:
    volume = over(values, *axes_of("tyx", values.shape))
    got = same_whatever_the_blocks(planned(Accumulate(), volume), (volume,), block)
    if values.dtype.kind == "f":
        np.testing.assert_array_equal(got, np.cumsum(values, axis=0, dtype=np.float64).astype(np.float32))
        return
    with np.errstate(over="ignore"):
        wanted = np.cumsum(values.astype(object), axis=0)
    np.testing.assert_array_equal(got, (wanted % 2**64).astype(got.dtype) if values.dtype == "u8" else wanted.astype(got.dtype))


def test_the_dose_grows_with_the_frames() -> None:
    dose = {"value": 500.0, "unit": "electron/angstrom^2"}
    volume = over(np.ones((3, 2, 2), "u2"), *axes_of("tyx", (3, 2, 2)), attributes={"quantity": "electrons", "dose": dose})
    result = planned(Accumulate(), volume).result
    assert result is not None
    assert result.attributes["dose"] == {"value": [500.0, 1000.0, 1500.0], "unit": "electron/angstrom^2"}


@pytest.mark.parametrize("rest", [{"kind": VolumeKind.LABELS}, {"scale": ValueScale(2.0, -1024.0)}])
def test_what_has_no_sum_is_refused(rest: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        run(Accumulate(), over(np.ones((3, 2, 2), "u1"), *axes_of("tyx", (3, 2, 2)), **rest))
    with pytest.raises(InvalidInput):
        run(Accumulate(), over(np.ones((3, 2, 2), "u1")), axis="q")


class TestConformance(ProcessorConformance):
    processor = Accumulate
    volumes = (over(np.random.default_rng(3).integers(0, 900, (6, 9, 8), "u2"), *axes_of("tyx", (6, 9, 8))),)
    params = ({}, {"axis": "y"})
    executors = ("threads",)
    examples = 3
