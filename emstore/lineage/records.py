"""What a Record says, read from its JSON form as the cache keeps it."""

from collections.abc import Mapping
from typing import Any, Final

WEIGHTS: Final = "weights"
"""Role of the version whose weights a process worked with."""


def citations(record: Mapping[str, Any]) -> list[tuple[str, str, str, str | None]]:
    """Return role, reference, id and store (``None`` for the same one) of everything a Record says was used."""
    inputs = [(used["role"], used["ref"], used["id"], used.get("store")) for used in record["inputs"]]
    cited = {id_ for _, _, id_, _ in inputs}
    models = record["models"]
    if any(role == WEIGHTS for role, *_ in inputs):
        models = models[1:]  # the first is what the version holds that is cited as an input
    return inputs + [("model", m["name"], m["digest"], None) for m in models if m["digest"] not in cited]


def settings(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a step: its processor's parameters, or all that was set but for how the values are stored."""
    params: Mapping[str, Any] = record["params"]
    own = params.get("params")
    return own if isinstance(own, Mapping) else {name: value for name, value in params.items() if name != "plan"}
