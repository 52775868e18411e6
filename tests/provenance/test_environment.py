"""What a Record says of the machine."""

import re
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from emstore.provenance import environment


def test_every_installed_distribution_counts() -> None:
    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    assert environment._installed() == {normal(d.name): d.version for d in reversed(list(distributions()))}


def test_another_version_of_anything_installed_changes_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(*installed: str) -> Any:
        folder = tmp_path / "-".join(installed)
        for name in installed:
            (folder / f"{name}.dist-info").mkdir(parents=True)
        monkeypatch.setattr("sys.path", [str(folder), str(tmp_path / "not there")])
        environment.current.cache_clear()
        return environment.current().lock

    try:
        first = lock("Some_Lib-1.0", "other-2.0")
        assert lock("some_lib-1.0", "other-2.0") == first
        assert lock("some_lib-1.1", "other-2.0") != first
    finally:
        environment.current.cache_clear()
