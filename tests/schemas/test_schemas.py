"""The published schemas are the models', and each accepts a right document and refuses a wrong one."""

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import emstore_schemas
from emstore.store.documents import schemas

INSTANCES = Path(__file__).parent / "instances"
NAMES = sorted(path.name for path in INSTANCES.iterdir())


def instance(name: str, which: str) -> Any:
    return json.loads((INSTANCES / name / f"{which}.json").read_text())


def test_the_files_are_what_the_models_say() -> None:
    published = {name: emstore_schemas.load(name) for name in emstore_schemas.names()}
    assert published == json.loads(json.dumps(schemas())), "the models changed: run `make schemas`"


def test_every_schema_has_instances() -> None:
    assert tuple(NAMES) == emstore_schemas.names()


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_itself_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(emstore_schemas.load(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_right_document_passes(name: str) -> None:
    emstore_schemas.validate(name, instance(name, "valid"))


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_document_is_refused_where_it_is_wrong(name: str) -> None:
    wrong = instance(name, "invalid")
    with pytest.raises(ValueError, match=f"^{name}: at ") as refusal:
        emstore_schemas.validate(name, wrong["document"])
    assert f"at {wrong['at']}: " in str(refusal.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(LookupError, match="manifest"):
        emstore_schemas.load("manifesto")
    with pytest.raises(LookupError, match="v9"):
        emstore_schemas.load("manifest", "v9")
    with pytest.raises(LookupError):
        emstore_schemas.load("../../pyproject")


def test_without_jsonschema_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "jsonschema":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match="pip install jsonschema"):
        emstore_schemas.validate("dataset", {"kind": "dataset"})
