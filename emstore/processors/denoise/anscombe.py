r"""The generalised Anscombe transform: makes the noise of a counting detector the same everywhere, and back without bias.

The detector gives ``z = gain * p + n``, ``p`` Poisson with mean ``y`` (quanta), ``n`` normal with mean ``offset`` and standard
deviation ``read_noise``. Then

.. math:: f(z) = \frac{2}{g} \sqrt{\max(0, g z + \tfrac{3}{8} g^2 + \sigma^2 - g m)}

has a standard deviation of about 1 whatever ``y`` is. Undoing ``f`` by algebra is biased, since the mean of a square root is
not the square root of the mean: the exact unbiased inverse maps ``E[f(z) | y]``, which a denoiser estimates, to ``y``.

References
----------
.. [1] F. Murtagh, J.-L. Starck, A. Bijaoui, "Image restoration with noise suppression using a multiresolution support",
   Astron. Astrophys. Suppl. Ser. 112 (1995) 179-189.
.. [2] M. Mäkitalo, A. Foi, "Optimal inversion of the Anscombe transformation in low-count Poisson image denoising",
   IEEE Trans. Image Process. 20 (2011) 99-109.
.. [3] M. Mäkitalo, A. Foi, "Optimal inversion of the generalized Anscombe transformation for Poisson-Gaussian noise",
   IEEE Trans. Image Process. 22 (2013) 91-103.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.processor import Params
from emstore.processors.denoise.values import Floats
from emstore.volume import Volume

BRIGHT: Final = 400.0
"""Mean count from which the inverse is its asymptote, ``D^2/4 - 1/8 - sigma^2``, to 1e-4 counts."""

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


class Detector(Params):
    """How a detector turns quanta into values, for the parameter ``stabilise``."""

    gain: float = Field(1.0, gt=0, description="values per detected quantum (electron, photon)")
    offset: float = Field(0.0, description="mean value without any quantum")
    read_noise: float = Field(0.0, ge=0, description="standard deviation of the noise without any quantum, in values")
    values: Literal["stored", "physical"] = Field(
        "stored",
        description="what gain, offset and read_noise speak of: stored values, or physical ones (slope and intercept applied)",
    )


@dataclass(frozen=True)
class Anscombe:
    """The transform for one detector, of stored values."""

    gain: float
    offset: float
    read_noise: float

    @classmethod
    def of(cls, detector: Detector, volume: Volume) -> "Anscombe":
        """Return the transform for a volume's stored values.

        ``physical = slope * stored + intercept``, so a detector described in physical values has, in stored ones, its gain and
        read noise divided by the slope, and its offset less the intercept, divided by the slope.

        Raises
        ------
        InvalidInput
            The detector speaks of physical values and the volume has no scale, or one that falls.
        """
        if detector.values == "stored":
            return cls(detector.gain, detector.offset, detector.read_noise)
        scale = volume.scale
        if scale is None or not scale.slope > 0:
            raise InvalidInput(
                "has no rising scale from stored to physical values" if scale is not None else "has no scale to physical values",
                where=volume.name,
                fix="give gain, offset and read_noise of the stored values, with values=stored",
            )
        return cls(
            detector.gain / scale.slope, (detector.offset - scale.intercept) / scale.slope, detector.read_noise / scale.slope
        )

    @property
    def spread(self) -> float:
        """Read noise in quanta."""
        return self.read_noise / self.gain

    def forward(self, values: Floats) -> Floats:
        """Return the values stabilised to a noise of standard deviation 1; `values` are overwritten."""
        values -= self.offset
        values /= self.gain
        values += 3 / 8 + self.spread**2
        np.maximum(values, 0, out=values)
        np.sqrt(values, out=values)
        values *= 2
        return values

    def inverse(self, values: Floats) -> Floats:
        """Return stored values from denoised stabilised ones, without bias; at least `offset`, the value of no quantum.

        Parameters
        ----------
        values : ndarray of float
            Estimates of ``E[f(z)]``.

        Returns
        -------
        ndarray of float
            Same shape and type.
        """
        means, corrections = correction(self.spread)
        counts = np.interp(values, means, corrections, left=0.0, right=0.0)  # NaN stays NaN
        counts += np.square(values, dtype=np.float64) / 4 - (1 / 8 + self.spread**2)
        counts[values <= means[0]] = 0
        counts *= self.gain
        counts += self.offset
        return counts.astype(values.dtype, copy=False)


@lru_cache(maxsize=16)
def correction(spread: float) -> Curve:
    """Return what the exact unbiased inverse adds to its asymptote.

    Parameters
    ----------
    spread : float
        Read noise in quanta.

    Returns
    -------
    means : ndarray of float64, shape (n,)
        Mean of the stabilised value, rising.
    corrections : ndarray of float64, shape (n,)
        ``y - (means^2 / 4 - 1/8 - spread^2)``, in quanta.
    """
    from scipy.special import gammaln, xlogy

    y = np.linspace(0, np.sqrt(BRIGHT), 600)[:, None] ** 2
    quanta = np.arange(int(BRIGHT + 12 * np.sqrt(BRIGHT)) + 50.0)
    chance = np.exp(xlogy(quanta, y) - y - gammaln(quanta + 1))
    means = chance @ _mean_root(quanta, spread)
    return means, y[:, 0] - (means**2 / 4 - 1 / 8 - spread**2)


def _mean_root(quanta: npt.NDArray[np.float64], spread: float) -> npt.NDArray[np.float64]:
    """Return the mean of ``2 sqrt(max(0, k + spread * x + 3/8 + spread^2))`` over normal x, for every k."""
    base = quanta + 3 / 8 + spread**2
    if spread == 0:
        return np.asarray(2 * np.sqrt(base))
    # x = zero + u^2 takes the root's kink away, so that the trapezoidal rule converges as fast as for any smooth bell curve.
    zero = -base / spread
    low, high = np.sqrt(np.maximum(0, -9 - zero)), np.sqrt(9 - zero)
    u = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 401)
    bell = np.exp(-((zero[:, None] + u**2) ** 2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray(np.trapezoid(4 * np.sqrt(spread) * u**2 * bell, u, axis=1))
