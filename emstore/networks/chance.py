"""Where networks and their trainings get their random numbers.

There is one stream per seed, purpose and number, so that chance does not depend on how work is cut or where it was stopped.
"""

from typing import Final, Literal

import numpy as np

Purpose = Literal["weights", "step", "held out", "search"]
_PURPOSES: Final = ("weights", "step", "held out", "search")


def stream(seed: int, purpose: Purpose, number: int = 0) -> np.random.Generator:
    """Return the stream of random numbers of a seed for one purpose and number."""
    key = np.random.SeedSequence([seed, _PURPOSES.index(purpose), number])
    return np.random.Generator(np.random.Philox(key))
