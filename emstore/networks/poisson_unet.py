r"""A small U-Net for images of counted electrons, made for their noise.

The count ``x`` of a pixel is Poisson with the mean ``y`` that is wanted. ``z = 2 sqrt(x + 3/8)`` has a standard deviation of
about 1 whatever ``y`` is [1]_, so that the noise is the same everywhere. The network sees two maps: ``z`` less its mean over the
neighbourhood, and the inverse of that mean, which tells how strong the noise is beside the signal where electrons are few. What
it finds is added to ``z``, and taken back by ``y = a^2 / 4 - 3/8``. A network that finds nothing gives the image itself.

The loss is that of Poisson statistics, the deviance of ``y + 3/8``:

.. math:: 2 [(y + c) \ln \frac{y + c}{\hat{y} + c} - (y - \hat{y})], \quad c = 3/8

Its minimum is the mean of all images that may be behind the counts, ``E[y | x]``, not that of their roots: the result needs no
correction by an unbiased inverse of the root. Beside its minimum it rises as fast for many electrons as for few.

Most maps are on pixels of 2x2 and 4x4: STEM images are sampled finer than the probe is wide.

References
----------
.. [1] F. J. Anscombe, "The transformation of Poisson, binomial and negative-binomial data", Biometrika 35 (1948) 246-254.
.. [2] O. Ronneberger, P. Fischer, T. Brox, "U-Net", MICCAI 2015, LNCS 9351, 234-241.
"""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from emstore.networks.layers import Convolve, Expand, Join, Keep, Reduce, Step

NAME: Final = "poisson_unet"
SHIFT: Final = 3 / 8
"""What Anscombe's root adds to a count."""
CELL: Final = 4
"""The mean over the neighbourhood is that of 9x9 cells of 4x4 pixels, interpolated."""
CELLS: Final = 9
REACH: Final = CELL * (CELLS // 2 + 1)
"""Pixels beyond a block of whole cells that its neighbourhood mean is made from."""
LEAST: Final = 0.1
"""Smallest root that is squared: keeps the loss finite. A count of 0 has the root 1.22."""


class Settings(BaseModel):
    """What builds the network."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pixels: int = Field(16, ge=4, le=128, description="maps as fine as the image")
    halves: int = Field(32, ge=4, le=128, description="maps on pixels of 2x2")
    quarters: int = Field(48, ge=4, le=128, description="maps on pixels of 4x4")


def steps(settings: Settings) -> tuple[Step, ...]:
    """Return the steps between the two maps that go in and the one to add to the root."""
    a, b, c = settings.pixels, settings.halves, settings.quarters
    return (
        Convolve("pixels_1", 2, a),
        Keep("pixels"),
        Reduce("halves", a, b),
        Convolve("halves_1", b, b),
        Keep("halves"),
        Reduce("quarters", b, c),
        Convolve("quarters_1", c, c),
        Convolve("quarters_2", c, c),
        Expand("quarters_up", c, b, None),
        Join("halves"),
        Convolve("halves_2", b, b),
        Expand("halves_up", b, a, None),
        Join("pixels"),
        Convolve("pixels_2", a, a),
        Convolve("output", a, 1, None),
    )


def deviance() -> Any:
    """Return the loss for Keras: ``loss(clean, found)`` of images of shape (n, ...), the mean deviance of each, shape (n,)."""
    from emstore.networks.backend import keras

    ops = keras().ops

    def loss(clean: Any, found: Any) -> Any:
        y, estimate = clean + SHIFT, found + SHIFT
        return ops.mean(2 * (y * ops.log(y / estimate) - y + estimate), axis=(1, 2, 3))

    return loss
