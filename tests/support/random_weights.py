"""Weights nobody trained: random ones with which every map takes part."""

from typing import Any

import numpy as np

from emstore.networks import Network
from emstore.weights import Weights


def random_weights(architecture: str, seed: int = 1, *, gain: float = 1.4, **settings: Any) -> Weights:
    """Return weights whose maps neither die nor grow much from layer to layer."""
    network = Network.of(architecture, settings)
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in network.shapes.items():
        fan = np.prod(shape[:-1]) if len(shape) > 1 else 1
        scale = gain / np.sqrt(fan) if len(shape) > 1 else 0.05
        arrays[name] = rng.normal(0, scale, shape).astype(np.float32)
    return Weights(f"random-{architecture.replace('_', '-')}", architecture, network.settings, arrays, licence="CC0-1.0")
