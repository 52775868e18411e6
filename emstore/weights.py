"""Weights: the numbers a network learnt, and what is needed to build the network they belong to."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from emstore.errors import InvalidInput


@dataclass(frozen=True)
class Weights:
    """The weights of a network: plain named arrays, never code."""

    name: str
    """What to call them, e.g. ``autoencoder-digital``."""
    architecture: str
    """The network they fit, as `emstore.networks` names it, e.g. ``autoencoder``."""
    settings: Mapping[str, Any]
    """What builds that network, JSON-safe, e.g. ``{"filters": 32, "output": "relu"}``."""
    arrays: Mapping[str, npt.NDArray[Any]]
    """Every array by its name (``encoder_1/kernel``), in the network's order; numbers only."""
    licence: str | None = None
    """Under what terms others may use them, an SPDX expression; ``None`` when that is not known."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """How the training went, JSON-safe, e.g. steps, seeds, held-out error over time."""
    notes: tuple[str, ...] = ()
    """Rules applied and oddities met, in sentences."""

    def __post_init__(self) -> None:
        if not self.arrays:
            raise InvalidInput("weights without an array are none", where=self.name)
        for name, values in self.arrays.items():
            if values.dtype.kind not in "biuf":
                raise InvalidInput(f"array {name!r} holds {values.dtype}, not plain numbers", where=self.name)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise InvalidInput(f"array {name!r} holds values that are not finite", where=self.name)

    @property
    def count(self) -> int:
        """Number of parameters."""
        return sum(int(values.size) for values in self.arrays.values())

    @property
    def digest(self) -> str:
        """``sha256:hex`` of architecture, settings and every array: the same wherever the weights are kept."""
        hasher = hashlib.sha256(json.dumps([self.architecture, self.settings], sort_keys=True).encode())
        for name, values in self.arrays.items():
            plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
            hasher.update(json.dumps([name, plain.dtype.str, plain.shape]).encode())
            hasher.update(plain.tobytes())
        return f"sha256:{hasher.hexdigest()}"
