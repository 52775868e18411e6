"""Images moved onto each other."""

from emstore.processors.register.slices import Slices

__all__ = ["Slices"]
