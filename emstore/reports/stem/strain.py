"""Strain error against dose, and noise in distances as a multiple of the Cramer-Rao bound."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from emstore.reporter import Figure, Given, Listing, Section
from emstore.reports.colours import INK
from emstore.reports.drawing import broken, chart, legend, style_of
from emstore.reports.stem.reading import (
    DOSE_UNIT,
    INFINITE,
    INTERVALS,
    NOISY,
    WANTED,
    Cases,
    Measured,
    Point,
    by_specimen,
    ordered,
    points,
    rows_of,
    series_of,
    sources,
    specimen_facts,
    specimen_title,
)

Points = Mapping[tuple[str, float | None, str], Point]
DIRECTIONS = ("horizontal", "vertical")


def strain_sections(strain: Sequence[Given], precision: Sequence[Given], cases: Cases) -> list[Section]:
    """Return a section per specimen of what ``measure.strain`` and ``measure.precision`` say of it."""
    errors, ratios = by_specimen(rows_of(strain, cases)), by_specimen(rows_of(precision, cases))
    found = []
    for key in {**errors, **ratios}:
        rows, exact = errors.get(key, []), ratios.get(key, [])
        specimen = (rows or exact)[0].case.specimen
        content: list[str | Figure | Listing] = [specimen_facts(specimen)]
        if rows:
            content += _strain(rows, exact)
        if exact:
            content += _precision(exact)
        found.append(Section(f"Distances between columns: {specimen_title(specimen)}", tuple(content)))
    return found


def _strain(rows: list[Measured], exact: list[Measured]) -> list[str | Figure | Listing]:
    found = points(rows, "strain_error")
    bounds = _bounds(rows, exact)
    drawn = sources([*rows, *(exact if bounds else [])])
    methods = ", ".join(ordered(key[0] for key in found))
    panels = tuple(
        chart(
            partial(_against_dose, found=found, way=way, label="strain error", bounds=bounds),
            alt=f"Strain error of {way} distances against dose, for {methods}. The table below has the numbers.",
            title=f"{way} distances",
        )
        for way in DIRECTIONS
        if any(key[2] == way and key[1] is not None for key in found)
    )
    frames, pairs = _range(one.frames for one in found.values()), _range(one.pairs for one in found.values())
    caption = (
        f"Standard deviation of the distances between neighbouring columns over the reference distance. Frames per point: "
        f"{frames}; distances: {pairs}; {INTERVALS}."
    )
    if any(key[0] == INFINITE for key in found):
        caption += " The horizontal line is the fit of the image without noise: thermal displacements, which no dose takes away."
    if bounds:
        caption += (
            " Bound: that line and the Poisson Cramér–Rao bound of a distance added in squares, the least that an unbiased fit "
            "of the counts can reach; a denoiser that pulls columns towards their mean can lie below it."
        )
    content: list[str | Figure | Listing] = []
    if panels:
        content.append(Figure("Strain error against dose", panels, caption, drawn))
    noisy = {key[1:]: one for key, one in found.items() if key[0] == NOISY}
    rows_out = [
        (
            key[0],
            way,
            key[1] or ("infinite" if key[0] == INFINITE else "unknown"),
            one.value,
            one.low,
            one.high,
            _ratio(one, noisy.get(key[1:])),
            one.frames,
            one.pairs,
        )
        for key, one in sorted(found.items(), key=_place)
        for way in (key[2],)
    ]
    heads = (
        "method",
        "direction",
        f"dose ({DOSE_UNIT})",
        "strain error",
        "95 % from",
        "to",
        f"over {NOISY}",
        "frames",
        "distances",
    )
    content.append(Listing("Strain error", heads, tuple(rows_out), sources(rows)))
    content += [*_verdict(found), *_missing(key[0] for key in found)]
    return content


def _verdict(found: Points) -> list[str | Figure | Listing]:
    """Say of every method at how many points it is below the untouched image."""
    words = []
    for method in ordered(key[0] for key in found):
        both = [(one, found[NOISY, *key[1:]]) for key, one in found.items() if key[0] == method and (NOISY, *key[1:]) in found]
        if method != NOISY and both:
            below = sum(one.value < noisy.value for one, noisy in both)
            apart = sum(one.high < noisy.low for one, noisy in both)
            words.append(f"{method} at {below} of {len(both)} (intervals apart at {apart})")
    return [f"Below the {NOISY} image, of all doses and directions: {'; '.join(words)}."] if words else []


def _missing(methods: Iterable[str]) -> list[str | Figure | Listing]:
    there = set(methods)
    left = [name for name in WANTED if name not in there]
    if not left:
        return []
    return [f"Not in this comparison, since no table of theirs was given: {', '.join(left)}."]


def _bounds(rows: list[Measured], exact: list[Measured]) -> dict[tuple[str, float], float]:
    """Return by direction and dose the strain error that the bound allows; needs the image without noise."""
    still = points(rows, "strain_error")
    references = {one.direction: float(one.row["reference"]) for one in rows if one.case.method == INFINITE}
    found: dict[tuple[str, float], float] = {}
    for one in exact:
        rest = still.get((INFINITE, None, one.direction))
        if one.case.dose is None or rest is None or one.case.method == INFINITE:
            continue
        least = float(one.row["bound"]) / references[one.direction]
        key = one.direction, one.case.dose
        # A method that lost columns has the bound of those it kept: the one that lost fewest counts.
        found[key] = max(found.get(key, 0.0), float(np.hypot(rest.value, least)))
    return found


def _precision(rows: list[Measured]) -> list[str | Figure | Listing]:
    rows = [one for one in rows if one.case.method != INFINITE] or rows
    found, rms, bias = (points(rows, name) for name in ("ratio", "rms", "bias"))
    panels = tuple(
        chart(
            partial(_against_dose, found=found, way=way, label="RMS difference / bound", bounds={}, one=True),
            alt=f"Noise of {way} distances in multiples of the Cramér–Rao bound against dose. The table below has the numbers.",
            title=f"{way} distances",
        )
        for way in DIRECTIONS
        if any(key[2] == way and key[1] is not None for key in found)
    )
    caption = (
        "Root mean square difference of every distance from the same one in the fit without noise, over √2 times the Poisson "
        f"Cramér–Rao bound of a position: thermal displacements cancel, 1 is the best an unbiased fit can do; {INTERVALS}."
    )
    lost = {
        key: float(np.mean([o.row["lost"] for o in rows if (o.case.method, o.case.dose, o.direction) == key])) for key in found
    }
    bounds = {
        key: float(np.mean([o.row["bound"] for o in rows if (o.case.method, o.case.dose, o.direction) == key])) for key in found
    }
    unit = next((column.unit for o in rows for name, column in o.source.table.columns.items() if name == "rms"), None) or "pixel"
    heads = (
        "method", "direction", f"dose ({DOSE_UNIT})", "over bound", "95 % from", "to", f"RMS ({unit})", f"bound ({unit})",
        f"bias ({unit})", "bias from", "to", "lost", "frames", "distances",
    )  # fmt: skip
    table = tuple(
        (
            key[0], key[2], key[1] if key[1] else "unknown", one.value, one.low, one.high, rms[key].value, bounds[key],
            bias[key].value, bias[key].low, bias[key].high, lost[key], one.frames, one.pairs,
        )
        for key, one in sorted(found.items(), key=_place)
    )  # fmt: skip
    listing = Listing(
        "Noise in distances", heads, table, sources(rows), "Lost: share of the distances that a column is missing for."
    )
    if not panels:
        return [listing]
    return [Figure("Noise in distances, in multiples of the Cramér–Rao bound", panels, caption, sources(rows)), listing]


def _against_dose(
    axes: Any, *, found: Points, way: str, label: str, bounds: Mapping[tuple[str, float], float], one: bool = False
) -> None:
    doses = sorted({key[1] for key in found if key[1] is not None and key[2] == way})
    methods = ordered(key[0] for key in found if key[1] is not None)
    for place, method in enumerate(methods):
        there = [dose for dose in doses if (method, dose, way) in found]
        if there:
            those = [found[method, dose, way] for dose in there]
            y = np.array([[p.value, p.value - p.low, p.high - p.value] for p in those]).T
            beside = np.array(there) * (1 + 0.03 * (place - (len(methods) - 1) / 2))  # so that intervals do not hide each other
            axes.errorbar(
                beside, y[0], yerr=np.clip(np.nan_to_num(y[1:]), 0, None), label=broken(method), **style_of(series_of(method))
            )
    if (still := found.get((INFINITE, None, way))) is not None:
        style = style_of(series_of(INFINITE))
        axes.axhline(still.value, color=style["color"], linewidth=1.2, label=INFINITE)
    limit = sorted((dose, value) for (direction, dose), value in bounds.items() if direction == way)
    if limit:
        axes.plot([d for d, _ in limit], [v for _, v in limit], color=INK, linestyle=(0, (1, 2)), linewidth=1.6, label="bound")
    if one:
        axes.axhline(1.0, color=INK, linestyle=(0, (1, 2)), linewidth=1.4, label="bound")
    if doses:
        axes.set_xscale("log")
        axes.set_xticks(doses, [f"{dose:g}" for dose in doses], rotation=0 if len(doses) < 5 else 40)
        axes.minorticks_off()
        axes.set_xlim(doses[0] / 1.2, doses[-1] * 1.2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"dose ({DOSE_UNIT})")
    axes.set_ylabel(f"{label} (no unit)")
    legend(axes)


def _ratio(one: Point, noisy: Point | None) -> float | None:
    return None if noisy is None or noisy.value == 0 else one.value / noisy.value


def _place(item: tuple[tuple[str, float | None, str], Point]) -> tuple[str, float, int, str]:
    (method, dose, way), _ = item
    return way, dose or np.inf, WANTED.index(method) if method in WANTED else len(WANTED), method


def _range(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]}–{found[-1]}"
