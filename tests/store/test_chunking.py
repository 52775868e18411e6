"""Chunk and shard shapes, and plans, for arrays of every shape: tiling is exact and limits are honoured."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emstore.errors import Capacity, Kind
from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header
from emstore.store.chunking import CHUNK_BYTES, chunk_shape, shard_shape
from emstore.store.plan import VersionPlan, plan_version, project, smallest_tile
from emstore.volume import Region, Volume

SPACE, TIME, CHANNEL, RECIPROCAL, SPECTRAL, OTHER = (
    AxisKind.SPACE,
    AxisKind.TIME,
    AxisKind.CHANNEL,
    AxisKind.RECIPROCAL,
    AxisKind.SPECTRAL,
    AxisKind.OTHER,
)
LAYOUTS = {
    "x": (SPACE,),
    "yx": (SPACE,) * 2,
    "zyx": (SPACE,) * 3,
    "tyx": (TIME, SPACE, SPACE),
    "cyx": (CHANNEL, SPACE, SPACE),
    "nyx": (OTHER, SPACE, SPACE),
    "ncyxe": (OTHER, CHANNEL, SPACE, SPACE, SPECTRAL),
    "yxn": (SPACE, SPACE, OTHER),
    "tczyx": (TIME, CHANNEL, SPACE, SPACE, SPACE),
    "yxuv": (SPACE, SPACE, RECIPROCAL, RECIPROCAL),
    "yxe": (SPACE, SPACE, SPECTRAL),
    "e": (SPECTRAL,),
    "c": (CHANNEL,),
    "t": (TIME,),
}


@dataclass(frozen=True)
class Claimed:
    """A `LazyArray` that only says how large it is."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    block: tuple[int, ...]

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        raise AssertionError("planning must not read")


def claimed(layout: str, shape: tuple[int, ...], dtype: str = "uint8", block: tuple[int, ...] | None = None) -> Volume:
    axes = tuple(Axis(name, n, kind) for name, n, kind in zip(layout, shape, LAYOUTS[layout], strict=True))
    return Volume("v", Claimed(shape, np.dtype(dtype), block or (1,) * len(shape)), Grid(axes), Header("none"))


@st.composite
def arrays(draw: st.DrawFn) -> Volume:
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    shape = tuple(draw(st.integers(1, 16 if kind is CHANNEL else 3000)) for kind in LAYOUTS[layout])
    dtype = draw(st.sampled_from(["bool", "uint8", "uint16", "float32", "float64", "complex128"]))
    return claimed(layout, shape, dtype)


def power_or_whole(n: int, size: int) -> bool:
    return n == size or n & (n - 1) == 0


@given(arrays())
@settings(deadline=None, max_examples=60)
def test_chunks_and_shards_keep_their_limits(volume: Volume) -> None:
    item = volume.dtype.itemsize
    chunk = chunk_shape(volume.grid, item)
    kinds = tuple(axis.kind for axis in volume.grid.axes)
    shard = shard_shape(volume.shape, chunk, kinds, item)
    assert all(1 <= c <= n and power_or_whole(c, n) for c, n in zip(chunk, volume.shape, strict=True))
    assert all(s % c == 0 for s, c in zip(shard, chunk, strict=True))
    assert math.prod(chunk) * item <= CHUNK_BYTES
    assert math.prod(shard) * item <= 128 << 20
    # A shard never reaches a whole doubling beyond the array.
    assert all(s < 2 * max(n, c) for s, c, n in zip(shard, chunk, volume.shape, strict=True))
    if "c" in volume.grid.dims and volume.grid.dims != ("c",):
        assert chunk[volume.grid.dims.index("c")] == 1


