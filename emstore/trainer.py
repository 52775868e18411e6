"""The trainer contract: weights made from versions.

A trainer is a class with no constructor arguments, registered under the entry-point group ``emstore.trainers`` by its name,
e.g. ``autoencoder``. It reads versions through `emstore.loaders` and returns weights; `emstore.training` seals them as a
version that cites what they were trained on.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from emstore.processor import Params
from emstore.weights import Weights
from emstore.work import Bench


@runtime_checkable
class Trainer(Protocol):
    """Fits a network to versions.

    A further attribute ``libraries: ClassVar[tuple[str, ...]]`` may name the distributions whose versions belong in the Record.
    """

    name: ClassVar[str]
    """Lower case, the same as the entry point's."""
    version: ClassVar[str]
    """Changes whenever the same inputs and parameters would give other weights."""
    summary: ClassVar[str]
    """One line: which network, which loss and, if published, by whom."""
    inputs: ClassVar[tuple[str, ...]]
    """Role of every input, in order, e.g. ``("training", "validation")``; the last may end in ``*``, as a processor's."""
    params: ClassVar[type[Params]]
    """Its parameters; one called ``seed`` is what all chance comes from."""

    def train(self, refs: Sequence[str], params: Any, bench: Bench) -> Weights:
        """Fit the network; checkpoints go to ``bench.scratch`` and training goes on from the last one.

        Parameters
        ----------
        refs : sequence of str
            One ``STORE/DATASET/ARRAY/vN`` per role, in order.
        params : Params
            An instance of `params`.
        bench : Bench
            Scratch folder, progress, memory, threads and device.

        Raises
        ------
        InvalidInput
            These versions or parameters make no sense: which, why, and what would.
        ProcessingFailed
            The training ran away (loss not finite), or ended where the trainer says it has not converged.
        """
        ...
