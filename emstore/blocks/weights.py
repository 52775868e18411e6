"""The weights a processor works with: those that come with emstore, by name, or a version of any store, by its REF."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emstore.errors import Conflict, InvalidInput
from emstore.operation import Operation
from emstore.processor import Processor
from emstore.provenance.record import Model
from emstore.store import Version, open_version
from emstore.table import Table
from emstore.volume import Volume
from emstore.weights import Weights


@dataclass(frozen=True)
class Used:
    """Weights, and where they are from."""

    weights: Weights
    version: Version | None
    """``None`` for those that come with emstore."""

    @property
    def called(self) -> str:
        """What a Record calls them: DATASET/ARRAY/vN, or their name."""
        return self.weights.name if self.version is None else str(self.version.place)

    @property
    def address(self) -> tuple[str, str]:
        """Where another process finds the same: a REF or name, and their digest."""
        return (self.weights.name if self.version is None else self.version.ref), self.weights.digest

    @property
    def model(self) -> Model:
        """What a Record says of them."""
        return Model(name=self.weights.name, digest=self.weights.digest, licence=self.weights.licence)


def used(processor: Processor, params: Any) -> Used | None:
    """Return the weights that a processor's parameter ``weights`` names; ``None`` for a processor that takes none.

    Raises
    ------
    NotFound, Damaged
        There are no such weights, or they are not as they were sealed.
    InvalidInput
        They are for another network than the processor works with.
    """
    accepted = getattr(processor, "weights", ())
    if not accepted:
        return None
    found = _open(params.weights)
    if found.weights.architecture not in accepted:
        raise InvalidInput(
            f"these weights are for the network {found.weights.architecture!r}, not for {' or '.join(accepted)}",
            where=f"{processor.name} weights",
            fix="choose others; `emstore info REF` shows what a model is",
        )
    return found


def reopened(address: tuple[str, str]) -> Used:
    """Return the weights at an address, in another process.

    Raises
    ------
    Conflict
        Others are there now.
    """
    found = _open(address[0])
    if found.weights.digest != address[1]:
        raise Conflict("these are not the weights that were asked for", where=found.called)
    return found


def planned(processor: Processor, inputs: Sequence[Volume | Table], params: Any, weights: Used | None) -> Operation | Table:
    """Return a processor's plan, its weights given to it where it takes some."""
    plan: Any = processor.plan
    made: Operation | Table = plan(inputs, params) if weights is None else plan(inputs, params, weights=weights.weights)
    return made


def _open(said: str) -> Used:
    if "/" not in said:
        from emstore import networks  # loaded only where one is used

        return Used(networks.shipped_weights(said), None)
    version = open_version(said)
    return Used(version.weights(), version)
