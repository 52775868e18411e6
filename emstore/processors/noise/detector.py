"""What a detector makes of expected electrons, image by image: pure functions of an image and a stream of random numbers.

References
----------
.. [1] L. Gambini, "Machine-learning approaches for the enhancement of 2D and 3D electron microscopy data", PhD thesis, Trinity
   College Dublin (2023), section 4.2: Poisson noise, Gaussian noise and a background of blurred points; values are put to
   [0, 1] after each step.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

POINTS: Final = 20
"""White points of the background (thesis, 4.2)."""
BLUR: Final = 0.1
"""Standard deviation of their blur, as a fraction of the image's shorter edge. The thesis does not state it."""
BLEND: Final = 0.5
"""Weight of the background in the sum (thesis, 4.2)."""


def counted(expected: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return counted electrons for expected ones: Poisson, nothing else. Same shape, whole numbers."""
    return rng.poisson(expected).astype(np.float32)


def analog(
    expected: npt.NDArray[Any],
    rng: np.random.Generator,
    *,
    variance: float = 0.0,
    points: int = POINTS,
    blur: float = BLUR,
    blend: float = BLEND,
) -> npt.NDArray[np.float32]:
    """Return one noisy analog image; see [1]_.

    Parameters
    ----------
    expected : ndarray, shape (y, x)
        Expected electrons.
    rng : Generator
    variance : float
        Of the Gaussian noise, on the scale of [0, 1].
    points : int
        White points that make the background; 0 for none.
    blur : float
        Standard deviation that blurs them, as a fraction of the image's shorter edge.
    blend : float
        Weight of the background in the sum.

    Returns
    -------
    ndarray of float32, shape (y, x)
        In [0, 1].
    """
    from scipy.ndimage import gaussian_filter

    values = unit(rng.poisson(expected).astype(np.float64))
    if variance:
        values = unit(values + rng.normal(scale=np.sqrt(variance), size=values.shape))
    if points and blend:
        background = np.zeros(values.shape)
        np.add.at(background, tuple(rng.integers(0, n, points) for n in values.shape), 1.0)
        background = unit(gaussian_filter(background, blur * min(values.shape), mode="reflect"))
        values = unit((1 - blend) * values + blend * background)
    return values.astype(np.float32)


def unit(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values moved and stretched to [0, 1], in their own precision; 0 where they are all the same."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
