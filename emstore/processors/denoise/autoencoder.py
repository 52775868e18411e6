"""The autoencoder of Gambini et al. (2023), trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.networks import autoencoder
from emstore.networks.architectures import Network, accepts
from emstore.networks.backend import Backend
from emstore.networks.inference import Ready
from emstore.operation import Operation, Reduction, Result
from emstore.processor import Params
from emstore.processors.denoise.network import TOLERANCE, Applied, Images, NetworkParams, backend_of, cited, work_bytes
from emstore.processors.denoise.preparation import AsTheyAre, Electrons, PerImage, Preparation
from emstore.volume import Volume
from emstore.weights import Weights


class AutoencoderParams(NetworkParams):
    """Parameters of `Autoencoder`."""

    weights: str = Field(
        "autoencoder-digital",
        description="trained weights: those that come with emstore by name (autoencoder-digital for counted electrons, "
        "autoencoder-analog for analog images), or a version STORE/DATASET/ARRAY/vN",
    )
    scale: Literal["image", "none"] | None = Field(
        None,
        description="analog weights: image puts every image to [0, 1] by its least and largest value, none takes values in "
        "[0, 1] as they are; when left out, none where the volume says that its values are analog, else image",
    )


class Autoencoder:
    """Denoise with the autoencoder of Gambini et al. (Mach. Learn.: Sci. Technol. 4 (2023) 015025).

    With weights for counted electrons, values are electrons (or become such by `gain` and `offset`), and so is the result,
    float32 expected electrons. With weights for analog images, values are in [0, 1], and so is the result.
    """

    name: ClassVar[str] = "denoise.autoencoder"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Take noise out of low-dose STEM images with an autoencoder (Gambini et al. 2023)"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = AutoencoderParams
    weights: ClassVar[tuple[str, ...]] = (autoencoder.NAME,)

    def plan(self, volumes: Sequence[Volume], params: AutoencoderParams, *, weights: Weights) -> Operation:
        """Say what to do; see `emstore.processor.Processor.plan`. `weights` are those that `params.weights` names."""
        taken = Taken.of(volumes, params, weights)
        applied = Applied(
            taken.images, taken.network, Ready(weights), lambda network, values: network(values), taken.prepared, taken.backend
        )
        quantity = "electrons" if taken.network.counts else "analog"
        result = Result.like(
            taken.images.volume,
            dtype=np.dtype(np.float32),
            scale=None,
            window=None,
            attributes=taken.images.kept(quantity),
            notes=taken.notes,
        )
        return taken.operation(applied, result, weights)


@dataclass(frozen=True)
class Taken:
    """What the autoencoder's processors find out first."""

    images: Images
    network: Network
    prepared: Preparation
    reduction: Reduction | None
    notes: tuple[str, ...]
    backend: Backend
    arrays: Literal["torch", "numpy"]

    @classmethod
    def of(cls, volumes: Sequence[Volume], params: AutoencoderParams, weights: Weights) -> "Taken":
        """Check that images, parameters and weights go together.

        Raises
        ------
        InvalidInput
            They do not: electrons with weights for analog images, values of which nothing says what they are.
        """
        network = accepts(weights, (autoencoder.NAME,))
        images = Images.of(volumes)
        backend, arrays = backend_of()
        reduction: Reduction | None = None
        notes: tuple[str, ...] = ()
        prepared: Preparation
        if network.counts:
            if params.scale is not None:
                raise InvalidInput("scale is for analog weights", where=weights.name, fix="leave it out")
            prepared = Electrons(*images.electrons(params))
        elif params.gain is not None or params.offset != 0:
            raise InvalidInput("gain and offset are for weights of counted electrons", where=weights.name, fix="leave them out")
        elif images.quantity == "electrons":
            raise InvalidInput(
                "its values are electrons; these weights are for analog images",
                where=images.volume.name,
                fix="use weights=autoencoder-digital",
            )
        elif (params.scale or ("none" if images.quantity == "analog" else "image")) == "none":
            prepared = AsTheyAre()
        else:
            prepared = each = PerImage(images.volume.shape, images.axes)
            reduction = each.reduction()
            notes = ("Every image was put to [0, 1] by its least and largest value; one of equal values became 0.",)
        return cls(images, network, prepared, reduction, notes, backend, arrays)

    def operation(self, applied: Applied, result: Result, weights: Weights, whole: tuple[str, ...] = ()) -> Operation:
        """Return the operation that applies the network."""
        return Operation(
            result,
            applied,
            self.reduction,
            whole=whole,
            needs=applied.needs,
            work_bytes=work_bytes(weights),
            arrays=self.arrays,
            tolerance=TOLERANCE,
            models=cited(weights),
        )
