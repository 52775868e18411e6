"""Plug-ins of the tests, found through real entry points, here and in every process begun from here."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from emstore import registry


@contextmanager
def planted(folder: Path, package: str, groups: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Have a package of this name, version 7.0, with entry points (``name = module:Class``) by group, written into `folder`."""
    facts = folder / f"{package.replace('-', '_')}-7.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 7.0\n")
    lines = [line for group, points in groups.items() for line in (f"[{group}]", *points)]
    (facts / "entry_points.txt").write_text("\n".join([*lines, ""]))
    paths = [str(folder), str(Path(__file__).resolve().parent)]
    before, inherited = list(sys.path), os.environ.get("PYTHONPATH")
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *([inherited] if inherited else [])])
    _forget()
    try:
        yield
    finally:
        sys.path[:] = before
        if inherited is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = inherited
        _forget()


def _forget() -> None:
    for known in (
        registry.processors,
        registry.processor,
        registry.simulators,
        registry.simulator,
        registry.trainers,
        registry.trainer,
        registry.reports,
        registry.reporter,
    ):
        known.cache_clear()  # type: ignore[attr-defined]
