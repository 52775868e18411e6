"""Classes by thresholds against scikit-image, exact fractions, and the values themselves; and however the volume is cut."""

import itertools
import json
import math
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from skimage import data, filters

from emstore.blocks.compute import evaluate
from emstore.errors import InvalidInput
from emstore.geometry import Axis
from emstore.operation import Block, Operation
from emstore.processors.segment import Isodata, Otsu, Threshold
from emstore.processors.segment.criteria import otsu
from emstore.processors.segment.levels import LEVELS, histogram, merged, value_at
from emstore.volume import ValueScale, Volume, VolumeKind
from sealed import volume

Array = npt.NDArray[Any]
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")


def image(values: Array, **rest: Any) -> Volume:
    return volume("v", values, *(Axis(d, n) for d, n in zip("tczyx"[-values.ndim :], values.shape, strict=True)), **rest)


def planned(processor: Any, values: Array | Volume, **params: Any) -> tuple[Operation, Volume]:
    v = values if isinstance(values, Volume) else image(values)
    return processor.plan([v], processor.params(**params)), v


def run(processor: Any, values: Array | Volume, block: tuple[int, ...] | None = None, **params: Any) -> Any:
    operation, v = planned(processor, values, **params)
    return evaluate(operation, [v], block=block)


def told(processor: Any, values: Array, **params: Any) -> Any:
    """Return the thresholds that join the result's attributes."""
    operation, _ = planned(processor, values, **params)
    region = tuple(slice(0, n) for n in values.shape)
    block, reduction = Block(0, region, (region,)), operation.reduction
    assert reduction is not None
    assert operation.tell is not None
    found = reduction.finish(reduction.add(reduction.start(), block, reduction.map(block, [values])))
    return json.loads(json.dumps(operation.tell(found)))["thresholds"]


@st.composite
def arrays(draw: st.DrawFn, dims: int = 3) -> Array:
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=dims, max_side=7))
    elements = None
    if dtype.kind != "f" and draw(st.booleans()):
        elements = st.integers(0, 9)
    if dtype.kind == "f":
        elements = hnp.from_dtype(dtype, allow_nan=draw(st.booleans()), allow_infinity=draw(st.booleans()))
    return draw(hnp.arrays(dtype, shape, elements=elements))


@st.composite
def cut_arrays(draw: st.DrawFn) -> tuple[Array, tuple[int, ...]]:
    values = draw(arrays())
    return values, tuple(draw(st.integers(1, n)) for n in values.shape)


real = settings(max_examples=60, deadline=None, database=None)


# ---- given thresholds


@real
@given(cut_arrays(), st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4, unique=True).map(sorted))
def test_a_class_is_the_number_of_thresholds_reached(case: tuple[Array, tuple[int, ...]], thresholds: list[float]) -> None:
    """Python compares numbers of any two types exactly."""
    values, block = case
    got = run(Threshold(), values, block, thresholds=thresholds)
    expected = [sum(v >= t for t in thresholds) for v in values.ravel().tolist()]
    assert got.ravel().tolist() == expected
    assert got.dtype == np.uint8


def test_a_threshold_that_the_type_cannot_hold_is_meant_as_written() -> None:
    values = np.array([0.1], "f4")  # a little above 0.1
    assert run(Threshold(), values, thresholds=[0.1]) == 1
    assert run(Threshold(), values, thresholds=[float(values[0])]) == 1
    assert run(Threshold(), np.array([0.3], "f4").view("f4"), thresholds=[0.3]) == int(float(np.float32(0.3)) >= 0.3)
    assert run(Threshold(), np.array([np.nan, np.inf, -np.inf], "f4"), thresholds=[1e39]).tolist() == [0, 1, 0]
    assert run(Threshold(), np.array([2**63, 2**63 - 1], "u8"), thresholds=[2.0**63]).tolist() == [1, 0]


