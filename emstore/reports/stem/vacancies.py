"""Percentages of vacancies by image, beside the truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emstore.reporter import Figure, Given, Listing, Section
from emstore.reports.colours import INK
from emstore.reports.drawing import broken, chart, style_of
from emstore.reports.stem.reading import DOSE_UNIT, Cases, ordered, series_of, specimen_title
from emstore.volume import VolumeKind


def vacancy_sections(tables: Sequence[Given], everything: Sequence[Given], cases: Cases) -> list[Section]:
    """Return a section per specimen of what ``measure.vacancies`` says."""
    groups: dict[str, list[Given]] = {}
    for given in tables:
        groups.setdefault(cases.of(given).specimen.id, []).append(given)
    return [_section(those, everything, cases) for those in groups.values()]


def _section(tables: list[Given], everything: Sequence[Given], cases: Cases) -> Section:
    specimen = cases.of(tables[0]).specimen
    truth, where = truth_of(specimen, everything)
    named = {given.id: _name(given, cases) for given in tables}
    places = {name: n for n, name in enumerate(ordered(name for name, _ in named.values()))}
    tables = sorted(tables, key=lambda one: (named[one.id][1] or np.inf, places[named[one.id][0]]))
    panel = chart(
        lambda axes: _boxes(axes, tables, named, truth),
        alt="Box plots of the percentage of vacancies per image, with the truth where it is known. The table has the numbers.",
        size=(5.6, 1.4 + 0.42 * len(tables)),
    )
    drawn = [*tables, *([where] if where is not None else [])]
    caption = (
        "Percentage of chalcogen atoms missing, one point per image; boxes (five images or more) hold the middle half with the "
        "median, whiskers 1.5 times that; the diamond is all images together with its 95 % interval."
    )
    if truth is not None:
        caption += f" The dotted line is the truth, {truth:.3g} %."
    rows = []
    for given in tables:
        summary = given.table.summary
        name, dose = named[given.id]
        rows.append(
            (
                name,
                dose,
                summary.get("percent_missing"),
                summary.get("percent_low"),
                summary.get("percent_high"),
                truth,
                summary.get("sites"),
                summary.get("frames_used"),
                summary.get("frames_screened"),
            )
        )
    heads = ("method", f"dose ({DOSE_UNIT})", "missing (%)", "95 % from", "to", "truth (%)", "sites", "images", "left out")
    figure = Figure("Vacancies", (panel,), caption, tuple(drawn))
    listing = Listing("Vacancies", heads, tuple(rows), tuple(drawn))
    left = [(named[one.id][0], each) for one in tables for each in one.table.summary.get("screened", [])]
    screened = "; ".join(f"{name}, frame {each['frame']}: {each['reason']}" for name, each in left)
    words = (f"Left out: {screened}.",) if screened else ()
    return Section(f"Vacancies: {specimen_title(specimen)}", (figure, listing, *words))


def truth_of(specimen: Given, everything: Sequence[Given]) -> tuple[float | None, Given | None]:
    """Return the percentage of atoms that are missing, and the table of columns that says so; of the whole box without one."""
    said = specimen.volume.attributes.get("simulation") if specimen.kind is VolumeKind.IMAGE else None
    told: Any = said.get("vacancies") if isinstance(said, dict) else None
    if not isinstance(told, dict):
        return None, None
    for given in everything:
        beside = given.record.activity.type == "simulate" and given.record.params.get("part") == "columns"
        if beside and given.input("simulated") is specimen:
            columns = given.table.columns
            own = columns["species"].values == told.get("element")
            atoms = float(columns["atoms"].values[own].sum())
            if atoms:
                return 100 * float(columns["missing"].values[own].sum()) / atoms, given
    fraction = told.get("atom_fraction")
    return (100 * float(fraction), None) if isinstance(fraction, int | float) else (None, None)


def _name(given: Given, cases: Cases) -> tuple[str, float | None]:
    case = cases.of(given)
    how = ", two sublattices" if given.params.get("method") == "two_sublattice" and given.label is None else ""
    return case.method + how, case.dose


def _boxes(axes: Any, tables: list[Given], named: dict[str, tuple[str, float | None]], truth: float | None) -> None:
    ticks = []
    for place, given in enumerate(tables):
        name, dose = named[given.id]
        summary = given.table.summary
        style = style_of(series_of(name.removesuffix(", two sublattices")))
        values = [one["percent_missing"] for one in summary.get("per_frame", []) if one.get("percent_missing") is not None]
        if len(values) >= 5:
            look: dict[str, Any] = {name: {"color": INK} for name in ("boxprops", "whiskerprops", "capprops", "medianprops")}
            axes.boxplot([values], positions=[place], orientation="horizontal", widths=0.5, showfliers=False, **look)
        axes.plot(values, place + np.linspace(-0.12, 0.12, len(values)), "o", color=style["color"], markersize=4, alpha=0.8)
        whole, low, high = (summary.get(f"percent_{end}") for end in ("missing", "low", "high"))
        if whole is not None:
            ends = [[max(0.0, whole - (whole if low is None else low))], [max(0.0, (whole if high is None else high) - whole)]]
            axes.errorbar([whole], [place + 0.3], xerr=ends, fmt="D", color=INK, markersize=4)
        ticks.append(broken(f"{name}, {dose:g}" if dose is not None else name))
    if truth is not None:
        axes.axvline(truth, color=INK, linestyle=(0, (1, 2)), linewidth=1.4)
    axes.set_yticks(range(len(tables)), ticks)
    axes.set_ylim(len(tables) - 0.3, -0.6)
    axes.set_xlabel("chalcogen atoms missing (%)")
    axes.set_ylabel(f"method, dose ({DOSE_UNIT})")
