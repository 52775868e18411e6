"""Training the autoencoder of Gambini et al. (2023)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.networks import autoencoder
from emstore.networks.architectures import Network
from emstore.networks.noise import Analog, Images, counted, unit
from emstore.processor import Params
from emstore.trainers.data import quantity_of
from emstore.trainers.fitting import Job, TrainingParams, fit
from emstore.weights import Weights
from emstore.work import Bench


class AutoencoderTrainingParams(TrainingParams):
    """Parameters of `AutoencoderTrainer`; the paper's where they are left out."""

    batch: int = Field(64, ge=1, description="images per step")
    images: Literal["electrons", "analog"] = Field(
        "electrons", description="electrons: counted, Poisson noise, ReLU at the end; analog: in [0, 1], Sigmoid at the end"
    )
    filters: int = Field(32, ge=1, le=256, description="maps of every layer but the last")
    depth: int = Field(2, ge=1, le=4, description="times the image is halved; 4 * depth + 2 layers")
    weight: float = Field(
        autoencoder.WEIGHT, gt=0, description="weight of the loss where the clean pixel is not the darkest of its image"
    )
    brightest: tuple[float, float] = Field(
        (50.0, 500.0),
        description="analog, and the clean images are analog too: expected electrons of their brightest pixel, drawn evenly",
    )
    variance: tuple[float, float] = Field((0.0, 0.05), description="analog: variance of the Gaussian noise, drawn evenly")
    points: int = Field(20, ge=0, description="analog: points whose blurred picture is the background")
    blur: float = Field(0.125, gt=0, le=1, description="analog: width of that blur, in parts of the image's shorter side")
    blend: float = Field(0.5, ge=0, lt=1, description="analog: share of the background")


class AutoencoderTrainer:
    """Fits the autoencoder with the paper's weighted loss and Adam, noise drawn afresh for every step.

    Clean images are versions ``n, y, x`` of expected electrons. For analog images, noise comes in the steps of the thesis,
    section 4.2, and what should come out is the clean image put to [0, 1] by its least and largest value.
    """

    name: ClassVar[str] = "autoencoder"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Autoencoder with a weighted squared error (Gambini et al. 2023)"
    inputs: ClassVar[tuple[str, ...]] = ("training", "validation")
    params: ClassVar[type[Params]] = AutoencoderTrainingParams

    def train(self, refs: Sequence[str], params: AutoencoderTrainingParams, bench: Bench) -> Weights:
        """Fit it; see `emstore.trainer.Trainer.train`."""
        analog = params.images == "analog"
        settings = {"filters": params.filters, "depth": params.depth, "output": "sigmoid" if analog else "relu"}
        network = Network.of(autoencoder.NAME, settings)
        electrons = [_electrons(ref, analog) for ref in refs]
        if len(set(electrons)) > 1:
            raise InvalidInput("one holds expected electrons, the other analog values", where=", ".join(refs))
        noise = Analog(params.variance, params.points, params.blur, params.blend)
        noisy = _AnalogNoise(noise, None if electrons[0] else params.brightest) if analog else count
        name = "autoencoder-analog" if analog else "autoencoder-digital"
        return fit(Job(name, network, lambda: autoencoder.weighted_loss(params.weight), noisy, params, refs), bench)


def _electrons(ref: str, analog: bool) -> bool:
    """Say whether a version holds expected electrons, not analog values."""
    quantity = quantity_of(ref)
    if quantity == "electrons":
        return True
    if analog and quantity == "analog":
        return False
    what = f"in {quantity}" if quantity else "of which nothing says what they are"
    wanted = "expected electrons" + (" or clean analog images" if analog else "")
    raise InvalidInput(f"holds values {what}; this is trained on {wanted}", where=ref)


def count(clean: Images, rng: np.random.Generator) -> tuple[Images, Images]:
    """Return counted electrons, and the expected ones."""
    return counted(clean, rng), clean


@dataclass(frozen=True)
class _AnalogNoise:
    noise: Analog
    brightest: tuple[float, float] | None

    def __call__(self, clean: Images, rng: np.random.Generator) -> tuple[Any, Any]:
        wanted = np.stack([unit(image) for image in clean])
        if self.brightest is None:
            expected = clean
        else:
            expected = wanted * rng.uniform(*self.brightest, (len(clean), 1, 1)).astype(np.float32)
        return np.stack([self.noise(image, rng) for image in expected]), wanted
