"""The error tree: what a handler can rely on."""

import pickle
from collections.abc import Iterator

import pytest

from emstore import errors
from emstore.errors import EmstoreError, Kind


def tree(cls: type[EmstoreError]) -> Iterator[type[EmstoreError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


@pytest.mark.parametrize("cls", list(tree(EmstoreError)), ids=lambda cls: cls.__name__)
def test_errors_come_whole_from_other_processes(cls: type[EmstoreError]) -> None:
    error = cls("what", where="where", fix="fix", kind=Kind.DISK_FULL)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert type(again) is cls
    assert again.to_json() == error.to_json()
    assert str(again) == str(error)
