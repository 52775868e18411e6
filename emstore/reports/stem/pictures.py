"""Images side by side on one grey scale, and what denoising took away with its transform."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emstore.reporter import Figure, Given, Listing, Panel, Section
from emstore.reports.drawing import picture
from emstore.reports.stem.distances import electrons_per_value
from emstore.reports.stem.reading import (
    DOSE_UNIT,
    NOISY,
    Cases,
    nearest,
    ordered,
    pixel,
    pooled,
    quantity,
    specimen_title,
)
from emstore.volume import VolumeKind

Picture = npt.NDArray[np.float64]


def image_sections(everything: Sequence[Given], cases: Cases, wanted: float, size: int) -> list[Section]:
    """Return a section per specimen: its images at the dose nearest to what is wanted, one of each method."""
    groups: dict[tuple[str, str], list[Given]] = {}
    for given in everything:
        if _shown(given):
            said = quantity(given)
            kind = "electrons" if said == "beam fraction" else str(said)
            groups.setdefault((cases.of(given).specimen.id, kind), []).append(given)
    found = []
    for (_, kind), those in groups.items():
        dose = nearest((cases.of(one).dose for one in those), wanted)
        if dose is None and len(those) < 2:
            continue
        chosen: dict[str, Given] = {}
        for one in those:
            case = cases.of(one)
            if case.dose in (dose, None):
                chosen.setdefault(case.method, one)
        found.append(_side_by_side({name: chosen[name] for name in ordered(chosen)}, cases, dose, kind, size))
    return found


def _shown(given: Given) -> bool:
    dims = given.volume.grid.dims if given.kind is VolumeKind.IMAGE else ()
    named = given.record.activity.type != "process" or given.made_by.partition(".")[0] in ("noise", "denoise")
    return named and dims[-2:] == ("y", "x") and "n" not in dims and given.volume.dtype.kind in "iuf"


def first_frame(given: Given, size: int) -> Picture:
    """Return the first frame's corner, of at most so many pixels along each side."""
    volume = given.volume
    region = tuple(slice(0, 1) for _ in volume.shape[:-2]) + tuple(slice(0, min(size, n)) for n in volume.shape[-2:])
    values = np.asarray(volume.data[region], np.float64)
    if volume.scale is not None:
        values = values * volume.scale.slope + volume.scale.intercept
    return values.reshape(values.shape[-2:])


def _side_by_side(chosen: dict[str, Given], cases: Cases, dose: float | None, kind: str, size: int) -> Section:
    values: dict[str, Picture] = {}
    for name, given in chosen.items():
        factor = electrons_per_value(given, dose) if kind == "electrons" else 1.0
        if factor is not None:
            values[name] = first_frame(given, size) * factor
    smooth = [one for name, one in values.items() if name != NOISY] or list(values.values())
    low = min(float(np.nanpercentile(one, 0.1)) for one in smooth)
    high = max(float(np.nanpercentile(one, 99.9)) for one in smooth)
    panels = []
    for name, image in values.items():
        step = pixel(chosen[name])
        words = f"{name}: {image.shape[0]} by {image.shape[1]} pixels"
        panels.append(picture(image, low=low, high=high, alt=words, title=name, pixel=step, unit=None if step is None else "Å"))
    specimen = cases.of(next(iter(chosen.values()))).specimen
    unit = "electrons per pixel" if kind == "electrons" else kind
    at = f" at {dose:g} {DOSE_UNIT}" if dose is not None else ""
    caption = (
        f"The same field{at}, first frame, all on one grey scale: black is {low:.3g}, white {high:.3g} {unit}; brighter and "
        "darker values of the untouched image are cut off there."
    )
    sources = tuple(chosen[name] for name in values)
    figure = Figure("Images side by side", tuple(panels), caption, sources, small=True)
    return Section(f"Images: {specimen_title(specimen)}", (figure,))


def residual_sections(tables: Sequence[Given], cases: Cases, wanted: float, size: int) -> list[Section]:
    """Return a section per specimen of what ``measure.residual`` says, with pictures where the images are at hand."""
    groups: dict[str, list[Given]] = {}
    for given in tables:
        groups.setdefault(cases.of(given).specimen.id, []).append(given)
    return [_residual(those, cases, wanted, size) for those in groups.values()]


