"""What a dataset serves, against slices of the whole array; in which order; and what that costs. No framework needed."""

import copy
import itertools
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import emstore
from emstore.errors import Capacity, Damaged, InvalidInput, Kind, NotFound
from emstore.geometry import Affine, Axis, Space
from emstore.loaders.order import Order, run_of
from emstore.loaders.patches import Patches
from emstore.loaders.reader import Reader
from emstore.loaders.tiling import Tiling
from emstore.store.backend import Backend
from emstore.table import Column, Table
from sealed import seal, seal_a_table, volume
from training_versions import SHAPES, counted, put

Start = tuple[int, ...]
Values = np.ndarray[Any, Any]


def expected_starts(shape: Start, patch: Start, stride: Start, edge: str) -> list[Start]:
    """Return where patches start, by the words of the documentation."""
    lines = []
    for n, p, s in zip(shape, patch, stride, strict=True):
        line = [k for k in range(0, n, s) if k + p <= n]
        if edge == "shift" and line[-1] + p < n:
            line.append(n - p)
        lines.append(line)
    return list(itertools.product(*lines))


def served(patches: Patches, epoch: int = 0, *, ranks: int = 1, workers: int = 1, skip: int = 0) -> list[list[Values]]:
    """Return the samples of an epoch, run by run."""
    reader = Reader(patches)
    runs = itertools.product(range(ranks), range(workers))
    return [list(reader.run(epoch, patches.run(r, ranks, w, workers), skip)) for r, w in runs]  # type: ignore[arg-type]


def whole(version: emstore.Version) -> Values:
    return counted(version.array().shape)


def start_of(sample: Values, shape: Start) -> Start:
    """Return where a patch of `counted` lies: its first value says."""
    return tuple(int(i) for i in np.unravel_index(int(sample.ravel()[0]), shape))


@st.composite
def plans(draw: st.DrawFn) -> tuple[str, Start, Start, str]:
    name = draw(st.sampled_from(sorted(SHAPES)))
    shape = tuple(SHAPES[name].values())
    patch = tuple(draw(st.integers(1, n)) for n in shape)
    stride = tuple(draw(st.integers(max(1, n // 5), n + 3)) for n in shape)
    return name, patch, stride, draw(st.sampled_from(["shift", "drop"]))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=plans(),
    seed=st.none() | st.integers(0, 2**64),
    mix=st.integers(1, 9),
    ranks=st.integers(1, 4),
    workers=st.integers(1, 4),
    epoch=st.integers(0, 5),
    memory=st.sampled_from([2 << 20, 8 << 20, 64 << 20]),
)
def test_every_patch_is_served_once_as_it_is(
    versions: dict[str, emstore.Version],
    plan: tuple[str, Start, Start, str],
    seed: int | None,
    mix: int,
    ranks: int,
    workers: int,
    epoch: int,
    memory: int,
) -> None:
    name, patch, stride, edge = plan
    values = whole(versions[name])
    expected = expected_starts(values.shape, patch, stride, edge)
    assume(len(expected) <= 300)
    try:
        patches = Patches.of(
            versions[name],
            patch=patch,
            stride=stride,
            edge=edge,
            seed=seed,
            mix=mix,
            memory=memory,  # type: ignore[arg-type]
        )
    except Capacity:
        assume(False)
    runs = served(patches, epoch, ranks=ranks, workers=workers)
    found = [start_of(sample, values.shape) for run in runs for sample in run]
    assert Counter(found) == Counter(expected)
    assert len(patches) == len(expected)
    for sample, at in zip(itertools.chain(*runs), found, strict=True):
        assert np.array_equal(sample, values[tuple(slice(a, a + n) for a, n in zip(at, patch, strict=True))])
        assert sample.flags.c_contiguous
    by_rank = [sum(len(run) for run in runs[r * workers : (r + 1) * workers]) for r in range(ranks)]
    assert max(by_rank) - min(by_rank) <= 1
    for r in range(ranks):
        sizes = [len(run) for run in runs[r * workers : (r + 1) * workers]]
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)
    if seed is None and ranks == workers == 1 and patches.tilings[0].cells == 1:
        assert found == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 50)), min_size=1, max_size=3),
    st.integers(1, 6),
    st.integers(1, 5),
    st.none() | st.integers(0, 99),
    st.sampled_from(["shift", "drop"]),
)
def test_any_tiling_is_served_whole(
    axes: list[tuple[int, int, int, int]], mix: int, parts: int, seed: int | None, edge: Any
) -> None:
    shape, patch, stride, cell = (tuple(column) for column in zip(*((max(n, p), p, s, c) for n, p, s, c in axes), strict=True))
    tiling = Tiling.of(shape, patch, stride, edge, cell)
    order = Order(tiling.patches_per_cell(), seed, mix)
    numbers = []
    for part in range(parts):
        for spans, shuffled in order.windows(3, run_of(len(tiling), part, parts)):
            assert len(spans) <= mix
            window = np.concatenate([tiling.in_cell(*span) for span in spans])
            numbers += (window if shuffled is None else window[shuffled]).tolist()
            for span in spans:
                begun = np.stack(tiling.begin(tiling.in_cell(*span)), axis=1) // cell
                assert (begun == begun[0]).all(), "a cell is one box"
    assert sorted(numbers) == list(range(len(tiling)))
    begins = np.stack(tiling.begin(np.arange(len(tiling))), axis=1).tolist()
    assert [tuple(at) for at in begins] == expected_starts(shape, patch, stride, edge)


