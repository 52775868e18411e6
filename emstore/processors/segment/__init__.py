"""Segmentation: images to labels, by thresholds given or found, and by connected components."""

from emstore.processors.segment.automatic import Isodata, Otsu
from emstore.processors.segment.components import Components
from emstore.processors.segment.threshold import Threshold

__all__ = ["Components", "Isodata", "Otsu", "Threshold"]
