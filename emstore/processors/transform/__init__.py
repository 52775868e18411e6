"""Another part, grid, range or description of the same volume."""

from emstore.processors.transform.accumulate import Accumulate
from emstore.processors.transform.calibrate import Calibrate
from emstore.processors.transform.crop import Crop
from emstore.processors.transform.project import Project
from emstore.processors.transform.resample import Regularise, Resample
from emstore.processors.transform.rescale import Rescale

__all__ = ["Accumulate", "Calibrate", "Crop", "Project", "Regularise", "Resample", "Rescale"]
