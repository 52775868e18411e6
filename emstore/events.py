"""What long work tells its listeners. Progress bars and JSON lines are listeners; the default is silence."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """Work on one version begins."""

    task: str
    """What is being made, e.g. ``lab.zarr/liver/raw/v1``."""
    total: int
    """Amount of work, bytes of uncompressed level-0 data."""
    memory: int | None = None
    """The most memory that the process doing it is projected to take, bytes; ``None`` where nobody has said."""


@dataclass(frozen=True)
class Advanced:
    """Some of the work is done."""

    task: str
    done: int
    """Bytes done since the last event."""


@dataclass(frozen=True)
class Reached:
    """How far work is that is not counted in bytes: a simulation, a training."""

    task: str
    share: float
    """Of the whole, 0 to 1."""
    what: str
    """What was just done, in a few words."""


@dataclass(frozen=True)
class Noted:
    """Something the user should know; not an error."""

    task: str
    message: str


@dataclass(frozen=True)
class Finished:
    """The version is sealed."""

    task: str
    version_id: str


Event = Started | Advanced | Reached | Noted | Finished
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """Listen to nothing."""
