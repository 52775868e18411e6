"""Atomic columns: where they are, how precisely that can be known, and what follows from it."""

from emstore.processors.measure.columns.frames import Columns, ColumnsParams

__all__ = ["Columns", "ColumnsParams"]
