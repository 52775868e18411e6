"""Take noise out of images.

Every method keeps grid, scale and modality, filters spatial axes only unless told otherwise, and meets the border of the
volume by reflection; what networks do there `emstore.processors.denoise.network` tells. Heavy libraries are imported when a
block is computed.
"""

from emstore.processors.denoise.autoencoder import Autoencoder
from emstore.processors.denoise.blockmatching import Bm3d
from emstore.processors.denoise.gaussian import Gaussian
from emstore.processors.denoise.latent import Latent
from emstore.processors.denoise.median import Median
from emstore.processors.denoise.nlm import NonLocalMeans
from emstore.processors.denoise.poisson_unet import PoissonUnet
from emstore.processors.denoise.tv import TotalVariation

__all__ = ["Autoencoder", "Bm3d", "Gaussian", "Latent", "Median", "NonLocalMeans", "PoissonUnet", "TotalVariation"]
