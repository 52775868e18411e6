"""Training the Poisson U-Net."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from emstore.errors import InvalidInput
from emstore.networks import poisson_unet
from emstore.networks.architectures import Network
from emstore.processor import Params
from emstore.trainers.autoencoder import count
from emstore.trainers.data import quantity_of
from emstore.trainers.fitting import Job, TrainingParams, fit
from emstore.weights import Weights
from emstore.work import Bench


class PoissonUnetTrainingParams(TrainingParams):
    """Parameters of `PoissonUnetTrainer`."""

    rate: float = Field(2e-3, gt=0, description="learning rate at the beginning")


class PoissonUnetTrainer:
    """Fits the Poisson U-Net with the deviance of Poisson statistics and Adam, counts drawn afresh for every step."""

    name: ClassVar[str] = "poisson_unet"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Small U-Net for counted electrons with the loss of Poisson statistics"
    inputs: ClassVar[tuple[str, ...]] = ("training", "validation")
    params: ClassVar[type[Params]] = PoissonUnetTrainingParams

    def train(self, refs: Sequence[str], params: PoissonUnetTrainingParams, bench: Bench) -> Weights:
        """Fit it; see `emstore.trainer.Trainer.train`."""
        for ref in refs:
            if (quantity := quantity_of(ref)) != "electrons":
                what = f"values in {quantity}" if quantity else "values of which nothing says what they are"
                raise InvalidInput(f"holds {what}; this is trained on expected electrons", where=ref)
        network = Network.of(poisson_unet.NAME)
        return fit(Job("poisson_unet", network, poisson_unet.deviance, count, params, refs), bench)
