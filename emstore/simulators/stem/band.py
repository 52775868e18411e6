"""The image as a sum of waves: exact wherever one looks.

A probe formed by an aperture of semi-angle alpha makes images without any frequency above 2 alpha / lambda, whatever the
detector: an image scanned finely enough over one period is known everywhere (sampling theorem).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.volume import Region

BLOCK: Final = 256
WORK: Final = 1 << 25
"""Bytes of factors held at a time while values are made."""


@dataclass(frozen=True)
class Band:
    """Images that repeat with `area`, by their Fourier coefficients."""

    coefficients: npt.NDArray[np.complex128]
    """Shape (..., x, y), both odd, frequency zero first; of one image the coefficients are those of a real function."""
    area: tuple[float, float]
    """Period along x and y, angstrom."""

    @classmethod
    def of(cls, values: npt.NDArray[Any], area: tuple[float, float], source: float = 0.0) -> "Band":
        """Take images sampled evenly over one period, shape (..., x, y), blurred by a source `source` wide (FWHM, angstrom)."""
        from scipy import fft

        coefficients = fft.fft2(np.asarray(values, dtype=np.float64)) / (values.shape[-2] * values.shape[-1])
        x, y = (np.fft.fftfreq(n, edge / n) for n, edge in zip(values.shape[-2:], area, strict=True))
        if source:
            spread = source / np.sqrt(8 * np.log(2))
            coefficients = coefficients * np.exp(-2 * (np.pi * spread) ** 2 * (x[:, None] ** 2 + y**2))
        return cls(coefficients, area)

    def means(self) -> npt.NDArray[np.float64]:
        """Return the mean of every image, shape (...)."""
        return self.coefficients[..., 0, 0].real

    def extremes(self, finer: int = 3) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return lowest and highest value of every image, looked for on a grid `finer` times as fine as that of the samples."""
        from scipy import fft

        low, high = [], []
        nx, ny = self.coefficients.shape[-2:]
        x, y = (np.fft.fftfreq(n, 1 / n).astype(int) for n in (nx, ny))
        for image in self.coefficients.reshape(-1, nx, ny):
            wide = np.zeros((nx * finer, ny * finer), dtype=np.complex128)
            wide[np.ix_(x, y)] = image
            values = fft.ifft2(wide).real * wide.size
            low.append(values.min())
            high.append(values.max())
        shape = self.coefficients.shape[:-2]
        return np.reshape(low, shape), np.reshape(high, shape)

    def factors(
        self, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64], turn: float
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
        """Return which half of the frequencies to take, and for these the waves along rows (rows, n) and columns (n, columns).

        Parameters
        ----------
        rows, columns : ndarray
            Positions y and x in the image, angstrom from its first pixel.
        turn : float
            How far the specimen is turned in the image, radian, from x to y.
        """
        nx, ny = self.coefficients.shape[-2:]
        x, y = np.meshgrid(np.fft.fftfreq(nx, self.area[0] / nx), np.fft.fftfreq(ny, self.area[1] / ny), indexing="ij")
        half = np.flatnonzero((x > 0) | ((x == 0) & (y >= 0)))
        x, y = x.ravel()[half], y.ravel()[half]
        # A pixel at (u, v) of the image, x first, shows the specimen at (u cos + v sin, -u sin + v cos).
        along_x, along_y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
        return half, np.exp(2j * np.pi * np.outer(rows, along_y)), np.exp(2j * np.pi * np.outer(along_x, columns))


@dataclass(frozen=True)
class Picture:
    """A lazy array: a band of images seen through pixels."""

    band: Band
    leading: tuple[int, ...]
    """Sizes before y, x; the band's leading axes without those of size 1."""
    size: tuple[int, int]
    pixel: float
    turn: float
    """Radian."""
    offset: tuple[float, float]
    """y, x of the specimen at the first pixel, angstrom."""
    least: float = 0.0
    """Lower values are raised to this: what is below zero is numerical noise."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return (*self.leading, *self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(np.float32)

    @property
    def block(self) -> tuple[int, ...]:
        """A square that shares its factors."""
        return (*(1 for _ in self.leading), min(BLOCK, self.size[0]), min(BLOCK, self.size[1]))

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Compute one region."""
        *before, rows, columns = region
        coefficients = self.band.coefficients.reshape(*self.leading, -1)[tuple(before)]
        images = coefficients.reshape(-1, coefficients.shape[-1])
        y, x = (np.arange(part.start, part.stop, dtype=np.float64) * self.pixel for part in (rows, columns))
        out = np.empty((len(images), len(y), len(x)), dtype=np.float32)
        step = max(1, WORK // (16 * images.shape[1]))
        for left in range(0, len(x), step):
            for top in range(0, len(y), step):
                part = self._part(images, y[top : top + step], x[left : left + step])
                out[:, top : top + step, left : left + step] = part
        return out.reshape(*coefficients.shape[:-1], len(y), len(x))

    def _part(self, images: npt.NDArray[np.complex128], y: npt.NDArray[Any], x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        half, down, across = self.band.factors(y, x, self.turn)
        _, first_y, first_x = self.band.factors(np.array([self.offset[0]]), np.array([self.offset[1]]), 0.0)
        weights = np.where(half == 0, 1.0, 2.0) * (first_y[0] * first_x[:, 0])
        values = np.stack([((image[half] * weights) * down @ across).real for image in images])
        return np.asarray(np.maximum(values, self.least))
