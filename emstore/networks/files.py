"""Weights as a file, and those that come with emstore."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emstore.errors import Damaged, NotFound, SourceUnreadable
from emstore.networks import archive
from emstore.networks.architectures import network_of
from emstore.weights import Weights

_SHIPPED: Final = "shipped"
_ENDING: Final = ".npz"


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["emstore-weights"]
    version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    architecture: str = Field(max_length=64)
    settings: dict[str, Any]
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    licence: str | None = Field(None, max_length=256)
    figures: dict[str, Any]
    notes: list[str]
    record: dict[str, Any] | None
    """Facts of the Record of the version they were trained as: how they were made, and by what command again."""


def write_weights(path: Path, weights: Weights, *, record: dict[str, Any] | None = None) -> None:
    """Write weights to a file: plain arrays and facts, as ``numpy.load`` opens it too.

    Parameters
    ----------
    path : Path
        Ends with ``.npz``; what is there is replaced.
    weights : Weights
    record : dict, optional
        Facts of the Record of how they were made, JSON-safe.
    """
    network_of(weights)
    facts = _Facts(
        format="emstore-weights",
        version=1,
        name=weights.name,
        architecture=weights.architecture,
        settings=dict(weights.settings),
        digest=weights.digest,
        licence=weights.licence,
        figures=dict(weights.figures),
        notes=list(weights.notes),
        record=record,
    )
    archive.write(path, facts.model_dump(), weights.arrays)


def read_weights(path: Path) -> tuple[Weights, dict[str, Any] | None]:
    """Read weights from a file, trusting nothing of it.

    Returns
    -------
    weights : Weights
        They fit their network, and are what their digest says.
    record : dict or None
        What the file tells of the Record of how they were made.

    Raises
    ------
    SourceUnreadable
        It is no weights file, or damaged.
    Damaged
        The numbers are not those whose digest it states.
    NotFound, InvalidInput
        The weights fit no network that there is, or hold values that are not finite.
    """
    given, arrays = archive.read(path)
    try:
        facts = _Facts.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SourceUnreadable(f"its facts are not those of weights: {where}: {first['msg']}", where=path.name) from None
    weights = Weights(facts.name, facts.architecture, facts.settings, arrays, facts.licence, facts.figures, tuple(facts.notes))
    network_of(weights)
    if weights.digest != facts.digest:
        raise Damaged("the numbers are not those whose digest the file states", where=path.name, fix="get the file again")
    return weights, facts.record


def shipped() -> tuple[str, ...]:
    """Return the names of the weights that come with emstore."""
    folder = files("emstore.networks") / _SHIPPED
    return tuple(sorted(each.name.removesuffix(_ENDING) for each in folder.iterdir() if each.name.endswith(_ENDING)))


def shipped_weights(name: str) -> Weights:
    """Return weights that come with emstore.

    Raises
    ------
    NotFound
        There are none of that name; the message lists those there are.
    """
    if name not in shipped():
        raise NotFound(f"no weights {name!r} come with emstore", fix=f"there are {', '.join(shipped()) or 'none'}")
    with as_file(files("emstore.networks") / _SHIPPED / f"{name}{_ENDING}") as path:
        return read_weights(path)[0]
