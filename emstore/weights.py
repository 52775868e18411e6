"""Weights: the numbers a network learnt, and what is needed to build the network they belong to."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emstore.errors import Damaged, InvalidInput

TOLD: Final = "weights.json"
"""Member of a file of weights that holds all but the arrays."""


@dataclass(frozen=True)
class Weights:
    """The weights of a network: plain named arrays, never code."""

    name: str
    """What to call them, e.g. ``autoencoder-digital``."""
    architecture: str
    """The network they fit, as `emstore.models` names it, e.g. ``autoencoder``."""
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


def write_npz(weights: Weights, path: str | Path) -> None:
    """Write weights as one ``.npz``: every array by its name, and the rest as the member ``weights.json``.

    Equal weights give equal bytes. ``numpy.load`` reads it without pickle.
    """
    told = {
        "name": weights.name,
        "architecture": weights.architecture,
        "settings": dict(weights.settings),
        "arrays": list(weights.arrays),
        "licence": weights.licence,
        "figures": dict(weights.figures),
        "notes": list(weights.notes),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in weights.arrays.items():
            with archive.open(_member(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(values), allow_pickle=False)
        archive.writestr(_member(TOLD), json.dumps(told, indent=1, allow_nan=False))


def read_npz(path: str | Path) -> Weights:
    """Return the weights that `write_npz` wrote.

    Raises
    ------
    Damaged
        It is no such file, or not whole.
    """
    where = Path(path).name
    try:
        with np.load(path, allow_pickle=False) as file:
            told = json.loads(file[TOLD])
            arrays = {str(name): file[name] for name in told.pop("arrays")}
        return Weights(**{**told, "arrays": arrays, "notes": tuple(told["notes"])})
    except (OSError, KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise Damaged("it is no file of weights, or not whole", where=where) from error


def _member(name: str) -> zipfile.ZipInfo:
    """Return an entry whose time is always the same."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member
