"""Running trained networks on images.

On torch a network is computed step by step with torch's own functions: Keras copies every map between two layouts there, and
keeps all of them until the end (measured: three times as slow). On TensorFlow it is the Keras model. Both give what the Keras
model gives, to rounding.
"""

import threading
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.networks import autoencoder, poisson_unet
from emstore.networks.architectures import network_of
from emstore.networks.layers import Convolve, Join, Keep, Pool, Reduce, Repeat, Step, Weighted, weighted
from emstore.weights import Weights

AT_ONCE: Final = 1 << 18
"""Pixels of small images that are computed together."""


@dataclass(eq=False)
class TorchNetwork:
    """Weights on a device of torch, ready to run. Safe in threads."""

    weights: Weights
    device: str
    arrays: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        import torch

        self.network = network_of(self.weights)
        self.arrays = {}
        for name, values in self.weights.arrays.items():
            tensor = torch.tensor(np.asarray(values, np.float32), device=self.device)
            if tensor.ndim == 4:  # Keras: (y, x, in, out); torch: (out, in, y, x)
                tensor = tensor.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
            self.arrays[name] = tensor

    def __call__(self, images: Any) -> Any:
        """Return denoised images.

        Parameters
        ----------
        images : torch.Tensor of float32, shape (n, y, x)
            Sides are multiples of the network's `factor`. On this object's device.

        Returns
        -------
        torch.Tensor of float32, shape (n, y, x)
        """
        import torch

        with torch.inference_mode():
            if self.network.architecture == poisson_unet.NAME:
                found = self._stabilised(images[:, None])
            else:
                found = self.run(self.network.steps, images[:, None])
        return found[:, 0]

    def latent(self, images: Any) -> Any:
        """Return the innermost maps of an autoencoder, shape (n, c, y, x)."""
        import torch

        with torch.inference_mode():
            return self.run(autoencoder.encoder(autoencoder.Settings(**self.network.settings)), images[:, None])

    def run(self, steps: tuple[Step, ...], maps: Any) -> Any:
        """Return what steps make of maps, shape (n, c, y, x)."""
        import torch
        import torch.nn.functional as F

        activations: dict[str | None, Any] = {"relu": torch.relu_, "sigmoid": torch.sigmoid_, None: lambda maps: maps}
        kept = {}
        for step in steps:
            match step:
                case Weighted():
                    kernel, bias = self.arrays[f"{step.name}/kernel"], self.arrays[f"{step.name}/bias"]
                    if isinstance(step, Convolve):
                        maps = F.conv2d(maps, kernel, bias, padding=1)
                    elif isinstance(step, Reduce):
                        maps = F.conv2d(maps, kernel, bias, stride=2)
                    else:
                        maps = F.conv_transpose2d(maps, kernel, bias, stride=2)
                    maps = activations[step.activation](maps)
                case Pool():
                    maps = F.max_pool2d(maps, 2)
                case Repeat():
                    maps = F.interpolate(maps, scale_factor=2, mode="nearest")
                case Keep():
                    kept[step.name] = maps
                case Join():
                    maps = torch.relu_(maps.add_(kept.pop(step.name)))
        return maps

    def _stabilised(self, images: Any) -> Any:
        import torch
        import torch.nn.functional as F

        unet = poisson_unet
        root = torch.clamp(images, min=0).add_(unet.SHIFT).sqrt_().mul_(2)
        mean = F.avg_pool2d(root, unet.CELL)
        mean = F.avg_pool2d(mean, unet.CELLS, 1, unet.CELLS // 2, count_include_pad=False)
        mean = F.interpolate(mean, scale_factor=unet.CELL, mode="bilinear")
        maps = torch.cat([root - mean, (2 * unet.SHIFT**0.5) / mean], 1).contiguous(memory_format=torch.channels_last)
        del mean
        root += self.run(self.network.steps, maps)
        return root.clamp_(min=unet.LEAST).square_().div_(4).sub_(unet.SHIFT)


@dataclass(eq=False)
class KerasNetwork:
    """Weights in a Keras model, ready to run on NumPy arrays."""

    weights: Weights

    def __post_init__(self) -> None:
        from emstore.networks.backend import keras
        from emstore.networks.graph import from_weights

        self.network = network_of(self.weights)
        self.model = from_weights(self.weights)
        if self.network.architecture == autoencoder.NAME:
            depth = self.network.settings["depth"]
            last = [layer for layer in self.model.layers if "max_pooling" in layer.name][depth - 1]
            self.encoder = keras().Model(self.model.input, last.output)

    def __call__(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return denoised images: (n, y, x), float32."""
        from emstore.networks.graph import computed

        return computed(self.model, images[..., None])[..., 0]

    def latent(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the innermost maps of an autoencoder, shape (n, c, y, x)."""
        from emstore.networks.graph import computed

        return np.moveaxis(computed(self.encoder, images[..., None]), -1, 1)


@dataclass(eq=False)
class Ready:
    """Makes a network ready when it is first needed, once per device; travels to other processes as its weights."""

    weights: Weights
    _lock: Any = field(default_factory=threading.Lock, init=False, repr=False)
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def on(self, device: str | None) -> Any:
        """Return a `TorchNetwork` on a device of torch, or for ``None`` a `KerasNetwork`."""
        with self._lock:
            key = device or "keras"
            if key not in self._made:
                self._made[key] = KerasNetwork(self.weights) if device is None else TorchNetwork(self.weights, device)
            return self._made[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["weights"])  # type: ignore[misc]


def bytes_per_pixel(weights: Weights) -> float:
    """Return at most how much memory running a network takes, in bytes per pixel of an image, that image left out."""
    widest = max(step.outputs / (4 if isinstance(step, Reduce) else 1) for step in weighted(network_of(weights).steps))
    return 4.0 * (2.5 * widest + 14)


__all__ = ["AT_ONCE", "KerasNetwork", "Ready", "TorchNetwork", "bytes_per_pixel"]
