"""Where the writer sends whole objects."""

from typing import Protocol


class Sink(Protocol):
    """Receives the objects of one version. Keys are relative to the version, e.g. ``s0/image/c/0/0/0``.

    All methods are called from several threads at once.
    """

    def have(self, key: str) -> bool:
        """Say whether an earlier attempt with the same settings left this object, whole."""
        ...

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Store one object that does not exist yet, hashing what is sent."""
        ...

    def read(self, key: str) -> bytes:
        """Return one object that is there."""
        ...
