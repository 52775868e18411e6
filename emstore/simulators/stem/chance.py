"""All chance of a simulation, by purpose: the same seed gives the same numbers however the work is cut."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What numbers are drawn for. Append only: a number is part of what a seed means."""

    VACANCIES = 1
    CARBON = 2
    SPECIMENS = 3
    CROPS = 4
    DISPLACEMENTS = 1000
    """Of configuration 0; the others follow."""


def stream(seed: int, purpose: int) -> np.random.Generator:
    """Return the numbers of a seed for one purpose (Philox, Salmon et al., SC 2011: streams by key)."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, purpose], dtype=np.uint64)))