def flat(patches: Patches, epoch: int = 0) -> list[int]:
    return [int(number) for window in patches.epoch(epoch, patches.run()) for number in window]


@pytest.mark.parametrize("memory", [20 << 20, 1 << 28])
def test_the_order_depends_on_seed_and_epoch_alone(large: emstore.Version, memory: int) -> None:
    def order(seed: int | None, epoch: int = 0) -> list[int]:
        return flat(Patches.of(large, patch=(30, 30, 30), seed=seed, mix=2, memory=memory), epoch)

    assert order(7) == order(7)
    assert order(7, 4) == order(7, 4)
    assert len({tuple(order(*each)) for each in [(7, 0), (8, 0), (7, 1), (None, 0)]}) == 4
    assert order(None, 0) == order(None, 1)


@pytest.mark.parametrize(("counts", "mix"), [([1, 1, 1, 1], 1), ([4], 1), ([2, 2], 2)])
def test_every_order_is_equally_likely(counts: list[int], mix: int) -> None:
    """Of cells, and of the patches in a window: chi-squared over the 24 orders of four, 23 degrees of freedom."""
    seen: Counter[tuple[tuple[int, int], ...]] = Counter()
    for seed in range(4800):
        found: list[tuple[int, int]] = []
        for spans, shuffled in Order(np.asarray(counts), seed, mix).windows(0, range(4)):
            window = [(cell, k) for cell, some in spans for k in range(some.start, some.stop)]
            assert shuffled is not None
            found += [window[i] for i in shuffled]
        seen[tuple(found)] += 1
    assert len(seen) == 24
    assert sum((n - 200) ** 2 / 200 for n in seen.values()) < 49.73  # the 99.9 % quantile; the seeds are fixed


def test_epochs_draw_anew_within_and_between_cells() -> None:
    order = Order(np.full(50, 20), seed=1, mix=5)
    windows = [list(order.windows(epoch, range(1000))) for epoch in (0, 1)]
    cells = [[cell for spans, _ in epoch for cell, _ in spans] for epoch in windows]
    assert cells[0] != cells[1]
    assert sorted(cells[0]) == sorted(cells[1]) == list(range(50))
    assert {tuple(shuffled.tolist()) for epoch in windows for _, shuffled in epoch if shuffled is not None}.__len__() == 20


def test_a_sample_may_be_changed(versions: dict[str, emstore.Version]) -> None:
    for patch in ((700, 530), (16, 16)):
        reader = Reader(Patches.of(versions["plane"], patch=patch, seed=1))
        first = [sample.copy() for sample in reader.run(0, range(1)) if isinstance(sample, np.ndarray)]
        for sample in reader.run(0, range(1)):
            assert isinstance(sample, np.ndarray)
            sample[...] = -1
        for sample, kept in zip(reader.run(0, range(1)), first, strict=True):
            assert np.array_equal(sample, kept)


