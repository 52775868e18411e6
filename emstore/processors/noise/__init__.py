"""What a detector adds to an image: the noise of counted electrons, and that of an analog signal."""

from emstore.processors.noise.analog import Analog
from emstore.processors.noise.digital import Digital

__all__ = ["Analog", "Digital"]
