"""A volume of a terabyte, nearly all of it empty: planned at once, and cut into tasks as they are needed."""

import json
import subprocess
import sys
from collections.abc import Collection
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import emstore
from emstore.geometry import Grid
from emstore.header import Header
from emstore.store import Transaction, begin, digest, plan_version, resolve, seal_volume
from emstore.volume import Region, Volume
from in_blocks import axes_of
from sealed import _record

EDGE = 10_000


class Sparse:
    """Zeros, but for a few voxels."""

    shape = (EDGE, EDGE, EDGE)
    dtype = np.dtype("u1")
    block = (1, 1, 1)

    def __getitem__(self, region: Region) -> np.ndarray:
        return np.zeros([s.stop - s.start for s in region], "u1")


@pytest.fixture
def terabyte(lab: str) -> str:
    """A sealed version of 10^12 voxels of which three shards are there."""
    volume = Volume("sparse", Sparse(), Grid(axes_of("zyx", Sparse.shape)), Header("memory"))
    plan = plan_version(volume, memory=8 << 30)
    store, place = resolve(f"{lab}/in/a")
    held = begin(store.backend, place, settings=digest(b"sparse"), task="test", store_id=store.id)
    assert isinstance(held, Transaction)

    def levels() -> Collection[str]:
        empty = {level.shard_key(at) for level in plan.levels for at in product(*map(range, level.shards))}
        codec = plan.levels[0].codec
        chunk = np.full(codec.chunks.shape, 7, "u1")
        for at in ((0, 0, 0), (9, 9, 9), (19, 19, 19)):
            key = plan.levels[0].shard_key(at)
            data = codec.join([codec.chunks.encode(chunk), *[None] * (codec.count - 1)])
            assert data is not None
            held.put(key, data)
            empty.discard(key)
        return empty

    seal_volume(held, volume, plan, _record, levels=levels, ratio=0.0)
    return f"{lab}/in/a"


PLAN = """
import json, sys, time
from itertools import islice
from pathlib import Path
from emstore import registry
from emstore.processing.plan import promised, written
from emstore.blocks.layout import lay_out
from emstore.blocks.work import writing
from emstore.store import open_version

class Nothing:
    def have(self, key):
        return False

ref, name, memory = sys.argv[1], sys.argv[2], int(sys.argv[3])
processor = registry.processor(name)
started = time.perf_counter()
version = open_version(ref)
volumes = (version.volume(),)
operation = processor.plan(volumes, processor.params())
plan = written(operation, promised(operation, operation.result, volumes), volumes, pyramid=True, memory=memory)
layout = lay_out(operation, volumes, plan, memory=memory, workers=8)
tasks = list(islice(writing(plan, plan.levels[0], layout.task, Nothing(), set()), 1000))
blocks = next(iter(layout.blocks.inside(tasks[-1].region)))
volumes[0].data[tuple(slice(0, 8) for _ in range(3))]
volumes[0].data[tuple(slice(5000, 5008) for _ in range(3))]
seconds = time.perf_counter() - started
peak = int(Path("/proc/self/status").read_text().split("VmHWM:", 1)[1].split()[0]) * 1024
print(json.dumps({"seconds": seconds, "peak": peak, "tasks": len(tasks), "projected": layout.projected}))
"""


@pytest.mark.parametrize("name", ["engine.box", "engine.pairs", "engine.above"])
def test_a_terabyte_is_planned_at_once(terabyte: str, name: str) -> None:
    for memory in (1 << 30, 16 << 30):
        done = subprocess.run(
            [sys.executable, "-c", PLAN, terabyte, name, str(memory)], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout)
        assert found["seconds"] < 5, found
        assert found["peak"] < 500 << 20, found
        assert found["tasks"] == 1000
        assert found["projected"] <= memory
    assert emstore.open(terabyte).info.volume.shape == (EDGE,) * 3
    assert sum(path.stat().st_size for path in Path(terabyte).rglob("*") if path.is_file()) < 100 << 20
