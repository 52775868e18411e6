"""The simulator ``stem``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput, ProcessingFailed
from emstore.geometry import Axis, Grid
from emstore.geometry.axes import AxisKind
from emstore.header import Header, quantity
from emstore.processor import Params
from emstore.simulator import Simulated
from emstore.simulators.stem.band import Band, Picture
from emstore.simulators.stem.beam import abtem_ready, make_potential
from emstore.simulators.stem.crystals import CRYSTALS, THERMAL, crystal_named
from emstore.simulators.stem.nanoparticle import on_carbon
from emstore.simulators.stem.parameters import Particle, StemParams
from emstore.simulators.stem.pieces import Progress
from emstore.simulators.stem.scanning import Scanner
from emstore.simulators.stem.setup import Setup, make_setup, window
from emstore.simulators.stem.specimen import Specimen, columns_of, of_crystal, with_vacancies
from emstore.simulators.stem.truth import column_table
from emstore.volume import Volume
from emstore.work import Bench

PARTICLE: Final = "Au-on-C"
NOISE: Final = 1e-5
"""Part of an image's brightest value by which single precision may bring it below zero."""
WINDOWED: Final = 2e-2
"""The same where windows were cut out."""


@dataclass(frozen=True)
class Job:
    """What is to be simulated."""

    specimen: Specimen
    ends: tuple[int, ...]
    """Slices down to every thickness, ascending."""
    setup: Setup
    sigma: Mapping[str, float]
    vacancies: Mapping[str, Any] | None

    @property
    def thicknesses(self) -> tuple[float, ...]:
        """Thicknesses as they are simulated, angstrom."""
        return tuple(float(self.specimen.levels[end - 1]) for end in self.ends)


def field_of_view(params: StemParams) -> tuple[float, float]:
    """Return how wide the specimen must be along x and y to fill the turned image, angstrom."""
    height, width = (n * params.pixel for n in params.shape)
    turn = math.radians(params.rotation)
    c, s = abs(math.cos(turn)), abs(math.sin(turn))
    return (c * width + s * height, s * width + c * height)


def plan(params: StemParams) -> Job:
    """Build the specimen and choose the grids.

    Raises
    ------
    InvalidInput
        Parameters that do not go together: which, and what would.
    """
    if params.vacancies is not None and not params.full:
        raise InvalidInput("vacancies in one repeated cell would repeat with it", where="vacancies", fix="full=true")
    view = field_of_view(params)
    if params.material == PARTICLE:
        return _particle(params, view)
    if params.particle is not None:
        raise InvalidInput(f"{params.material} has no particle", where="particle", fix=f"material={PARTICLE}")
    if params.material not in CRYSTALS:
        raise InvalidInput(
            f"there is no material {params.material!r}", where="material", fix=f"one of {', '.join(CRYSTALS)}, {PARTICLE}"
        )
    crystal = crystal_named(params.material)
    thicknesses = params.thickness if params.thickness is not None else (crystal.thickness,)
    if not thicknesses:
        raise InvalidInput("no thickness is asked for", where="thickness", fix=f"leave it out for {crystal.thickness:g}")
    least = window(params, max(thicknesses))
    if params.supercell is not None:
        wanted = (params.supercell, params.supercell)
    elif params.full:
        wanted = (max(view[0], least), max(view[1], least))
    else:
        wanted = (least, least)
    a, b, _ = crystal.cell
    repeats = (max(1, math.ceil(wanted[0] / a - 1e-6)), max(1, math.ceil(wanted[1] / b - 1e-6)))
    specimen, ends = of_crystal(crystal, tuple(thicknesses), repeats, params.slice_thickness)
    told = None
    if params.vacancies is not None:
        element = params.vacancies.element or crystal.vacant or ""
        specimen, told = with_vacancies(specimen, crystal, element, params.vacancies.single, params.vacancies.double, params.seed)
    area = specimen.box[:2] if params.full else specimen.unit
    setup = make_setup(params, specimen.box[:2], area, max(thicknesses), specimen.unit)
    return Job(specimen, ends, setup, _sigma(params, specimen), told)


def _particle(params: StemParams, view: tuple[float, float]) -> Job:
    for name in ("thickness", "vacancies"):
        if getattr(params, name) is not None:
            raise InvalidInput(f"{name} is for crystals", where=name, fix="say it in `particle`")
    if not params.full:
        raise InvalidInput("a particle does not repeat", where="full", fix="full=true")
    asked = params.particle or Particle()  # type: ignore[call-arg]
    wide = (max(view[0], params.supercell or 0.0), max(view[1], params.supercell or 0.0))
    specimen = on_carbon(asked, wide, params.slice_thickness, params.seed)
    setup = make_setup(params, wide, wide, specimen.box[2], wide)
    return Job(specimen, (len(specimen.levels),), setup, _sigma(params, specimen), None)


def _sigma(params: StemParams, specimen: Specimen) -> dict[str, float]:
    elements = sorted(set(specimen.elements.tolist()))
    stated = dict(params.sigma or {})
    if unknown := sorted(set(stated) - set(elements)):
        raise InvalidInput(f"there is no {', '.join(unknown)} in {params.material}", where="sigma")
    return {element: stated.get(element, THERMAL[element]) for element in elements}


