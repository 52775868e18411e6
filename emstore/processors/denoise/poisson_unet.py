"""The Poisson U-Net, trained."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from emstore.networks import poisson_unet
from emstore.networks.architectures import accepts
from emstore.networks.inference import Ready
from emstore.operation import Array, Operation, Result
from emstore.processor import Params
from emstore.processors.denoise.network import (
    TOLERANCE,
    Applied,
    Images,
    NetworkParams,
    at_least_0,
    backend_of,
    cited,
    work_bytes,
)
from emstore.processors.denoise.preparation import Electrons
from emstore.volume import Volume
from emstore.weights import Weights


class PoissonUnetParams(NetworkParams):
    """Parameters of `PoissonUnet`."""

    weights: str = Field(
        "poisson_unet",
        description="trained weights: those that come with emstore by name, or a version STORE/DATASET/ARRAY/vN",
    )


class PoissonUnet:
    """Denoise counted electrons with a small U-Net made for Poisson noise; `emstore.networks.poisson_unet` tells how it works.

    The result is the expected number of electrons, float32: the mean of all images of the kind it was trained on that may be
    behind the counts. Estimates below 0, possible by 3/8 at most, become 0.
    """

    name: ClassVar[str] = "denoise.poisson_unet"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Take noise out of counted electrons with a small U-Net made for Poisson noise"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = PoissonUnetParams
    weights: ClassVar[tuple[str, ...]] = (poisson_unet.NAME,)

    def plan(self, volumes: Sequence[Volume], params: PoissonUnetParams, *, weights: Weights) -> Operation:
        """Say what to do; see `emstore.processor.Processor.plan`. `weights` are those that `params.weights` names."""
        network = accepts(weights, self.weights)
        images = Images.of(volumes)
        prepared = Electrons(*images.electrons(params))
        backend, arrays = backend_of()
        applied = Applied(images, network, Ready(weights), _estimate, prepared, backend)
        return Operation(
            Result.like(
                images.volume,
                dtype=np.dtype(np.float32),
                scale=None,
                window=None,
                attributes=images.kept("electrons"),
                notes=("Counts below 0, which there cannot be, were taken for 0.",) if images.volume.dtype.kind != "u" else (),
            ),
            applied,
            needs=applied.needs,
            work_bytes=work_bytes(weights),
            arrays=arrays,
            tolerance=TOLERANCE,
            models=cited(weights),
        )


def _estimate(network: Any, values: Array) -> Array:
    return at_least_0(network(values))
