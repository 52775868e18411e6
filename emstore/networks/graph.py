"""Networks in Keras, on whichever framework it runs."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy.typing as npt

from emstore.networks import poisson_unet
from emstore.networks.architectures import Network, network_of
from emstore.networks.backend import chosen, keras
from emstore.networks.layers import Convolve, Expand, Join, Keep, Pool, Reduce, Repeat, weighted
from emstore.weights import Weights

Layout = Literal["channels_last", "channels_first"]


def build(network: Network, *, layout: Layout = "channels_last") -> Any:
    """Return a network as a Keras model without trained weights.

    Parameters
    ----------
    network : Network
    layout : {"channels_last", "channels_first"}
        Images are (n, y, x, 1), or (n, 1, y, x), which is faster on torch and not possible for TensorFlow on a CPU. Weights
        are the same.

    Returns
    -------
    keras.Model
        From images to images of the same shape, float32. The Poisson U-Net's may lie below 0, by 3/8 at most.

    Raises
    ------
    InvalidInput
        Kind ``missing_extra``: Keras or its framework is not installed.
    """
    k = keras()
    image = k.Input((None, None, 1) if layout == "channels_last" else (1, None, None), dtype="float32")
    if network.architecture == poisson_unet.NAME:
        found = _stabilised(k, image, network, layout)
    else:
        found = _stepped(k, image, network, layout)
    return k.Model(image, found, name=network.architecture)


def from_weights(weights: Weights, *, layout: Layout = "channels_last") -> Any:
    """Return the Keras model of trained weights; see `build`.

    Raises
    ------
    NotFound, InvalidInput
        The weights fit no network, or a library is not installed.
    """
    network = network_of(weights)
    model = build(network, layout=layout)
    put(model, network, weights.arrays)
    return model


def to_weights(
    model: Any, network: Network, *, name: str, licence: str | None = None, figures: Mapping[str, Any] | None = None
) -> Weights:
    """Return the weights of a Keras model that `build` made of a network."""
    return Weights(name, network.architecture, network.settings, take(model, network), licence, figures or {})


def put(model: Any, network: Network, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Give a model its arrays."""
    for step in weighted(network.steps):
        model.get_layer(step.name).set_weights([arrays[f"{step.name}/kernel"], arrays[f"{step.name}/bias"]])


def take(model: Any, network: Network) -> dict[str, npt.NDArray[Any]]:
    """Return a model's arrays, copied, in the network's order."""
    arrays = {}
    for step in weighted(network.steps):
        for part in ("kernel", "bias"):
            arrays[f"{step.name}/{part}"] = numbers(getattr(model.get_layer(step.name), part))
    return arrays


def numbers(variable: Any) -> npt.NDArray[Any]:
    """Return a copy of what a Keras variable holds."""
    return _plain(variable.value).copy()


def computed(model: Any, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what a model makes of images, keeping nothing for gradients."""
    if chosen() == "torch":
        import torch

        with torch.no_grad():
            return _plain(model(images, training=False))
    return _plain(model(images, training=False))


def _plain(tensor: Any) -> npt.NDArray[Any]:
    """Return a framework's tensor as a NumPy array; Keras's own way there makes NumPy warn of torch's."""
    values: npt.NDArray[Any] = tensor.detach().cpu().numpy() if chosen() == "torch" else tensor.numpy()
    return values


def _stepped(k: Any, maps: Any, network: Network, layout: Layout) -> Any:
    kept = {}
    for step in network.steps:
        match step:
            case Convolve():
                layer = k.layers.Conv2D(
                    step.outputs, 3, padding="same", activation=step.activation, data_format=layout, name=step.name
                )
                maps = layer(maps)
            case Reduce():
                maps = k.layers.Conv2D(step.outputs, 2, 2, activation=step.activation, data_format=layout, name=step.name)(maps)
            case Expand():
                layer = k.layers.Conv2DTranspose(
                    step.outputs, 2, 2, activation=step.activation, data_format=layout, name=step.name
                )
                maps = layer(maps)
            case Pool():
                maps = k.layers.MaxPooling2D(2, data_format=layout)(maps)
            case Repeat():
                maps = k.layers.UpSampling2D(2, data_format=layout)(maps)
            case Keep():
                kept[step.name] = maps
            case Join():
                maps = k.ops.relu(maps + kept.pop(step.name))
    return maps


def _stabilised(k: Any, image: Any, network: Network, layout: Layout) -> Any:
    unet, pool = poisson_unet, k.layers.AveragePooling2D
    root = 2 * k.ops.sqrt(k.ops.maximum(image, 0) + unet.SHIFT)
    mean = pool(unet.CELL, data_format=layout)(root)
    for window in ((unet.CELLS, 1), (1, unet.CELLS)):  # what lies beyond the border does not count
        mean = pool(window, 1, padding="same", data_format=layout)(mean)
    mean = k.layers.UpSampling2D(unet.CELL, interpolation="bilinear", data_format=layout)(mean)
    maps = k.ops.concatenate([root - mean, 2 * unet.SHIFT**0.5 / mean], axis=-1 if layout == "channels_last" else 1)
    root = k.ops.maximum(root + _stepped(k, maps, network, layout), unet.LEAST)
    return k.ops.square(root) / 4 - unet.SHIFT
