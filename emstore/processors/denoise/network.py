"""What processors share that run a network: which weights, which images, and how a block is made.

Blocks of the result are widened by the network's reach and begin where its coarsest maps have a pixel, so that a block and the
whole image give the same, to rounding. Sides that are no multiple of what the network takes are continued by reflection at
their end (d c b | a b c d | c b a), and cut again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field

from emstore.errors import InvalidInput
from emstore.networks.architectures import Network
from emstore.networks.backend import Backend, chosen
from emstore.networks.inference import AT_ONCE, Ready, bytes_per_pixel
from emstore.operation import Array, Block
from emstore.processor import Params
from emstore.processors.denoise.preparation import Preparation
from emstore.processors.denoise.selection import filtered, only
from emstore.provenance.record import Model
from emstore.volume import Region, Volume
from emstore.weights import Weights

TOLERANCE: Final = 1e-5
"""Frameworks choose their way of adding by the size of what they get: cutting changes results by about this part."""

Compute = Callable[[Any, Array], Array]
"""Makes denoised images of a network that is ready and images, shape (n, y, x); of the framework's own arrays."""


class NetworkParams(Params):
    """Parameters of every processor that runs a network."""

    gain: float | None = Field(None, gt=0, description="values per electron, for images that do not say that they are electrons")
    offset: float = Field(0.0, description="value without any electron, likewise")


@dataclass(frozen=True)
class Images:
    """The images of a volume, and the places of their two axes."""

    volume: Volume
    axes: tuple[int, int]

    @classmethod
    def of(cls, volumes: Sequence[Volume]) -> "Images":
        """Take the last two axes of space.

        Raises
        ------
        InvalidInput
            Not one volume of real numbers with two axes of space.
        """
        volume = only(volumes)
        low, high = filtered(volume, "slice")
        return cls(volume, (low, high))

    @property
    def quantity(self) -> str | None:
        """What the values are, as the volume says."""
        said = self.volume.attributes.get("quantity")
        return None if said is None else str(said)

    def kept(self, quantity: str) -> dict[str, Any]:
        """Return the attributes of a result: what its values are, and what stays true of the images."""
        same = {name: self.volume.attributes[name] for name in ("dose", "simulation") if name in self.volume.attributes}
        return {"quantity": quantity, **same}

    def electrons(self, params: NetworkParams) -> tuple[float, float]:
        """Return gain and offset of the values.

        Raises
        ------
        InvalidInput
            They are not known, or given for values that are electrons already.
        """
        told = params.gain is not None or params.offset != 0
        if self.quantity == "electrons":
            if told:
                raise InvalidInput("its values are electrons already", where=self.volume.name, fix="leave gain and offset out")
            return 1.0, 0.0
        if params.gain is None:
            what = "nothing says what its values are" if self.quantity is None else f"its values are {self.quantity}"
            raise InvalidInput(
                f"{what}; this network was trained on counted electrons",
                where=self.volume.name,
                fix="give gain (values per electron) and offset (value without any); for analog images use weights for those",
            )
        return params.gain, params.offset


@dataclass(frozen=True)
class Applied:
    """A network on the images of a volume."""

    images: Images
    network: Network
    ready: Ready
    compute: Compute
    prepared: Preparation
    backend: Backend
    shrunk: int = 1
    """Pixels of the image per pixel of the result, along both axes."""

    def needs(self, region: Region) -> tuple[Region, ...]:
        """Return the region of the images that a region of the result is made of."""
        factor, halo = self.network.factor, self.network.halo
        parts = list(self._own(region))
        for axis in self.images.axes:
            part = parts[axis]
            parts[axis] = slice(part.start // factor * factor - halo, -(-part.stop // factor) * factor + halo)
        return (tuple(parts),)

    def __call__(self, block: Block, arrays: Sequence[Array], found: Any) -> Array:
        """Return a block; see `Operation.apply`. Torch tensors in and out where that computes, else NumPy arrays."""
        [read] = block.inputs
        values = self.prepared(arrays[0], found, read)
        lead = [axis for axis in range(values.ndim) if axis not in self.images.axes]
        order = (*lead, *self.images.axes)
        values = values.permute(order) if self.backend == "torch" else values.transpose(order)
        before, sides = values.shape[:-2], values.shape[-2:]
        values = values.reshape(-1, *sides)
        values = values[:, self._reflected(sides[0])][:, :, self._reflected(sides[1])]
        network = self.ready.on(str(values.device) if self.backend == "torch" else None)
        step = max(1, AT_ONCE // math.prod(values.shape[1:]))
        cut = self._cut(block)
        parts = [self.compute(network, values[n : n + step])[..., cut[0], cut[1]] for n in range(0, len(values), step)]
        return self._joined(parts, before, order)

    def _own(self, region: Region) -> Region:
        """Return a region of the result as one of the images' axes and pixels."""
        return region

    def _cut(self, block: Block) -> tuple[slice, slice]:
        """Return where the block lies in what is computed of the region that was read."""
        own, [read] = self._own(block.output), block.inputs
        low, high = (
            slice((own[a].start - read[a].start) // self.shrunk, -(-(own[a].stop - read[a].start) // self.shrunk))
            for a in self.images.axes
        )
        return low, high

    def _joined(self, parts: list[Array], before: tuple[int, ...], order: tuple[int, ...]) -> Array:
        back = tuple(int(i) for i in np.argsort(order))
        values = joined(parts)
        values = values.reshape(*before, *values.shape[1:])
        return values.permute(back) if self.backend == "torch" else np.ascontiguousarray(values.transpose(back))

    def _reflected(self, size: int) -> list[int]:
        """Return the indices that continue a side to a multiple of the network's factor."""
        wanted = -(-size // self.network.factor) * self.network.factor
        period = max(1, 2 * (size - 1))
        folded = [index % period for index in range(wanted)]
        return [index if index < size else period - index for index in folded]


def backend_of() -> tuple[Backend, Literal["torch", "numpy"]]:
    """Return the framework that computes, and what arrays an operation gets for it."""
    backend = chosen()
    return backend, "torch" if backend == "torch" else "numpy"


def joined(parts: list[Array]) -> Array:
    """Return images as one array, NumPy's or torch's."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch

    return torch.cat(parts)


def at_least_0(values: Array) -> Array:
    """Return values with those below 0 set to 0."""
    return np.maximum(values, 0) if isinstance(values, np.ndarray) else values.clamp(min=0)


def cited(weights: Weights) -> tuple[Model, ...]:
    """Return the weights as a Record cites them."""
    return (Model(name=weights.name, digest=weights.digest, licence=weights.licence),)


def work_bytes(weights: Weights) -> float:
    """Return working memory per pixel: what the network takes, and copies of what goes in and comes out."""
    return bytes_per_pixel(weights) + 24.0
