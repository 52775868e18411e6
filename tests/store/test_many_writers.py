"""Sixteen processes commit to one array at once, on disk and on S3."""

import json
import multiprocessing
import os
import queue
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emstore
from emstore.geometry import Axis
from emstore.store import Place, open_store, verify
from emstore.store.transaction import numbers
from seaweed import Seaweed

WRITERS = 16
COMMITS = int(os.environ.get("EMSTORE_COMMITS", "6"))
"""Commits of each; 20 in a long run."""


def commit(store: str, writer: int, answers: Any) -> None:
    """Seal small volumes one after the other, each with its own values."""
    from sealed import seal, volume

    made = []
    for n in range(COMMITS):
        values = np.full((3, 5), writer * COMMITS + n + 1, "u2")
        version = seal(volume(f"{writer}-{n}", values, Axis("y", 3), Axis("x", 5)), f"{store}/lab/raw")
        made.append((version.place.version, int(values[0, 0])))
    answers.put(made)


@pytest.mark.parametrize("where", ["disk", "seaweed"])
def test_every_commit_is_whole_and_none_is_lost(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if where == "disk":
        store = str(tmp_path / "lab.zarr")
    else:
        server: Seaweed = request.getfixturevalue("seaweed")
        store = server.url(f"{tmp_path.name}/lab.zarr")
        for name, value in server.environment.items():
            request.getfixturevalue("monkeypatch").setenv(name, value)
    emstore.create_store(store)
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    writers = [spawn.Process(target=commit, args=(store, w, answers)) for w in range(WRITERS)]
    for writer in writers:
        writer.start()
    made: list[tuple[int, int]] = []
    waiting = len(writers)
    while waiting:
        try:
            made += answers.get(timeout=5)
            waiting -= 1
        except queue.Empty:
            assert not [w.exitcode for w in writers if w.exitcode], "a writer failed"
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    opened = open_store(store)
    assert sorted(n for n, _ in made) == list(range(1, WRITERS * COMMITS + 1))
    assert numbers(opened.backend, Place("lab", "raw")) == list(range(1, WRITERS * COMMITS + 1))
    checked = verify(opened, Place("lab", "raw"), data=True)
    assert len(checked) == WRITERS * COMMITS
    assert [finding for version in checked for finding in version.findings] == []
    for number, value in made:
        stored = np.asarray(emstore.open(f"{store}/lab/raw/v{number}").xarray()["image"])
        assert (stored == value).all()


def test_nothing_of_the_writers_remains(tmp_path: Path) -> None:
    """After a commit only the version's own objects are there."""
    from sealed import seal, volume

    store = str(tmp_path / "lab.zarr")
    emstore.create_store(store)
    version = seal(volume("one", np.ones((3, 5), "u2"), Axis("y", 3), Axis("x", 5)), f"{store}/lab/raw")
    folder = tmp_path / "lab.zarr" / "lab" / "raw" / "v1"
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert there == {e.key for e in version.manifest.objects} | {"zarr.json", ".emstore/txn.json", ".emstore/manifest.json"}
    assert json.loads((folder / "zarr.json").read_text())["attributes"]["emstore"]["kind"] == "version"
    assert os.listdir(tmp_path) == ["lab.zarr"]  # noqa: PTH208
