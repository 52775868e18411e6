"""Vacancies found on simulated monolayers with known ones, beside an ideal observer, Atomap and the clock.

The simulation is `emstore simulate stem`'s: full frozen-phonon supercells with missing chalcogens, one run per material, seen
through 60-180 and 30-70 mrad. MoS2 seed 1 calibrates; all else is held out. An image is known everywhere, so every trial sees
it at another turn and offset, with counts of its own.

The ideal observer knows the lattice, where every atom is but for the one in question, how the image would be with and without
it, and the share of vacancies; it calls those columns whose Poisson likelihood ratio and share make the expected F1 of all images
together highest. Beside it stands the F1 of the same ratios with the threshold that turned out best (`f1_hindsight`).

Images are decided one by one (`alone`) and as stacks of twelve of one specimen (`stacks`), as the processor does with frames.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.processors.measure.vacancies.calibration import steps_for
from emstore.processors.measure.vacancies.decision import Fitted, decide
from emstore.processors.measure.vacancies.lattice import Unusable
from emstore.processors.measure.vacancies.template import Asked, fit_image
from emstore.processors.measure.vacancies.two_sublattice import Separations, find_two_sublattices
from emstore.simulators.stem import Stem, StemParams, Vacancies
from emstore.simulators.stem.band import Band
from emstore.simulators.stem.simulator import plan
from emstore.simulators.stem.specimen import columns_of
from emstore.work import Bench

DETECTORS = ((60.0, 180.0), (30.0, 70.0))
SEEN = ((0, 1_000), (0, 3_000), (0, 10_000), (1, 1_000))
"""Detector, and dose in electron/angstrom^2."""
CALIBRATES = ("MoS2", 1, 0.05, 0.02, 51.2)
"""Material, seed, shares of single and double vacancies, least width of the simulated box in angstrom."""
HELD_OUT = (("MoS2", 4, 0.05, 0.0, 38.4), ("MoSe2", 2, 0.05, 0.02, 38.4), ("WS2", 3, 0.05, 0.02, 38.4))
PITCH = 0.05
"""Of the grids that simulated images are looked up on, angstrom."""
CELL = 64
REACH = 2.2
"""How far an atom's absence is seen, angstrom."""
ASKED = (*(f"{one[0]}-{one[1]}" for one in (CALIBRATES, *HELD_OUT)), "speed")
STACK = 12
"""Images that are decided together."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Specimen:
    """One simulated layer."""

    params: StemParams
    band: Band

    @classmethod
    def of(cls, folder: Path, material: str, seed: int, single: float, double: float, wide: float) -> "Specimen":
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
                    # A chalcogen of 2H lies on three mirror lines, one of them along y.
                    change = (change + change[::-1]) / 2
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


def expected_best(vacant: Floats) -> npt.NDArray[np.bool_]:
    """Return the calls with the highest expected F1, the probabilities being exact."""
    order = np.argsort(-vacant)
    expected = 2 * np.cumsum(vacant[order]) / (np.arange(1, len(order) + 1) + vacant.sum())
    called = np.zeros(len(vacant), bool)
    called[order[: int(np.argmax(expected)) + 1]] = True
    return called


@dataclass(frozen=True)
class Trial:
    """One image, fitted, and what is true of its sites that count."""

    fitted: Fitted
    missing: npt.NDArray[np.int64]
    ideal: Floats
    """Log likelihood ratios."""


def trials(
    layer: Layer, detector: int, dose: float, number: int, *, single: float = 0.05, size: int = 512, pixel: float = 0.2,
    first: int = 0,
) -> tuple[list[Trial], list[str]]:  # fmt: skip
    """Fit `number` images at a dose, electron/angstrom^2, each with turn, offset and vacancies of its own.

    Returns
    -------
    trials : list of Trial
    screened : list of str
        Why the others were not.
    """
    from scipy.spatial import cKDTree

    done, screened = [], []
    steps, _ = steps_for(DETECTORS[detector], None, None)
    for trial in range(first, first + number):
        chance = np.random.default_rng([trial, detector, int(dose)])
        turn, offset = float(chance.uniform(0, 60)), (float(chance.uniform(0, 20)), float(chance.uniform(0, 20)))
        image, places, missing, ones = layer.view(
            detector, size, pixel, turn, offset, lambda n, chance=chance: chance.choice(2, n, p=[1 - single, single])
        )
        electrons = dose * pixel**2
        counted = chance.poisson(image * electrons).astype(np.float64)
        try:
            fitted = fit_image(counted, Asked(steps=steps, counts=True))
        except Unusable as why:
            screened.append(str(why))
            continue
        distance, index = cKDTree(places).query(fitted.places[fitted.counts])
        if np.median(distance) > 0.8 / pixel:
            screened.append("the other sublattice was taken for the chalcogens")
            continue
        done.append(Trial(fitted, missing[index], ideal_ratios(layer, detector, electrons, image, counted, missing, ones)[index]))
    return done, screened


def figures(done: list[Trial], together: int, single: float = 0.05) -> dict[str, Any]:
    """Return how well vacancies are found, so many images decided at once, with intervals of 95 % from resampled images."""
    truth, called, errors, covered, widths = [], [], [], [], []
    for first in range(0, len(done) - together + 1, together):
        stack = done[first : first + together]
        sites = decide([trial.fitted for trial in stack], seed=first)
        truth += [trial.missing > 0 for trial in stack]
        called += [one.called[one.fitted.counts] < 2 for one in sites]
        atoms = sum(2 * len(trial.missing) for trial in stack)
        share = 100 * sum(one.counted.missing for one in sites) / atoms
        true = 100 * sum(int(trial.missing.sum()) for trial in stack) / atoms
        low, high = np.quantile(share, [0.025, 0.975])
        errors.append(float(share.mean() - true))
        covered.append(bool(low - 1e-9 <= true <= high + 1e-9))
        widths.append(float(high - low))
    if not truth:
        return {"images": 0}
    ideal = [trial.ideal for trial in done[: len(truth)]]
    cuts = np.cumsum([len(t) for t in truth])[:-1]
    known = np.split(expected_best(1 / (1 + np.exp(-np.concatenate(ideal)) * (1 - single) / single)), cuts)
    chance = np.random.default_rng(0)

    def joined(values: list[Any], pick: Any) -> Any:
        return np.concatenate([values[n] for n in pick])

    drawn = []
    for _ in range(1000):
        pick = chance.integers(0, len(truth), len(truth))
        t = joined(truth, pick)
        drawn.append((f1(t, joined(called, pick)) / f1(t, joined(known, pick)), f1(t, joined(called, pick))))
    everyone = range(len(truth))
    t = joined(truth, everyone)
    ours, best, after = f1(t, joined(called, everyone)), f1(t, joined(known, everyone)), best_f1(t, joined(ideal, everyone))
    return {
        "images": len(truth),
        "sites": len(t),
        "vacancies": int(t.sum()),
        "f1": round(ours, 3),
        "f1_95": [round(float(v), 3) for v in np.quantile([d[1] for d in drawn], [0.025, 0.975])],
        "f1_ideal": round(best, 3),
        "ratio": round(ours / best, 3),
        "ratio_95": [round(float(v), 3) for v in np.quantile([d[0] for d in drawn], [0.025, 0.975])],
        "f1_hindsight": round(after, 3),
        "ratio_hindsight": round(ours / after, 3),
        "decisions": len(errors),
        "percent_bias": round(float(np.mean(errors)), 3),
        "percent_bias_error": round(float(np.std(errors, ddof=1) / math.sqrt(len(errors))), 3) if len(errors) > 1 else None,
        "covered": f"{sum(covered)}/{len(covered)}",
        "mean_width": round(float(np.mean(widths)), 3),
    }


def calibrate(layer: Layer, detector: int, *, dose: float = 100_000.0, number: int = 4, pixel: float = 0.2) -> dict[str, float]:
    """Return the mean heights of columns with one atom and none, in parts of those with two, where counting adds little noise."""
    from scipy.spatial import cKDTree

    found: dict[int, list[Floats]] = {0: [], 1: [], 2: []}
    steps, _ = steps_for(None, None, None)
    for trial in range(number):
        chance = np.random.default_rng([trial, 7])
        image, places, missing, _ = layer.view(
            detector, 256, pixel, float(chance.uniform(0, 60)), (3.0, 5.0),
            lambda n, chance=chance: chance.choice(3, n, p=[0.9, 0.06, 0.04]),
        )  # fmt: skip
        counted = chance.poisson(image * dose * pixel**2).astype(np.float64)
        fitted = fit_image(counted, Asked(steps=steps, counts=True))
        distance, index = cKDTree(places).query(fitted.places)
        good = fitted.counts & (distance < 3)
        full = float(np.median(fitted.amplitude[good & (missing[index] == 0)]))
        for gone in (0, 1, 2):
            found[2 - gone].append(fitted.amplitude[good & (missing[index] == gone)] / full)
    out = {"spread_of_full": round(float(np.concatenate(found[2]).std()), 4)}
    for atoms, name in ((1, "one"), (0, "none")):
        values = np.concatenate(found[atoms])
        out |= {name: round(float(values.mean()), 4), f"{name}_spread": round(float(values.std()), 4)}
    return out


def speed(size: int = 512) -> dict[str, float]:
    """Return seconds that a frame takes, both routes, and Atomap's for the same."""
    image = analytic(size)
    steps, _ = steps_for(None, None, None)
    taken = {}
    for name, call in (
        ("template", lambda: decide([fit_image(image, Asked(steps=steps, counts=True))])),
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


def measure(folder: Path, number: int = 36, asked: Sequence[str] = ASKED) -> dict[str, Any]:
    """Return all figures asked for, each printed as soon as it is known."""
    results: dict[str, Any] = {}

    def tell(name: str, found: dict[str, Any]) -> None:
        results[name] = found
        print(json.dumps({name: found}), flush=True)

    for specimen in (CALIBRATES, *HELD_OUT):
        layer_name = f"{specimen[0]}-{specimen[1]}"
        if layer_name not in asked:
            continue
        layer = Layer.of(Specimen.of(folder, *specimen))
        for detector, dose in SEEN:
            inner, outer = DETECTORS[detector]
            done, screened = trials(layer, detector, dose, number)
            for together, how in ((1, "alone"), (STACK, "stacks")):
                tell(f"{layer_name}/{inner:g}-{outer:g}/{dose}/{how}", {"screened": screened, **figures(done, together)})
        if specimen is CALIBRATES:
            for detector, (inner, outer) in enumerate(DETECTORS):
                tell(f"calibration/{inner:g}-{outer:g}", calibrate(layer, detector))
    if "speed" in asked:
        tell("speed_512", speed())
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where simulations are kept")
    parser.add_argument("asked", nargs="*", default=ASKED, help=f"some of: {', '.join(ASKED)}")
    parser.add_argument("--trials", type=int, default=36)
    given = parser.parse_args()
    measure(given.folder, given.trials, given.asked)
