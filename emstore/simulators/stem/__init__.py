"""Scanning transmission electron microscopy: images at infinite dose, and where every atomic column is.

Specimens come from `crystals`, `specimen` and `nanoparticle`; `setup` chooses grids; abTEM carries the electrons (`beam`),
in pieces that outlive a stop (`scanning`, `pieces`); `band` shows the image at any pixel, and `truth` says what is in it.
"""

from emstore.simulators.stem.parameters import Particle, StemParams, Vacancies
from emstore.simulators.stem.simulator import Stem
from emstore.simulators.stem.training import StemTraining, TrainingParams

__all__ = ["Particle", "Stem", "StemParams", "StemTraining", "TrainingParams", "Vacancies"]
