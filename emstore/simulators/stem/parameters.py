"""What may be asked of the simulator."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from emstore.processor import Params

Pair = Annotated[tuple[float, float], Field(description="inner and outer angle, mrad")]


class Vacancies(Params):
    """Atoms that are not there."""

    element: str | None = Field(None, description="whose atoms: the chalcogen, oxygen or carbon when left out")
    single: float = Field(0.0, ge=0, le=1, description="share of its places that lack one atom")
    double: float = Field(0.0, ge=0, le=1, description="share of its places that lack both (pairs above each other in one layer)")

    @model_validator(mode="after")
    def _possible(self) -> "Vacancies":
        if self.single + self.double > 1:
            raise ValueError("single and double together are more than all places")
        return self


class Particle(Params):
    """A gold nanoparticle on amorphous carbon."""

    form: Literal["icosahedron", "decahedron", "cuboctahedron"] = Field("decahedron", description="shape of the particle")
    diameter: float = Field(30.0, ge=8, le=150, description="about how wide it is, angstrom: the nearest closed shell is built")
    carbon_thickness: float = Field(30.0, ge=0, le=500, description="thickness of the carbon it lies on, angstrom; 0 = none")
    carbon_density: float = Field(2.0, gt=0, le=3.0, description="density of the carbon, g/cm^3")


class StemParams(Params):
    """Parameters of `Stem`. The defaults are those of low-dose work on 252 angstrom thick crystals."""

    material: str = Field(
        description="graphene, graphite, GaAs, InAs, MoS2, WS2, MoSe2, SrTiO3, Si, Te (along its chains), tellurene (Te seen at "
        "right angles to them), PbTe (along [110]), or Au-on-C"
    )
    thickness: tuple[Annotated[float, Field(gt=0, le=2000)], ...] | None = Field(
        None,
        description="thicknesses, angstrom: all come from one run. 252 when left out, one layer for graphene and MX2; layered "
        "materials round to whole layers",
    )
    energy_kev: float = Field(100.0, ge=30, le=300, description="energy of the electrons, keV")
    convergence_mrad: float = Field(27.0, ge=3, le=50, description="semi-angle of the probe, mrad")
    defocus: float = Field(0.0, ge=-2000, le=2000, description="defocus, angstrom, positive = underfocus (abTEM's sign)")
    source_size: float = Field(0.0, ge=0, le=5, description="effective source, a Gaussian's full width at half maximum, angstrom")
    detectors_mrad: tuple[Pair, ...] = Field(
        ((60.0, 180.0),),
        min_length=1,
        max_length=32,
        description="annular detectors, inner and outer angle each, mrad: all from one run",
    )
    pixel: float = Field(0.2, gt=0.005, le=2, description="size of a pixel, angstrom")
    shape: tuple[Annotated[int, Field(ge=1, le=8192)], Annotated[int, Field(ge=1, le=8192)]] = Field(
        (128, 128), description="rows and columns of the image"
    )
    rotation: float = Field(0.0, ge=-360, le=360, description="how far the specimen is turned in the image, degrees, from x to y")
    offset: tuple[float, float] = Field((0.0, 0.0), description="y, x of the specimen at the first pixel's centre, angstrom")
    full: bool = Field(
        False,
        description="true: the whole field is scanned, every atom displaced on its own; false: one cell is, and repeats",
    )
    supercell: float | None = Field(
        None,
        ge=8,
        le=400,
        description="least width of the box that is simulated, angstrom. Left out: 12 + the width of the probe's cone at the "
        "exit, at most 24, and with `full` what holds the field of view",
    )
    potential_sampling: float | None = Field(
        None,
        gt=0.005,
        le=0.5,
        description="pixel of the potential, angstrom; left out: 0.05, or what the widest detector needs",
    )
    slice_thickness: float = Field(2.0, ge=0.25, le=10, description="thickness of a slice, angstrom, about")
    phonons: int = Field(1, ge=0, le=256, description="frozen-phonon configurations to average over; 0 = atoms at rest")
    sigma: dict[str, Annotated[float, Field(ge=0, le=0.5)]] | None = Field(
        None, description="displacement per element along one axis, standard deviation, angstrom; left out: at room temperature"
    )
    vacancies: Vacancies | None = Field(None, description="atoms that are not there; needs full")
    particle: Particle | None = Field(None, description="for Au-on-C: particle and carbon; left out: its defaults")
    method: Literal["auto", "multislice", "prism"] = Field(
        "auto", description="how: every probe on its own, or plane waves combined (PRISM); auto takes what needs fewer waves"
    )
    interpolation: int | None = Field(
        1,
        ge=1,
        le=32,
        description="PRISM: every how many-th plane wave. 1 is exact; more are cheaper by its square and off by what abTEM's own "
        "are (1 to 5 % rms of an image's spread in windows of 11-16 angstrom, 20 % where a detector begins at the aperture's "
        "edge); null: as many as leave 12 angstrom + the probe's cone",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="what all chance comes from")
