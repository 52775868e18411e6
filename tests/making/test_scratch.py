"""What was kept to be taken up again is cleared once nobody comes back to it, and never under those who work in it."""

import os
import time
from pathlib import Path

import pytest

import emstore
from command_line import call, result
from emstore import making
from emstore.errors import Interrupted, ProcessingFailed
from emstore.store import Place, open_store

DAY = 86400.0


def age(folder: Path, days: float) -> None:
    """Make a folder and all in it look as if last written so many days ago."""
    when = time.time() - days * DAY
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (when, when))


@pytest.fixture
def stopped(lab: str, done: Path) -> Path:
    """The folder of a simulation that was stopped after its first step."""
    with pytest.raises(Interrupted):
        emstore.simulate("planted.spots", f"{lab}/a/b", params={"fault": "stop"})
    [folder] = (done.parent / "home" / "scratch").iterdir()
    return folder


def test_what_nobody_came_back_to_is_cleared(stopped: Path, lab: str) -> None:
    held = sum(path.stat().st_size for path in stopped.rglob("*") if path.is_file())
    assert held > 0
    age(stopped, 29)
    assert call("gc").stdout == "nothing to clear\n"
    age(stopped, 31)
    result("gc", lab)  # what is left in a store is something else
    planned = result("gc", "--dry-run")
    assert ([one["key"] for one in planned["cleared"]], planned["bytes"]) == ([f"scratch/{stopped.name}"], held)
    assert stopped.exists()
    assert result("gc") == {**planned, "dry_run": False}
    assert not stopped.exists()
    assert result("gc")["cleared"] == []
    with pytest.raises(Interrupted):  # it begins anew
        emstore.simulate("planted.spots", f"{lab}/a/b", params={"fault": "stop"})


def test_nothing_unfinished_is_nothing_to_clear(done: Path) -> None:
    assert call("gc").stdout == "nothing to clear\n"


def test_a_folder_that_is_worked_in_never_grows_old(lab: str, done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "BEAT", 0.05)
    with making.scratch(open_store(lab), Place("a", "b"), "settings") as folder:
        (folder / "piece").write_bytes(b"half")
        age(folder, 400)
        end = time.monotonic() + 20
        while time.time() - folder.stat().st_mtime > DAY and time.monotonic() < end:
            time.sleep(0.01)
        assert result("gc")["cleared"] == []
        assert (folder / "piece").read_bytes() == b"half"
    assert not folder.exists()


def test_coming_back_makes_a_folder_young_again(lab: str, done: Path) -> None:
    def fail() -> Path:
        with pytest.raises(ProcessingFailed):
            emstore.simulate("planted.spots", f"{lab}/a/b", params={"fault": "raise"})
        [folder] = (done.parent / "home" / "scratch").iterdir()
        return folder

    age(fail(), 31)
    assert len(result("gc", "--dry-run")["cleared"]) == 1
    fail()
    assert result("gc")["cleared"] == []
