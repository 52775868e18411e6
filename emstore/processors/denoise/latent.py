"""The innermost maps of the autoencoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emstore.errors import InvalidInput
from emstore.geometry import Axis, AxisKind, Grid
from emstore.networks import autoencoder
from emstore.networks.inference import Ready
from emstore.operation import Array, Operation, Result
from emstore.processor import Params
from emstore.processors.denoise.autoencoder import AutoencoderParams, Taken
from emstore.processors.denoise.network import Applied, joined
from emstore.volume import Region, Volume
from emstore.weights import Weights


class Latent:
    """The innermost maps of the autoencoder: what it has made of an image before it builds the denoised one (thesis, 3.6)."""

    name: ClassVar[str] = "denoise.latent"
    version: ClassVar[str] = "1"
    summary: ClassVar[str] = "Give the innermost maps of the autoencoder (Gambini et al. 2023), along an axis c"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    params: ClassVar[type[Params]] = AutoencoderParams
    weights: ClassVar[tuple[str, ...]] = (autoencoder.NAME,)

    def plan(self, volumes: Sequence[Volume], params: AutoencoderParams, *, weights: Weights) -> Operation:
        """Say what to do; see `emstore.processor.Processor.plan`. The result has an axis ``c`` before the image's two."""
        taken = Taken.of(volumes, params, weights)
        volume, axes = taken.images.volume, taken.images.axes
        dims = volume.grid.dims
        if "c" in dims or axes != (len(dims) - 2, len(dims) - 1):
            raise InvalidInput(
                f"maps of {', '.join(dims)} would have no place; give images y, x or stacks of them", where=volume.name
            )
        factor, filters = taken.network.factor, taken.network.settings["filters"]
        coarse = volume.grid.coarsened(tuple(factor if i in axes else 1 for i in range(len(dims))))
        channel = Axis("c", filters, AxisKind.CHANNEL, labels=tuple(f"map {n}" for n in range(1, filters + 1)))
        grid = Grid((*coarse.axes[:-2], channel, *coarse.axes[-2:]))
        applied = _Maps(
            taken.images,
            taken.network,
            Ready(weights),
            lambda network, values: network.latent(values),
            taken.prepared,
            taken.backend,
            shrunk=factor,
        )
        result = Result(grid, np.dtype(np.float32), modality=volume.modality, notes=taken.notes)
        return taken.operation(applied, result, weights, ("c",))


@dataclass(frozen=True)
class _Maps(Applied):
    """Maps instead of images: one axis more, before the last two, and fewer pixels."""

    def _own(self, region: Region) -> Region:
        sizes = [self.images.volume.shape[axis] for axis in self.images.axes]
        fine = (
            slice(part.start * self.shrunk, min(part.stop * self.shrunk, n)) for part, n in zip(region[-2:], sizes, strict=True)
        )
        return (*region[:-3], *fine)

    def _joined(self, parts: list[Array], before: tuple[int, ...], order: tuple[int, ...]) -> Array:
        values = joined(parts)
        return values.reshape(*before, *values.shape[1:])
