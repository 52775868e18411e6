"""Writing the weights of a network as NumPy's ``.npz``: a zip of one ``.npy`` per array."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from emstore.networks import write_weights
from emstore.weights import Weights


class NpzExporter:
    """Writes ``.npz`` that ``numpy.load`` opens without pickle; its member ``facts.json`` says what the arrays are."""

    name: ClassVar[str] = "npz"
    extensions: ClassVar[tuple[str, ...]] = (".npz",)
    compressed: ClassVar[tuple[str, ...]] = (".npz",)

    def write_weights(self, weights: Weights, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write every array by its name; see `emstore.export.WeightsExporter`."""
        write_weights(path, weights)
        advance(sum(values.nbytes for values in weights.arrays.values()))
        return ()
