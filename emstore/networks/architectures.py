"""The networks by name, and weights for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from emstore.errors import InvalidInput, NotFound
from emstore.networks import autoencoder, layers, poisson_unet
from emstore.networks.chance import stream
from emstore.networks.layers import Step
from emstore.weights import Weights

NAMES: Final = (autoencoder.NAME, poisson_unet.NAME)


@dataclass(frozen=True)
class Network:
    """A network that has no weights yet."""

    architecture: str
    settings: Mapping[str, Any]
    """All of them, JSON-safe."""
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, architecture: str, settings: Mapping[str, Any] | None = None) -> "Network":
        """Return the network of a name with settings; those left out are as its paper or its module says.

        Raises
        ------
        NotFound
            There is no such network.
        InvalidInput
            A setting is wrong: which, and why.
        """
        if architecture == autoencoder.NAME:
            module: Any = autoencoder
        elif architecture == poisson_unet.NAME:
            module = poisson_unet
        else:
            raise NotFound(f"there is no network {architecture!r}", fix=f"there are {', '.join(NAMES)}")
        try:
            checked = module.Settings.model_validate(dict(settings or {}))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'settings'}: {each['msg']}" for each in error.errors())
            raise InvalidInput(wrong, where=architecture) from None
        return cls(architecture, checked.model_dump(mode="json"), module.steps(checked))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every array, in order."""
        return layers.shapes(self.steps)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return layers.total(self.shapes)

    @property
    def counts(self) -> bool:
        """Whether it works on counted electrons, not on analog images in [0, 1]."""
        return self.settings.get("output") != "sigmoid"

    @property
    def factor(self) -> int:
        """Sides of images are multiples of this."""
        return layers.factor(self.steps)

    @property
    def halo(self) -> int:
        """Pixels beyond a block that take part in it, where blocks begin and end at multiples of `factor`; a multiple of it."""
        own = layers.reach(self.steps, self.factor)
        around = poisson_unet.REACH if self.architecture == poisson_unet.NAME else 0
        return -(-(own + around) // self.factor) * self.factor

    def check(self, arrays: Mapping[str, npt.NDArray[Any]], where: str) -> None:
        """Refuse arrays that are not this network's.

        Raises
        ------
        InvalidInput
            Naming the first one that is missing, unknown, of another shape, or no floating-point numbers.
        """
        wanted = self.shapes
        if list(arrays) != list(wanted):
            odd = sorted(set(arrays) ^ set(wanted)) or [a for a, b in zip(arrays, wanted, strict=True) if a != b]
            raise InvalidInput(f"its arrays are not those of {self.architecture} with these settings: {odd[0]!r}", where=where)
        for name, shape in wanted.items():
            if arrays[name].shape != shape or arrays[name].dtype.kind != "f":
                raise InvalidInput(
                    f"array {name!r} is {arrays[name].dtype} {arrays[name].shape} where {self.architecture} takes float {shape}",
                    where=where,
                )


def network_of(weights: Weights) -> Network:
    """Return the network that weights are for, after checking that they fit it.

    Raises
    ------
    NotFound, InvalidInput
        There is no such network, or the weights do not fit it.
    """
    network = Network.of(weights.architecture, weights.settings)
    network.check(weights.arrays, weights.name)
    return network


def accepts(weights: Weights, architectures: Sequence[str]) -> Network:
    """Return the network of weights that must be of one of some architectures.

    Raises
    ------
    InvalidInput
        They are of another one, or do not fit it.
    """
    if weights.architecture not in architectures:
        raise InvalidInput(
            f"these are weights of {weights.architecture}, not of {' or '.join(architectures)}", where=weights.name
        )
    return network_of(weights)


def started(network: Network, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Return arrays to begin a training with, the same on every backend.

    Uniform with the variance ``2 / (in + out)`` of Glorot and Bengio (2010), as Keras begins; biases 0. What the Poisson U-Net
    adds begins at 0, so that it begins as the identity.
    """
    rng = stream(seed, "weights")
    arrays = {}
    for step in layers.weighted(network.steps):
        shape = network.shapes[f"{step.name}/kernel"]
        limit = np.sqrt(6 / (shape[0] * shape[1] * (step.inputs + step.outputs)))
        kernel = rng.uniform(-limit, limit, shape)
        if network.architecture == poisson_unet.NAME and step.name == "output":
            kernel *= 0
        arrays[f"{step.name}/kernel"] = kernel.astype(np.float32)
        arrays[f"{step.name}/bias"] = np.zeros(step.outputs, np.float32)
    return arrays
