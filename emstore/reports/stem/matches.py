"""Columns found, lost and invented, against the true ones."""

from collections.abc import Sequence

import numpy as np

from emstore.reporter import Given, Listing, Section
from emstore.reports.stem.reading import DOSE_UNIT, INFINITE, Cases, ordered, specimen_title


def match_sections(tables: Sequence[Given], cases: Cases) -> list[Section]:
    """Return a section per specimen of what ``measure.matching`` says."""
    groups: dict[str, list[Given]] = {}
    for given in tables:
        groups.setdefault(cases.of(given).specimen.id, []).append(given)
    found = []
    for those in groups.values():
        places = {name: n for n, name in enumerate(ordered(cases.of(one).method for one in those))}
        those = sorted(those, key=lambda one: (cases.of(one).dose or float("inf"), places[cases.of(one).method]))
        unit = those[0].table.columns["rms"].unit or "pixel"
        rows = []
        for given in those:
            case, columns = cases.of(given), {name: column.values for name, column in given.table.columns.items()}
            counts = [int(columns[name].sum()) for name in ("true", "found", "matched")]
            summary = given.table.summary
            rows.append(
                (
                    case.method,
                    case.dose or ("infinite" if case.method == INFINITE else "unknown"),
                    *counts,
                    summary.get("recall"),
                    summary.get("precision"),
                    float(np.sqrt(np.nansum(columns["rms"] ** 2 * columns["matched"]) / counts[2])) if counts[2] else None,
                    summary.get("width_ratio"),
                )
            )
        counts_of = ("true", "found", "matched", "recall", "precision")
        heads = ("method", f"dose ({DOSE_UNIT})", *counts_of, f"RMS offset ({unit})", "width ratio")
        listing = Listing("Columns found", heads, tuple(rows), tuple(those), "Counts are sums over all frames.")
        found.append(Section(f"Columns found: {specimen_title(cases.of(those[0]).specimen)}", (listing,)))
    return found
