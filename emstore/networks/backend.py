"""Which framework computes: Keras's own choice, made before Keras is imported where nobody has made it.

In this order:

1. the one Keras was imported with already;
2. the environment variable ``KERAS_BACKEND``;
3. the ``backend`` of Keras's settings file (``~/.keras/keras.json``), unless that is ``tensorflow``: Keras writes this into the
   file by itself the first time it is imported anywhere, so that it is nobody's choice;
4. torch where it is installed, else TensorFlow.

A backend other than these two is refused. Nothing is written to the settings file or left in the environment.
"""

import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

from emstore.errors import InvalidInput, Kind

Backend = Literal["torch", "tensorflow"]


def chosen() -> Backend:
    """Return the framework that will compute; imports nothing.

    Raises
    ------
    InvalidInput
        Keras is told to use another one. Kind ``missing_extra``: the chosen one is not installed.
    """
    name = _told()
    if name is None:
        name = "torch" if find_spec("torch") is not None or find_spec("tensorflow") is None else "tensorflow"
    if name not in ("torch", "tensorflow"):
        raise InvalidInput(
            f"Keras is told to use {name}, on which emstore's networks are not tested",
            fix="set the environment variable KERAS_BACKEND to torch or tensorflow",
        )
    if find_spec(name) is None:
        raise InvalidInput(f"{name} is not installed", fix=f"pip install 'emstore[{name}]'", kind=Kind.MISSING_EXTRA)
    return cast(Backend, name)


def keras() -> Any:
    """Import Keras on the chosen framework and return it.

    Raises
    ------
    InvalidInput
        As `chosen`. Kind ``missing_extra``: Keras is not installed.
    """
    if (there := sys.modules.get("keras")) is not None:
        return there
    name = chosen()
    if find_spec("keras") is None:
        raise InvalidInput("Keras is not installed", fix="pip install 'emstore[stem]'", kind=Kind.MISSING_EXTRA)
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = name
    try:
        return import_module("keras")
    finally:
        if before is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = before


def _told() -> str | None:
    if (there := sys.modules.get("keras")) is not None:
        return str(there.backend.backend())
    if told := os.environ.get("KERAS_BACKEND"):
        return told
    try:
        home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
        name = json.loads((Path(home) / "keras.json").read_text()).get("backend")
    except (OSError, ValueError, AttributeError, RuntimeError):
        return None
    return name if isinstance(name, str) and name != "tensorflow" else None
