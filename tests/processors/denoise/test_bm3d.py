"""BM3D against the library itself, where it is installed; and what is said where it is not."""

import os
import subprocess
import sys

import numpy as np
import pytest

from emstore.errors import InvalidInput, Kind
from emstore.processors.denoise import Bm3d, blockmatching
from in_blocks import over, planned, same_whatever_the_blocks

RNG = np.random.default_rng(7)
CLEAN = 60.0 * (np.add.outer(np.arange(48), np.arange(40)) % 23 > 11)
SCENE = RNG.normal(0, 8, (2, 48, 40)) + CLEAN


def test_blocks_make_the_whole_and_it_is_the_librarys() -> None:
    library = pytest.importorskip("bm3d", reason="the extra bm3d is not installed (its licence is non-commercial)")
    volume = over(SCENE)
    operation = planned(Bm3d(), volume, sigma=8.0, dtype="float64")
    assert operation.whole == ("y", "x")
    result = same_whatever_the_blocks(operation, (volume,), (1, 20, 20))
    np.testing.assert_allclose(result[1], library.bm3d(SCENE[1] / 255, 8 / 255) * 255, rtol=0, atol=0.2)
    assert np.sqrt(((result - CLEAN) ** 2).mean()) < 3


def test_counts_are_kept() -> None:
    pytest.importorskip("bm3d", reason="the extra bm3d is not installed (its licence is non-commercial)")
    clean = np.where(CLEAN > 0, 5.0, 0.5)
    counts = RNG.poisson(clean).astype(np.uint16)[None]
    volume = over(counts)
    result = same_whatever_the_blocks(planned(Bm3d(), volume, stabilise={}), (volume,), (1, 9, 9))
    assert result.mean() == pytest.approx(clean.mean(), rel=0.05)
    assert np.sqrt(((result - clean) ** 2).mean()) < 0.5 * np.sqrt(((counts - clean) ** 2).mean())


@pytest.mark.parametrize("shape", [(2, 15, 40), (40, 8, 8)])
def test_slices_too_small_for_the_library_are_refused(shape: tuple[int, ...]) -> None:
    pytest.importorskip("bm3d", reason="the extra bm3d is not installed (its licence is non-commercial)")
    with pytest.raises(InvalidInput, match="at least 16 by 16"):
        planned(Bm3d(), over(np.ones(shape, np.uint8)))


MEASURE = """
import numpy as np
from emstore.operation import Block
from emstore.processors.denoise import Bm3d
from in_blocks import over, planned

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

def block(n):
    values = np.random.default_rng(0).normal(100, 9, (n, n)).astype(np.float32)
    operation, whole = planned(Bm3d(), over(values), sigma=9.0), (slice(0, n),) * 2
    before = peak()
    operation.apply(Block(0, whole, (whole,)), [values], None)
    print(peak() - before, operation.work_bytes * n * n + 4 * n * n)

block(32)
block(160)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_is_what_was_said() -> None:
    """In a process of its own: the library's memory is its own, unseen by Python."""
    pytest.importorskip("bm3d", reason="the extra bm3d is not installed (its licence is non-commercial)")
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path}
    )
    used, said = map(float, done.stdout.splitlines()[-1].split())
    assert 0.3 * said < used <= said, done.stderr


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockmatching, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match="non-commercial") as caught:
        planned(Bm3d(), over(SCENE))
    assert caught.value.kind is Kind.MISSING_EXTRA
    assert caught.value.fix == "pip install 'emstore[bm3d]'"
