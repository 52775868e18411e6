"""Take noise out of images.

Every method keeps grid, scale and modality, filters spatial axes only unless told otherwise, and meets the border of the
volume by reflection. Heavy libraries are imported when a block is computed.
"""

from emstore.processors.denoise.blockmatching import Bm3d
from emstore.processors.denoise.gaussian import Gaussian
from emstore.processors.denoise.median import Median
from emstore.processors.denoise.nlm import NonLocalMeans
from emstore.processors.denoise.tv import TotalVariation

__all__ = ["Bm3d", "Gaussian", "Median", "NonLocalMeans", "TotalVariation"]
