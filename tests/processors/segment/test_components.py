"""Connected components against scipy.ndimage, however the volume is cut."""

import json
import sys
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from emstore.blocks.compute import evaluate
from emstore.errors import Capacity, InvalidInput
from emstore.geometry import Axis, AxisKind
from emstore.operation import Block, Operation
from emstore.processors.segment import Components
from emstore.testing import ProcessorConformance
from emstore.volume import Volume, VolumeKind
from sealed import volume

Array = npt.NDArray[Any]
KINDS = {"t": AxisKind.TIME, "c": AxisKind.CHANNEL}
SPACE = "zyx"
thorough = settings(max_examples=80, deadline=None, database=None)


def labels(values: Array) -> Volume:
    dims = "tczyx"[-values.ndim :]
    return volume("v", values, *(Axis(d, n, KINDS.get(d, AxisKind.SPACE)) for d, n in zip(dims, values.shape, strict=True)))


def planned(values: Array, **params: Any) -> tuple[Operation, Volume]:
    v = labels(values)
    return Components().plan([v], Components.params(**params)), v


def run(values: Array, block: tuple[int, ...] | None = None, **params: Any) -> Any:
    operation, v = planned(values, **params)
    return evaluate(operation, [v], block=block)


def told(values: Array, block: tuple[int, ...], **params: Any) -> dict[str, Any]:
    """Return what joins the result's attributes, found in blocks along the first axis."""
    operation, _ = planned(values, **params)
    assert operation.reduction is not None
    assert operation.tell is not None
    state = operation.reduction.start()
    for number, first in enumerate(range(0, values.shape[0], block[0])):
        rest = tuple(slice(0, n) for n in values.shape[1:])
        region = (slice(first, min(first + block[0], values.shape[0])), *rest)
        each = Block(number, region, (region,))
        state = operation.reduction.add(state, each, operation.reduction.map(each, [values[region]]))
    return dict(json.loads(json.dumps(operation.tell(operation.reduction.finish(state)))))


def scipys(mask: Array, connectivity: int) -> Array:
    """Return `scipy.ndimage.label` of a whole array, with time points and channels apart."""
    rank = min(mask.ndim, 3)
    structure = np.zeros((3,) * mask.ndim, bool)
    structure[(1,) * (mask.ndim - rank)] = ndimage.generate_binary_structure(rank, connectivity)
    found: Array = ndimage.label(mask, structure)[0]
    return found


def in_array_order(found: Array) -> Array:
    """Number labels by their first voxels."""
    ids, first = np.unique(found.ravel(), return_index=True)
    ids, first = ids[ids > 0], first[ids > 0]
    table = np.zeros(found.max(initial=0) + 1, np.int64)
    table[ids[np.argsort(first)]] = np.arange(1, len(ids) + 1)
    return table[found]


def by_value(values: Array, connectivity: int, background: int) -> Array:
    """Return the components of each value alone, by scipy, numbered together."""
    found = np.zeros(values.shape, np.int64)
    for value in np.unique(values[values != background]):
        one = scipys(values == value, connectivity)
        found[one > 0] = one[one > 0] + found.max(initial=0)
    return in_array_order(found)


@st.composite
def masks(draw: st.DrawFn) -> tuple[Array, int, tuple[int, ...]]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=5, max_side=8))
    density = draw(st.sampled_from([0.2, 0.4, 0.6, 0.8]))
    values = np.random.default_rng(draw(st.integers(0, 1 << 32))).random(shape) < density
    connectivity = draw(st.integers(1, min(3, len(shape))))
    return values, connectivity, tuple(draw(st.integers(1, n)) for n in shape)


@thorough
@given(masks())
def test_a_mask_gives_scipys_labels(case: tuple[Array, int, tuple[int, ...]]) -> None:
    mask, connectivity, block = case
    got = run(mask, block, connectivity=connectivity)
    assert got.dtype == np.uint32
    np.testing.assert_array_equal(got, scipys(mask, connectivity))


@thorough
@given(masks(), st.sampled_from(["u1", "i2", "i4", "u8", "i8"]), st.integers(0, 2), st.booleans(), st.integers(0, 1 << 32))
def test_labels_are_connected_where_they_are_equal(
    case: tuple[Array, int, tuple[int, ...]], dtype: str, background: int, together: bool, seed: int
) -> None:
    mask, connectivity, block = case
    values = (mask * np.random.default_rng(seed).integers(1, 4, mask.shape)).astype(dtype)
    if dtype == "u8":
        values[values == 3] = 2**64 - 1
    got = run(values, block, connectivity=connectivity, background=background, together=together)
    wanted = scipys(values != background, connectivity) if together else by_value(values, connectivity, background)
    np.testing.assert_array_equal(got, wanted)