def test_physical_thresholds_go_through_the_scale() -> None:
    stored = np.arange(0, 4096, dtype="u2")
    for scale in (ValueScale(2.0, -1024.0, "HU"), ValueScale(-0.5, 100.0, "HU")):
        v = image(stored, scale=scale)
        got = run(Threshold(), v, (100,), thresholds=[-200.0, 40.5], units="physical")
        np.testing.assert_array_equal(got, np.digitize(stored * scale.slope + scale.intercept, [-200.0, 40.5]))
        operation, _ = planned(Threshold(), v, thresholds=[40], units="physical")
        assert operation.result is not None
        assert operation.result.attributes == {
            "thresholds": [40.0], "rule": "value >= threshold", "units": "physical", "unit": "HU",
        }  # fmt: skip
        assert (operation.result.kind, operation.result.scale, operation.result.window) == (VolumeKind.LABELS, None, None)


def test_thresholds_that_could_mean_two_things_are_refused() -> None:
    scaled = image(np.zeros(4, "u2"), scale=ValueScale(2.0, -1024.0, "HU"))
    with pytest.raises(InvalidInput, match="must be said"):
        planned(Threshold(), scaled, thresholds=[3])
    with pytest.raises(InvalidInput, match="has no scale"):
        planned(Threshold(), np.zeros(4, "u2"), thresholds=[3], units="physical")
    with pytest.raises(InvalidInput, match="must rise"):
        planned(Threshold(), np.zeros(4, "u2"), thresholds=[3, 3])
    for wrong in ({"thresholds": []}, {"thresholds": [math.nan]}, {"threshold": [1]}):
        with pytest.raises(ValidationError):
            Threshold.params(**wrong)


@pytest.mark.parametrize("processor", [Threshold(), Otsu(), Isodata()])
def test_only_images_of_real_numbers_have_thresholds(processor: Any) -> None:
    params = {"thresholds": [1]} if isinstance(processor, Threshold) else {}
    for wrong in (image(np.zeros(4, "c8")), image(np.zeros(4, bool)), image(np.zeros(4, "u1"), kind=VolumeKind.LABELS)):
        with pytest.raises(InvalidInput, match="image of real numbers"):
            planned(processor, wrong, **params)


# ---- found thresholds


PICTURES = {
    "camera": data.camera(),
    "coins": data.coins(),
    "12-bit": (data.coins().astype("u2") * 13),
    "signed": data.camera().astype("i2") - 1024,
}


@pytest.mark.parametrize("name", PICTURES)
def test_thresholds_are_those_of_scikit_image(name: str) -> None:
    values = PICTURES[name]
    assert told(Otsu(), values) == [filters.threshold_otsu(values)]
    assert told(Isodata(), values) == [filters.threshold_isodata(values)]
    for processor, found in ((Otsu(), filters.threshold_otsu), (Isodata(), filters.threshold_isodata)):
        np.testing.assert_array_equal(run(processor, values, (100, 77)), values > found(values))


@pytest.mark.parametrize("classes", [3, 4])
@pytest.mark.parametrize("name", ["camera", "coins"])
def test_several_classes_are_those_of_scikit_image(name: str, classes: int) -> None:
    values = PICTURES[name]
    limits = filters.threshold_multiotsu(values, classes)
    expected = np.searchsorted(limits, values, side="left")  # how many limits are below a value
    np.testing.assert_array_equal(run(Otsu(), values, (100, 77), classes=classes), expected)


@real
@given(st.lists(st.integers(0, 6), min_size=2, max_size=11), st.integers(2, 5))
def test_no_other_thresholds_part_better(counts: list[int], classes: int) -> None:
    """Otsu's criterion for every way to part the levels, in exact fractions."""

    def between(cuts: tuple[int, ...]) -> Fraction:
        ends = [-1, *cuts, len(counts) - 1]
        total = Fraction(0)
        for a, b in itertools.pairwise(ends):
            weight = sum(counts[a + 1 : b + 1])
            total += Fraction(sum(i * counts[i] for i in range(a + 1, b + 1)) ** 2, weight) if weight else 0
        return total

    found = otsu(np.asarray(counts), classes)
    if np.count_nonzero(counts) < classes:
        assert found is None
    else:
        assert found is not None
        assert between(found) == max(between(c) for c in itertools.combinations(range(len(counts) - 1), classes - 1))


