"""transform.crop: numpy's slices, every voxel where it was."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emstore.errors import InvalidInput, Kind
from emstore.geometry import Axis
from emstore.processors.transform import Crop
from emstore.volume import VolumeKind
from in_blocks import arrays, axes_of, over, planned, run, same_whatever_the_blocks


@given(arrays(), st.tuples(*[st.tuples(st.integers(0, 8), st.integers(1, 9))] * 3), st.tuples(*[st.integers(1, 5)] * 3))
def test_a_crop_by_index_is_a_slice(values: npt.NDArray[Any], cuts: tuple[tuple[int, int], ...], block: tuple[int, ...]) -> None:
    region = tuple(slice(min(a, n - 1), max(min(b, n), min(a, n - 1) + 1)) for (a, b), n in zip(cuts, values.shape, strict=True))
    volume = over(values, *axes_of("zyx", values.shape, z=3.0, y=0.5))
    operation = planned(Crop(), volume, index={name: (part.start, part.stop) for name, part in zip("zyx", region, strict=True)})
    got = same_whatever_the_blocks(operation, (volume,), block)
    np.testing.assert_array_equal(got, values[region])
    assert operation.result is not None
    for old, new, part in zip(volume.grid.axes, operation.result.grid.axes, region, strict=True):
        np.testing.assert_allclose(new.coordinates(), old.coordinates()[part])
    assert operation.result.attributes["crop"] == {n: [p.start, p.stop] for n, p in zip("zyx", region, strict=True)}


def test_positions_keep_the_centres_they_include() -> None:
    values = np.arange(40.0).reshape(10, 4)
    irregular = Axis("z", 10, unit="millimeter", positions=tuple(float(k * k) / 10 for k in range(10)))
    volume = over(values, irregular, Axis("x", 4, spacing=0.1, unit="micrometer"))
    got = run(Crop(), volume, position={"z": (0.4, 2.5), "x": (None, 0.2)})
    np.testing.assert_array_equal(got, values[2:6, :3])  # 3 * 0.1 is not 0.3 in doubles, and 0.2 is included all the same
    got = run(Crop(), volume, position={"x": (100, 300)}, unit="nm")
    np.testing.assert_array_equal(got, values[:, 1:])


def test_an_open_end_is_the_arrays_end_and_labels_stay_labels() -> None:
    volume = over(np.arange(6, dtype=np.uint8).reshape(1, 1, 6), kind=VolumeKind.LABELS)
    operation = planned(Crop(), volume, index={"x": (4, None)})
    assert operation.result is not None
    assert operation.result.kind is VolumeKind.LABELS
    assert run(Crop(), volume, index={"x": (4, None)}).ravel().tolist() == [4, 5]


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({}, Kind.INVALID_INPUT),
        ({"index": {"q": (0, 1)}}, Kind.INVALID_INPUT),
        ({"index": {"z": (0, 5)}}, Kind.INVALID_INPUT),
        ({"index": {"z": (2, 2)}}, Kind.INVALID_INPUT),
        ({"index": {"z": (-1, 2)}}, Kind.INVALID_INPUT),
        ({"index": {"z": (0, 2)}, "position": {"z": (0, 2)}}, Kind.INVALID_INPUT),
        ({"position": {"z": (100, 200)}}, Kind.INVALID_INPUT),
        ({"position": {"x": (0, 2)}}, Kind.BAD_SPACING),
        ({"position": {"z": (0, 2)}, "unit": "second"}, Kind.BAD_UNIT),
        ({"position": {"z": (0, 2)}, "unit": "furlong"}, Kind.BAD_UNIT),
    ],
)
def test_what_makes_no_sense_is_refused(params: dict[str, Any], kind: Kind) -> None:
    volume = over(np.zeros((4, 4, 4)), *axes_of("zyx", (4, 4, 4), z=1.0, y=1.0))
    with pytest.raises(InvalidInput) as caught:
        planned(Crop(), volume, **params)
    assert caught.value.kind is kind
