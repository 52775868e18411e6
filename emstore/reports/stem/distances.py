"""Probability histograms of distances, and line profiles."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from emstore.reporter import Figure, Given, Section
from emstore.reports.drawing import broken, chart, legend, style_of
from emstore.reports.stem.reading import (
    DOSE_UNIT,
    INFINITE,
    Cases,
    Measured,
    by_specimen,
    nearest,
    ordered,
    pixel,
    quantity,
    rows_of,
    series_of,
    sources,
    specimen_title,
)


def histogram_sections(tables: Sequence[Given], cases: Cases, wanted: float) -> list[Section]:
    """Return a section per specimen: what ``measure.strain -p give=histogram`` found at the dose nearest to what is wanted."""
    found = []
    for rows in by_specimen(rows_of(tables, cases)).values():
        dose = nearest((one.case.dose for one in rows), wanted)
        chosen = [one for one in rows if one.case.dose in (dose, None)]
        ways = [way for way in ("horizontal", "vertical") if any(one.direction == way for one in chosen)]
        unit = next(iter(tables)).table.columns["distance"].unit or "pixels"
        panels = tuple(
            chart(
                partial(_steps, rows=[one for one in chosen if one.direction == way], unit=unit),
                alt=f"Probability of {way} distances between neighbouring columns for each method.",
                title=f"{way} distances",
            )
            for way in ways
        )
        caption = (
            f"Share of the distances between neighbouring columns in each bin, at {_said(dose)}; of several frames the mean. "
            "The narrower, the smaller the strain error."
        )
        figure = Figure("Probability histograms of distances", panels, caption, sources(chosen))
        found.append(Section(f"Histograms: {specimen_title(rows[0].case.specimen)}", (figure,)))
    return found


def _steps(axes: Any, *, rows: list[Measured], unit: str) -> None:
    for method in ordered(one.case.method for one in rows):
        frames: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
        for one in rows:
            if one.case.method == method:
                frames[one.source.id, one.frame].append((one.row["distance"], one.row["probability"]))
        x = np.mean([[pair[0] for pair in each] for each in frames.values()], axis=0)
        y = np.mean([[pair[1] for pair in each] for each in frames.values()], axis=0)
        style = style_of(series_of(method))
        axes.step(x, y, where="mid", label=broken(method), color=style["color"], linestyle=style["linestyle"])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"distance ({unit})")
    axes.set_ylabel("probability per bin (no unit)")
    legend(axes)


def profile_sections(tables: Sequence[Given], cases: Cases, wanted: float) -> list[Section]:
    """Return a section per specimen and line: what ``measure.profile`` found at the dose nearest to what is wanted."""
    groups: dict[tuple[Any, ...], list[Given]] = defaultdict(list)
    for given in tables:
        line = tuple(repr(given.params.get(key)) for key in ("start", "stop", "width"))
        groups[cases.of(given).specimen.id, *line].append(given)
    found = []
    for those in groups.values():
        dose = nearest((cases.of(one).dose for one in those), wanted)
        chosen = [one for one in those if cases.of(one).dose in (dose, None)]
        specimen = cases.of(chosen[0]).specimen
        unit = chosen[0].table.columns["distance"].unit or "pixels"
        panel = chart(
            partial(_lines, tables=chosen, cases=cases, dose=dose, unit=unit),
            alt=f"Line profiles across {specimen_title(specimen)} for each method.",
            size=(5.2, 3.4),
        )
        ends = chosen[0].params
        caption = (
            f"Values along a line from {ends.get('start')} to {ends.get('stop')} (row, column; pixels), {ends.get('width')} "
            f"pixels wide, first frame, at {_said(dose)}. What is a fraction of the beam is shown as electrons expected at it. "
            "One frame has no interval: the spread of the untouched line is its noise."
        )
        figure = Figure("Line profile", (panel,), caption, tuple(chosen))
        found.append(Section(f"Line profile: {specimen_title(specimen)}", (figure,)))
    return found


def _lines(axes: Any, *, tables: Sequence[Given], cases: Cases, dose: float | None, unit: str) -> None:
    words = set()
    for method in ordered(cases.of(one).method for one in tables):
        for given in tables:
            case = cases.of(given)
            if case.method != method:
                continue
            columns = given.table.columns
            first = columns["frame"].values == columns["frame"].values.min()
            factor = electrons_per_value(case.image, dose)
            words.add("electrons per pixel" if factor is not None else "value")
            style = style_of(series_of(method))
            wide = 2.2 if method == INFINITE else 1.3
            axes.plot(
                columns["distance"].values[first],
                columns["value"].values[first] * (1.0 if factor is None else factor),
                label=broken(method),
                color=style["color"],
                linestyle=style["linestyle"],
                linewidth=wide,
            )
    axes.set_xlabel(f"distance along the line ({unit})")
    axes.set_ylabel(" or ".join(sorted(words)))
    legend(axes, columns=3)


def electrons_per_value(image: Given | None, dose: float | None) -> float | None:
    """Return what turns an image's values into electrons; ``None`` where that is not known."""
    said = None if image is None else quantity(image)
    if said == "electrons":
        return 1.0
    size = None if image is None else pixel(image)
    return dose * size**2 if said == "beam fraction" and dose is not None and size is not None else None


def _said(dose: float | None) -> str:
    return "an unknown dose" if dose is None else f"{dose:g} {DOSE_UNIT}"
