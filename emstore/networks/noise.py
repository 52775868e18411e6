"""The noise of STEM images, drawn afresh for every training step.

Chance comes from one stream per seed, purpose and number, so that it does not depend on how work is cut or where it was stopped.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]
Purpose = Literal["weights", "step", "held out", "search"]
_PURPOSES: Final = ("weights", "step", "held out", "search")


def stream(seed: int, purpose: Purpose, number: int = 0) -> np.random.Generator:
    """Return the stream of random numbers of a seed for one purpose and number."""
    key = np.random.SeedSequence([seed, _PURPOSES.index(purpose), number])
    return np.random.Generator(np.random.Philox(key))


def counted(expected: npt.NDArray[Any], rng: np.random.Generator) -> Images:
    """Return counted electrons for expected ones: Poisson, nothing else. Same shape, float32 whole numbers."""
    return rng.poisson(expected).astype(np.float32)


@dataclass(frozen=True)
class Analog:
    """The noise of analog images, in the order of the thesis, section 4.2: values are put to [0, 1] after each step."""

    variance: tuple[float, float] = (0.0, 0.05)
    """Range from which the variance of the Gaussian noise is drawn, in values of [0, 1]."""
    points: int = 20
    """White points whose blurred picture is the background; 0 for none."""
    blur: float = 0.125
    """Standard deviation of the blur, in parts of the image's shorter side. The thesis does not state it."""
    blend: float = 0.5
    """Share of the background."""

    def __call__(self, expected: npt.NDArray[Any], rng: np.random.Generator) -> Images:
        """Return a noisy image in [0, 1].

        Parameters
        ----------
        expected : ndarray, shape (y, x)
            Expected electrons.
        rng : Generator
        """
        from scipy.ndimage import gaussian_filter

        image = unit(counted(expected, rng))
        image = unit(image + rng.normal(0, np.sqrt(rng.uniform(*self.variance)), image.shape))
        if self.points:
            background = np.zeros(image.shape)
            background[tuple(rng.integers(0, n, self.points) for n in image.shape)] = 1
            background = gaussian_filter(background, self.blur * min(image.shape))
            image = unit((1 - self.blend) * image + self.blend * unit(background))
        return image


def unit(image: npt.NDArray[Any]) -> Images:
    """Return an image put to [0, 1] by its least and largest value; zeros where all are equal."""
    low, high = float(image.min()), float(image.max())
    return ((image - low) / (high - low) if high > low else np.zeros(image.shape)).astype(np.float32)
