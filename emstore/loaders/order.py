"""The order in which an epoch serves its patches, and who serves which of them.

The order is made of cells, boxes of an array in which patches start:

1. All cells of all versions are put in a random order; every order is equally likely.
2. That row of patches is cut into one run per rank, and each of these into one per worker. Runs differ by at most one patch, the
   longer ones first. A cell that a cut goes through belongs to both sides, each with its part.
3. Within a run, every `mix` cells in a row form a window, and the patches of a window are put in a random order; every order is
   equally likely.

So a batch is drawn at random from `mix` random places, not from all the data; what is read for one window stays in memory while
the window lasts. Same seed, epoch, number of ranks and of workers, same order. Without a seed nothing is shuffled:
cells come in array order, version by version, and so do the patches of each.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from emstore.loaders.tiling import Numbers

Span = tuple[int, slice]
"""A cell, and which of its patches in array order."""

_CELLS, _WINDOW = 0, 1
"""What a random stream is for: keeps streams of one seed apart."""


def run_of(total: int, part: int, parts: int) -> range:
    """Cut `total` things in a row into `parts` runs, sizes equal but for one more in the first ones; return one of them."""
    size, longer = divmod(total, parts)
    start = part * size + min(part, longer)
    return range(start, start + size + (part < longer))


@dataclass(frozen=True, eq=False)
class Order:
    """The order of every epoch."""

    counts: Numbers
    """How many patches every cell has, shape (cells,)."""
    seed: int | None
    """``None``: not shuffled."""
    mix: int
    """Cells per window."""

    def windows(self, epoch: int, run: range) -> Iterator[tuple[list[Span], Numbers | None]]:
        """Yield the windows of a run of an epoch.

        Parameters
        ----------
        epoch : int
            Shuffles anew for each.
        run : range
            Places in the epoch's row of patches.

        Yields
        ------
        spans : list of (int, slice)
            Cells, and which of their patches.
        shuffled : ndarray of int64, shape (patches of the window,), or None
            Order of these patches; ``None``: as they come.
        """
        cells = self._cells(epoch)
        ends = np.cumsum(self.counts[cells])
        at, stop = run.start, run.stop
        number = int(np.searchsorted(ends, at, side="right"))
        while at < stop:
            low = at
            spans: list[Span] = []
            while at < stop and len(spans) < self.mix:
                begin, end = int(ends[number] - self.counts[cells[number]]), int(ends[number])
                spans.append((int(cells[number]), slice(at - begin, min(end, stop) - begin)))
                at, number = min(end, stop), number + 1
            yield spans, None if self.seed is None else self._random(_WINDOW, epoch, low).permutation(at - low)

    def _cells(self, epoch: int) -> Numbers:
        if self.seed is None:
            return np.arange(len(self.counts), dtype=np.int64)
        return self._random(_CELLS, epoch).permutation(len(self.counts)).astype(np.int64, copy=False)

    def _random(self, *what: int) -> np.random.Generator:
        assert self.seed is not None
        return np.random.default_rng([self.seed, *what])
