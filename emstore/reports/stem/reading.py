"""What a measured table or an image is: of which specimen, made by which method, at which dose. Records say it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from emstore.geometry import units
from emstore.reporter import Given
from emstore.volume import VolumeKind

NOISY: Final = "untouched"
INFINITE: Final = "infinite dose"
UNKNOWN: Final = "unknown"
"""What it was measured on was not found."""
LIKELIHOOD: Final = "Poisson ML"
NAMES: Final = {
    "denoise.gaussian": "Gaussian filter",
    "denoise.median": "median filter",
    "denoise.nlm": "non-local means",
    "denoise.tv": "total variation",
    "denoise.bm3d": "BM3D",
    "denoise.autoencoder": "autoencoder",
    "denoise.poisson_unet": "Poisson U-Net",
}
WANTED: Final = (
    NOISY,
    NAMES["denoise.gaussian"],
    NAMES["denoise.bm3d"],
    NAMES["denoise.autoencoder"],
    NAMES["denoise.poisson_unet"],
    LIKELIHOOD,
    INFINITE,
)
"""What the thesis compares, and what we add: named on the page where it is missing."""
DOSE_UNIT: Final = "e/Å²"


@dataclass(frozen=True)
class Case:
    """What a version was measured on."""

    specimen: Given
    """The simulation or recording it all began with."""
    method: str
    dose: float | None
    """Electrons per square angstrom; ``None`` for infinite, or not known."""
    image: Given | None


class Cases:
    """Tells what versions are, the words for methods chosen so that no two that differ are called the same."""

    def __init__(self, versions: Iterable[Given]) -> None:
        values: dict[tuple[str, str], set[str]] = defaultdict(set)
        for given in versions:
            if given.made_by.startswith("denoise."):
                for key, value in given.params.items():
                    values[given.made_by, key].add(repr(value))
        self._varied = {at for at, found in values.items() if len(found) > 1 and at[1] not in ("seed",)}

    def of(self, given: Given, frame: int = 0) -> Case:
        """Return what a table or an image is; of one frame, where the dose differs."""
        image = next((one for one in given.chain() if one.kind is VolumeKind.IMAGE), None)
        *_, specimen = given.chain()
        return Case(specimen, self._method(given, image), _dose(image, frame), image)

    def _method(self, given: Given, image: Given | None) -> str:
        for one in given.chain():
            if one.label is not None and one.record.activity.type == "process":
                return one.label
            if one is image:
                break
        fit = next((one.params.get("method") for one in given.chain() if one.made_by == "measure.columns"), None)
        if image is None:
            return UNKNOWN
        steps = [self._step(one) for one in image.chain() if one.made_by.startswith("denoise.")]
        if steps:
            return " after ".join(steps) + (f", {LIKELIHOOD}" if fit == "poisson" else "")
        if any(one.made_by.startswith("noise.") for one in image.chain()):
            return LIKELIHOOD if fit == "poisson" else NOISY
        if image.record.activity.type == "simulate" or quantity(image) == "beam fraction":
            return INFINITE
        return LIKELIHOOD if fit == "poisson" else NOISY

    def _step(self, one: Given) -> str:
        name = NAMES.get(one.made_by, one.made_by.removeprefix("denoise."))
        told = [f"{key} {value}" for key, value in one.params.items() if (one.made_by, key) in self._varied and value is not None]
        return f"{name} ({', '.join(told)})" if told else name


def series_of(method: str) -> int:
    """Return the number of a method's colour, line and marker: the same in every figure."""
    if method in WANTED:
        return WANTED.index(method)
    return 7 if method.endswith(LIKELIHOOD) else 8 + sum(map(ord, method)) % 23


def ordered(methods: Iterable[str]) -> list[str]:
    """Return methods in the order of `WANTED`, then by name."""
    return sorted(set(methods), key=lambda one: (WANTED.index(one) if one in WANTED else len(WANTED), one))


def quantity(image: Given) -> str | None:
    """Return what an image's values are, as it says."""
    said = image.volume.attributes.get("quantity")
    return None if said is None else str(said)


def specimen_title(specimen: Given) -> str:
    """Return what a specimen is called: its label, or what was simulated."""
    if specimen.label is not None:
        return specimen.label
    if specimen.kind is not VolumeKind.IMAGE:
        return specimen.ref
    said = specimen.volume.attributes.get("simulation")
    if not isinstance(said, dict) or "material" not in said:
        return specimen.ref
    words = [str(said["material"])]
    if said.get("thicknesses"):
        words.append("/".join(f"{one:.3g}" for one in said["thicknesses"]) + " Å thick")
    if said.get("detectors_mrad"):
        words.append(" and ".join(f"{low:g}–{high:g} mrad" for low, high in said["detectors_mrad"]))
    size = pixel(specimen)
    return ", ".join([*words, *([f"pixel {size:.3g} Å"] if size else [])])


