"""Samples between samples, along one axis."""

from emstore.processors.interpolate.along_axis import Cubic, Linear, Nearest

__all__ = ["Cubic", "Linear", "Nearest"]
