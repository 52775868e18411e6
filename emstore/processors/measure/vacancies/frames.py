"""``measure.vacancies``: the chalcogen sites of every frame, and how many atoms each lacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.geometry.axes import AxisKind
from emstore.operation import Operation
from emstore.processor import Params
from emstore.processors.measure.frames import Frames
from emstore.processors.measure.slices import plain
from emstore.processors.measure.vacancies.calibration import steps_for
from emstore.processors.measure.vacancies.decision import Fitted, Sites, decide
from emstore.processors.measure.vacancies.lattice import Matrix, Unusable
from emstore.processors.measure.vacancies.template import Asked, fit_image
from emstore.processors.measure.vacancies.two_sublattice import Separations, find_two_sublattices
from emstore.table import Column, Table
from emstore.volume import Volume, VolumeKind

_PIXEL_BYTES: Final = 1_500.0
"""What a fit keeps per pixel of a frame: windows of all columns, the matrix made of them, its products."""
_FIXED_BYTES: Final = float(60 << 20)
_ROW_BYTES: Final = 160.0
_LEAST_AREA: Final = 12
"""Pixels of a site, at least."""
_NAMES: Final = (
    "frame", "y_index", "x_index", "sublattice", "amplitude", "amplitude_error", "expected_atoms", "probability_0",
    "probability_1", "probability_2", "call", "at_edge", "counted",
)  # fmt: skip


class VacanciesParams(Params):
    """Parameters of `Vacancies`."""

    method: Literal["template", "two_sublattice"] = Field(
        default="template",
        description="Fit the whole lattice at once and say of every site how many atoms it has; or find metal columns, hide "
        "them, find chalcogen columns and compare the numbers.",
    )
    edges: Literal["exclude", "wrap", "all"] = Field(
        default="exclude",
        description="Which columns count: those away from the border, or all but those at the bottom and right border, as if the "
        "frame repeated, or all.",
    )
    edge: float | None = Field(
        default=None,
        ge=0,
        description="Columns nearer to the border are at the edge, pixels; left out: the reach of a column (template), half a "
        "separation (two_sublattice).",
    )
    invert: bool = Field(default=False, description="Columns are dark, as in bright field.")
    phase: Literal["auto", "2H", "1T"] = Field(default="auto", description="Stacking; auto: as the third site of the cell says.")
    metal: Literal["auto", "brighter", "dimmer"] = Field(
        default="auto",
        description="Which columns of 2H are the metal; auto: those among which there are none of half the height, else the "
        "brighter.",
    )
    distortion: int = Field(default=3, ge=1, le=3, description="Highest order of the lattice's distortion; 1: affine.")
    detector_mrad: tuple[float, float] | None = Field(
        default=None,
        description="Inner and outer angle of the detector, mrad, for what one atom is to two; left out: about half.",
    )
    single: float | None = Field(default=None, gt=0, lt=1, description="Height of one atom in parts of two, instead.")
    single_error: float | None = Field(default=None, ge=0, lt=0.5, description="Its standard error.")
    metal_separation: float = Field(
        default=20.0, ge=2, description="Least distance of two metal columns, pixels (two_sublattice)."
    )
    disc: float = Field(default=12.0, ge=0, description="Diameter of the discs that hide metal columns, pixels (two_sublattice).")
    chalcogen_separation: float = Field(
        default=14.0, ge=2, description="Least distance of two chalcogen columns, pixels (two_sublattice)."
    )
    threshold: float = Field(
        default=0.12,
        ge=0,
        lt=1,
        description="Least height of a peak in the smoothed image, in parts of its range (two_sublattice).",
    )
    frames: Literal["one specimen", "apart"] = Field(
        default="one specimen",
        description="Frames show one specimen, taken alike but for dose, turn and place: they say together which share of columns"
        " lacks atoms and how high full columns are beside the metal's, which a single noisy frame hardly tells; or every frame "
        "says so for itself. Channels never share (template).",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="What the draws behind probabilities and intervals come from.")


class Vacancies:
    """Chalcogen vacancies of MX2 monolayers: the atoms of every chalcogen site and the percentage missing, with its interval.

    ``template``: the hexagonal lattice is found in the image (`lattice`), the mean cell shows where metal and chalcogen are and
    what a column looks like (`shapes`), all heights are fitted at once with Poisson weights (`joint`), and every site is told
    full, single or none by its likelihood (`atoms`), all frames of a specimen together (`decision`): heights are calibrated by
    their full columns, beside the metals around them, and by the known part that one atom is of two (`calibration`).

    ``two_sublattice``: columns are counted and compared with the composition MX2, as is done with Atomap (M. Nord et al., Adv.
    Struct. Chem. Imaging 3, 9, 2017); only whole columns can be missing.

    A frame is the last two axes, ``y`` and ``x``. Frames that cannot be evaluated have no rows and are named in the notes with
    the reason.
    """

    name: ClassVar[str] = "measure.vacancies"
    version: ClassVar[str] = "2"
    summary: ClassVar[str] = "Count chalcogen vacancies of MX2 monolayers site by site, with a percentage and its interval"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = VacanciesParams

    def plan(self, volumes: Sequence[Volume], params: VacanciesParams) -> Operation:
        """See `emstore.processor.Processor.plan`."""
        [volume] = volumes
        frames = Frames.of(volume)
        if volume.kind is not VolumeKind.IMAGE:
            raise InvalidInput("vacancies are looked for in an image, not in labels", where=volume.name)
        if params.detector_mrad is not None and not 0 <= params.detector_mrad[0] < params.detector_mrad[1]:
            raise InvalidInput(
                f"a detector from {params.detector_mrad[0]:g} to {params.detector_mrad[1]:g} mrad has no width",
                where="detector_mrad",
            )
        if params.single_error is not None and params.single is None:
            raise InvalidInput("single_error is that of single, which is not stated", where="single_error", fix="state single")
        steps, source = steps_for(params.detector_mrad, params.single, params.single_error)
        work = _Pass(
            title=f"vacancies of {volume.name}",
            frames=frames,
            params=params,
            asked=Asked(
                steps=steps,
                phase=params.phase,
                metal=params.metal,
                order=params.distortion,
                counts=volume.attributes.get("quantity") == "electrons",
                invert=params.invert,
                edge=params.edge,
                edges=params.edges,
            ),
            channels=tuple(axis.kind is AxisKind.CHANNEL for axis in volume.grid.axes[:-2]),
            unit="electron" if volume.attributes.get("quantity") == "electrons" else None,
            source=source,
        )
        frame = prod(volume.shape[-2:])
        most = frame / _LEAST_AREA + 1
        return Operation(
            None,
            reduction=frames.reduction(work.measure, work.finish, part_bytes=_ROW_BYTES * most),
            whole=("y", "x"),
            work_bytes=_PIXEL_BYTES + _FIXED_BYTES / frame,
            seed=params.seed,
        )


@dataclass(frozen=True)
class _Fit:
    """A frame whose sites are to be decided with those of others."""

    number: int
    fitted: Fitted


@dataclass(frozen=True)
class _Part:
    """What one frame says."""

    number: int
    rows: Matrix
    """Shape (N, len(_NAMES))."""
    missing: Matrix
    """Atoms missing among the counted sites, one per draw."""
    atoms: int
    """That the counted sites would have."""
    kinds: Matrix
    """Counted columns with 0, 1, ... atoms, mean over the draws, shape (K,)."""
    reason: str | None = None
    """Why the frame was not evaluated."""
    facts: tuple[tuple[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Pass:
    """The pass over all frames."""

    title: str
    frames: Frames
    params: VacanciesParams
    asked: Asked
    channels: tuple[bool, ...]
    """Which of the axes before y and x are channels."""
    unit: str | None
    source: str

    def measure(self, number: int, frame: Matrix) -> "_Fit | _Part":
        """Return what a frame says."""
        try:
            if self.params.method == "template":
                return _Fit(number, fit_image(frame, self.asked))
            return self._of_two(number, frame)
        except Unusable as why:
            return _Part(number, np.zeros((0, len(_NAMES))), np.zeros(0), 0, np.zeros(0), str(why))

    def _of_two(self, number: int, frame: Matrix) -> _Part:
        params = self.params
        found = find_two_sublattices(
            frame,
            Separations(params.metal_separation, params.disc, params.chalcogen_separation),
            threshold=params.threshold,
            invert=params.invert,
            edges=params.edges,
            edge=params.edge,
        )
        places, amplitude = found.chalcogens[:, :2], found.chalcogens[:, 2]
        rows = np.full((len(places), len(_NAMES)), np.nan)
        rows[:, 0] = number
        rows[:, 1:3] = places
        rows[:, 3] = 1
        rows[:, 4] = amplitude
        rows[:, 10] = 2
        rows[:, 11] = found.at_edge
        rows[:, 12] = found.counted
        missing = 2.0 * found.metal_count - 2.0 * int(found.counted.sum())
        low, high = found.interval
        facts = (
            ("metal_columns", found.metal_count), ("chalcogen_columns", int(found.counted.sum())),
            ("percent_missing", found.percent), ("percent_low", low), ("percent_high", high),
        )  # fmt: skip
        return _Part(number, rows, np.array([missing]), 2 * found.metal_count, np.zeros(0), None, facts)

    def _decided(self, said: "list[_Fit | _Part]") -> list[_Part]:
        """Return what frames say, those of one specimen together."""
        together: dict[Any, list[_Fit]] = {}
        for one in said:
            if isinstance(one, _Fit):
                place = np.unravel_index(one.number, self.frames.leading) if self.frames.leading else ()
                channel = tuple(int(n) for n, told in zip(place, self.channels, strict=True) if told)
                together.setdefault(channel if self.params.frames == "one specimen" else one.number, []).append(one)
        parts = [one for one in said if isinstance(one, _Part)]
        for fits in together.values():
            sites = decide([one.fitted for one in fits], seed=self.params.seed)
            parts += [_of_template(one.number, each) for one, each in zip(fits, sites, strict=True)]
        return sorted(parts, key=lambda part: part.number)

    def finish(self, said: "list[_Fit | _Part]") -> Table:
        """Return the table."""
        parts = self._decided(said)
        rows = np.concatenate([part.rows for part in parts])
        of = dict(zip(_NAMES, rows.T, strict=True))
        kinds = np.array(["chalcogen", "chalcogen 1", "chalcogen 2"])
        apart = {int(n) for part in parts for n in part.rows[:1, 0] if dict(part.facts).get("phase") == "1T"}
        two = np.isin(of["frame"], list(apart)) if apart else np.zeros(len(rows), bool)
        which = np.where(two, of["sublattice"], 0).astype(np.int64)
        columns = {
            **self.frames.places("site", of["frame"], of["y_index"], of["x_index"]),
            "sublattice": Column(kinds[which], None, "what belongs there; the two sides of 1T are told apart"),
            "amplitude": Column(of["amplitude"], self.unit, "height of the column above the background, from the joint fit"),
            "amplitude_error": Column(of["amplitude_error"], self.unit, "standard error of amplitude"),
            "expected_atoms": Column(of["expected_atoms"], None, "mean number of atoms, over all that is uncertain"),
            "probability_0": Column(of["probability_0"], None, "probability that no atom is there"),
            "probability_1": Column(of["probability_1"], None, "probability of one atom"),
            "probability_2": Column(
                of["probability_2"], None, "probability of two atoms; not known for single-atom columns (1T)"
            ),
            "call": Column(
                of["call"].astype(np.int64), None, "atoms it is said to have; vacancies are called for the highest F1"
            ),
            "at_edge": Column(of["at_edge"] > 0, None, "near the border of the frame"),
            "counted": Column(of["counted"] > 0, None, "whether it counts for the percentage"),
        }
        return Table(self.title, columns, self._summary(parts), tuple(self._notes(parts)))

    def _summary(self, parts: list[_Part]) -> dict[str, Any]:
        used = [part for part in parts if part.reason is None]
        frames = [{"frame": part.number, **_figures([part]), **dict(part.facts)} for part in used]
        return {
            "method": self.params.method,
            "frames": len(parts),
            "frames_used": len(used),
            "frames_screened": len(parts) - len(used),
            **_figures(used),
            "per_frame": [{k: plain(v) if isinstance(v, float) else v for k, v in frame.items()} for frame in frames],
            "screened": [{"frame": part.number, "reason": part.reason} for part in parts if part.reason is not None],
        }

    def _notes(self, parts: list[_Part]) -> list[str]:
        notes = []
        if self.params.method == "template":
            whose = "all frames, beside the metals around them," if self.params.frames == "one specimen" else "each frame"
            notes.append(f"{self.source}; two are what the full columns of {whose} have")
            notes.append("percentages are of chalcogen atoms, with the interval that holds 95 % of the probability")
        else:
            notes.append(
                "percentages are of chalcogen columns, MX2 being one for every metal column; single vacancies are not seen"
            )
        rule = {
            "exclude": "columns near the border are not counted",
            "wrap": "columns near the bottom and right border are not counted, as if the frame repeated",
            "all": "all columns are counted, at the border too",
        }
        notes.append(rule[self.params.edges])
        for text in dict.fromkeys(note for part in parts for note in part.notes):
            told = [str(part.number) for part in parts if text in part.notes]
            notes.append(f"frame {', '.join(told)}: {text}")
        notes += [f"frame {part.number} is left out: {part.reason}" for part in parts if part.reason is not None]
        return notes


def _figures(parts: list[_Part]) -> dict[str, Any]:
    """Return the figures of one frame or of several together.

    Draws of equal number share all that frames of one specimen share, so that its error is not averaged away over them.
    """
    atoms = sum(part.atoms for part in parts)
    if not atoms:
        return {"sites": 0, "percent_missing": None, "percent_low": None, "percent_high": None}
    if len({len(part.missing) for part in parts}) == 1 and len(parts[0].missing) > 1:
        share = 100 * np.sum([part.missing for part in parts], axis=0) / atoms
        low, high = np.quantile(share, [0.025, 0.975])
        kinds = _together([part.kinds for part in parts])
        sites = float(sum(kinds))
        figures: dict[str, Any] = {
            "sites": round(sites),
            "percent_missing": float(share.mean()),
            "percent_low": float(low),
            "percent_high": float(high),
            "percent_sites_with": {str(n): 100 * float(v) / sites for n, v in enumerate(kinds)},
        }
        return figures
    share = 100 * sum(float(part.missing[0]) for part in parts) / atoms
    pairs = [dict(part.facts) for part in parts]
    errors = [(p["percent_high"] - p["percent_low"]) / 2 * part.atoms / atoms for p, part in zip(pairs, parts, strict=True)]
    half = float(np.sqrt(np.sum(np.square(errors))))
    return {"sites": atoms // 2, "percent_missing": share, "percent_low": share - half, "percent_high": share + half}


def _together(kinds: list[Matrix]) -> Matrix:
    size = max(len(k) for k in kinds)
    return np.asarray(np.sum([np.pad(k, (0, size - len(k))) for k in kinds], axis=0))


def _of_template(number: int, sites: Sites) -> _Part:
    fitted, chances = sites.fitted, sites.counted.probabilities
    rows = np.full((len(fitted.places), len(_NAMES)), np.nan)
    rows[:, 0] = number
    rows[:, 1:3] = fitted.places
    rows[:, 3] = fitted.sublattice
    rows[:, 4], rows[:, 5] = fitted.amplitude, fitted.error
    rows[:, 6] = chances @ np.arange(chances.shape[1])
    rows[:, 7 : 7 + chances.shape[1]] = chances
    rows[:, 10] = sites.called
    rows[:, 11] = fitted.at_edge
    rows[:, 12] = fitted.counts
    facts = (
        ("phase", fitted.phase), ("lattice_constant", fitted.lattice.constant),
        ("metal", "brighter" if fitted.brighter else "dimmer"),
        ("called", int((sites.called[fitted.counts] < fitted.atoms).sum())), ("full_amplitude", sites.full),
        ("overdispersion", fitted.phi), ("clearness", fitted.clearness),
    )  # fmt: skip
    counted = sites.counted
    atoms = int(fitted.counts.sum()) * fitted.atoms
    return _Part(number, rows, counted.missing, atoms, counted.lacking.mean(0), None, facts, fitted.notes)


__all__ = ["Vacancies", "VacanciesParams"]
