"""What a simulation or a training gets to work with: a folder for what must outlive a stop, and a way to tell how far it is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bench:
    """The surroundings of one long piece of work that is not cut into blocks."""

    scratch: Path
    """A folder of its own, found again by the same call after a stop (same parameters, inputs and code), deleted once the
    result is sealed. What lies there must be whole: write beside it and rename."""
    tell: Callable[[float, str], None]
    """Says which share of the work is done, 0 to 1, and in a few words what was just done; call it often, it costs nothing.
    Raises `KeyboardInterrupt` when the user asked to stop."""
    memory: int
    """Budget of the whole process, bytes."""
    threads: int
    """CPU threads to use."""
    device: str = "cpu"
    """``cpu`` or ``cuda[:N]``."""
