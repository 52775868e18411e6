"""A bench in a folder of the test."""

from collections.abc import Callable
from pathlib import Path

import pytest

from emstore.work import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    """Return what makes a bench, with a scratch folder of its own."""

    def make(*, memory: int = 1 << 30, threads: int = 1) -> Bench:
        scratch = tmp_path / f"scratch{len(list(tmp_path.iterdir()))}"
        scratch.mkdir()
        return Bench(scratch, lambda share, what: None, memory, threads)

    return make
