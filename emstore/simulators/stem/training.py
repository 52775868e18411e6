"""The simulator ``stem-training``: small clean images of many materials, to train a denoiser on.

A few dozen specimens are simulated; every crop shows one of them at any pixel size, turn and place, exactly, since an image at
infinite dose is known everywhere (see `band`). Noise is not added: it is drawn anew while a network is trained.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from emstore.errors import InvalidInput
from emstore.geometry import Axis, AxisKind, Grid
from emstore.header import Header
from emstore.processor import Params
from emstore.simulator import Simulated
from emstore.simulators.stem.band import Band, Picture
from emstore.simulators.stem.beam import abtem_ready
from emstore.simulators.stem.chance import Purpose, stream
from emstore.simulators.stem.crystals import CRYSTALS, crystal_named
from emstore.simulators.stem.parameters import Pair, StemParams, Vacancies
from emstore.simulators.stem.pieces import file_of, keep, load
from emstore.simulators.stem.simulator import Job, plan, simulated
from emstore.table import Column, Table
from emstore.volume import Region, Volume
from emstore.work import Bench

MATERIALS: Final = ("graphene", "graphite", "GaAs", "InAs", "MoS2", "SrTiO3", "Si")
DETECTORS: Final = ((30.0, 60.0), (30.0, 70.0), (50.0, 180.0), (60.0, 180.0), (65.0, 180.0), (75.0, 180.0), (80.0, 180.0))
BLOCK: Final = 16
"""Crops made at a time."""

Between = Annotated[tuple[float, float], Field(description="least and greatest value; drawn evenly in between")]


class TrainingParams(Params):
    """What the crops show. The defaults are those of Gambini et al. (MLST 4 015025, 2023), section 2."""

    crops: int = Field(30_000, ge=1, le=1_000_000, description="number of crops, as many of every material")
    size: int = Field(128, ge=8, le=4096, description="rows and columns of a crop")
    materials: tuple[str, ...] = Field(MATERIALS, min_length=1, description="materials, as the simulator `stem` names them")
    specimens: int = Field(
        10, ge=1, le=1000, description="specimens of every material, each with beam and displacements of its own"
    )
    vacant: int = Field(0, ge=0, le=1000, description="how many of these lack atoms; they take longer, nothing repeats in them")
    missing: Between = Field((0.02, 0.1), description="share of places that lack an atom in those")
    thickness: Between = Field((250.0, 630.0), description="thickness of crystals, angstrom; sheets have one or few layers")
    thicknesses: int = Field(4, ge=1, le=64, description="thicknesses seen of every specimen, from one run")
    detectors_mrad: tuple[Pair, ...] = Field(DETECTORS, min_length=1, description="detectors, inner and outer angle each, mrad")
    energy_kev: Between = Field((80.0, 200.0), description="energy of the electrons, keV")
    convergence_mrad: Between = Field((25.0, 32.0), description="semi-angle of the probe, mrad")
    pixel: Between = Field((0.08, 0.3), description="size of a pixel, angstrom")
    dose: Between = Field((500.0, 10_000.0), description="electrons per square angstrom")
    supercell: float | None = Field(None, ge=8, le=400, description="least width of the simulated box, angstrom; see `stem`")
    potential_sampling: float | None = Field(None, gt=0.005, le=0.5, description="pixel of the potential, angstrom; see `stem`")
    seed: int = Field(0, ge=0, lt=2**40, description="what all chance comes from")

    @model_validator(mode="after")
    def _possible(self) -> "TrainingParams":
        for name in ("missing", "thickness", "energy_kev", "convergence_mrad", "pixel", "dose"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} runs from {low:g} to {high:g}; give two positive values, the smaller one first")
        if self.vacant > self.specimens:
            raise ValueError("more specimens lack atoms than there are")
        return self


@dataclass(frozen=True)
class Specimen:
    """One simulated specimen: all its images."""

    asked: StemParams
    thicknesses: tuple[float, ...]
    """Angstrom."""
    band: Band
    """Images by thickness and detector."""


@dataclass(frozen=True)
class Crop:
    """How one crop looks at a specimen."""

    specimen: int
    thickness: int
    detector: int
    pixel: float
    dose: float
    turn: float
    """Radian."""
    offset: tuple[float, float]
    """y, x of the specimen at the first pixel, angstrom."""

    def expected(self, of: Specimen, size: int) -> npt.NDArray[np.float32]:
        """Return the electrons expected in every pixel, shape (size, size)."""
        band = Band(of.band.coefficients[self.thickness, self.detector], of.band.area)
        fraction = Picture(band, (), (size, size), self.pixel, self.turn, self.offset)[slice(0, size), slice(0, size)]
        return np.asarray(fraction * np.float32(self.dose * self.pixel**2))


@dataclass(frozen=True)
class Crops:
    """A lazy array: crops made as they are read, axes n, y, x."""

    specimens: Sequence[Specimen]
    crops: Sequence[Crop]
    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return (len(self.crops), self.size, self.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(np.float32)

    @property
    def block(self) -> tuple[int, ...]:
        """A few whole crops."""
        return (min(BLOCK, len(self.crops)), self.size, self.size)

    def __getitem__(self, region: Region) -> npt.NDArray[Any]:
        """Make the crops of a region."""
        number, rows, columns = region
        made = [crop.expected(self.specimens[crop.specimen], self.size)[rows, columns] for crop in self.crops[number]]
        return np.stack(made)


class StemTraining:
    """Crops of simulated images, in electrons expected at a dose, and a table of what each shows."""

    name: ClassVar[str] = "stem-training"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Clean STEM crops of many materials to train a denoiser on (after Gambini et al., MLST 4, 2023)"
    params: ClassVar[type[Params]] = TrainingParams
    libraries: ClassVar[tuple[str, ...]] = ("abtem",)

    def simulate(self, params: TrainingParams, bench: Bench) -> Sequence[Simulated]:
        """Make the crops, and the table ``crops``.

        Returns
        -------
        sequence of Simulated
            The crops, float32, electrons expected per pixel, axes ``n``, y, x, every one with a pixel size of its own; and one
            row per crop.

        Raises
        ------
        InvalidInput
            An unknown material, or parameters that do not go together; kind ``missing_extra`` without abTEM.
        """
        if unknown := [name for name in params.materials if name not in CRYSTALS]:
            raise InvalidInput(f"there is no material {unknown[0]!r}", where="materials", fix=f"some of {', '.join(CRYSTALS)}")
        wanted = [asked(params, material, k) for k in range(params.specimens) for material in params.materials]
        jobs = [plan(one) for one in wanted]  # all of them first: what one refuses is said before any of them is simulated
        specimens = [
            self._specimen(*each, number, len(wanted), bench) for number, each in enumerate(zip(wanted, jobs, strict=True))
        ]
        crops = [_crop(params, specimens, number) for number in range(params.crops)]
        return (
            Simulated("", _volume(params, specimens, crops)),
            Simulated("crops", _table(specimens, crops, params)),
        )

    def _specimen(self, one: StemParams, job: Job, number: int, of: int, bench: Bench) -> Specimen:
        name = f"specimen-{number}"
        if not file_of(bench.scratch, name).exists():
            own = bench.scratch / name
            own.mkdir(exist_ok=True)

            def tell(share: float, what: str) -> None:
                bench.tell((number + share) / of, f"{one.material}: {what}")

            with abtem_ready() as abtem:
                band, _ = simulated(abtem, one, job, replace(bench, scratch=own, tell=tell))
            keep(file_of(bench.scratch, name), band.coefficients)
        bench.tell((number + 1) / of, one.material)
        return Specimen(one, job.thicknesses, Band(np.array(load(bench.scratch, name)), job.setup.area))


def asked(params: TrainingParams, material: str, number: int) -> StemParams:
    """Return what is simulated as the specimen of that number of a material."""
    seed = params.seed * 1_000_003 + params.materials.index(material) * 1009 + number
    rng = stream(seed, Purpose.SPECIMENS)
    crystal = crystal_named(material)
    sheet = crystal.thickness < 100
    low, high = params.thickness
    thickest = rng.uniform((low + high) / 2 if params.thicknesses > 1 else low, high)
    series = tuple(float(t) for t in np.linspace(low, thickest, params.thicknesses)) if params.thicknesses > 1 else (thickest,)
    vacancies = None
    if number >= params.specimens - params.vacant:
        vacancies = Vacancies(element=crystal.vacant or str(crystal.elements()[0]), single=rng.uniform(*params.missing))  # type: ignore[call-arg]
    return StemParams(  # type: ignore[call-arg]
        material=material,
        thickness=None if sheet else series,
        energy_kev=rng.uniform(*params.energy_kev),
        convergence_mrad=rng.uniform(*params.convergence_mrad),
        detectors_mrad=params.detectors_mrad,
        full=vacancies is not None,
        vacancies=vacancies,
        supercell=params.supercell,
        potential_sampling=params.potential_sampling,
        seed=seed,
    )


def _crop(params: TrainingParams, specimens: Sequence[Specimen], number: int) -> Crop:
    rng = stream(params.seed * 1_000_003 + number, Purpose.CROPS)
    kinds = len(params.materials)
    which = number % kinds + kinds * int(rng.integers(params.specimens))
    specimen = specimens[which]
    width, height = specimen.band.area
    return Crop(
        specimen=which,
        thickness=int(rng.integers(len(specimen.thicknesses))),
        detector=int(rng.integers(len(params.detectors_mrad))),
        pixel=rng.uniform(*params.pixel),
        dose=rng.uniform(*params.dose),
        turn=rng.uniform(0, 2 * math.pi),
        offset=(rng.uniform(0, height), rng.uniform(0, width)),
    )


def _volume(params: TrainingParams, specimens: Sequence[Specimen], crops: Sequence[Crop]) -> Volume:
    axes = (Axis("n", len(crops), AxisKind.OTHER), Axis("y", params.size), Axis("x", params.size))
    fractions = [specimen.band.means() for specimen in specimens]
    simulation = {
        "materials": list(params.materials),
        "specimens": params.specimens,
        "vacant": params.vacant,
        "detectors_mrad": [list(pair) for pair in params.detectors_mrad],
        "seed": params.seed,
        # Of every specimen, by thickness, then by detector.
        "mean_fraction": [one.tolist() for one in fractions],
    }
    return Volume(
        name="crops",
        data=Crops(specimens, crops, params.size),
        grid=Grid(axes),
        header=Header("emstore simulation"),
        modality="stem",
        attributes={"quantity": "electrons", "simulation": simulation},
        notes=("every crop has a pixel size and a dose of its own: see the table beside",),
    )


def _table(specimens: Sequence[Specimen], crops: Sequence[Crop], params: TrainingParams) -> Table:
    of = [specimens[crop.specimen] for crop in crops]
    inner, outer = np.array([params.detectors_mrad[crop.detector] for crop in crops]).T
    columns = {
        "specimen": Column(np.array([crop.specimen for crop in crops]), None, "which simulated specimen"),
        "material": Column(np.array([one.asked.material for one in of]), None, "what it is of"),
        "vacant": Column(np.array([one.asked.vacancies is not None for one in of]), None, "whether it lacks atoms"),
        "thickness": Column(
            np.array([one.thicknesses[crop.thickness] for one, crop in zip(of, crops, strict=True)]), "angstrom", "its thickness"
        ),
        "energy": Column(np.array([one.asked.energy_kev for one in of]), "kilovolt", "accelerating voltage"),
        "convergence": Column(np.array([one.asked.convergence_mrad for one in of]), "milliradian", "semi-angle of the probe"),
        "detector_inner": Column(inner, "milliradian", "inner angle of the detector"),
        "detector_outer": Column(outer, "milliradian", "outer angle of the detector"),
        "pixel": Column(np.array([crop.pixel for crop in crops]), "angstrom", "size of a pixel"),
        "dose": Column(np.array([crop.dose for crop in crops]), "electron/angstrom^2", "dose"),
        "rotation": Column(np.degrees([crop.turn for crop in crops]), "degree", "how far the specimen is turned"),
        "y": Column(np.array([crop.offset[0] for crop in crops]), "angstrom", "place in the specimen at the first pixel"),
        "x": Column(np.array([crop.offset[1] for crop in crops]), "angstrom", "place in the specimen at the first pixel"),
    }
    return Table("crops", columns)
