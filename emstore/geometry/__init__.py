"""Where every voxel is: axes, units, grids and orientations. Imports nothing but NumPy."""

from emstore.geometry.axes import Axis, AxisKind
from emstore.geometry.grid import Grid
from emstore.geometry.orientation import Affine, Space

__all__ = ["Affine", "Axis", "AxisKind", "Grid", "Space"]