def test_skipping_is_going_on(large: emstore.Version) -> None:
    patches = Patches.of(large, patch=(8, 8, 8), stride=(40, 40, 40), seed=3, mix=2, memory=20 << 20)
    assert len(list(patches.epoch(5, patches.run()))) > 4, "windows"
    (all_of_them,) = served(patches, 5)
    for skip in (0, 1, 7, len(patches) // 2, len(patches) - 1, len(patches), len(patches) + 5):
        (rest,) = served(patches, 5, skip=skip)
        assert len(rest) == max(0, len(patches) - skip)
        assert all(np.array_equal(a, b) for a, b in zip(rest, all_of_them[skip:], strict=True))


class Requests(Backend):
    """Notes every read of a chunk."""

    def __init__(self, real: Backend) -> None:
        super().__init__(real._store, real.url, real.root)
        self.chunks: list[tuple[str, int, int]] = []

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.chunks.append((key, start, length))
        return super().get_range(key, start, length)


def watched(version: emstore.Version) -> tuple[emstore.Version, Requests]:
    backend = Requests(version.store.backend)
    store = copy.copy(version.store)
    object.__setattr__(store, "backend", backend)
    watching = copy.copy(version)
    object.__setattr__(watching, "store", store)
    return watching, backend


def chunk_count(version: emstore.Version) -> int:
    array = version.array()
    return int(np.prod([-(-n // c) for n, c in zip(array.shape, array.block, strict=True)]))


@pytest.mark.parametrize("mix", [1, 4, 8])
def test_patches_that_fit_the_chunks_read_every_chunk_once(large: emstore.Version, mix: int) -> None:
    version, backend = watched(large)
    assert version.array().block == (64, 64, 64)
    patches = Patches.of(version, patch=(32, 32, 32), seed=1, mix=mix, memory=16 << 20)
    (samples,) = served(patches)
    assert len(samples) == 729
    assert patches.tilings[0].cells > mix
    assert len(backend.chunks) == len(set(backend.chunks)) == chunk_count(large) == 125


def test_chunks_are_read_once_where_all_fit_in_memory(large: emstore.Version) -> None:
    version, backend = watched(large)
    patches = Patches.of(version, patch=(48, 48, 48), stride=(40, 40, 40), seed=1, mix=2, memory=1 << 28)
    (samples,) = served(patches)
    assert len(samples) == 7**3
    assert len(backend.chunks) == chunk_count(large)


def test_overlapping_patches_read_a_chunk_a_few_times_within_little_memory(large: emstore.Version) -> None:
    """Patches no larger than a chunk in cells of whole chunks: a chunk is needed by its own cell and 7 before it at most."""
    version, backend = watched(large)
    memory = 24 << 20
    patches = Patches.of(version, patch=(33, 33, 33), stride=(30, 30, 30), seed=1, mix=2, memory=memory)
    assert patches.tilings[0].cells > 8
    reader = Reader(patches)
    list(itertools.islice(reader.run(1, patches.run()), 3))  # libraries have loaded, pools have been made
    backend.chunks.clear()
    reader = Reader(patches)
    tracemalloc.start()
    try:
        count = sum(1 for _ in reader.run(0, patches.run()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    starts = expected_starts((288,) * 3, (33,) * 3, (30,) * 3, "shift")
    assert count == len(starts)
    assert max(Counter(backend.chunks).values()) <= 8
    touched = sum(int(np.prod([len({a // 64, (a + 32) // 64}) for a in at])) for at in starts)
    assert len(backend.chunks) < touched / 2  # what reading patch by patch would cost
    assert peak < memory + (6 << 20)  # and what is being decoded, by as many threads as there are


def test_sparse_patches_read_only_the_chunks_they_touch(large: emstore.Version) -> None:
    version, backend = watched(large)
    patches = Patches.of(version, patch=(8, 8, 8), stride=(128, 128, 128), edge="drop", seed=1)
    (samples,) = served(patches)
    assert len(samples) == len(backend.chunks) == 27


def test_several_versions_and_inputs(lab: Path, versions: dict[str, emstore.Version]) -> None:
    image = put(f"{lab}/several/image", counted((2, 5, 66, 65), "uint16"), "czyx")
    labels = put(f"{lab}/several/marks", counted((5, 66, 65), "uint8"), "zyx")
    other = put(f"{lab}/several/other", counted((2, 4, 40, 50), "uint16")[:, ::-1], "czyx")
    other_labels = put(f"{lab}/several/other-marks", counted((4, 40, 50), "uint8"), "zyx", spacing=None)
    patches = Patches.of(
        [{"image": image.ref, "labels": labels}, {"labels": other_labels, "image": other}],
        patch={"z": 1, "y": 32, "x": 30},
        axes=("y", "x", "c", None),
        dtype={"labels": "int64"},
        normalise={"image": (12.0, 7.0)},
        seed=4,
    )
    found: Counter[bytes] = Counter()
    for sample in served(patches)[0]:
        assert isinstance(sample, dict)
        assert (sample["image"].shape, sample["image"].dtype) == ((32, 30, 2, 1), np.float32)
        assert (sample["labels"].shape, sample["labels"].dtype) == ((32, 30, 1), np.int64)
        found[sample["image"].tobytes() + sample["labels"].tobytes()] += 1
    expected: Counter[bytes] = Counter()
    for picture, marks in (
        (counted((2, 5, 66, 65), "uint16"), counted((5, 66, 65), "uint8")),
        (counted((2, 4, 40, 50), "uint16")[:, ::-1], counted((4, 40, 50), "uint8")),
    ):
        for _, z, y, x in expected_starts(picture.shape, (2, 1, 32, 30), (2, 1, 32, 30), "shift"):
            part = ((picture[:, z, y : y + 32, x : x + 30].astype(np.float32) - np.float32(12)) / np.float32(7)).transpose(
                1, 2, 0
            )
            expected[np.ascontiguousarray(part).tobytes() + marks[z, y : y + 32, x : x + 30].astype("i8").tobytes()] += 1
    assert found == expected
    assert [(v.role, v.id) for v in patches.cited] == [
        ("image", image.id),
        ("labels", labels.id),
        ("image", other.id),
        ("labels", other_labels.id),
    ]
    assert {v.store for v in patches.cited} == {image.store.id}
    assert patches.cited[0].ref == "several/image/v1"


@pytest.mark.parametrize("dtype", ["int32", "float64", "uint8", "int16"])
def test_normalising_is_exact_to_the_last_digit_of_float32(lab: Path, dtype: str) -> None:
    values = (np.random.default_rng(3).random((40, 50)) * 200 + (2**30 if dtype == "int32" else 0)).astype(dtype)
    version = put(f"{lab}/normal/{dtype}", values, "yx")
    low, scale = float(values.mean()), float(values.std())
    (sample,) = served(Patches.of(version, patch=(40, 50), normalise=(low, scale)))[0]
    exact = (values.astype(np.float64) - low) / scale
    np.testing.assert_allclose(sample, exact, rtol=2e-6, atol=2e-6 * abs(low / scale) if dtype in ("uint8", "int16") else 1e-6)
    assert sample.dtype == np.float32


def test_levels_are_the_levels(large: emstore.Version) -> None:
    assert large.levels > 1
    coarse = large.array(1)[tuple(slice(0, n) for n in large.array(1).shape)]
    (samples,) = served(Patches.of(large, patch=(40, 50, 60), level=1))
    starts = expected_starts(coarse.shape, (40, 50, 60), (40, 50, 60), "shift")
    expected = sorted(coarse[z : z + 40, y : y + 50, x : x + 60].tobytes() for z, y, x in starts)
    assert sorted(sample.tobytes() for sample in samples) == expected


def test_a_copied_reader_opens_its_own(versions: dict[str, emstore.Version]) -> None:
    reader = Reader(Patches.of(versions["plane"], patch=(100, 100), seed=1))
    twin = copy.deepcopy(reader)
    assert twin.patches.versions == {}
    for mine, its in zip(reader.run(0, range(20)), twin.run(0, range(20)), strict=True):
        assert np.array_equal(mine, its)


def test_another_version_under_the_same_name_is_refused(tmp_path: Path) -> None:
    emstore.create_store(f"{tmp_path}/a.zarr")
    version = put(f"{tmp_path}/a.zarr/d/a", counted((3, 4)), "yx")
    reader = copy.deepcopy(Reader(Patches.of(version, patch=(1, 1))))
    (tmp_path / "a.zarr").rename(tmp_path / "old.zarr")
    emstore.create_store(f"{tmp_path}/a.zarr")
    put(f"{tmp_path}/a.zarr/d/a", counted((3, 4)), "yx")
    with pytest.raises(Damaged, match="not the version"):
        reader.sample(0)


def test_damage_is_named(tmp_path: Path) -> None:
    emstore.create_store(f"{tmp_path}/a.zarr")
    version = put(f"{tmp_path}/a.zarr/d/a", counted((3, 4)) + 1, "yx")
    shard = tmp_path / "a.zarr/d/a/v1/s0/image/c/0/0"
    body = bytearray(shard.read_bytes())
    body[3] ^= 1
    shard.write_bytes(body)
    with pytest.raises(Damaged, match=r"checksum|crc"):
        served(Patches.of(version, patch=(1, 1)))


GOOD: dict[str, Any] = {"patch": (8, 8, 8)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch": (8, 8)}, "2 sizes for the 3 axes z, y, x"),
        ({"patch": (8, 8, 0)}, "along x is 0"),
        ({"patch": (8, 8, 2.5)}, "along x is 2.5"),
        ({"patch": (8, 8, True)}, "along x is True"),
        ({"patch": (8, 8, 66)}, "66 along x is larger than the array, which has 65"),
        ({"patch": {"w": 4}}, "names an axis w"),
        ({"stride": (8, 8, 0)}, "stride along x is 0"),
        ({"stride": {"t": 1}}, "names an axis t"),
        ({"edge": "pad"}, "edge='pad'"),
        ({"axes": ("y", "x")}, "leaves out z, along which a patch has 8"),
        ({"axes": ("z", "y", "x", "c")}, "axes names c"),
        ({"axes": ("z", "y", "x", "x")}, "names x twice"),
        ({"dtype": "uint8"}, "uint8 cannot hold stored values of int32"),
        ({"dtype": "words"}, "no type of numbers"),
        ({"dtype": {"labels": "uint8"}}, "names an input labels"),
        ({"normalise": (0, 0)}, "makes no sense"),
        ({"normalise": (0, float("nan"))}, "makes no sense"),
        ({"normalise": 3}, "makes no sense"),
        ({"normalise": (0, 1), "dtype": "int64"}, "cannot be normalised into int64"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"mix": 0}, "mix=0"),
        ({"level": 9}, "no level 9"),
    ],
)
def test_what_makes_no_sense_is_said(versions: dict[str, emstore.Version], change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Patches.of(versions["box"], **{**GOOD, **change})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda box, other: [], "no versions"),
        (lambda box, other: [3], "3 is no version"),
        (lambda box, other: {}, "need names"),
        (lambda box, other: [box, {"image": box}], "same inputs"),
        (lambda box, other: [{"image": box}, {"picture": box}], "same inputs"),
        (lambda box, other: [box, other], "differ from those of made/box/v1"),
        (lambda box, other: {"image": box, "labels": other}, "labels is not on the grid of image"),
    ],
)
def test_versions_that_do_not_belong_together_are_refused(versions: dict[str, emstore.Version], make: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Patches.of(make(versions["box"], versions["film"]), patch={})
    assert said in str(refused.value)


def test_grids_are_compared_in_space(lab: Path) -> None:
    values = np.ones((4, 5, 6), "u1")

    def made(name: str, z: dict[str, Any], shift: float | None = None) -> emstore.Version:
        affine = None if shift is None else Affine.of(np.array([[2, 0, 0, shift], *np.eye(4)[1:]]), Space.RAS, "millimeter")
        axes = [Axis("z", 4, **z), *(Axis(name, size, spacing=1.0, unit="millimeter") for name, size in (("y", 5), ("x", 6)))]
        return seal(volume(name, values, *axes, affine=affine), f"{lab}/grids/{name}")

    two = {"spacing": 2.0, "unit": "millimeter"}
    first = made("first", two, 7.0)
    for name, z, shift in [
        ("same", two, 7.0),
        ("unknown", {}, None),
        ("rounded", {"spacing": 2.0000001, "unit": "millimeter"}, 7.0000001),
        ("listed", {"positions": (0.0, 2.0, 4.0, 6.0), "unit": "millimeter"}, None),
    ]:
        Patches.of({"a": first, "b": made(name, z, shift)}, patch={})
    for name, z, shift, said in [
        ("finer", {"spacing": 1.9, "unit": "millimeter"}, None, "samples along z are up to 0.3 millimeter apart"),
        ("unit", {"spacing": 2.0, "unit": "meter"}, None, "axis z is in meter"),
        ("begins", {**two, "origin": 0.1}, None, "up to 0.1 millimeter apart"),
        ("beside", two, 8.0, "up to 1 millimeter beside it"),
    ]:
        with pytest.raises(InvalidInput, match=said):
            Patches.of({"a": first, "b": made(name, z, shift)}, patch={})


def test_memory_is_refused_before_reading(large: emstore.Version, versions: dict[str, emstore.Version]) -> None:
    for version in (large, versions["box"]):
        with pytest.raises(Capacity) as refused:
            Patches.of(version, patch=(8, 8, 8), memory=100_000)
        assert refused.value.kind is Kind.MEMORY_BUDGET
        needed = int(str(refused.value).split("memory=")[1].split()[0])
        Patches.of(version, patch=(8, 8, 8), memory=needed)
        with pytest.raises(Capacity):
            Patches.of(version, patch=(8, 8, 8), memory=needed - 8)


def test_a_table_has_no_patches(lab: Path) -> None:
    table = seal_a_table(Table("counts", {"n": Column(np.arange(3))}), f"{lab}/made/table")
    for ref in (table, table.ref):
        with pytest.raises(InvalidInput, match="holds a table"):
            Patches.of(ref, patch=(1,))


def test_what_is_not_there(lab: Path) -> None:
    with pytest.raises(NotFound):
        Patches.of(f"{lab}/made/nothing", patch=(1,))
