"""A process takes no more memory than it projects, and projects no more than it is allowed, whatever kind of processor it runs.

Most of a small process is its libraries. So it is also held that what larger inputs add to the peak is no more than what the
projection counts on top of an empty process.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import emstore
import memory_driver
from emstore.blocks.layout import BASELINE
from emstore.volume import VolumeKind
from in_blocks import axes_of
from sealed import seal, volume

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")

MIB = 1 << 20
TINY = (4, 16, 16)
"""Warms up: libraries, pools of threads."""
SIZES = ((16, 128, 128), (40, 256, 256), (48, 512, 512))
SPARE = 8 * MIB
"""What libraries keep for themselves when they first meet larger arrays."""
RANDOM = np.random.default_rng(12)


def image(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return RANDOM.integers(0, 4096, shape, "u2")


def few_labels(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return RANDOM.integers(0, 4, shape, "u1")


def checkerboard(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Every second voxel is a component."""
    return np.indices(shape, "u1").sum(0, dtype="u1") % 2 == 1


def all_different(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Every voxel is a component."""
    return np.arange(1, np.prod(shape) + 1, dtype="u4").reshape(shape)


@dataclass(frozen=True)
class Case:
    """A processor, and what it is given."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    make: Any = image
    inputs: int = 1
    sizes: tuple[tuple[int, ...], ...] = SIZES
    memory: int = 448 * MIB


CASES = {
    "halo": Case("denoise.gaussian", {"sigma": 2}),
    "whole slices": Case("denoise.tv", {"iterations": 2}, sizes=(*SIZES[:2], (24, 512, 512))),
    "grid changes": Case("interpolate.linear", {"factor": 2}),
    "axis goes": Case("transform.project", {"how": "sum"}),
    "reduces first": Case("transform.rescale", {"percentiles": [1, 99], "dtype": "uint8"}),
    "table": Case("measure.statistics"),
    "table of two": Case("measure.ssim", {"data_range": "dtype"}, inputs=2, sizes=(*SIZES[:2], (24, 512, 512))),
    "labels": Case("segment.components", {"connectivity": 3}, few_labels, sizes=((8, 128, 128), (16, 256, 256), (20, 256, 256))),
    "checkerboard": Case(
        "segment.components", {"maximum_parts": 1 << 20}, checkerboard, sizes=((8, 128, 128), (16, 256, 256), (32, 256, 256))
    ),
    "all different": Case("segment.components", {}, all_different, sizes=((8, 64, 128), (16, 128, 128), (16, 256, 256))),
}


@pytest.mark.parametrize("kind", CASES)
def test_no_process_takes_more_than_it_projects(kind: str, tmp_path: Path) -> None:
    case = CASES[kind]
    store = emstore.create_store(str(tmp_path / "lab.zarr")).url
    refs: list[list[str]] = []
    for number, shape in enumerate((TINY, *case.sizes)):
        values = case.make(shape)
        labels = VolumeKind.LABELS if case.make is not image else VolumeKind.IMAGE
        made = seal(volume("made", values, *axes_of("zyx", shape, z=4.0, y=4.0, x=4.0), kind=labels), f"{store}/in/a{number}")
        refs.append([made.ref] * case.inputs)
    job = {"name": case.name, "params": case.params, "memory": case.memory, "store": store, "inputs": refs}
    done = subprocess.run(
        [sys.executable, memory_driver.__file__], input=json.dumps(job), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    empty, *found = json.loads(done.stdout)
    assert len(found) == 3
    for shape, one in zip(case.sizes, found, strict=True):
        told = f"{shape}: { ({key: value >> 20 for key, value in one.items()}) } MiB, empty {empty['peak'] >> 20} MiB"
        assert one["peak"] <= one["projected"] <= case.memory, told
        assert one["peak"] - empty["peak"] <= one["projected"] - BASELINE + SPARE, told
