"""Electrons through a potential, by abTEM, and onto detectors.

abTEM (J. Madsen & T. Susi, Open Research Europe 1 (2021) 24) makes the potential (independent atoms, Lobato's parametrisation,
infinite projections), forms the probe and carries waves through the slices. What is done here is to cut this work into pieces
of known size, and to combine plane waves into probes (PRISM, C. Ophus, Adv. Struct. Chem. Imaging 3 (2017) 13).
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput, Kind
from emstore.simulators.stem.crystals import ATOMIC_NUMBERS
from emstore.simulators.stem.parameters import StemParams
from emstore.simulators.stem.setup import Setup

PRESENT: Final = 1e-6
"""Plane waves weaker than this part of the strongest are none (the aperture's soft edge ends there)."""


@contextlib.contextmanager
def abtem_ready() -> Iterator[Any]:
    """Import abTEM and have it compute at once, on the CPU, one thread at a time; BLAS likewise.

    Raises
    ------
    InvalidInput
        Kind ``missing_extra``: abTEM or pyFFTW is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries that abTEM imports, about themselves
            import abtem
            import pyfftw  # type: ignore[import-untyped]  # noqa: F401
            from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError as error:
        raise InvalidInput(
            f"simulating needs {error.name}", fix="pip install 'emstore[stem]'", kind=Kind.MISSING_EXTRA
        ) from error
    settings = {
        "device": "cpu", "precision": "float32", "fft": "fftw", "fftw.threads": 1, "fftw.planning_effort": "FFTW_MEASURE",
        "dask.lazy": False, "diagnostics.progress_bar": False, "antialias.cutoff": 2 / 3, "antialias.taper": 0.01,
    }  # fmt: skip
    with abtem.config.set(settings), threadpool_limits(1):
        yield abtem


def make_potential(
    abtem: Any,
    setup: Setup,
    positions: npt.NDArray[np.float64],
    elements: npt.NDArray[np.str_],
    height: float,
    slices: int,
    ends: Sequence[int],
) -> Any:
    """Return the projected potential of every slice, as abTEM's PotentialArray that knows where to look at the waves."""
    from ase import Atoms

    numbers = [ATOMIC_NUMBERS[element] for element in elements.tolist()]
    inside = positions.copy()
    # An atom that moved out of the box's ends stays in its slice.
    inside[:, 2] = np.clip(inside[:, 2], 1e-4, height - 1e-4)
    atoms = Atoms(numbers, positions=inside, cell=[*setup.box, height], pbc=(True, True, False))
    atoms.wrap()  # type: ignore[no-untyped-call]
    potential = abtem.Potential(
        atoms,
        gpts=setup.gpts,
        slice_thickness=(height / slices,) * slices,
        exit_planes=tuple(end - 1 for end in ends),
        projection="infinite",
        parametrization="lobato",
        periodic=True,
    )
    return potential.build(lazy=False)


@dataclass(frozen=True)
class Probe:
    """The probe, as the plane waves it is made of."""

    wave: npt.NDArray[np.int64]
    """Frequency of each in parts of 1 / box, shape (waves, 2), order (x, y)."""
    weight: npt.NDArray[np.complex64]
    """Amplitude of each, shape (waves,); the squares sum to 1."""

    def at(self, positions: npt.NDArray[np.float64], box: tuple[float, float]) -> npt.NDArray[np.complex64]:
        """Return the amplitudes of the probe moved to `positions` (n, 2), shape (n, waves)."""
        phase = positions @ (self.wave / np.array(box)).T
        return np.asarray(self.weight * np.exp(-2j * np.pi * (phase % 1.0)), dtype=np.complex64)


def make_probe(abtem: Any, params: StemParams, setup: Setup) -> Probe:
    """Take abTEM's probe apart; with interpolation, that of a box so many times smaller."""
    fx, fy = setup.interpolation
    small = abtem.Probe(
        energy=params.energy_kev * 1e3,
        semiangle_cutoff=params.convergence_mrad,
        defocus=params.defocus,
        gpts=(setup.gpts[0] // fx, setup.gpts[1] // fy),
        extent=(setup.box[0] / fx, setup.box[1] / fy),
    ).build(scan=abtem.CustomScan([(0.0, 0.0)]), lazy=False)  # in the corner: its own choice is the middle
    spectrum = np.fft.fft2(np.asarray(small.array, dtype=np.complex128)[0])
    spectrum /= np.sqrt((np.abs(spectrum) ** 2).sum())
    hx, hy = np.nonzero(np.abs(spectrum) > PRESENT * np.abs(spectrum).max())
    weight = spectrum[hx, hy]
    signed = [np.where(h > n // 2, h - n, h) for h, n in zip((hx, hy), spectrum.shape, strict=True)]
    return Probe(np.column_stack([signed[0] * fx, signed[1] * fy]).astype(np.int64), weight.astype(np.complex64))


def plane_waves(probe: Probe, setup: Setup, which: slice) -> npt.NDArray[np.complex64]:
    """Return some of the probe's plane waves before the specimen, shape (n, x, y)."""
    x, y = (
        np.exp(2j * np.pi * (np.outer(wave, np.arange(n)) % n) / n)
        for wave, n in zip(probe.wave[which].T, setup.gpts, strict=True)
    )
    return np.asarray(x[:, :, None] * y[:, None, :], dtype=np.complex64)


def probes_at(probe: Probe, setup: Setup, positions: npt.NDArray[np.float64]) -> npt.NDArray[np.complex64]:
    """Return probes before the specimen, shape (n, x, y)."""
    from scipy import fft

    out = np.zeros((len(positions), *setup.gpts), dtype=np.complex64)
    out[:, probe.wave[:, 0], probe.wave[:, 1]] = probe.at(positions, setup.box)
    waves: npt.NDArray[np.complex64] = fft.ifft2(out, overwrite_x=True, norm="forward")
    return waves


def through(abtem: Any, params: StemParams, setup: Setup, waves: npt.NDArray[np.complex64], potential: Any) -> npt.NDArray[Any]:
    """Return the spectra of waves behind every exit plane, shape (exits, n, x, y).

    A wave of amplitude 1 has 1 at its frequency.
    """
    from abtem.core.axes import OrdinalAxis
    from scipy import fft

    sampling = tuple(edge / n for edge, n in zip(setup.box, setup.gpts, strict=True))
    axis = OrdinalAxis(label="wave", values=tuple(range(len(waves))))
    batch = abtem.Waves(waves, energy=params.energy_kev * 1e3, sampling=sampling, ensemble_axes_metadata=[axis])
    out = np.asarray(batch.multislice(potential).array)
    spectra: npt.NDArray[Any] = fft.fft2(out.reshape(-1, len(waves), *setup.gpts), overwrite_x=True, norm="forward")
    return spectra


@dataclass(frozen=True)
class Detectors:
    """Which spatial frequencies reach which detector."""

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    members: npt.NDArray[np.float32]
    """1 where a frequency reaches a detector, shape (frequencies, detectors)."""

    @classmethod
    def on(cls, params: StemParams, wavelength: float, gpts: tuple[int, int], extent: tuple[float, float]) -> "Detectors":
        """Take the frequencies of a grid; one on a detector's inner edge belongs to it, one on its outer edge does not.

        Raises
        ------
        InvalidInput
            A detector so narrow that no frequency falls on it.
        """
        x, y = (np.fft.fftfreq(n, edge / n) for n, edge in zip(gpts, extent, strict=True))
        angle = np.hypot(x[:, None], y[None, :]) * wavelength * 1e3
        reaches = np.stack([(angle >= inner) & (angle < outer) for inner, outer in params.detectors_mrad], axis=-1)
        for (inner, outer), some in zip(params.detectors_mrad, np.atleast_1d(reaches.any(axis=(0, 1))).tolist(), strict=True):
            if not some:
                raise InvalidInput(
                    f"no diffraction pixel falls between {inner:g} and {outer:g} mrad: they are "
                    f"{wavelength * 1e3 / max(extent):.2f} mrad apart",
                    where="detectors_mrad",
                    fix="a wider detector, or a wider supercell",
                )
        rows, columns = np.nonzero(reaches.any(axis=-1))
        return cls(rows, columns, reaches[rows, columns].astype(np.float32))

    def measure(self, amplitudes: npt.NDArray[Any], which: slice = slice(None)) -> npt.NDArray[np.float64]:
        """Sum the intensity on every detector: (..., frequencies) to (..., detectors)."""
        power = amplitudes.real**2 + amplitudes.imag**2
        return np.asarray(power @ self.members[which], dtype=np.float64)
