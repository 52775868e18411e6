"""One frozen configuration, scanned: probe by probe, or from plane waves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Capacity, Kind
from emstore.simulators.stem.beam import Detectors, Probe, make_probe, plane_waves, probes_at, through
from emstore.simulators.stem.parameters import StemParams
from emstore.simulators.stem.pieces import Progress, drop, file_of, load, make_all
from emstore.simulators.stem.setup import Setup
from emstore.work import Bench

BASE: Final = 350 << 20
"""Bytes of the process with abTEM loaded."""
MOST_WAVES: Final = 32
"""Waves carried at once: more are not faster."""
PIECE_PROBES: Final = 64
CHUNK: Final = 4096
"""Frequencies combined at once."""
MOST_PROBES: Final = 1024


@dataclass(frozen=True)
class Scanner:
    """Scans configurations of one specimen."""

    abtem: Any
    params: StemParams
    setup: Setup
    bench: Bench
    slices: int
    exits: int

    def __post_init__(self) -> None:
        self.batch()

    def potential_bytes(self) -> int:
        """Return the size of the potential, bytes, with what is made of one slice."""
        nx, ny = self.setup.gpts
        return nx * ny * (4 * self.slices + 40)

    def spare(self) -> int:
        """Return what the budget leaves beside the process and the potential, bytes."""
        return self.bench.memory - BASE - self.potential_bytes()

    def wave_bytes(self) -> int:
        """Return what one wave takes on its way, bytes: itself, its exits, their spectra, and FFTW's copy."""
        nx, ny = self.setup.gpts
        return nx * ny * 8 * (4 + 3 * self.exits)

    def batch(self) -> int:
        """Return how many waves to carry at once, per thread.

        Raises
        ------
        Capacity
            Not one fits.
        """
        one = self.wave_bytes() * self.bench.threads
        fitting = self.spare() // one
        if fitting < 1:
            raise _too_small(self.bench.memory - self.spare() + one, self.bench)
        return int(min(MOST_WAVES, fitting))

    def probe(self) -> Probe:
        """Return the probe, taken apart."""
        return make_probe(self.abtem, self.params, self.setup)

    def cost(self) -> tuple[float, float]:
        """Return the work of one configuration: to carry waves, and to combine them; in waves through a slice."""
        probes = self.setup.probes()
        if not self.setup.prism:
            return float(probes * self.slices), 0.0
        waves = len(self.probe().wave)
        nx, ny = self.setup.gpts
        # A complex multiplication in a matrix product against one in an FFT: measured.
        pixels = nx * ny * 0.35 / math.prod(self.setup.interpolation)
        return float(waves * self.slices), probes * waves * pixels * self.exits / (nx * ny * 250)

    def scan(self, number: int, potential: Any, progress: Progress) -> npt.NDArray[np.float64]:
        """Return what reaches the detectors, shape (exits, detectors, x, y), in parts of the beam."""
        kind = self._combined if self.setup.prism else self._one_by_one
        values = kind(f"{number:04d}", potential, progress)
        return np.moveaxis(values, -1, 1)

    def _one_by_one(self, name: str, potential: Any, progress: Progress) -> npt.NDArray[np.float64]:
        probe, count, batch = self.probe(), self.setup.probes(), self.batch()
        detectors = Detectors.on(self.params, self.setup.wavelength, self.setup.gpts, self.setup.box)

        def piece(n: int) -> npt.NDArray[np.float64]:
            out = []
            for part in _parts(count, batch, slice(n * PIECE_PROBES, min(count, (n + 1) * PIECE_PROBES))):
                waves = probes_at(probe, self.setup, self.setup.positions(part))
                spectra = through(self.abtem, self.params, self.setup, waves, potential)
                out.append(detectors.measure(spectra[:, :, detectors.rows, detectors.columns]))
            return np.concatenate(out, axis=1)

        names = [f"scan-{name}-{n:05d}" for n in range(-(-count // PIECE_PROBES))]
        share = self.cost()[0] / len(names)
        make_all(self.bench, progress, names, piece, lambda _: share, "scanning")
        return self._joined(names)

    def _combined(self, name: str, potential: Any, progress: Progress) -> npt.NDArray[np.float64]:
        probe, batch = self.probe(), self.batch()
        count = len(probe.wave)
        plain = math.prod(self.setup.interpolation) == 1
        combiner: Whole | Windows = (Whole if plain else Windows)(self, probe)
        size = min(MOST_WAVES, count)

        def waves(n: int) -> npt.NDArray[np.complex64]:
            out = []
            for part in _parts(count, batch, slice(n * size, min(count, (n + 1) * size))):
                spectra = through(self.abtem, self.params, self.setup, plane_waves(probe, self.setup, part), potential)
                out.append(combiner.kept(spectra))
            return np.concatenate(out, axis=1)

        first, second = self.cost()
        made = [f"waves-{name}-{n:05d}" for n in range(-(-count // size))]
        scanned = [f"scan-{name}-{n:05d}" for n in range(combiner.pieces())]
        # Once all is scanned the waves are gone: they are not made again after a stop.
        if all(file_of(self.bench.scratch, each).exists() for each in scanned):
            progress.add(first + second, "scanning")
            return combiner.arranged([load(self.bench.scratch, each) for each in scanned])
        make_all(self.bench, progress, made, waves, lambda _: first / len(made), "plane waves")
        parts = [load(self.bench.scratch, each) for each in made]
        make_all(self.bench, progress, scanned, lambda n: combiner.piece(n, parts), lambda _: second / len(scanned), "scanning")
        out = combiner.arranged([load(self.bench.scratch, each) for each in scanned])
        drop(self.bench.scratch, made)
        return out

    def _joined(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        flat = np.concatenate([load(self.bench.scratch, name) for name in names], axis=1)
        return flat.reshape(self.exits, *self.setup.scan, -1)


class Whole:
    """Every plane wave is there: a probe's spectrum behind the specimen is the sum of theirs, one matrix product."""

    def __init__(self, scanner: Scanner, probe: Probe) -> None:
        self._scanner, self._probe, self._setup = scanner, probe, scanner.setup
        self._detectors = Detectors.on(scanner.params, self._setup.wavelength, self._setup.gpts, self._setup.box)
        left = scanner.spare() // scanner.bench.threads
        waves = len(probe.wave)
        # Per frequency a column of every wave; per probe a row of amplitudes and one of results with its squares.
        self._chunk = int(max(64, min(CHUNK, left // (3 * 8 * waves))))
        self._many = int(max(16, min(MOST_PROBES, left // 3 // (24 * self._chunk + 24 * waves))))

    def kept(self, spectra: npt.NDArray[Any]) -> npt.NDArray[np.complex64]:
        """Return of plane waves what reaches a detector, shape (exits, n, frequencies)."""
        return np.asarray(spectra[:, :, self._detectors.rows, self._detectors.columns], dtype=np.complex64)

    def pieces(self) -> int:
        """Return into how many pieces the scan is cut."""
        return -(-self._setup.probes() // MOST_PROBES)

    def piece(self, n: int, parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Scan one piece, shape (exits, probes, detectors)."""
        which = slice(n * MOST_PROBES, min(self._setup.probes(), (n + 1) * MOST_PROBES))
        exits, frequencies = parts[0].shape[0], parts[0].shape[2]
        out = np.zeros((exits, which.stop - which.start, self._detectors.members.shape[1]))
        for some in _parts(which.stop, self._many, which):
            weights = self._probe.at(self._setup.positions(some), self._setup.box)
            here = slice(some.start - which.start, some.stop - which.start)
            for e in range(exits):
                for start in range(0, frequencies, self._chunk):
                    chunk = slice(start, min(frequencies, start + self._chunk))
                    amplitudes = weights @ np.concatenate([part[e, :, chunk] for part in parts])
                    out[e, here] += self._detectors.measure(amplitudes, chunk)
        return out

    def arranged(self, pieces: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Join the pieces, shape (exits, x, y, detectors)."""
        flat = np.concatenate(pieces, axis=1)
        return flat.reshape(flat.shape[0], *self._setup.scan, -1)


class Windows:
    """Some plane waves left out: their sum repeats, and each probe is cut out of it with its surroundings.

    Probes that lie close together share one window, a twelfth of whose width they may be away from its middle.
    """

    def __init__(self, scanner: Scanner, probe: Probe) -> None:
        self._scanner, self._probe = scanner, probe
        setup = self._setup = scanner.setup
        # Beyond two thirds of Nyquist waves are empty: a coarser grid holds them.
        coarse = [(f, f * math.ceil((n * 2 / 3 + 2) / f)) for n, f in zip(setup.gpts, setup.interpolation, strict=True)]
        self._grid = (coarse[0][1], coarse[1][1])
        self._window = (coarse[0][1] // coarse[0][0], coarse[1][1] // coarse[1][0])
        extent = (setup.box[0] / setup.interpolation[0], setup.box[1] / setup.interpolation[1])
        self._detectors = Detectors.on(scanner.params, setup.wavelength, self._window, extent)
        self._patch = [
            max(1, math.floor(edge / 12 / (area / n))) for edge, area, n in zip(extent, setup.area, setup.scan, strict=True)
        ]
        # One row of patches holds all its probes, and a strip of every plane wave with what is cut from it.
        held = self._patch[0] * setup.scan[1] * self._window[0] * self._window[1] * 8
        left = scanner.spare() // scanner.bench.threads - held
        one = len(probe.wave) * 8 * (self._grid[1] + 2 * self._window[1])
        if left < one:
            raise _too_small((held + one) * scanner.bench.threads + scanner.bench.memory - scanner.spare(), scanner.bench)
        self._rows = int(min(self._window[0], left // one))

    def kept(self, spectra: npt.NDArray[Any]) -> npt.NDArray[np.complex64]:
        """Return plane waves on the coarser grid, shape (exits, n, x, y)."""
        from scipy import fft

        take = [np.fft.fftfreq(m, 1 / m).astype(int) for m in self._grid]
        small = np.ascontiguousarray(spectra[:, :, take[0][:, None], take[1][None, :]])
        return np.asarray(fft.ifft2(small, overwrite_x=True, norm="forward"), dtype=np.complex64)

    def pieces(self) -> int:
        """Return into how many pieces the scan is cut: one per row of patches."""
        return -(-self._setup.scan[0] // self._patch[0])

    def piece(self, n: int, parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Scan one row of patches, shape (exits, x, y, detectors)."""
        from scipy import fft

        setup, (a, b) = self._setup, self._patch
        xs = np.arange(n * a, min(setup.scan[0], (n + 1) * a))
        patches = [np.arange(start, min(setup.scan[1], start + b)) for start in range(0, setup.scan[1], b)]
        step = [area / count for area, count in zip(setup.area, setup.scan, strict=True)]
        rows = self._around(xs.mean() * step[0], 0)
        columns = [self._around(ys.mean() * step[1], 1) for ys in patches]
        weights = []
        for ys in patches:
            x, y = np.meshgrid(xs * step[0], ys * step[1], indexing="ij")
            weights.append(self._probe.at(np.column_stack([x.ravel(), y.ravel()]), setup.box))
        exits = parts[0].shape[0]
        out = np.zeros((exits, len(xs), setup.scan[1], self._detectors.members.shape[1]))
        for e in range(exits):
            waves = [np.empty((len(weight), *self._window), dtype=np.complex64) for weight in weights]
            for some in _parts(len(rows), self._rows, slice(0, len(rows))):
                strip = np.concatenate([part[e][:, rows[some]] for part in parts])
                for wave, weight, where in zip(waves, weights, columns, strict=True):
                    cut = strip[:, :, where].reshape(len(strip), -1)
                    wave[:, some] = (weight @ cut).reshape(len(weight), -1, len(where))
            for wave, ys in zip(waves, patches, strict=True):
                spectra = fft.fft2(wave, overwrite_x=True, norm="forward")[:, self._detectors.rows, self._detectors.columns]
                out[e][:, ys] = self._detectors.measure(spectra).reshape(len(xs), len(ys), -1)
        return out

    def _around(self, place: float, axis: int) -> npt.NDArray[np.int64]:
        """Return which points of the coarser grid are around a place, periodic."""
        grid, wide = self._grid[axis], self._window[axis]
        middle = round(place / self._setup.box[axis] * grid)
        return (np.arange(wide) + middle - wide // 2) % grid

    def arranged(self, pieces: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Join the pieces, shape (exits, x, y, detectors)."""
        return np.concatenate(pieces, axis=1)


def _parts(stop: int, size: int, within: slice) -> list[slice]:
    return [slice(n, min(stop, within.stop, n + size)) for n in range(within.start, within.stop, size)]


def _too_small(needed: int, bench: Bench) -> Capacity:
    return Capacity(
        f"the simulation needs {needed / 2**20:.0f} MiB, the budget is {bench.memory / 2**20:.0f}",
        fix="more memory, fewer threads, a smaller supercell, or a narrower outermost detector",
        kind=Kind.MEMORY_BUDGET,
    )
