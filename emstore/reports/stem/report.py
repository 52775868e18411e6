"""The page as a whole."""

from collections.abc import Sequence
from typing import ClassVar, Final

from pydantic import Field

from emstore.errors import InvalidInput
from emstore.processor import Params
from emstore.reporter import Given, Page, Section
from emstore.reports.ancestry import everything
from emstore.reports.stem.distances import histogram_sections, profile_sections
from emstore.reports.stem.matches import match_sections
from emstore.reports.stem.pictures import image_sections, residual_sections
from emstore.reports.stem.reading import DOSE_UNIT, Cases, ordered, specimen_title
from emstore.reports.stem.strain import strain_sections
from emstore.reports.stem.vacancies import vacancy_sections
from emstore.volume import VolumeKind

PARTS: Final = {
    "measure.strain": "strain error against dose",
    "histogram": "histograms of distances (measure.strain -p give=histogram)",
    "measure.precision": "noise in multiples of the Cramér–Rao bound",
    "measure.matching": "columns found and lost",
    "measure.profile": "line profiles",
    "measure.residual": "residuals and their transforms",
    "measure.vacancies": "vacancies",
}
"""What makes each part, and what the page calls it."""


class StemReportParams(Params):
    """Parameters of `StemReport`."""

    dose: float = Field(1000.0, gt=0, description="dose of what is shown at one dose, electron/angstrom^2: the nearest there is")
    size: int = Field(256, ge=16, le=1024, description="most pixels along each side of the images shown")


class StemReport:
    """The figures of low-dose STEM work, from whatever tables and images there are.

    Give it the dataset that holds them, or every version by itself. Records tell what each is: the processor that measured it,
    the fit and the denoiser before it, the dose it was counted at, the specimen it began with. A label (``our way=REF``) names
    the method where that is not what you want to read.
    """

    name: ClassVar[str] = "stem"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Show strain error, profiles, residuals, images and vacancies of low-dose STEM by method and dose"
    inputs: ClassVar[tuple[str, ...]] = ("version*",)
    params: ClassVar[type[Params]] = StemReportParams

    def report(self, versions: Sequence[Given], params: StemReportParams) -> Page:
        """See `emstore.reporter.Reporter.report`."""
        whole = everything(versions)
        cases = Cases(whole)
        tables: dict[str, list[Given]] = {name: [] for name in PARTS}
        for given in versions:
            if given.kind is VolumeKind.TABLE and given.made_by in PARTS:
                name = "histogram" if given.params.get("give") == "histogram" else given.made_by
                tables[name].append(given)
        sections = [
            *strain_sections(tables["measure.strain"], tables["measure.precision"], cases),
            *histogram_sections(tables["histogram"], cases, params.dose),
            *match_sections(tables["measure.matching"], cases),
            *image_sections(whole, cases, params.dose, params.size),
            *profile_sections(tables["measure.profile"], cases, params.dose),
            *residual_sections(tables["measure.residual"], cases, params.dose, params.size),
            *vacancy_sections(tables["measure.vacancies"], whole, cases),
        ]
        if not sections:
            raise InvalidInput(
                "none of these versions is a measurement of STEM images, or two images to compare",
                where=", ".join(given.ref for given in versions[:3]),
                fix=f"give tables of {', '.join(name for name in PARTS if '.' in name)}, or the dataset they are in",
            )
        left = [words for name, words in PARTS.items() if not tables[name]]
        if left:
            sections.append(Section("Not on this page", (f"No version was given for: {'; '.join(left)}.",)))
        return Page(self._title(versions, cases), self._summary(versions, tables, cases), tuple(sections))

    def _title(self, versions: Sequence[Given], cases: Cases) -> str:
        names = dict.fromkeys(specimen_title(cases.of(given).specimen).partition(",")[0] for given in versions)
        return f"Low-dose STEM: {', '.join(list(names)[:4])}{' and more' if len(names) > 4 else ''}"

    def _summary(self, versions: Sequence[Given], tables: dict[str, list[Given]], cases: Cases) -> tuple[str, ...]:
        measured = [given for those in tables.values() for given in those]
        found = [cases.of(given) for given in measured]
        doses = sorted({case.dose for case in found if case.dose is not None})
        words = [f"Drawn from {len(measured)} tables of measurements among {len(versions)} versions."]
        if found:
            words.append(f"Methods: {', '.join(ordered(case.method for case in found))}.")
        if doses:
            words.append(f"Doses: {', '.join(f'{dose:g}' for dose in doses)} {DOSE_UNIT}.")
        return (" ".join(words),)
