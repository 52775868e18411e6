"""The simulator contract: data made from a description alone, with its truth.

A simulator is a class with no constructor arguments, registered under the entry-point group ``emstore.simulators`` by its
name, e.g. ``stem``. It opens no store: it returns what it made, and `emstore.simulation` seals each part as a version with
the parameters, the seed and the code in its Record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from emstore.processor import Params
from emstore.table import Table
from emstore.volume import Volume
from emstore.work import Bench


@dataclass(frozen=True)
class Simulated:
    """One part of what a simulation made."""

    suffix: str
    """Empty for what was asked for, else what the rest is called, e.g. ``columns``: it goes to ``ARRAY-columns``."""
    content: Volume | Table
    """A Volume (values may be made as they are read) or a Table."""


@runtime_checkable
class Simulator(Protocol):
    """Makes versions from parameters.

    A further attribute ``libraries: ClassVar[tuple[str, ...]]`` may name the distributions whose versions belong in the Record.
    """

    name: ClassVar[str]
    """Lower case, the same as the entry point's."""
    version: ClassVar[str]
    """Changes whenever the same parameters would give other values."""
    summary: ClassVar[str]
    """One line: what it makes and, if published, by whose method."""
    params: ClassVar[type[Params]]
    """Its parameters; one called ``seed`` is what all chance comes from."""

    def simulate(self, params: Any, bench: Bench) -> Sequence[Simulated]:
        """Make it; the first part is what was asked for, and the others cite it as their input.

        The same parameters give the same values. What takes longer than a minute keeps what it has in ``bench.scratch``
        and goes on from there.

        Raises
        ------
        InvalidInput
            These parameters make no sense: which, why, and what would.
        """
        ...
