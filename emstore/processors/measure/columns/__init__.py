"""Atomic columns: where they are, how precisely that can be known, and what follows from it."""

from emstore.processors.measure.columns.frames import Columns, ColumnsParams
from emstore.processors.measure.columns.images import Profile, Residual
from emstore.processors.measure.columns.tables import Matching, Precision, Strain

__all__ = ["Columns", "ColumnsParams", "Matching", "Precision", "Profile", "Residual", "Strain"]
