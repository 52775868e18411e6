"""Chance that does not depend on how an image is cut: every tile of every frame has a stream of random numbers of its own."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from emstore.volume import Region

TILE = 64
"""Edge of the tiles along the last two axes, pixels. Another size would give other noise."""


def stream(seed: int, *place: int) -> np.random.Generator:
    """Return the random numbers of one place: Philox (Salmon et al., SC11, 2011), keyed by the seed and the place."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *place])))


def widened(region: Region, shape: Sequence[int]) -> Region:
    """Return a region that holds every tile it touches, cut at the array's ends; the tiles are of the last two axes."""
    before = len(region) - 2
    tiled = (
        slice(part.start // TILE * TILE, min(-(-part.stop // TILE) * TILE, size))
        for part, size in zip(region[before:], shape[before:], strict=True)
    )
    return (*region[:before], *tiled)


def tiles(region: Region) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Give the place of every tile of a region that `widened` returned, and where it lies in what was read of it."""
    before = len(region) - 2
    lines = [range(part.start, part.stop) for part in region[:before]]
    edges = [range(part.start, part.stop, TILE) for part in region[before:]]
    for place in product(*lines, *edges):
        inside = tuple(
            slice(at - part.start, min(at - part.start + (1 if i < before else TILE), part.stop - part.start))
            for i, (at, part) in enumerate(zip(place, region, strict=True))
        )
        yield (*place[:before], *(at // TILE for at in place[before:])), inside
