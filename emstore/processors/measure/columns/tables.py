"""``measure.strain``, ``measure.precision`` and ``measure.matching``: what follows from tables of columns."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.processor import Params
from emstore.processors.measure.columns.rows import Matrix, Rows, bootstrap, columns_of, same_unit
from emstore.processors.measure.columns.strain import (
    DIRECTIONS,
    Direction,
    find_reference,
    match,
    neighbour_pairs,
    root_mean_square,
    turned,
)
from emstore.processors.measure.slices import plain
from emstore.table import Column, Table

_TYPES = {"frame": "i8", "direction": "U10", "pairs": "i8", "found": "i8", "true": "i8", "matched": "i8"}
_NO_PAIRS = "no two columns are neighbours in direction {}"


class DistanceParams(Params):
    """Parameters of what compares distances between neighbouring columns."""

    horizontal: float | None = Field(
        default=None, gt=0, description="Expected horizontal distance, in the unit of the positions; left out: the median found."
    )
    vertical: float | None = Field(default=None, gt=0, description="The same for the vertical distance.")
    angle: float = Field(default=0.0, ge=-90, le=90, description="Direction of the horizontal rows, degrees from x towards y.")
    tolerance: float = Field(
        default=0.35, gt=0, lt=1, description="Furthest a neighbour is from where it is expected, in parts of the distance."
    )
    edges: bool = Field(default=False, description="Whether columns at the edge take part.")
    samples: int = Field(default=500, ge=50, le=100_000, description="Bootstrap samples of each confidence interval.")
    seed: int = Field(default=0, ge=0, description="What the bootstrap's random numbers come from.")

    def reference(self, places: Matrix, direction: Direction) -> float | None:
        """Return the distance asked for, or else the one found."""
        given = self.horizontal if direction == "horizontal" else self.vertical
        return find_reference(places, direction) if given is None else given


class StrainParams(DistanceParams):
    """Parameters of `Strain`."""

    give: Literal["error", "histogram"] = Field(
        default="error", description="The strain error of every frame and direction, or the distances' probability histogram."
    )
    bins: int = Field(default=40, ge=2, le=10_000, description="Bins of the histogram, over reference x (1 -/+ tolerance).")


class Strain:
    """Standard deviation of the distances between neighbouring columns over a reference distance (the thesis's strain error)."""

    name: ClassVar[str] = "measure.strain"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Measure strain error: deviation of neighbouring columns' distances over a reference"
    inputs: ClassVar[tuple[str, ...]] = ("columns",)
    tables: ClassVar[tuple[str, ...]] = ("columns",)
    params: ClassVar[type[Params]] = StrainParams

    def plan(self, inputs: Sequence[Any], params: StrainParams) -> Table:
        """See `emstore.processor.Processor.plan`."""
        [table] = inputs
        rows = Rows.of(table, edges=params.edges)
        found: list[dict[str, Any]] = []
        histograms: list[tuple[int, str, Matrix, float]] = []
        for frame, index in rows.frames():
            places = turned(rows.places[index], params.angle)
            for key, direction in enumerate(DIRECTIONS):
                reference = params.reference(places, direction)
                if reference is None:
                    continue
                distances = neighbour_pairs(places, direction, reference=reference, tolerance=params.tolerance).distances
                if len(distances) < 2:
                    continue
                key_of = 2 * frame + key
                low, high = bootstrap(distances, np.std, samples=params.samples, seed=params.seed, key=key_of)
                found.append(
                    {
                        "frame": frame,
                        "direction": direction,
                        "pairs": len(distances),
                        "reference": reference,
                        "mean": float(distances.mean()),
                        "deviation": float(distances.std()),
                        "strain_error": float(distances.std()) / reference,
                        "strain_error_low": low / reference,
                        "strain_error_high": high / reference,
                    }
                )
                histograms.append((frame, direction, distances, reference))
        if not found:
            if not len(rows.places):
                raise InvalidInput("there are no columns, so no distances", where=rows.table.name, fix="see measure.columns")
            raise InvalidInput(
                _NO_PAIRS.format("horizontal or vertical"), where=rows.table.name, fix="give angle, horizontal and vertical"
            )
        summary: dict[str, Any] = {
            direction: plain(float(np.mean([one["strain_error"] for one in found if one["direction"] == direction] or [np.nan])))
            for direction in DIRECTIONS
        }
        title = f"strain error of {rows.table.name}"
        if params.give == "histogram":
            return Table(title, _histograms(histograms, params, rows.unit), summary)
        described = {
            "frame": (None, "number of the frame"),
            "direction": (None, "along x (horizontal) or y (vertical), as turned"),
            "pairs": (None, "neighbours compared"),
            "reference": (rows.unit, "reference distance"),
            "mean": (rows.unit, "mean distance"),
            "deviation": (rows.unit, "standard deviation of the distances"),
            "strain_error": (None, "deviation over reference"),
            "strain_error_low": (None, "lower end of its 95 % bootstrap interval"),
            "strain_error_high": (None, "upper end of it"),
        }
        notes = ("columns that did not converge are left out" + ("" if params.edges else ", and those at the edge"),)
        return Table(title, columns_of(found, described, _TYPES), summary, notes)


def _histograms(found: list[tuple[int, str, Matrix, float]], params: StrainParams, unit: str | None) -> dict[str, Column]:
    parts: list[dict[str, Any]] = []
    for frame, direction, distances, reference in found:
        edges = reference * np.linspace(1 - params.tolerance, 1 + params.tolerance, params.bins + 1)
        counts = np.histogram(distances, edges)[0]
        for i, count in enumerate(counts):
            parts.append(
                {
                    "frame": frame,
                    "direction": direction,
                    "distance": (edges[i] + edges[i + 1]) / 2,
                    "probability": count / len(distances),
                }
            )
    described = {
        "frame": (None, "number of the frame"),
        "direction": (None, "along x (horizontal) or y (vertical), as turned"),
        "distance": (unit, "middle of the bin"),
        "probability": (None, "share of the distances that lie in the bin"),
    }
    return columns_of(parts, described, _TYPES)


class PrecisionParams(DistanceParams):
    """Parameters of `Precision`."""

    radius: float | None = Field(
        default=None,
        gt=0,
        description="Furthest a column is from the same one of the reference, in the unit of the positions; left out: a quarter "
        "of the smaller reference distance.",
    )
    dose_ratio: float = Field(
        default=1.0, gt=0, description="Dose of the columns over the dose that the reference's standard errors hold for."
    )


class Precision:
    """What noise does to the distances between neighbouring columns, as a multiple of the Cramer-Rao bound.

    Every distance is compared with the same one of a reference: the same fit of the same specimen at infinite dose, with
    ``method=poisson`` and a dose, so that its standard errors are the bound. The figure is the root mean square difference over
    the root mean square of ``sqrt(e1^2 + e2^2)``, e the bounds of the two columns of a pair (sqrt(2) times the bound where they
    are alike).
    """

    name: ClassVar[str] = "measure.precision"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Measure noise in neighbouring columns' distances as a multiple of the Cramer-Rao bound"
    inputs: ClassVar[tuple[str, ...]] = ("columns", "reference")
    tables: ClassVar[tuple[str, ...]] = ("columns", "reference")
    params: ClassVar[type[Params]] = PrecisionParams

    def plan(self, inputs: Sequence[Any], params: PrecisionParams) -> Table:
        """See `emstore.processor.Processor.plan`."""
        rows, reference = Rows.of(inputs[0], edges=True), Rows.of(inputs[1], edges=params.edges)
        same_unit(rows, reference)
        frames = dict(reference.frames())
        if not frames:
            raise InvalidInput("the reference has no columns", where=reference.table.name)
        found: list[dict[str, Any]] = []
        for frame, index in rows.frames():
            at = frames.get(frame) if len(frames) > 1 else next(iter(frames.values()))
            if at is not None:
                found += self._frame(frame, turned(rows.places[index], params.angle), reference, at, params)
        if not found:
            raise InvalidInput(_NO_PAIRS.format("horizontal or vertical"), where=rows.table.name, fix="give angle and radius")
        unit = rows.unit
        described = {
            "frame": (None, "number of the frame"),
            "direction": (None, "along x (horizontal) or y (vertical), as turned"),
            "pairs": (None, "distances compared"),
            "lost": (None, "share of the reference's distances that one of its columns is missing for"),
            "rms": (unit, "root mean square difference of the distances"),
            "rms_low": (unit, "lower end of its 95 % bootstrap interval"),
            "rms_high": (unit, "upper end of it"),
            "bias": (unit, "mean difference of the distances"),
            "bias_low": (unit, "lower end of its 95 % bootstrap interval"),
            "bias_high": (unit, "upper end of it"),
            "bound": (unit, "Cramer-Rao bound of the root mean square"),
            "ratio": (None, "rms over bound"),
            "ratio_low": (None, "lower end of its 95 % bootstrap interval"),
            "ratio_high": (None, "upper end of it"),
        }
        summary: dict[str, Any] = {}
        for direction in DIRECTIONS:
            those = [one for one in found if one["direction"] == direction]
            pairs = np.array([one["pairs"] for one in those], float)
            squares, bounds = (np.array([one[name] ** 2 for one in those]) for name in ("rms", "bound"))
            with np.errstate(invalid="ignore", divide="ignore"):
                summary[direction] = plain(float(np.sqrt((pairs * squares).sum() / (pairs * bounds).sum()))) if those else None
        title = f"precision of {rows.table.name} against {reference.table.name}"
        return Table(title, columns_of(found, described, _TYPES), summary)

    def _frame(self, frame: int, places: Matrix, reference: Rows, at: Any, params: PrecisionParams) -> list[dict[str, Any]]:
        truth = turned(reference.places[at], params.angle)
        distances = {direction: params.reference(truth, direction) for direction in DIRECTIONS}
        known = [one for one in distances.values() if one is not None]
        if not known:
            return []
        one, other = match(places, truth, params.radius or 0.25 * min(known))
        place = np.full((len(truth), 2), np.nan)
        place[other] = places[one]
        variance = (reference.needed("x_error")[at] ** 2, reference.needed("y_error")[at] ** 2)
        turn = np.deg2rad(params.angle)
        parts = np.cos(turn) ** 2, np.sin(turn) ** 2
        rows = []
        for key, direction in enumerate(DIRECTIONS):
            expected = distances[direction]
            if expected is None:
                continue
            pairs = neighbour_pairs(truth, direction, reference=expected, tolerance=params.tolerance)
            along = 1 if direction == "horizontal" else 0
            difference = place[pairs.second, along] - place[pairs.first, along] - pairs.distances
            there = np.isfinite(difference)
            if there.sum() < 2:
                continue
            spread = parts[0] * variance[key] + parts[1] * variance[1 - key]
            squares = (spread[pairs.first] + spread[pairs.second])[there] / params.dose_ratio
            difference = difference[there]
            key_of = 4 * frame + 2 * key
            options: dict[str, Any] = {"samples": params.samples, "seed": params.seed}
            low, high = bootstrap(difference, root_mean_square, key=key_of, **options)
            bias = bootstrap(difference, np.mean, key=key_of + 1, **options)
            rms, bound = root_mean_square(difference), float(np.sqrt(squares.mean()))
            with np.errstate(invalid="ignore", divide="ignore"):
                ratios = np.array([rms, low, high]) / bound
            rows.append(
                {
                    "frame": frame,
                    "direction": direction,
                    "pairs": len(difference),
                    "lost": 1 - len(difference) / len(there),
                    "rms": rms,
                    "rms_low": low,
                    "rms_high": high,
                    "bias": float(difference.mean()),
                    "bias_low": bias[0],
                    "bias_high": bias[1],
                    "bound": bound,
                    "ratio": ratios[0],
                    "ratio_low": ratios[1],
                    "ratio_high": ratios[2],
                }
            )
        return rows


class MatchingParams(Params):
    """Parameters of `Matching`."""

    radius: float = Field(gt=0, description="Furthest a column is from the true one, in the unit of the positions.")
    edges: bool = Field(default=False, description="Whether columns at the edge take part.")


class Matching:
    """Columns found against true ones, or those of another fit: recall, precision, offsets and the ratio of fitted widths.

    Two columns match that are each other's nearest within a radius. What lies at the edge of the frame in the first table counts
    neither as found nor as invented; true columns without a match count as lost unless they are nearest to such a one.
    """

    name: ClassVar[str] = "measure.matching"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Compare columns with true ones: recall, precision, offsets, ratio of widths"
    inputs: ClassVar[tuple[str, ...]] = ("columns", "truth")
    tables: ClassVar[tuple[str, ...]] = ("columns", "truth")
    params: ClassVar[type[Params]] = MatchingParams

    def plan(self, inputs: Sequence[Any], params: MatchingParams) -> Table:
        """See `emstore.processor.Processor.plan`."""
        from scipy.spatial import cKDTree

        rows, truth = Rows.of(inputs[0], edges=True), Rows.of(inputs[1], edges=True)
        same_unit(rows, truth)
        frames = dict(truth.frames())
        edge = rows.values("at_edge")
        edge = np.zeros(len(rows.places)) if edge is None or params.edges else edge
        found = []
        for frame, index in rows.frames():
            at = frames.get(frame) if len(frames) > 1 else next(iter(frames.values()), None)
            if at is None:
                continue
            places, right = rows.places[index], truth.places[at]
            inner = edge[index] == 0
            one, other = match(places, right, params.radius)
            nearest = cKDTree(places).query(right)[1]
            counted = inner[nearest]
            kept = inner[one]
            one, other = one[kept], other[kept]
            off = places[one] - right[other]
            fitted, true = rows.values("sigma"), truth.values("sigma")
            ratio = np.nan
            if fitted is not None and true is not None and len(one):
                ratio = float(np.median(fitted[index[one]] / true[at[other]]))
            counted[other] = True
            found.append(
                {
                    "frame": frame,
                    "found": int(inner.sum()),
                    "true": int(counted.sum()),
                    "matched": len(one),
                    "recall": len(one) / counted.sum() if counted.any() else np.nan,
                    "precision": len(one) / inner.sum() if inner.any() else np.nan,
                    "rms": float(np.sqrt((off**2).sum(1).mean())) if len(off) else np.nan,
                    "bias_y": float(off[:, 0].mean()) if len(off) else np.nan,
                    "bias_x": float(off[:, 1].mean()) if len(off) else np.nan,
                    "width_ratio": ratio,
                }
            )
        if not found:
            raise InvalidInput("no frame of one has columns in the other", where=f"{rows.table.name}, {truth.table.name}")
        described = {
            "frame": (None, "number of the frame"),
            "found": (None, "columns found"),
            "true": (None, "true columns"),
            "matched": (None, "columns that are each other's nearest within the radius"),
            "recall": (None, "matched over true"),
            "precision": (None, "matched over found"),
            "rms": (rows.unit, "root mean square distance of matched columns"),
            "bias_y": (rows.unit, "mean offset along y"),
            "bias_x": (rows.unit, "mean offset along x"),
            "width_ratio": (None, "median ratio of fitted widths; unknown where the truth has none"),
        }
        matched, total, seen = (sum(one[name] for one in found) for name in ("matched", "true", "found"))
        summary = {
            "recall": matched / total if total else None,
            "precision": matched / seen if seen else None,
            "width_ratio": plain(float(np.median([r for one in found if not np.isnan(r := one["width_ratio"])] or [np.nan]))),
        }
        return Table(f"{rows.table.name} against {truth.table.name}", columns_of(found, described, _TYPES), summary)
