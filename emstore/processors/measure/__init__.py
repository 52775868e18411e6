"""Measurements: tables found in one pass over one or two volumes.

Every figure is found from sums, counts and extremes of blocks, so that it does not depend on how a volume was cut: exactly
where the values are integers of at most 16 bits, and to rounding (parts in 1e9, mostly far less) where they are not.
"""

from emstore.processors.measure.columns import Columns, Matching, Precision, Profile, Residual, Strain
from emstore.processors.measure.fidelity import MeanSquaredError, PeakSignalToNoise
from emstore.processors.measure.histogram import Histogram
from emstore.processors.measure.multiscale import MultiScaleSimilarity
from emstore.processors.measure.overlap import Overlap
from emstore.processors.measure.roc import RocCurve
from emstore.processors.measure.similarity import StructuralSimilarity
from emstore.processors.measure.statistics import Statistics
from emstore.processors.measure.vacancies import Vacancies

__all__ = [
    "Columns",
    "Histogram",
    "Matching",
    "MeanSquaredError",
    "MultiScaleSimilarity",
    "Overlap",
    "PeakSignalToNoise",
    "Precision",
    "Profile",
    "Residual",
    "RocCurve",
    "Statistics",
    "Strain",
    "StructuralSimilarity",
    "Vacancies",
]