def specimen_facts(specimen: Given) -> str:
    """Return in a sentence how a specimen was simulated."""
    if specimen.kind is not VolumeKind.IMAGE:
        return f"What {specimen.ref} was measured on was not found, so neither method nor dose is known. Name its store, too."
    said = specimen.volume.attributes.get("simulation")
    if not isinstance(said, dict):
        return f"From {specimen.ref}, which states no simulation."
    full = "the whole field, every atom displaced on its own" if said.get("full") else "one cell, which repeats"
    energy, angle, phonons, seed = (said.get(name, "?") for name in ("energy_kev", "convergence_mrad", "phonons", "seed"))
    return f"Simulated by {specimen.made_by}: {energy} keV, {angle} mrad, frozen phonons {phonons}; {full}; seed {seed}."


def pixel(image: Given) -> float | None:
    """Return the size of a pixel in angstrom, where both axes have the same."""
    if image.kind is not VolumeKind.IMAGE:
        return None
    sizes = []
    for axis in image.volume.grid.axes[-2:]:
        if axis.spacing is None or axis.unit is None or not units.is_length(axis.unit):
            return None
        sizes.append(units.convert(axis.spacing, axis.unit, "angstrom"))
    return sizes[0] if len(sizes) == 2 and abs(sizes[0] - sizes[1]) < 1e-9 * sizes[0] else None


def _dose(image: Given | None, frame: int) -> float | None:
    if image is None or quantity(image) == "beam fraction":
        return None
    told = image.volume.attributes.get("dose")
    value: Any = told.get("value") if isinstance(told, dict) else None
    if isinstance(value, list):
        first = image.volume.shape[0]
        frames = int(np.prod(image.volume.shape[:-2]))
        value = value[frame * first // frames] if len(value) == first and frame < frames else None
    return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True)
class Point:
    """One figure of one method at one dose, over all frames and versions that have it."""

    value: float
    low: float
    high: float
    frames: int
    pairs: int


def pooled(rows: Sequence[tuple[float, float, float, int]]) -> Point:
    """Return mean and 95 % interval of rows ``(value, low, high, pairs)``, one per frame.

    From five frames on the interval is Student's over frames; of fewer it is the mean of the frames' own bootstrap intervals,
    which is too wide rather than too narrow.
    """
    values, lows, highs = (np.array([row[i] for row in rows], float) for i in range(3))
    count, mean = len(rows), float(values.mean())
    if count >= 5:
        from scipy.stats import t

        half = float(t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
        low, high = mean - half, mean + half
    else:
        low, high = float(lows.mean()), float(highs.mean())
    return Point(mean, low, high, count, int(sum(row[3] for row in rows)))


INTERVALS: Final = (
    "bars are 95 % intervals: Student's over frames where there are five or more, else the mean of the frames' own by bootstrap"
)


@dataclass(frozen=True)
class Measured:
    """One row of a table of distances, with what it is of."""

    case: Case
    direction: str
    frame: int
    row: dict[str, Any]
    source: Given


def rows_of(tables: Iterable[Given], cases: Cases) -> list[Measured]:
    """Return all rows of tables that have ``frame`` and ``direction``."""
    found = []
    for given in tables:
        columns = {name: column.values.tolist() for name, column in given.table.columns.items()}
        for i, (frame, direction) in enumerate(zip(columns["frame"], columns["direction"], strict=True)):
            row = {name: values[i] for name, values in columns.items()}
            found.append(Measured(cases.of(given, frame), str(direction), int(frame), row, given))
    return found


def by_specimen(rows: Iterable[Measured]) -> dict[str, list[Measured]]:
    """Return rows by their specimen's id, in the order they come."""
    found: dict[str, list[Measured]] = {}
    for row in rows:
        found.setdefault(row.case.specimen.id, []).append(row)
    return found


def points(rows: Iterable[Measured], name: str) -> dict[tuple[str, float | None, str], Point]:
    """Return by method, dose and direction the figure called so, with ``_low`` and ``_high`` as its interval."""
    groups: dict[tuple[str, float | None, str], list[tuple[float, float, float, int]]] = defaultdict(list)
    for one in rows:
        value, low, high = (float(one.row.get(f"{name}{end}", np.nan)) for end in ("", "_low", "_high"))
        if np.isfinite(value):
            groups[one.case.method, one.case.dose, one.direction].append((value, low, high, int(one.row.get("pairs", 0))))
    return {key: pooled(group) for key, group in groups.items()}


def sources(rows: Iterable[Measured]) -> tuple[Given, ...]:
    """Return the versions that rows come from, each once."""
    return tuple({one.source.id: one.source for one in rows}.values())


def nearest(doses: Iterable[float | None], wanted: float) -> float | None:
    """Return the dose nearest to what is wanted, by ratio; ``None`` where there is none."""
    known = [one for one in doses if one]
    return min(known, key=lambda one: abs(np.log(one / wanted))) if known else None