@pytest.mark.parametrize("processor", [Otsu(), Isodata()])
@real
@given(case=cut_arrays())
def test_blocks_give_what_the_whole_gives(processor: Any, case: tuple[Array, tuple[int, ...]]) -> None:
    values, block = case
    expected = run(processor, values)
    np.testing.assert_array_equal(run(processor, values, block), expected)
    if len(np.unique(values[np.isfinite(values)])) < 2:
        assert told(processor, values) is None
        assert not expected.any()


@settings(max_examples=40, deadline=None, database=None)
@given(case=cut_arrays(), classes=st.integers(2, 4))
def test_every_slice_may_have_thresholds_of_its_own(case: tuple[Array, tuple[int, ...]], classes: int) -> None:
    values, block = case
    if values.ndim < 2:
        with pytest.raises(InvalidInput, match="no slices"):
            run(Otsu(), values, per="slice")
        return
    got = run(Otsu(), values, block, per="slice", classes=classes)
    thresholds = told(Otsu(), values, per="slice", classes=classes)
    assert len(thresholds) == math.prod(values.shape[:-2])
    for limits, index in zip(thresholds, np.ndindex(values.shape[:-2]), strict=True):
        assert limits == told(Otsu(), values[index], classes=classes)
        expected = run(Otsu(), values[index], classes=classes)
        np.testing.assert_array_equal(got[index], expected)


# ---- the histogram


@real
@given(arrays(), st.data())
def test_histograms_of_parts_add_up_to_that_of_the_whole(values: Array, data: st.DataObject) -> None:
    flat = values.ravel()
    at = sorted(data.draw(st.lists(st.integers(0, flat.size), max_size=4)))
    parts = data.draw(st.permutations(np.split(flat, at)))
    whole, together = histogram(flat), None
    for part in parts:
        together = merged(together, histogram(part))
    if whole is None or together is None:
        assert whole is together
        assert not np.isfinite(flat).any()
        return
    assert (whole[0], whole[1], whole[2].tolist()) == (together[0], together[1], together[2].tolist())


@real
@given(arrays())
def test_a_level_holds_the_values_up_to_it(values: Array) -> None:
    found = histogram(values)
    if found is None:
        return
    finite = np.sort(values[np.isfinite(values)]).tolist()
    assert len(found[2]) <= LEVELS
    assert found[2].sum() == len(finite)
    if values.dtype.kind != "f" and finite[-1] - finite[0] < LEVELS:
        assert found[0] == 0  # every value has a level of its own
    for index in np.flatnonzero(found[2])[:-1][:20].tolist():
        limit = value_at(found, index, values.dtype.kind)
        assert sum(v <= limit for v in finite) == found[2][: index + 1].sum()


def test_sums_stay_exact_where_those_of_32_bit_floats_do_not() -> None:
    """The best threshold of 40 million values, by Otsu's criterion in exact fractions."""
    counts = np.random.default_rng(3).integers(0, 80000, 1000)

    def between(level: int) -> Fraction:
        low, high = counts[: level + 1].tolist(), counts[level + 1 :].tolist()
        sums = [sum(i * n for i, n in enumerate(low)), sum(i * n for i, n in enumerate(high, level + 1))]
        return Fraction(sums[0] ** 2, sum(low)) + Fraction(sums[1] ** 2, sum(high))

    assert otsu(counts, 2) == (max(range(999), key=between),)


def test_floats_are_told_apart_finely() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.2, 0.05, 40000), rng.normal(0.7, 0.1, 20000)]).astype("f4")
    [found] = told(Otsu(), values)
    # Otsu's criterion over the sorted values themselves, without levels.
    ordered = np.sort(values.astype("f8"))
    n = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)
    best = int(np.argmax(sums[:-1] ** 2 / n + (sums[-1] - sums[:-1]) ** 2 / (len(ordered) - n)))
    width = np.ptp(ordered) / (LEVELS / 2)
    assert ordered[best] - width <= found <= ordered[best + 1] + width


def test_counting_takes_little_memory_beyond_the_values() -> None:
    values = np.random.default_rng(0).random((300, 300, 300), "f4")
    tracemalloc.start()
    try:
        histogram(values[:, ::-1])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 << 20
