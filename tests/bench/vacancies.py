"""Vacancies found on simulated monolayers with known ones, beside an ideal observer, Atomap and the clock.

The simulation is `emstore simulate stem`'s: full frozen-phonon supercells with missing chalcogens, one run per material, seen
through 60-180 and 30-70 mrad. MoS2 seed 1 calibrates; all else is held out. An image is known everywhere, so every trial sees
it at another turn and offset, with counts of its own.

The ideal observer knows the lattice, where every atom is but for the one in question, and how the image would be with and
without it; it tells by the Poisson likelihood ratio, with the threshold that is best for all trials together.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.processors.measure.vacancies.calibration import steps_for
from emstore.processors.measure.vacancies.lattice import Unusable
from emstore.processors.measure.vacancies.template import Asked, find_sites
from emstore.processors.measure.vacancies.two_sublattice import Separations, find_two_sublattices
from emstore.simulators.stem import Stem, StemParams, Vacancies
from emstore.simulators.stem.band import Band
from emstore.simulators.stem.simulator import plan
from emstore.simulators.stem.specimen import columns_of
from emstore.work import Bench

DETECTORS = ((60.0, 180.0), (30.0, 70.0))
DOSES = (1_000, 3_000, 10_000)
CALIBRATES = ("MoS2", 1, 0.05, 0.02)
HELD_OUT = (("MoS2", 4, 0.05, 0.0), ("MoSe2", 2, 0.05, 0.02), ("WS2", 3, 0.05, 0.02))
WIDE = 38.4
"""Least width of a simulated box, angstrom."""
PITCH = 0.05
"""Of the grids that simulated images are looked up on, angstrom."""
CELL = 64
REACH = 2.2
"""How far an atom's absence is seen, angstrom."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Specimen:
    """One simulated layer."""

    params: StemParams
    band: Band

    @classmethod
    def of(cls, folder: Path, material: str, seed: int, single: float, double: float, wide: float = WIDE) -> "Specimen":
        """Simulate it, or read it from the folder."""
        params = StemParams(
            material=material, detectors_mrad=DETECTORS, pixel=0.2, shape=(round(wide / 0.2),) * 2, full=True, supercell=wide,
            vacancies=Vacancies(single=single, double=double), seed=seed, phonons=1,
        )  # fmt: skip
        kept = folder / f"{material}_{seed}_{single}_{double}_{round(wide / 0.2)}.npz"
        if not kept.exists():
            scratch = folder / kept.stem
            scratch.mkdir(parents=True, exist_ok=True)
            image, _ = Stem().simulate(params, Bench(scratch, lambda share, what: None, 2 << 30, 1))
            band = image.content.data.band  # type: ignore[union-attr]
            np.savez(kept, coef=band.coefficients.astype(np.complex64), area=band.area)
        with np.load(kept) as read:
            return cls(params, Band(read["coef"].astype(np.complex128), (float(read["area"][0]), float(read["area"][1]))))


