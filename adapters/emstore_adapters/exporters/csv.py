"""Writing tables as comma-separated values (RFC 4180) in UTF-8."""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, Final

import numpy as np

from emstore.table import Column, Table

_ROWS: Final = 1 << 16
"""Rows turned into text at once."""


class CsvExporter:
    """Writes ``.csv``: one line of column names, each with its unit in brackets, then one line per row.

    Numbers are written with the fewest digits that give back the same value, and left empty where they are not known.
    """

    name: ClassVar[str] = "csv"
    extensions: ClassVar[tuple[str, ...]] = (".csv",)

    def write_table(self, table: Table, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write some rows at a time; see `emstore.export.TableExporter`."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(name if column.unit is None else f"{name} [{column.unit}]" for name, column in table.columns.items())
            for start in range(0, table.rows, _ROWS):
                part = slice(start, start + _ROWS)
                writer.writerows(zip(*(_cells(column, part) for column in table.columns.values()), strict=True))
                advance(sum(column.values[part].nbytes for column in table.columns.values()))
        return tuple(_losses(table))


def _cells(column: Column, part: slice) -> list[str]:
    values = column.values[part]
    texts = values.astype(str)
    if values.dtype.kind == "f":
        texts[np.isnan(values)] = ""
    cells: list[str] = texts.tolist()
    return cells


def _losses(table: Table) -> Iterable[str]:
    if table.summary:
        yield f"CSV holds no figures of the whole: {', '.join(table.summary)} were left out"
    if table.notes:
        yield "CSV holds no notes: they were left out"
