"""Tables of columns as arrays: what the processors that go on from `measure.columns` read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput
from emstore.table import Column, Table

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Rows of a table of columns that may be used."""

    table: Table
    chosen: npt.NDArray[np.bool_]
    unit: str | None
    """Of the positions."""

    @classmethod
    def of(cls, table: Any, *, edges: bool = False) -> "Rows":
        """Return the rows of a table: those that converged and, unless `edges`, do not lie at the edge.

        Raises
        ------
        InvalidInput
            It is no table of positions y and x in one unit.
        """
        if not isinstance(table, Table) or not {"y", "x"} <= set(table.columns):
            raise InvalidInput("it is no table of columns with y and x", fix="make one with measure.columns")
        if table.columns["y"].unit != table.columns["x"].unit:
            raise InvalidInput("y and x are in different units", where=table.name)
        chosen = np.isfinite(table.columns["y"].values) & np.isfinite(table.columns["x"].values)
        if "converged" in table.columns:
            chosen &= table.columns["converged"].values.astype(bool)
        if not edges and "at_edge" in table.columns:
            chosen &= ~table.columns["at_edge"].values.astype(bool)
        return cls(table, chosen, table.columns["y"].unit)

    def values(self, name: str) -> Matrix | None:
        """Return one column's values of the rows, ``None`` where the table has no such column."""
        if name not in self.table.columns:
            return None
        return np.asarray(self.table.columns[name].values[self.chosen], np.float64)

    def needed(self, name: str) -> Matrix:
        """Return one column's values of the rows.

        Raises
        ------
        InvalidInput
            There is no such column.
        """
        found = self.values(name)
        if found is None:
            raise InvalidInput(f"it has no column {name!r}", where=self.table.name, fix="make it with measure.columns")
        return found

    @property
    def frame(self) -> npt.NDArray[np.int64]:
        """Number of the frame of every row; 0 where the table has none."""
        found = self.values("frame")
        return np.zeros(int(self.chosen.sum()), np.int64) if found is None else found.astype(np.int64)

    @property
    def places(self) -> Matrix:
        """Positions y, x, shape (rows, 2)."""
        return np.column_stack([self.needed("y"), self.needed("x")])

    def frames(self) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Yield every frame's number and its rows."""
        frame = self.frame
        for number in np.unique(frame):
            yield int(number), np.flatnonzero(frame == number)


def same_unit(one: Rows, other: Rows) -> None:
    """Refuse two tables whose positions are in different units.

    Raises
    ------
    InvalidInput
        Naming both.
    """
    if one.unit != other.unit:
        raise InvalidInput(
            f"their positions differ in unit: {one.unit or 'pixels'} and {other.unit or 'pixels'}",
            where=f"{one.table.name}, {other.table.name}",
        )


def bootstrap(values: Matrix, statistic: Any, *, samples: int, seed: int, key: int) -> tuple[float, float]:
    """Return the ends of the 95 % bootstrap interval (percentiles) of a statistic of rows drawn with replacement.

    Every stream of random numbers is keyed by the seed and a number of its own (B. Efron, Ann. Statist. 7, 1, 1979).
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, key])))
    found = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(samples)]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def columns_of(
    rows: list[dict[str, Any]], described: dict[str, tuple[str | None, str]], types: dict[str, str]
) -> dict[str, Column]:
    """Return table columns from one mapping per row, in the order of what they are described as (unit, phrase)."""
    return {
        name: Column(np.array([row[name] for row in rows], dtype=types.get(name, "f8")), unit, phrase)
        for name, (unit, phrase) in described.items()
    }