@dataclass(frozen=True)
class Layer:
    """A layer averaged over its thermal motion, with any vacancies one likes.

    In one frozen configuration every column stands still in another place; the mean over all columns of a kind is the mean over
    as many configurations. The full layer is the mean cell of the simulated image away from vacancies; what an atom's absence
    takes away is the mean difference at those that lack one, or two, and no others near.
    """

    edge: float
    """Of the cell, angstrom."""
    cell: Floats
    """Beam fractions (detector, u, v) at fractions of the vectors (edge, 0) and (edge / 2, edge sqrt(3) / 2), order (x, y)."""
    chalcogen: Floats
    """Place of the chalcogen, angstrom, order (x, y)."""
    lacking: Floats
    """What one atom's absence, and two atoms', takes away: (2, detector, x, y), on a grid of `PITCH` around the column."""

    @classmethod
    def of(cls, specimen: Specimen) -> "Layer":
        from scipy import fft, ndimage

        job = plan(specimen.params)
        columns = columns_of(job.specimen, np.zeros_like(job.specimen.positions))
        edge = float(job.specimen.unit[0])
        band = specimen.band
        fine = [round(length / PITCH) for length in band.area]
        shape = band.coefficients.shape[-2:]
        wide = np.zeros((len(DETECTORS), *fine), np.complex128)
        at = [np.fft.fftfreq(n, 1 / n).astype(int) for n in shape]
        wide[np.ix_(range(len(DETECTORS)), *at)] = band.coefficients.reshape(len(DETECTORS), *shape)
        images = fft.ifft2(wide).real * (fine[0] * fine[1])
        scale = np.array(fine) / np.array(band.area)

        def seen(detector: int, places: Floats) -> Floats:
            found = ndimage.map_coordinates(images[detector], np.moveaxis(places * scale, -1, 0), order=3, mode="grid-wrap")
            return np.asarray(found)

        chalcogens = columns.atoms == 2
        places, missing = columns.places[chalcogens], columns.missing[chalcogens]
        metals = columns.places[~chalcogens]
        box = np.array(band.area)

        def apart(one: Floats, other: Floats) -> Floats:
            away = one[:, None] - other[None]
            return np.asarray(np.hypot(*np.moveaxis(away - box * np.round(away / box), -1, 0)))

        vacant = places[missing > 0]
        pure = metals[(apart(metals, vacant) > 1.5 * edge).all(1)] if len(vacant) else metals
        vectors = np.array([[edge, 0.0], [edge / 2, edge * math.sqrt(0.75)]])
        steps = np.arange(CELL) / CELL
        grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1) @ vectors
        cell = np.stack([seen(n, pure[:, None, None] + grid).mean(0) for n in range(len(DETECTORS))])
        layer = cls(edge, cell, places[0] - metals[0], np.zeros((2, len(DETECTORS), 1, 1)))
        reach = np.arange(-REACH, REACH + PITCH / 2, PITCH)
        around = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1)
        taper = np.clip((REACH - np.hypot(*np.moveaxis(around, -1, 0))) / 0.5, 0, 1)
        lacking = np.zeros((2, len(DETECTORS), len(reach), len(reach)))
        for gone in (1, 2):
            others = apart(places, vacant)
            lone = places[(missing == gone) & ((others < 1.4 * edge).sum(1) == 1)]
            if not len(lone):
                lone = places[missing == gone]
            for n in range(len(DETECTORS)):
                if len(lone):
                    full = layer.pristine(n, layer.chalcogen + around)
                    change = (full - seen(n, lone[:, None, None] + around)).mean(0)
                    turned = [ndimage.rotate(change, 120.0 * k, reshape=False, order=3, mode="nearest") for k in range(3)]
                    lacking[gone - 1, n] = np.mean(turned, axis=0) * taper
        return cls(edge, cell, layer.chalcogen, lacking)

    def pristine(self, detector: int, places: Floats) -> Floats:
        """Return beam fractions at places (..., 2), order (x, y), angstrom from a metal column."""
        from scipy import ndimage

        vectors = np.array([[self.edge, 0.0], [self.edge / 2, self.edge * math.sqrt(0.75)]])
        at = np.moveaxis(places @ np.linalg.inv(vectors), -1, 0) * CELL
        return np.asarray(ndimage.map_coordinates(self.cell[detector], at, order=3, mode="grid-wrap"))

    def gone(self, detector: int, atoms: int, away: Floats) -> Floats:
        """Return what the absence of so many atoms takes away at distances (..., 2) from the column, order (x, y), angstrom."""
        from scipy import ndimage

        if not atoms:
            return np.zeros(away.shape[:-1])
        at = np.moveaxis((away + REACH) / PITCH, -1, 0)
        return np.asarray(ndimage.map_coordinates(self.lacking[atoms - 1, detector], at, order=1, mode="constant"))

    def view(
        self, detector: int, size: int, pixel: float, turn: float, offset: tuple[float, float], missing: Any
    ) -> tuple[Floats, Floats, npt.NDArray[np.int64], list[Any]]:
        """Return an image, the chalcogens' places (row, column), the atoms each lacks, and per column what one atom less changes.

        `missing` is called with the number of columns and returns what each lacks.
        """
        c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        back = np.array([[c, -s], [s, c]])
        y, x = np.meshgrid(np.arange(size) * pixel, np.arange(size) * pixel, indexing="ij")
        spots = np.stack([x, y], axis=-1) @ back + np.array(offset)[::-1]
        image = np.maximum(self.pristine(detector, spots), 0.0)
        n = int(2 * size * pixel / self.edge) + 4
        i, j = np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1))
        vectors = np.array([[self.edge, 0.0], [self.edge / 2, self.edge * math.sqrt(0.75)]])
        middle = np.rint(spots[size // 2, size // 2] @ np.linalg.inv(vectors))
        sites = (np.stack([i.ravel(), j.ravel()], axis=1) + middle) @ vectors + self.chalcogen
        places = ((sites - np.array(offset)[::-1]) @ back.T)[:, ::-1] / pixel
        inside = ((places > -3) & (places < size + 2)).all(1)
        sites, places = sites[inside], places[inside]
        lacks = np.asarray(missing(len(places)), np.int64)
        half = math.ceil(REACH / pixel) + 1
        ones = []
        for site, place, gone in zip(sites, places, lacks, strict=True):
            top, left = (np.rint(place).astype(int) - half).tolist()
            part = (slice(max(top, 0), max(top + 2 * half + 1, 0)), slice(max(left, 0), max(left + 2 * half + 1, 0)))
            away = spots[part] - site
            if gone:
                image[part] -= self.gone(detector, int(gone), away)
            ones.append((part, away))
        return np.maximum(image, 1e-7), places, lacks, ones


def ideal_ratios(
    layer: Layer, detector: int, electrons: float, image: Floats, counted: Floats, lacks: Any, ones: list[Any]
) -> Floats:
    """Return the log likelihood ratio, one atom missing over none, of every column.

    Parameters
    ----------
    electrons : float
        Per pixel.
    image : ndarray
        Beam fractions expected.
    """
    found = np.zeros(len(ones))
    for n, ((part, away), gone) in enumerate(zip(ones, lacks, strict=True)):
        if image[part].size:
            full = electrons * (image[part] + layer.gone(detector, int(gone), away))
            less = np.maximum(full - electrons * layer.gone(detector, 1, away), 0.02 * full)
            found[n] = (counted[part] * np.log(less / full) - (less - full)).sum()
    return found


def f1(truth: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_]) -> float:
    """Return the harmonic mean of precision and recall."""
    return float(2 * (truth & called).sum() / max(1, truth.sum() + called.sum()))


def best_f1(truth: npt.NDArray[np.bool_], score: Floats) -> float:
    """Return the F1 of the best threshold."""
    order = np.argsort(-score)
    hits = np.cumsum(truth[order])
    return float((2 * hits / (np.arange(1, len(order) + 1) + truth.sum())).max())


@dataclass
class Tally:
    """What trials of one kind say."""

    truth: list[npt.NDArray[np.bool_]]
    called: list[npt.NDArray[np.bool_]]
    ideal: list[Floats]
    errors: list[float]
    covered: list[bool]
    widths: list[float]
    screened: list[str]

    def figures(self) -> dict[str, Any]:
        """Return them, with an interval of 95 % from resampled trials."""
        if not self.truth:
            return {"trials": 0, "screened": self.screened}
        ours, best = f1(np.concatenate(self.truth), np.concatenate(self.called)), best_f1(
            np.concatenate(self.truth), np.concatenate(self.ideal)
        )  # fmt: skip
        chance = np.random.default_rng(0)
        ratios = []
        for _ in range(200):
            pick = chance.integers(0, len(self.truth), len(self.truth))
            t, c, i = (np.concatenate([values[n] for n in pick]) for values in (self.truth, self.called, self.ideal))
            ratios.append(f1(t, c) / max(best_f1(t, i), 1e-9))
        errors = np.array(self.errors)
        return {
            "trials": len(self.truth),
            "screened": len(self.screened),
            "sites": sum(map(len, self.truth)),
            "vacancies": int(sum(t.sum() for t in self.truth)),
            "f1": round(ours, 3),
            "f1_ideal": round(best, 3),
            "ratio": round(ours / best, 3),
            "ratio_95": [round(float(v), 3) for v in np.quantile(ratios, [0.025, 0.975])],
            "percent_bias": round(float(errors.mean()), 2),
            "percent_bias_error": round(float(errors.std() / math.sqrt(len(errors))), 2),
            "coverage": round(float(np.mean(self.covered)), 3),
            "mean_width": round(float(np.mean(self.widths)), 2),
        }


def trials(
    layer: Layer, detector: int, dose: float, number: int, *, single: float = 0.05, double: float = 0.0, calibrated: bool = True,
    size: int = 256, pixel: float = 0.2, turn: float | None = None, first: int = 0,
) -> Tally:  # fmt: skip
    """Find vacancies in `number` images at a dose, electron/angstrom^2, each with turn, offset and vacancies of its own."""
    from scipy.spatial import cKDTree

    tally = Tally([], [], [], [], [], [], [])
    steps, _ = steps_for(DETECTORS[detector] if calibrated else None, None, None)
    for trial in range(first, first + number):
        chance = np.random.default_rng([trial, detector, int(dose)])
        turned = float(chance.uniform(0, 60)) if turn is None else turn
        offset = (float(chance.uniform(0, 20)), float(chance.uniform(0, 20)))
        odds = [1 - single - double, single, double]
        image, places, missing, ones = layer.view(
            detector, size, pixel, turned, offset, lambda n, chance=chance, odds=odds: chance.choice(3, n, p=odds)
        )
        electrons = dose * pixel**2
        counted = chance.poisson(image * electrons).astype(np.float64)
        try:
            sites = find_sites(counted, Asked(steps=steps, counts=True, seed=trial))
        except Unusable as why:
            tally.screened.append(str(why))
            continue
        distance, index = cKDTree(places).query(sites.places[sites.counts])
        if np.median(distance) > 0.8 / pixel:
            tally.screened.append("the other sublattice was taken for the chalcogens")
            continue
        truth = missing[index]
        tally.truth.append(truth > 0)
        tally.called.append(sites.called[sites.counts] < 2)
        tally.ideal.append(ideal_ratios(layer, detector, electrons, image, counted, missing, ones)[index])
        share = 100 * sites.counted.missing / (2 * len(truth))
        true = 100 * truth.sum() / (2 * len(truth))
        low, high = np.quantile(share, [0.025, 0.975])
        tally.errors.append(float(share.mean() - true))
        tally.covered.append(bool(low - 1e-9 <= true <= high + 1e-9))
        tally.widths.append(float(high - low))
    return tally


def calibrate(layer: Layer, detector: int, *, dose: float = 100_000.0, number: int = 4, pixel: float = 0.2) -> dict[str, float]:
    """Return the mean heights of columns with one atom and none, in parts of those with two, where counting adds little noise."""
    from scipy.spatial import cKDTree

    found: dict[int, list[Floats]] = {0: [], 1: []}
    spreads = []
    steps, _ = steps_for(None, None, None)
    for trial in range(number):
        chance = np.random.default_rng([trial, 7])
        image, places, missing, _ = layer.view(
            detector,
            256,
            pixel,
            float(chance.uniform(0, 60)),
            (3.0, 5.0),
            lambda n, chance=chance: chance.choice(3, n, p=[0.9, 0.06, 0.04]),
        )
        counted = chance.poisson(image * dose * pixel**2).astype(np.float64)
        sites = find_sites(counted, Asked(steps=steps, counts=True))
        distance, index = cKDTree(places).query(sites.places)
        good = sites.counts & (distance < 3)
        lacks = missing[index]
        full = float(np.median(sites.amplitude[good & (lacks == 0)]))
        spreads.append(float(np.std(sites.amplitude[good & (lacks == 0)])) / full)
        for gone, atoms in ((1, 1), (2, 0)):
            found[atoms].append(sites.amplitude[good & (lacks == gone)] / full)
    out = {"spread_of_full": round(float(np.mean(spreads)), 4)}
    for atoms, name in ((1, "one"), (0, "none")):
        values = np.concatenate(found[atoms])
        if len(values):
            out[name] = round(float(values.mean()), 4)
            out[f"{name}_spread"] = round(float(values.std()), 4)
    return out


def speed(size: int = 512) -> dict[str, float]:
    """Return seconds that a frame takes, both routes, and Atomap's for the same."""
    image = analytic(size)
    steps, _ = steps_for(None, None, None)
    taken = {}
    for name, call in (
        ("template", lambda: find_sites(image, Asked(steps=steps, counts=True))),
        ("two_sublattice", lambda: find_two_sublattices(image, Separations(), edges="wrap")),
        ("atomap", lambda: atomap(image)),
    ):
        best = math.inf
        for _ in range(1 if name == "atomap" else 3):
            start = time.process_time()
            call()
            best = min(best, time.process_time() - start)
        taken[name] = round(best, 3)
    taken["atomap_over_template"] = round(taken["atomap"] / taken["template"], 1)
    taken["atomap_over_two_sublattice"] = round(taken["atomap"] / taken["two_sublattice"], 1)
    return taken


def analytic(size: int, pixel: float = 0.1, seed: int = 0) -> Floats:
    """Return electrons of a made-up layer whose separations are those of the thesis: 512 pixels of 0.1 angstrom."""
    chance = np.random.default_rng(seed)
    a = 3.18 / pixel
    vectors = np.array([[0.0, a], [math.sqrt(0.75) * a, -a / 2]])
    i, j = np.meshgrid(np.arange(-60, 61), np.arange(-60, 61))
    y, x = np.arange(size, dtype=np.float64)[:, None], np.arange(size, dtype=np.float64)
    image = np.full((size, size), 2.0)
    for third, height in (((0.0, 0.0), 60.0), ((1 / 3, 2 / 3), 30.0)):
        for place in (np.stack([i.ravel(), j.ravel()], axis=1) + third) @ vectors:
            if (place > -20).all() and (place < size + 20).all():
                rows, columns = (slice(max(0, int(p) - 20), max(0, int(p) + 21)) for p in place)
                away = (y[rows] - place[0]) ** 2 + (x[columns] - place[1]) ** 2
                image[rows, columns] += height * (0.0 if height < 50 and chance.random() < 0.03 else 1.0) * np.exp(-away / 32.0)
    return chance.poisson(image).astype(np.float64)


def atomap(image: Floats) -> tuple[Floats, Floats]:
    """Return metal and chalcogen columns as the thesis finds them with Atomap, without manual edits."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import atomap.api as am
        import hyperspy.api as hs

        def refined(values: Floats, separation: int) -> Floats:
            places = am.get_atom_positions(hs.signals.Signal2D(values), separation=separation)
            lattice = am.Sublattice(places, image=values)
            lattice.find_nearest_neighbors()
            lattice.refine_atom_positions_using_center_of_mass(show_progressbar=False)
            lattice.refine_atom_positions_using_2d_gaussian(show_progressbar=False)
            return np.array([(atom.pixel_y, atom.pixel_x) for atom in lattice.atom_list])

        metals = refined(image, 20)
        hidden = image.copy()
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        for row, column in metals:
            hidden[(y - row) ** 2 + (x - column) ** 2 < 36] = image.min()
        return metals, refined(hidden, 14)


def measure(folder: Path, number: int = 24) -> dict[str, Any]:
    """Return all figures."""
    results: dict[str, Any] = {"speed_512": speed()}
    base = Layer.of(Specimen.of(folder, *CALIBRATES))
    for detector, (inner, outer) in enumerate(DETECTORS):
        results[f"calibration/{inner:g}-{outer:g}"] = calibrate(base, detector)
    for held in HELD_OUT:
        layer = Layer.of(Specimen.of(folder, *held))
        for detector, (inner, outer) in enumerate(DETECTORS):
            for dose in DOSES:
                name = f"{held[0]}/{inner:g}-{outer:g}/{dose}"
                results[name] = trials(layer, detector, dose, number).figures()
                print(name, results[name], flush=True)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where simulations are kept")
    parser.add_argument("--trials", type=int, default=24)
    asked = parser.parse_args()
    print(json.dumps(measure(asked.folder, asked.trials), indent=1))