@pytest.mark.parametrize(
    ("layout", "shape", "dtype", "chunk", "shard"),
    [
        ("zyx", (1000, 1000, 1000), "uint8", (64, 64, 64), (256, 256, 256)),
        ("zyx", (1000, 1000, 1000), "uint16", (64, 64, 64), (256, 256, 256)),
        ("zyx", (1000, 1000, 1000), "float32", (64, 64, 64), (256, 256, 256)),
        ("zyx", (8192, 8192, 8192), "uint8", (64, 64, 64), (512, 512, 512)),
        ("yx", (8192, 8192), "uint8", (512, 512), (4096, 4096)),
        ("tyx", (2000, 1024, 1024), "uint8", (1, 512, 512), (16, 1024, 1024)),
        ("nyx", (4000, 128, 128), "float32", (4, 128, 128), (1024, 128, 128)),
        ("cyx", (3, 4096, 4096), "uint8", (1, 512, 512), (1, 4096, 4096)),
    ],
)
def test_usual_shapes_get_the_documented_sizes(
    layout: str, shape: tuple[int, ...], dtype: str, chunk: tuple[int, ...], shard: tuple[int, ...]
) -> None:
    volume = claimed(layout, shape, dtype)
    got = chunk_shape(volume.grid, volume.dtype.itemsize)
    assert got == chunk
    kinds = tuple(axis.kind for axis in volume.grid.axes)
    assert shard_shape(shape, got, kinds, volume.dtype.itemsize, large=volume.nbytes >= 1 << 38) == shard


def test_a_detector_frame_stays_whole() -> None:
    chunk = chunk_shape(claimed("yxuv", (200, 200, 256, 256), "uint16").grid, 2)
    assert chunk[2:] == (256, 256)
    assert max(chunk[:2]) <= 32


def check_plan(plan: VersionPlan) -> None:
    for level in plan.levels:
        assert all(c * n >= size > c * (n - 1) for c, n, size in zip(level.chunk, level.chunks, level.shape, strict=True))
        if level.factors is None:
            continue
        above = plan.levels[level.number + 1]
        for chunk, factor, larger, size in zip(level.chunk, level.factors, above.chunk, level.shape, strict=True):
            # Every chunk lies inside one chunk of the next level, on whole voxels.
            assert chunk >= size or larger * factor >= size or (chunk % factor == 0 and (larger * factor) % chunk == 0)


@given(arrays())
@settings(deadline=None, max_examples=60)
def test_plans_fit_the_budget_and_their_levels_fit_each_other(volume: Volume) -> None:
    plan = plan_version(volume)
    check_plan(plan)
    assert project(plan) <= 1 << 30
    assert plan.to_json() == plan_version(volume, workers=64).to_json()
    for workers in (1, 2, 64):
        schedule = replace(plan, workers=workers).schedule((1 << 30) - (256 << 20))
        assert 1 <= schedule.workers <= workers
        assert all(t == n or t % c == 0 for t, c, n in zip(schedule.tile, plan.levels[0].chunk, volume.shape, strict=True))


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_tiles_cover_every_voxel_exactly_once(axes: list[tuple[int, int, int]]) -> None:
    shape, chunk, block = (tuple(a[i] for a in axes) for i in range(3))
    tile = smallest_tile(shape, chunk, block)
    volume = claimed({1: "x", 2: "yx", 3: "zyx", 4: "yxuv"}[len(shape)], shape)
    plan = plan_version(volume)
    seen = np.zeros(shape, np.uint8)
    for region in plan.tiles(tile):
        seen[region] += 1
    assert (seen == 1).all()


def test_shards_get_shallower_before_chunks_do() -> None:
    shapes = {}
    for budget in (4096, 1024, 640):
        level = plan_version(claimed("zyx", (400, 2048, 2048), block=(1, 2048, 2048)), memory=budget << 20).levels[0]
        shapes[budget] = (level.chunk, level.shard)
    assert shapes[4096] == ((64, 64, 64), (256, 256, 256))
    assert shapes[1024][0] == (64, 64, 64)
    assert shapes[1024][1][0] < 256
    assert shapes[640][0][0] < 64


def test_what_cannot_fit_says_how_much_would() -> None:
    volume = claimed("zyx", (100, 40000, 40000), "uint16", block=(1, 40000, 40000))
    with pytest.raises(Capacity) as caught:
        plan_version(volume)
    assert caught.value.kind is Kind.MEMORY_BUDGET
    needed = int(str(caught.value.what).split("at least ")[1].split(" MiB")[0])
    plan_version(volume, memory=needed << 20)
    with pytest.raises(Capacity):
        plan_version(volume, memory=(needed - 64) << 20)


def test_slices_in_strips_are_tiled_instead() -> None:
    """A huge cross-section whose source gives rows apart fits where whole slices would not."""
    plan_version(claimed("zyx", (100, 20000, 20000), "uint8", block=(1, 64, 20000)))
