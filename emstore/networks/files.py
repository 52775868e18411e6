"""Weights as a file, and those that come with emstore."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emstore.errors import Damaged, InvalidInput, NotFound, SourceUnreadable
from emstore.networks import archive
from emstore.networks.architectures import network_of
from emstore.weights import Weights

_SHIPPED: Final = "shipped"
_ENDING: Final = ".npz"
_WORDS: Final = r"^[^\x00-\x1f\x7f]{1,256}$"


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["emstore-weights"]
    version: Literal[1]
    name: str = Field(pattern=_WORDS)
    architecture: str = Field(pattern=_WORDS)
    settings: dict[str, Any]
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    licence: str | None = Field(None, max_length=256)
    figures: dict[str, Any]
    notes: list[str]
    record: dict[str, Any] | None
    """Facts of the Record of the version they were trained as: how they were made, and by what command again."""


def write_weights(path: Path, weights: Weights, *, record: dict[str, Any] | None = None) -> None:
    """Write the weights of any network to a file: every array by its name, and the member ``facts.json`` with the rest.

    Equal weights give equal bytes. ``numpy.load`` opens it without pickle.

    Parameters
    ----------
    path : Path
        Ends with ``.npz``; what is there is replaced, whole or not at all.
    weights : Weights
    record : dict, optional
        Facts of the Record of how they were made, JSON-safe.

    Raises
    ------
    InvalidInput
        They cannot be written: settings or figures that are not JSON, a name that is none, or too many numbers.
    """
    given = {
        "format": "emstore-weights",
        "version": 1,
        "name": weights.name,
        "architecture": weights.architecture,
        "settings": dict(weights.settings),
        "digest": weights.digest,
        "licence": weights.licence,
        "figures": dict(weights.figures),
        "notes": list(weights.notes),
        "record": record,
    }
    try:
        facts = _Facts.model_validate(given)
    except ValidationError as error:
        raise InvalidInput(_first(error), where=path.name) from None
    archive.write(path, facts.model_dump(), weights.arrays)


def read_weights(path: Path) -> tuple[Weights, dict[str, Any] | None]:
    """Read weights from a file, trusting nothing of it.

    Returns
    -------
    weights : Weights
        Of any network; they are what their digest says. See `emstore.networks.network_of` for whether they fit one.
    record : dict or None
        What the file tells of the Record of how they were made.

    Raises
    ------
    SourceUnreadable
        It is no weights file, damaged, or holds values that are not finite.
    Damaged
        The numbers are not those whose digest it states.
    """
    given, arrays = archive.read(path)
    try:
        facts = _Facts.model_validate(given)
    except ValidationError as error:
        raise SourceUnreadable(f"its facts are not those of weights: {_first(error)}", where=path.name) from None
    told = facts.model_dump(include={"name", "architecture", "settings", "licence", "figures"})
    try:
        weights = Weights(**told, arrays=arrays, notes=tuple(facts.notes))
    except InvalidInput as error:
        raise SourceUnreadable(error.what, where=path.name, fix="get the file again from where it came") from None
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
    weights, _ = _shipped(name)
    network_of(weights)
    return weights


def shipped_record(name: str) -> dict[str, Any]:
    """Return how weights that come with emstore were made.

    Returns
    -------
    dict
        ``id``: of the version the weights were; ``records``: list of ``ref`` (``DATASET/ARRAY/vN``) and ``record``, each after
        those it was made from; ``commands``: what makes it all again, in order.

    Raises
    ------
    NotFound
        As `shipped_weights`.
    """
    return _shipped(name)[1] or {}


def _shipped(name: str) -> tuple[Weights, dict[str, Any] | None]:
    if name not in shipped():
        raise NotFound(f"no weights {name!r} come with emstore", fix=f"there are {', '.join(shipped()) or 'none'}")
    with as_file(files("emstore.networks") / _SHIPPED / f"{name}{_ENDING}") as path:
        return read_weights(path)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
