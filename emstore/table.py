"""A Table: named columns of equal length, each with its unit. What measurements are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from emstore.errors import InvalidInput


@dataclass(frozen=True)
class Column:
    """One column."""

    values: npt.NDArray[Any]
    """Numbers, booleans or text (dtype kind ``U``), shape (rows,). A number that is not known is NaN."""
    unit: str | None = None
    """Unit as `emstore.geometry.units.canonical` writes it; ``None`` for counts, ratios and text."""
    description: str = ""
    """What it is, in one phrase."""


@dataclass(frozen=True)
class Table:
    """Named columns of equal length."""

    name: str
    columns: Mapping[str, Column]
    """By name: lower-case words joined by underscores, in the order to show them."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the whole, JSON-safe, e.g. ``{"psnr": 31.2}``; unknown ones are ``None``."""
    notes: tuple[str, ...] = ()
    """Rules applied and oddities met, in sentences."""

    def __post_init__(self) -> None:
        if not self.columns:
            raise InvalidInput("a table needs a column", where=self.name)
        for name, column in self.columns.items():
            if column.values.ndim != 1 or column.values.dtype.kind not in "biufU":
                raise InvalidInput(f"column {name!r} is not a line of numbers or text", where=self.name)
        if len({len(column.values) for column in self.columns.values()}) > 1:
            raise InvalidInput("its columns differ in length", where=self.name)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())).values)
