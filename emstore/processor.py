"""The processor contract: how a method joins emstore.

A processor is a class with no constructor arguments, registered under the entry-point group ``emstore.processors`` by its
name, e.g. ``denoise.gaussian``. It says what it does to given volumes with given parameters, as an `Operation`: functions of
arrays and what the engine must know to call them. It opens no store, reads no values while it plans, and never loops over
blocks. `emstore.testing.ProcessorConformance` checks every rule on your volumes.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from emstore.operation import Operation
from emstore.table import Table


class Params(BaseModel):
    """Base of a processor's parameters: typed, checked, unknown names refused. Give every field a description with its unit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@runtime_checkable
class Processor(Protocol):
    """Makes a new version from others.

    Two further attributes are for those that need them. ``tables: ClassVar[tuple[str, ...]]`` names the roles (without a
    ``*``) that a table may serve. ``weights: ClassVar[tuple[str, ...]]`` names the network architectures it works with: its
    parameters then have a field ``weights: str``, the name of weights that come with emstore or the REF of a version, and
    `plan` takes them as the keyword ``weights``, an `emstore.weights.Weights`. They are cited in the Record by the engine.
    """

    name: ClassVar[str]
    """``family.method``, lower case, the same as the entry point's."""
    version: ClassVar[str]
    """Changes whenever the same inputs and parameters would give other values."""
    summary: ClassVar[str]
    """One line for `emstore processors`: what it does, in the imperative without a full stop, and, if published, by whom."""
    inputs: ClassVar[tuple[str, ...]]
    """Role of every input, in order, e.g. ``("image",)`` or ``("image", "reference")``. A last one that ends in ``*``, as in
    ``("image", "library*")``, is the role of one or more inputs."""
    params: ClassVar[type[Params]]
    """Its parameters."""

    def plan(self, volumes: Sequence[Any], params: Any) -> Operation | Table:
        """Say what to do; cheap, reads no values.

        Parameters
        ----------
        volumes : sequence of Volume (or Table, for a role in ``tables``)
            One per role, in order. Tables are in memory. `Block.inputs`, `Operation.reads` and the arrays that the operation's
            functions get leave them out: they are of the volumes only.
        params : Params
            An instance of `params`.

        Returns
        -------
        Operation
            Or the Table that is the result, where all inputs are tables.

        Raises
        ------
        InvalidInput
            These volumes or parameters make no sense: which, why, and what would.
        """
        ...
