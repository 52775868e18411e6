"""The adapter contract: how a file format joins emstore.

An adapter is a class with no constructor arguments, registered under the entry-point group ``emstore.adapters``. It turns
files into Volumes and does nothing else: it never writes, converts units only through `emstore.geometry.units`, and imports
its format library inside methods so that recognising files stays cheap. `emstore.testing.AdapterConformance` checks
every rule below on your files.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, runtime_checkable

from emstore.source import Source, SourceItem
from emstore.volume import Volume


@runtime_checkable
class Adapter(Protocol):
    """Reads one family of file formats."""

    name: ClassVar[str]
    """Lower-case name, the same as the entry point's."""
    version: ClassVar[str]
    """Changes whenever the same file would give different values, geometry or metadata."""
    formats: ClassVar[Mapping[str, tuple[str, ...]]]
    """Format name -> usual file extensions with the dot, lower case. For people and error messages, never for sniffing."""

    def sniff(self, item: SourceItem) -> int:
        """Say how surely this adapter can read an item, 0 (no) to 100, from at most `item.head` (64 KiB).

        Judge by content, never by extension alone; 100 = unmistakable signature. Equal best scores of two adapters are an
        error that lists both. Must not raise on any bytes.
        """
        ...

    def open(self, source: Source) -> Sequence[Volume]:
        """Return every signal in the source's items as lazy Volumes, reading headers only.

        The most image-like signal comes first: it is the default of a single file. Slices read only what they must, in at
        most about twice the requested bytes of memory. Unknown spacing is ``None``; the header is kept byte for byte
        and parsed; truncated input raises `SourceIncomplete` naming what is good. What cannot be used goes through
        `source.skip` (an error unless the user allows a partial read), what holds no array data through `source.ignore`.

        Raises
        ------
        SourceUnreadable, SourceIncomplete
            Naming the item, what is wrong with it and what to do.
        """
        ...
