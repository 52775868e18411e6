"""Work in pieces that outlive a stop: each is kept whole on disk, and made once."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.work import Bench


@dataclass
class Progress:
    """How much of the work is done, told after every piece."""

    bench: Bench
    total: float
    done: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, share: float, what: str) -> None:
        """Say that `share` of `total` is done."""
        with self.lock:
            self.done += share
        self.bench.tell(min(1.0, self.done / self.total), what)


def file_of(scratch: Path, name: str) -> Path:
    """Return where the piece of that name is kept."""
    return scratch / f"{name}.npy"


def keep(path: Path, values: npt.NDArray[Any]) -> None:
    """Write an array so that it is there whole or not at all."""
    beside = path.with_name(f"{path.name}.{threading.get_ident()}.part")
    with beside.open("wb") as stream:
        np.save(stream, values, allow_pickle=False)
    beside.replace(path)


def make_all(
    bench: Bench,
    progress: Progress,
    names: Sequence[str],
    make: Callable[[int], npt.NDArray[Any]],
    share: Callable[[int], float],
    what: str,
) -> None:
    """Make every piece that is not there yet, several at a time, and keep it.

    Parameters
    ----------
    names : sequence of str
        Name of every piece.
    make : callable
        Makes the piece of that number; from several threads.
    share : callable
        How much of the work it is.
    what : str
        What to call the work.
    """
    missing = [n for n, name in enumerate(names) if not file_of(bench.scratch, name).exists()]
    progress.add(sum(share(n) for n in set(range(len(names))) - set(missing)), what)

    def one(n: int) -> int:
        keep(file_of(bench.scratch, names[n]), make(n))
        return n

    if bench.threads == 1:
        for n in missing:
            progress.add(share(one(n)), what)
        return
    with ThreadPoolExecutor(bench.threads) as pool:
        left = iter(missing)
        running: set[Future[int]] = set()
        try:
            for n in _some(left, bench.threads):
                running.add(pool.submit(one, n))
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    progress.add(share(future.result()), what)
                    running |= {pool.submit(one, n) for n in _some(left, 1)}
        finally:
            for future in running:
                future.cancel()


def _some(left: Iterable[int], count: int) -> list[int]:
    iterator = iter(left)
    return [n for _, n in zip(range(count), iterator, strict=False)]


def load(scratch: Path, name: str) -> npt.NDArray[Any]:
    """Return a piece, read as it is used."""
    array: npt.NDArray[Any] = np.load(file_of(scratch, name), mmap_mode="r", allow_pickle=False)
    return array


def drop(scratch: Path, names: Iterable[str]) -> None:
    """Delete pieces that are no longer needed."""
    for name in names:
        file_of(scratch, name).unlink(missing_ok=True)
