"""What a user hands a plug-in, its inputs and parameters, checked before anything is done with them."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol

from pydantic import ValidationError

from emstore.errors import InvalidInput, PrivacyRefused
from emstore.processor import Params


class Plugin(Protocol):
    """What processors, simulators and trainers have in common."""

    name: ClassVar[str]
    params: ClassVar[type[Params]]


class Reader(Protocol):
    """A plug-in that reads versions."""

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]


def roles(plugin: Reader, given: int) -> tuple[str, ...]:
    """Return the role of each of so many inputs; the last role, written with a ``*``, is that of all the rest."""
    *first, last = plugin.inputs or ("",)
    return (*first, last.removesuffix("*"))[:given] + (last.removesuffix("*"),) * (given - len(plugin.inputs))


def check_count(plugin: Reader, given: int) -> None:
    """Refuse another number of inputs than a plug-in takes.

    Raises
    ------
    InvalidInput
        Naming what each is for.
    """
    least = len(plugin.inputs)
    more = bool(plugin.inputs) and plugin.inputs[-1].endswith("*")
    if given == least or (more and given > least):
        return
    named = ", ".join(role.replace("*", " ...") for role in plugin.inputs)
    count = f"{least} or more inputs" if more else f"{least} input{'s' * (least != 1)}"
    raise InvalidInput(f"it takes {count} ({named}), not {given}", where=plugin.name)


def checked(plugin: Plugin, params: Mapping[str, Any], verb: str = "processors") -> Any:
    """Return a plug-in's parameters, checked; `verb` is the one that shows them.

    Raises
    ------
    InvalidInput
        Naming every parameter that is wrong, and what there is.
    """
    try:
        return plugin.params.model_validate(dict(params))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'parameters'}: {_wrong(each)}" for each in error.errors())
        known = ", ".join(plugin.params.model_fields) or "none"
        raise InvalidInput(
            wrong, where=plugin.name, fix=f"its parameters are {known}; see `emstore {verb} {plugin.name}`"
        ) from None


def _wrong(error: Mapping[str, Any]) -> str:
    return "there is no such parameter" if error["type"] == "extra_forbidden" else str(error["msg"]).removeprefix("Value error, ")


_SECRET: Final = re.compile(r"(/|~|\\\\|[A-Za-z]:[\\/]|file:).|.*://[^/\s]*@", re.IGNORECASE | re.DOTALL)
"""An absolute path, or a URL with a user or password in it."""


def check_plain(name: str, settings: Any) -> None:
    """Refuse parameters that no Record may hold.

    Raises
    ------
    PrivacyRefused
        An absolute path, or a URL with credentials.
    """
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            check_plain(f"{name} {key}", value)
            check_plain(name, key)
    elif isinstance(settings, list | tuple):
        for value in settings:
            check_plain(name, value)
    elif isinstance(settings, str) and _SECRET.match(settings):
        raise PrivacyRefused(
            "a parameter is an absolute path or a URL with credentials, and would stay in the Record",
            where=name,
            fix="give it a name or a relative path instead",
        )