@thorough
@given(masks(), st.integers(1, 9))
def test_small_components_are_dropped_and_counted(case: tuple[Array, int, tuple[int, ...]], size: int) -> None:
    mask, connectivity, block = case
    found = scipys(mask, connectivity)
    sizes = np.bincount(found.ravel())
    kept = np.isin(found, np.flatnonzero(sizes >= size)) & (found > 0)
    np.testing.assert_array_equal(run(mask, block, connectivity=connectivity, minimum_size=size), in_array_order(found * kept))
    count = int((sizes[1:] >= size).sum())
    expected = {"components": count, "components_dropped": len(sizes) - 1 - count}
    assert told(mask, block, connectivity=connectivity, minimum_size=size) == expected


@pytest.mark.parametrize("connectivity", [1, 2, 3])
def test_one_snake_through_every_block_is_one_component(connectivity: int) -> None:
    """A line that passes through all blocks and ends where it began, two voxels away: worst for joining late."""
    mask = np.zeros((9, 20, 20), bool)
    mask[::2, ::2] = True
    mask[::2, 1::4, -1] = mask[::2, 3::4, 0] = True
    mask[1::4, -2, :1] = mask[3::4, 0, :1] = True
    whole, count = ndimage.label(mask, ndimage.generate_binary_structure(3, connectivity))
    np.testing.assert_array_equal(run(mask, (2, 3, 4), connectivity=connectivity), whole)
    assert count < 12


def test_faces_are_kept_only_until_they_are_met() -> None:
    """The state of a long volume holds the faces of one layer of blocks, and of one row between its rows, not all of them."""
    mask = np.ones((800, 12, 12), bool)
    operation, _ = planned(mask, connectivity=3)
    assert operation.reduction is not None
    state, most = operation.reduction.start(), 0
    for number, index in enumerate(np.ndindex(200, 3, 3)):
        region = tuple(slice(4 * i, 4 * i + 4) for i in index)
        block = Block(number, region, (region,))
        state = operation.reduction.add(state, block, operation.reduction.map(block, [mask[region]]))
        most = max(most, sum(len(row) for rows in state["waiting"].values() for row in rows.values()))
        if index[1:] == (2, 2) and index[0] < 199:
            assert [len(row) for rows in state["waiting"].values() for row in rows.values() if row] == [9]
    assert most <= 9 + 3 + 3 + 3 + 1
    assert operation.reduction.finish(state)["count"] == 1


def test_more_components_than_are_accounted_for_are_refused() -> None:
    dots = np.zeros((30, 30), bool)
    dots[::2, ::2] = True
    with pytest.raises(Capacity, match="more than 100 components"):
        run(dots, (10, 10), maximum_parts=100)
    assert run(dots, (10, 10), maximum_parts=225).max() == 225
    assert run(dots, (30, 30), minimum_size=2, maximum_parts=1).max() == 0


class Worst(ProcessorConformance):
    """As many parts as there can be: every second voxel of a mask, every voxel of labels."""

    processor = Components
    volumes: ClassVar = (np.indices((4, 8, 8)).sum(0) % 2 == 1, np.arange(1, 257, dtype="u4").reshape(4, 8, 8))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_as_many_components_as_can_be_take_no_more_memory_than_is_projected() -> None:
    Worst().test_memory_is_as_projected()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidInput, match="labels or a mask"):
        planned(np.zeros((3, 3), "f4"))
    with pytest.raises(InvalidInput, match="connectivity 3"):
        planned(np.zeros((3, 3), bool), connectivity=3)
    with pytest.raises(InvalidInput, match="background -1"):
        planned(np.zeros((3, 3), "u1"), background=-1)
    spectra = volume("v", np.zeros((3, 3, 4), "u1"), Axis("y", 3), Axis("x", 3), Axis("energy", 4, AxisKind.SPECTRAL))
    with pytest.raises(InvalidInput, match="do not end in one to three of space"):
        Components().plan([spectra], Components.params())


def test_the_result_is_labels_without_a_scale() -> None:
    operation, _ = planned(np.zeros((3, 3), bool))
    assert operation.result is not None
    assert (operation.result.kind, operation.result.scale, operation.result.window) == (VolumeKind.LABELS, None, None)
