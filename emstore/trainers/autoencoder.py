"""Training the autoencoder of Gambini et al. (2023)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.networks import autoencoder
from emstore.networks.architectures import Network
from emstore.processor import Params
from emstore.processors.noise.detector import BLEND, BLUR, POINTS, analog, counted, unit
from emstore.trainers.data import Images, quantity_of
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
    points: int = Field(POINTS, ge=0, description="analog: points whose blurred picture is the background")
    blur: float = Field(BLUR, gt=0, le=1, description="analog: sigma of that blur, as a fraction of the image's shorter edge")
    blend: float = Field(BLEND, ge=0, lt=1, description="analog: weight of the background in the sum")


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
        is_analog = params.images == "analog"
        settings = {"filters": params.filters, "depth": params.depth, "output": "sigmoid" if is_analog else "relu"}
        network = Network.of(autoencoder.NAME, settings)
        electrons = [_electrons(ref, is_analog) for ref in refs]
        if len(set(electrons)) > 1:
            raise InvalidInput("one holds expected electrons, the other analog values", where=", ".join(refs))
        noisy = _AnalogNoise(params, electrons[0]) if is_analog else count
        name = "autoencoder-analog" if is_analog else "autoencoder-digital"
        return fit(Job(name, network, lambda: autoencoder.weighted_loss(params.weight), noisy, params, refs), bench)


def _electrons(ref: str, is_analog: bool) -> bool:
    """Say whether a version holds expected electrons, not analog values."""
    quantity = quantity_of(ref)
    if quantity == "electrons":
        return True
    if is_analog and quantity == "analog":
        return False
    what = f"in {quantity}" if quantity else "of which nothing says what they are"
    wanted = "expected electrons" + (" or clean analog images" if is_analog else "")
    raise InvalidInput(f"holds values {what}; this is trained on {wanted}", where=ref)


def count(clean: Images, rng: np.random.Generator) -> tuple[Images, Images]:
    """Return counted electrons, and the expected ones."""
    return counted(clean, rng), clean


@dataclass(frozen=True)
class _AnalogNoise:
    params: AutoencoderTrainingParams
    electrons: bool
    """Whether clean images are expected electrons, not analog."""

    def __call__(self, clean: Images, rng: np.random.Generator) -> tuple[Images, Images]:
        wanted = np.stack([unit(image) for image in clean])
        expected = clean
        if not self.electrons:
            expected = wanted * rng.uniform(*self.params.brightest, (len(clean), 1, 1)).astype(np.float32)
        return np.stack([self._noisy(image, rng) for image in expected]), wanted

    def _noisy(self, expected: Images, rng: np.random.Generator) -> Images:
        params = self.params
        variance = rng.uniform(*params.variance)
        return analog(expected, rng, variance=variance, points=params.points, blur=params.blur, blend=params.blend)