class Stem:
    """Images of an annular-detector STEM at infinite dose, and where every atomic column is.

    Multislice or PRISM by abTEM, frozen phonons, any number of thicknesses and detectors from one run. The image is scanned as
    coarsely as its band limit, twice the aperture's, allows, and is known exactly in between; so any pixel, turn and offset
    shows the same image. What single precision brings below zero (less than 1e-5 of the brightest value) is set to zero.

    Values are parts of the beam. The same parameters give the same values to 1e-6 of the brightest: how FFTW orders a transform
    is settled by timing.
    """

    name: ClassVar[str] = "stem"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "STEM images at infinite dose by multislice or PRISM (abTEM, Madsen & Susi 2021), with the truth"
    params: ClassVar[type[Params]] = StemParams

    def simulate(self, params: StemParams, bench: Bench) -> Sequence[Simulated]:
        """Make the image, and the table of its columns.

        Returns
        -------
        sequence of Simulated
            The image, float32, parts of the beam, axes ``thickness`` (where there are several), ``c`` (likewise: detectors), y,
            x in angstrom; and its columns.

        Raises
        ------
        InvalidInput
            Parameters that do not go together; kind ``missing_extra`` without abTEM.
        Capacity
            The memory budget does not hold one wave.
        ProcessingFailed
            The values are no intensities: windows too small for the specimen.
        """
        job = plan(params)
        with abtem_ready() as abtem:
            band, shifts = simulated(abtem, params, job, bench)
        low, high = band.extremes()
        allowed = WINDOWED if math.prod(job.setup.interpolation) > 1 else NOISE
        if (low < -allowed * high).any():
            raise ProcessingFailed(
                f"the image goes down to {float((low / high).min()):.1e} of its brightest value, which no intensity can",
                fix="interpolation=1, or a larger supercell",
            )
        volume = _volume(params, job, band, low)
        table = column_table(params, job.specimen, columns_of(job.specimen, shifts))
        return (Simulated("", volume), Simulated("columns", table))


def simulated(abtem: Any, params: StemParams, job: Job, bench: Bench) -> tuple[Band, npt.NDArray[np.float64]]:
    """Return the images of every thickness and detector, and how far every atom was, on average, from its place."""
    specimen, configurations = job.specimen, max(params.phonons, 1)
    scanner = Scanner(abtem, params, job.setup, bench, slices=len(specimen.levels), exits=len(job.ends))
    progress = Progress(bench, sum(scanner.cost()) * configurations)
    shifts = np.zeros_like(specimen.positions)
    total: Any = 0.0
    for number in range(configurations):
        moved = np.zeros_like(specimen.positions)
        if params.phonons:
            moved = specimen.moved(job.sigma, params.seed, number, alike=not params.full)
        shifts += moved / configurations
        there = specimen.present
        positions, elements = (specimen.positions + moved)[there], specimen.elements[there]
        potential = make_potential(abtem, job.setup, positions, elements, specimen.box[2], len(specimen.levels), job.ends)
        total = total + scanner.scan(number, potential, progress) / configurations
    return Band.of(total, job.setup.area, params.source_size), shifts


def _volume(params: StemParams, job: Job, band: Band, low: npt.NDArray[np.float64]) -> Volume:
    thicknesses, detectors = job.thicknesses, params.detectors_mrad
    labels = tuple(f"{inner:g}-{outer:g} mrad" for inner, outer in detectors)
    axes = []
    if len(thicknesses) > 1:
        axes.append(Axis("thickness", len(thicknesses), AxisKind.OTHER, unit="angstrom", positions=thicknesses))
    if len(detectors) > 1:
        axes.append(Axis("c", len(detectors), AxisKind.CHANNEL, labels=labels))
    leading = tuple(axis.size for axis in axes)
    axes += [Axis(name, n, spacing=params.pixel, unit="angstrom") for name, n in zip("yx", params.shape, strict=True)]
    picture = Picture(
        band, leading, params.shape, params.pixel, math.radians(params.rotation), (params.offset[0], params.offset[1])
    )
    setup, specimen = job.setup, job.specimen
    simulation = {
        "material": params.material,
        "energy_kev": params.energy_kev,
        "convergence_mrad": params.convergence_mrad,
        "defocus": params.defocus,
        "source_size": params.source_size,
        "detectors_mrad": [list(pair) for pair in detectors],
        "thicknesses": list(thicknesses),
        "slice_thickness": specimen.slice_thickness,
        "phonons": params.phonons,
        "sigma": dict(job.sigma) if params.phonons else {},
        "seed": params.seed,
        "method": "prism" if setup.prism else "multislice",
        "interpolation": list(setup.interpolation),
        "full": params.full,
        "supercell": list(setup.box),
        "scanned": list(setup.area),
        "scan": list(setup.scan),
        "potential_gpts": list(setup.gpts),
        "potential_sampling": [edge / n for edge, n in zip(setup.box, setup.gpts, strict=True)],
        "antialias_limit_mrad": setup.limit_mrad,
        "vacancies": None if job.vacancies is None else dict(job.vacancies),
        "rotation": params.rotation,
        "offset": list(params.offset),
        # By thickness, then by detector.
        "mean_fraction": band.means().tolist(),
        "lowest_before_clipping": low.tolist(),
    }
    notes = [specimen.note]
    if params.full and any(need > have + 1e-6 for need, have in zip(field_of_view(params), setup.box, strict=True)):
        notes.append(f"the image is wider than the box of {setup.box[0]:.1f} x {setup.box[1]:.1f} angstrom, which repeats in it")
    if not params.full and params.phonons:
        notes.append("all cells are displaced alike: the image repeats with the cell")
    terms = {
        "instrument/ebeam_column/electron_source/voltage": quantity(params.energy_kev, "kilovolt"),
        "instrument/optics/semi_convergence_angle": quantity(params.convergence_mrad, "milliradian"),
    }
    return Volume(
        name="image",
        data=picture,
        grid=Grid(tuple(axes)),
        header=Header("emstore simulation", terms=terms),
        modality="stem",
        attributes={"quantity": "beam fraction", "simulation": simulation},
        notes=tuple(notes),
    )
