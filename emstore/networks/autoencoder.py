"""The autoencoder of Gambini et al., for electron-counting and for analog images, and its loss.

References
----------
.. [1] L. Gambini, T. Mullarkey, L. Jones, S. Sanvito, "Machine-learning approach for quantified resolvability enhancement of
   low-dose STEM data", Mach. Learn.: Sci. Technol. 4 (2023) 015025.
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from emstore.networks.layers import Convolve, Pool, Repeat, Step

NAME: Final = "autoencoder"
WEIGHT: Final = 1000.0
"""Weight of a pixel that is brighter than the darkest of its clean image."""


class Settings(BaseModel):
    """What builds an autoencoder; those of the paper when left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    filters: int = Field(32, ge=1, le=256, description="maps of every layer but the last")
    depth: int = Field(2, ge=1, le=4, description="times the image is halved; 4 * depth + 2 layers")
    output: Literal["relu", "sigmoid"] = Field(
        "relu", description="what the last layer ends with: relu for expected electrons, sigmoid for analog images in [0, 1]"
    )


def encoder(settings: Settings) -> tuple[Step, ...]:
    """Return the steps from the image to the innermost maps."""
    steps: list[Step] = []
    for number in range(1, settings.depth + 1):
        steps += [Convolve(f"encoder_{number}", 1 if number == 1 else settings.filters, settings.filters), Pool()]
    return tuple(steps)


def steps(settings: Settings) -> tuple[Step, ...]:
    """Return all steps."""
    after: list[Step] = []
    for number in range(1, settings.depth + 1):
        after += [Convolve(f"decoder_{number}", settings.filters, settings.filters), Repeat()]
    return (*encoder(settings), *after, Convolve("output", settings.filters, 1, settings.output))


def parameter_count(filters: int, depth: int) -> int:
    r"""Return the number of parameters, ``10 f + (2 d - 1)(9 f^2 + f) + 9 f + 1``: 28,353 in the paper's network.

    Over the paper's search space, 8 to 64 filters and 6, 10 or 14 layers (depth 1 to 3), 737 to 185,857.
    """
    return 10 * filters + (2 * depth - 1) * (9 * filters**2 + filters) + 9 * filters + 1


def weighted_loss(weight: float = WEIGHT) -> Any:
    """Return the paper's loss (eq. 3.1 of the thesis) for Keras.

    Parameters
    ----------
    weight : float
        Weight of a pixel brighter than the darkest one of its clean image, which weighs 1.

    Returns
    -------
    callable
        ``loss(clean, found)``: of images of shape (n, y, x, 1) or (n, 1, y, x), the mean over the pixels of every image of
        ``weight * (found - clean)^2``, shape (n,).
    """
    from emstore.networks.backend import keras

    ops = keras().ops

    def loss(clean: Any, found: Any) -> Any:
        darkest = ops.min(clean, axis=(1, 2, 3), keepdims=True)
        weights = ops.where(clean <= darkest, 1.0, weight)
        return ops.mean(weights * ops.square(found - clean), axis=(1, 2, 3))

    return loss