def _residual(tables: list[Given], cases: Cases, wanted: float, size: int) -> Section:
    content: list[str | Figure | Listing] = []
    named = {given.id: _case(given, cases) for given in tables}
    dose = nearest((one[1] for one in named.values()), wanted)
    residuals: dict[str, Picture] = {}
    chosen: dict[str, Given] = {}
    for given in tables:
        method, at = named[given.id]
        image, denoised = given.input("image"), given.input("denoised")
        if at == dose and image is not None and denoised is not None and method not in chosen:
            residuals[method] = first_frame(image, size) - first_frame(denoised, size)
            chosen[method] = given
    if residuals:
        content.append(_pictures({name: residuals[name] for name in ordered(residuals)}, chosen, dose))
    rows = []
    for given in sorted(tables, key=lambda one: (named[one.id][1] or np.inf, named[one.id][0])):
        columns = {name: column.values for name, column in given.table.columns.items()}
        ratios = columns["bragg_power_ratio"][np.isfinite(columns["bragg_power_ratio"])]
        whole = pooled([(float(one), np.nan, np.nan, 1) for one in ratios]) if len(ratios) else None
        rows.append(
            (
                *named[given.id],
                None if whole is None else whole.value,
                None if whole is None else whole.low,
                None if whole is None else whole.high,
                float(np.mean(columns["mean"])),
                float(np.mean(columns["variance_over_signal"])),
                len(columns["frame"]),
            )
        )
    heads = ("method", f"dose ({DOSE_UNIT})", "Bragg-power ratio", "95 % from", "to", "mean", "variance over signal", "frames")
    caption = (
        "Ratio: mean power of the residual in the lattice's Bragg spots over that beside them; 1 where only noise was taken "
        "away, more where structure was. Interval: Student's over frames, from five frames on. Variance over signal is 1 where "
        "the Poisson noise was taken away whole."
    )
    content.append(Listing("What denoising took away", heads, tuple(rows), tuple(tables), caption))
    return Section(f"Residuals: {specimen_title(cases.of(tables[0]).specimen)}", tuple(content))


def _case(given: Given, cases: Cases) -> tuple[str, float | None]:
    denoised = given.input("denoised")
    case = cases.of(given if denoised is None else denoised)
    return given.label or case.method, case.dose


def _pictures(residuals: dict[str, Picture], chosen: dict[str, Given], dose: float | None) -> Figure:
    span = 3 * max(float(np.nanstd(one)) for one in residuals.values())
    panels: list[Panel] = []
    for name, residual in residuals.items():
        image = chosen[name].input("image")
        step = None if image is None else pixel(image)
        unit = None if step is None else "Å"
        panels.append(
            picture(residual, low=-span, high=span, alt=f"Residual of {name}", title=f"{name}: residual", pixel=step, unit=unit)
        )
        window = np.hanning(residual.shape[0])[:, None] * np.hanning(residual.shape[1])
        power = np.abs(np.fft.fftshift(np.fft.fft2((residual - residual.mean()) * window))) ** 2
        level = np.log10(np.maximum(power, 1e-12 * power.max() + 1e-300) / max(float(np.median(power)), 1e-300))
        alt, title = f"Power spectrum of the residual of {name}", f"{name}: its transform"
        # Of a picture that is not square the two axes of the transform have steps of their own: no bar would hold for both.
        square = step is not None and residual.shape[0] == residual.shape[1]
        frequency = 1 / (residual.shape[1] * step) if square and step is not None else None
        panels.append(
            picture(level, low=-1, high=3, alt=alt, title=title, pixel=frequency, unit=None if frequency is None else "1/Å")
        )
    at = "an unknown dose" if dose is None else f"{dose:g} {DOSE_UNIT}"
    caption = (
        f"Untouched minus denoised image at {at}, first frame, black to white ±{span:.3g}; and its power spectrum (Hann window), "
        "logarithmic, from a tenth of its median (black) to a thousand times it (white). Bright spots in a lattice are structure "
        "that denoising took away."
    )
    return Figure("Residuals and their transforms", tuple(panels), caption, tuple(chosen[name] for name in residuals), small=True)
