"""From what was asked to grids, angles and scan positions."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.simulators.stem.parameters import StemParams

UNTAPERED: Final = 0.3233
"""Part of the sampling frequency that abTEM's antialiasing leaves alone: 2/3 of Nyquist, less a taper of 0.01 (its defaults)."""
FINE: Final = 0.05
"""How finely the potential is sampled when nothing is said, angstrom. What just carries the detectors' angles is not enough: the
exponential of a heavy atom's potential has higher frequencies, which fold back. At 0.066 angstrom and 60-180 mrad equal columns
of MoS2 differ by 3 % with their place between samples, at 0.034 by 1 % or less (see `tests/bench/simulate.py`)."""
WINDOW: Final = 12.0
"""What a probe needs around it at zero thickness, angstrom."""
WIDEST: Final = 24.0
"""More than this is not asked for however thick the specimen: thick crystals guide the probe along its columns, angstrom."""


def wavelength(energy_kev: float) -> float:
    """Return the relativistic wavelength of electrons, angstrom."""
    # h c / sqrt(E (E + 2 m c^2)), CODATA 2018.
    return 12.398419843 / math.sqrt(energy_kev * (energy_kev + 2 * 510.99895))


def window(params: StemParams, thickness: float) -> float:
    """Return how wide the surroundings of a probe must be, angstrom."""
    return min(WIDEST, WINDOW + 2e-3 * params.convergence_mrad * thickness)


@dataclass(frozen=True)
class Setup:
    """The grids of one simulation. First axis x, second axis y."""

    box: tuple[float, float]
    """What is simulated, periodic, angstrom."""
    gpts: tuple[int, int]
    """Potential and waves are sampled with so many points."""
    area: tuple[float, float]
    """What is scanned, one period of the image, angstrom."""
    scan: tuple[int, int]
    """Scan positions, both odd: enough that the image has no higher frequency."""
    interpolation: tuple[int, int]
    """Every how many-th plane wave, along both axes."""
    prism: bool
    wavelength: float
    limit_mrad: float
    """Angle up to which nothing is lost to antialiasing."""

    def probes(self) -> int:
        """Return the number of scan positions."""
        return self.scan[0] * self.scan[1]

    def positions(self, which: slice) -> npt.NDArray[np.float64]:
        """Return x, y of some scan positions, counted along y first, shape (n, 2), angstrom."""
        x, y = np.divmod(np.arange(*which.indices(self.probes())), self.scan[1])
        return np.column_stack([x * self.area[0] / self.scan[0], y * self.area[1] / self.scan[1]])


def make_setup(
    params: StemParams, box: tuple[float, float], area: tuple[float, float], thickness: float, unit: tuple[float, float]
) -> Setup:
    """Choose the grids; `unit` is what repeats in the specimen, in x and y.

    Raises
    ------
    InvalidInput
        The potential is sampled too coarsely for the widest detector, or a detector has no width.
    """
    from scipy.fft import next_fast_len

    length = wavelength(params.energy_kev)
    for inner, outer in params.detectors_mrad:
        if not 0 <= inner < outer:
            raise InvalidInput(f"a detector from {inner:g} to {outer:g} mrad has no width", where="detectors_mrad")
    outermost = max(max(outer for _, outer in params.detectors_mrad), params.convergence_mrad)
    coarsest = UNTAPERED * length / (outermost * 1e-3)
    sampling = params.potential_sampling or min(coarsest, FINE)
    if sampling > coarsest * (1 + 1e-9):
        raise InvalidInput(
            f"a potential sampled at {sampling:g} angstrom carries {UNTAPERED * length / sampling * 1e3:.0f} mrad, "
            f"a detector reaches {outermost:g}",
            where="potential_sampling",
            fix=f"at most {math.floor(coarsest * 1e4) / 1e4:g} angstrom at {params.energy_kev:g} keV",
        )
    needed = window(params, thickness)
    folds = [params.interpolation or max(1, math.floor(edge / needed + 1e-6)) for edge in box]
    counts = [math.ceil(edge / sampling) for edge in box]
    # The image's highest frequency is twice the aperture's, whose soft edge ends half a reciprocal pixel further out.
    angle = params.convergence_mrad * 1e-3 / length

    def scan(reach: float) -> tuple[int, int]:
        return (2 * math.floor(2 * reach * area[0] + 1e-9) + 1, 2 * math.floor(2 * reach * area[1] + 1e-9) + 1)

    probes = scan(angle + 0.5 / min(box))
    waves = math.pi * angle**2 * box[0] * box[1] / (folds[0] * folds[1])
    prism = params.method == "prism" or (params.method == "auto" and waves < 0.7 * probes[0] * probes[1])
    if not prism:
        if params.method == "multislice" and (params.interpolation or 1) > 1:
            raise InvalidInput("only PRISM leaves plane waves out", where="interpolation", fix="method=prism, or interpolation=1")
        folds = [1, 1]
    else:
        probes = scan(angle + 0.5 * max(f / edge for f, edge in zip(folds, box, strict=True)))
        if min(edge / f for edge, f in zip(box, folds, strict=True)) < 4:
            raise InvalidInput(
                f"windows of {min(edge / f for edge, f in zip(box, folds, strict=True)):.1f} angstrom hold no probe",
                where="interpolation",
                fix=f"about {max(1, math.floor(min(box) / needed))} for a box of {min(box):.1f} angstrom",
            )
    # Cells are to look alike, so they are sampled alike.
    parts = [math.lcm(f, round(edge / cell)) for f, edge, cell in zip(folds, box, unit, strict=True)]
    gpts = [int(next_fast_len(math.ceil(n / f))) * f for n, f in zip(counts, parts, strict=True)]
    limit = UNTAPERED * length * 1e3 / max(edge / n for edge, n in zip(box, gpts, strict=True))
    return Setup(box, (gpts[0], gpts[1]), area, probes, (folds[0], folds[1]), prism, length, limit)
