"""Local statistics of two images in a sliding window: the sums SSIM is made of (Wang et al. 2004, equations 14-16)."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

K1: Final = 0.01
K2: Final = 0.03
"""Constants of Wang et al. 2004, section III-C."""


@dataclass(frozen=True)
class Window:
    """A separable window of weights that add up to one."""

    weights: tuple[float, ...]
    """Along each of its two axes; an odd number of them."""
    sample: bool
    """Divide variances by n - 1, as the uniform window's users do, and not by n."""

    @classmethod
    def of(cls, shape: Literal["gaussian", "uniform"], size: int, sigma: float) -> "Window":
        """Return a Gaussian window (Wang et al. 2004: 11 wide, sigma 1.5) or a uniform one."""
        if shape == "uniform":
            return cls((1 / size,) * size, True)
        off = np.arange(size) - size // 2
        bell = np.exp(-0.5 * (off / sigma) ** 2)
        return cls(tuple(float(w) for w in bell / bell.sum()), False)

    @property
    def size(self) -> int:
        """Samples along each axis."""
        return len(self.weights)

    @property
    def radius(self) -> int:
        """Samples on either side of the centre."""
        return self.size // 2

    def blur(self, values: Array) -> Array:
        """Return the weighted mean around every voxel whose window lies inside, over the last two axes.

        Each mean is summed from its own window alone, in a fixed order: it does not depend on what else was read.
        """
        from scipy.ndimage import correlate1d

        r = self.radius
        rows = correlate1d(values, self.weights, axis=-2, mode="nearest")[..., r : values.shape[-2] - r, :]
        return np.asarray(correlate1d(rows, self.weights, axis=-1, mode="nearest")[..., r : values.shape[-1] - r])

    def similarity(self, image: npt.NDArray[Any], reference: npt.NDArray[Any], span: float) -> tuple[Array, Array]:
        """Return luminance and contrast-structure of every window inside, whose product is SSIM.

        Parameters
        ----------
        image, reference : ndarray
            Shape (..., y, x), any real type.
        span : float
            Data range L; the constants are ``(K1 L)**2`` and ``(K2 L)**2``.

        Returns
        -------
        luminance, structure : ndarray of float64
            Shape (..., y - 2 radius, x - 2 radius); NaN where a window holds one.
        """
        a, b = image.astype(np.float64), reference.astype(np.float64)
        share = self.size**2 / (self.size**2 - 1) if self.sample else 1.0
        with np.errstate(invalid="ignore", over="ignore"):
            mean_a, mean_b = self.blur(a), self.blur(b)
            both = share * (self.blur(a * b) - mean_a * mean_b)
            spread = share * (self.blur(a * a + b * b) - mean_a**2 - mean_b**2)
            c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
            return (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1), (2 * both + c2) / (spread + c2)
