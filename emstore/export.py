"""Taking a version out again as a file other programs read.

An exporter is registered under the entry-point group ``emstore.exporters``. It writes to the path it is given; `export`
gives it a temporary one beside the target and renames only a finished file, so a failed export leaves nothing behind.
"""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from emstore.volume import Volume


@runtime_checkable
class Exporter(Protocol):
    """Writes one file format."""

    name: ClassVar[str]
    """Lower-case name, the same as the entry point's."""
    extensions: ClassVar[tuple[str, ...]]
    """File extensions it writes, lower case with the dot; the longest match wins (``.ome.tif`` before ``.tif``)."""

    def write(self, volume: Volume, path: Path, advance: Callable[[int], None]) -> tuple[str, ...]:
        """Write the volume to `path` (which ends in one of `extensions`), reading it block by block.

        Parameters
        ----------
        volume : Volume
            What to write; values are written as stored, scale and geometry in the format's own terms.
        path : Path
            A path that does not exist yet.
        advance : callable
            Called with the number of bytes of voxels written since the last call.

        Returns
        -------
        tuple of str
            What the format could not hold, in sentences for the user; empty when nothing was lost.

        Raises
        ------
        InvalidInput
            The format cannot hold this volume at all (axes, type); says what would work.
        """
        ...
