"""Where the writer sends whole objects, and reads back what it sent."""

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

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes of an object from `start`; fewer where it ends."""
        ...

    def get_suffix(self, key: str, length: int) -> bytes:
        """Return the last `length` bytes of an object, or all of a shorter one."""
        ...

    def size(self, key: str) -> int:
        """Return an object's size, bytes."""
        ...
