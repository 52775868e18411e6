"""Everything that can be reached from some nodes of a graph of millions of edges, in a second or two.

Compressed sparse rows (the edges sorted by where they start, and where each start's run begins) let a breadth-first search take
a whole frontier at a time in NumPy, where a recursive query of a database takes one row at a time.
"""

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


def levels(start: Numbers, end: Numbers, roots: Numbers, *, depth: int | None = None) -> tuple[Numbers, Numbers]:
    """Return what can be reached, and in how many steps at least.

    Parameters
    ----------
    start, end : ndarray, shape (edges,), int64
        Every edge leads from a start to an end; numbers >= 0, not much larger than there are nodes.
    roots : ndarray, shape (roots,), int64
        Where to begin; part of the answer, at level 0.
    depth : int, optional
        Most steps to take; no limit when left out.

    Returns
    -------
    reached : ndarray, shape (n,), int64
        Node numbers, by level.
    level : ndarray, shape (n,), int64
        Fewest steps from a root.
    """
    size = 1 + max(int(part.max(initial=-1)) for part in (start, end, roots))
    order = np.argsort(start, kind="stable")
    towards = end[order]
    first = np.concatenate([[0], np.cumsum(np.bincount(start, minlength=size))])
    seen = np.zeros(size, bool)
    frontier = np.unique(roots)
    seen[frontier] = True
    found = [frontier]
    while frontier.size and (depth is None or len(found) <= depth):
        counts = first[frontier + 1] - first[frontier]
        # The positions of all runs, one after the other: each run's own start, plus how far into it.
        ends = np.cumsum(counts)
        runs = np.repeat(first[frontier] - (ends - counts), counts) + np.arange(ends[-1])
        reached = towards[runs]
        frontier = np.unique(reached[~seen[reached]])
        seen[frontier] = True
        found.append(frontier)
    return np.concatenate(found), np.repeat(np.arange(len(found)), [len(each) for each in found])
