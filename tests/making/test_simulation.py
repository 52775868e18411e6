"""What a simulator makes is sealed part by part, citing what it was made with; a stop anywhere costs little."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emstore
import emstore_schemas
from command_line import EMSTORE, call, lines, result
from emstore.errors import Conflict, Interrupted, InvalidInput, Kind, NotFound, PrivacyRefused, ProcessingFailed
from emstore.events import Event, Finished, Noted, Reached, Started
from planted_makers import spots


def scratch(done: Path) -> list[Path]:
    folder = done.parent / "home" / "scratch"
    return sorted(folder.iterdir()) if folder.exists() else []


def begin(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([EMSTORE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_every_part_is_sealed_and_cites_the_first(lab: str, done: Path) -> None:
    events: list[Event] = []
    main, columns, phase = emstore.simulate(
        "planted.spots", f"{lab}/mos2/a", params={"seed": 3, "note": "x"}, listener=events.append
    )
    assert [str(v.place) for v in (main, columns, phase)] == ["mos2/a/v1", "mos2/a-columns/v1", "mos2/a-phase/v1"]
    np.testing.assert_array_equal(main.xarray()["image"], spots(12, 4, 3))
    np.testing.assert_array_equal(phase.xarray()["image"], -spots(12, 4, 3))
    assert columns.table().columns["species"].values.tolist() == ["Mo", "S", "S"]
    for version in (main, columns, phase):
        record = version.record
        assert (record.activity.type, record.activity.name) == ("simulate", "planted.spots")
        assert record.params["params"]["seed"] == 3
        assert record.random.seed == 3
        assert {s.name for s in record.software} == {"emstore", "planted-makers", "scipy"}
        emstore_schemas.validate("record", record.model_dump(mode="json"))
        emstore_schemas.validate("version", version.document["attributes"]["emstore"])
    assert main.record.inputs == ()
    assert main.record.notes == ("Made of spots.",)
    assert [(i.role, i.ref, i.id, i.store) for i in columns.record.inputs] == [("simulated", "mos2/a/v1", main.id, None)]
    assert columns.record.inputs == phase.record.inputs
    assert scratch(done) == []
    shares = [event.share for event in events if isinstance(event, Reached)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert [e.version_id for e in events if isinstance(e, Finished)] == [main.id, columns.id, phase.id]
    assert any(isinstance(e, Started) and e.task == phase.ref and e.total == phase.volume().nbytes for e in events)
    assert Noted(main.ref, "Made of spots.") in events
    assert result("verify", lab, "--data")["ok"] is True


def test_the_same_is_not_made_again_and_another_is(lab: str, done: Path) -> None:
    first = emstore.simulate("planted.spots", f"{lab}/a/b")
    told = done.read_text()
    assert [v.id for v in emstore.simulate("planted.spots", f"{lab}/a/b", threads=1, memory=1 << 30)] == [v.id for v in first]
    assert done.read_text() == told
    other = emstore.simulate("planted.spots", f"{lab}/a/b", params={"seed": 1})
    assert [v.place.version for v in other] == [2, 2, 2]
    again = emstore.simulate("planted.spots", f"{lab}/a/b", again=True)
    assert [v.place.version for v in again] == [3, 3, 3]
    assert [i.id for i in again[1].record.inputs] == [again[0].id]
    assert scratch(done) == []


def test_stopped_it_goes_on_from_what_it_kept(lab: str, done: Path) -> None:
    with pytest.raises(Interrupted, match="resumes"):
        emstore.simulate("planted.spots", f"{lab}/a/b", params={"fault": "stop"})
    assert len(scratch(done)) == 1
    made = emstore.simulate("planted.spots", f"{lab}/a/b", params={"fault": "stop"})
    assert [v.place.version for v in made] == [1, 1, 1]
    assert done.read_text().split("\n")[:4] == [f"step {k}" for k in range(4)]
    assert scratch(done) == []


def test_killed_in_the_middle_it_goes_on(lab: str, done: Path) -> None:
    arguments = ["simulate", "planted.spots", f"{lab}/a/b", "-p", "pause=0.3", "-p", "steps=6", "-p", "seed=5"]
    process = begin(*arguments)
    wait_for(lambda: "step 2" in done.read_text(), process)
    process.kill()
    process.communicate()
    assert result("ls", lab)["versions"] == []
    assert {one["state"] for one in result("status", lab)["versions"]} == {"unfinished"}
    made = result(*arguments)["versions"]
    assert [one["created"] for one in made] == [True, True, True]
    assert [one["ref"] for one in made] == [f"{lab}/a/{name}/v1" for name in ("b", "b-columns", "b-phase")]
    assert done.read_text().count("step") == 6
    np.testing.assert_array_equal(emstore.open(f"{lab}/a/b").xarray()["image"], spots(12, 6, 5))
    assert scratch(done) == []


def test_killed_between_two_parts_the_rest_is_made_and_the_first_stays(lab: str, done: Path) -> None:
    arguments = ["simulate", "planted.spots", f"{lab}/a/b", "-p", "linger=0.7"]
    process = begin(*arguments)
    wait_for(Path(lab, "a/b-columns/v1/zarr.json").exists, process)
    process.kill()
    process.communicate()
    first = emstore.open(f"{lab}/a/b").id
    with pytest.raises(NotFound):
        emstore.open(f"{lab}/a/b-phase")
    made = result(*arguments)["versions"]
    assert [(one["created"], one["ref"][-2:]) for one in made] == [(False, "v1"), (False, "v1"), (True, "v1")]
    assert made[0]["id"] == first
    assert done.read_text().count("step") == 4
    assert scratch(done) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_ends_in_order(lab: str, done: Path, number: int) -> None:
    arguments = ["simulate", "planted.spots", f"{lab}/a/b", "-p", "pause=0.5"]
    process = begin(*arguments)
    wait_for(lambda: "step 0" in done.read_text(), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"resumes" in err
    assert b"Traceback" not in err
    assert len(result(*arguments)["versions"]) == 3


def test_two_at_once_do_not_share_a_scratch_folder(lab: str, done: Path) -> None:
    failures: list[BaseException] = []

    def second() -> None:
        wait_until = time.monotonic() + 20
        while "step 0" not in done.read_text() and time.monotonic() < wait_until:
            time.sleep(0.01)
        try:
            emstore.simulate("planted.spots", f"{lab}/a/b", params={"pause": 0.3})
        except Conflict as error:
            failures.append(error)

    thread = threading.Thread(target=second)
    thread.start()
    emstore.simulate("planted.spots", f"{lab}/a/b", params={"pause": 0.3})
    thread.join()
    assert [error.kind for error in failures if isinstance(error, Conflict)] == [Kind.BUSY]


def test_what_is_wrong_is_said_and_nothing_is_sealed(lab: str, done: Path) -> None:
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"fault": "raise"}, ProcessingFailed, "RuntimeError: a spot fell off"),
        ({"fault": "twice"}, InvalidInput, "phase"),
        ({"size": 0}, InvalidInput, "size"),
        ({"unknown": 0}, InvalidInput, "emstore simulators planted.spots"),
        ({"note": "/data/spots"}, PrivacyRefused, "path"),
    ]
    for params, kind, words in cases:
        with pytest.raises(kind, match=words):
            emstore.simulate("planted.spots", f"{lab}/a/b", params=params)
    with pytest.raises(NotFound, match=r"planted\.spots"):
        emstore.simulate("planted.nothing", f"{lab}/a/b")
    for target in (f"{lab}/a", f"{lab}/a/b/v1", f"{lab}/a/{'b' * 60}"):
        with pytest.raises(InvalidInput):
            emstore.simulate("planted.spots", target)
    assert result("ls", lab)["versions"] == []


def test_the_commands(lab: str, done: Path) -> None:
    done_ = call("simulate", "planted.spots", f"{lab}/a/b", "-p", "seed=2", "--json")
    kinds = [line.get("event") for line in lines(done_)]
    assert kinds[0] == "reached"
    assert kinds.count("finished") == 3
    assert [one["created"] for one in lines(done_)[-1]["versions"]] == [True] * 3
    told = call("simulate", "planted.spots", f"{lab}/a/b", "-p", "seed=2").stdout
    assert told.count("was there already") == 3
    assert "planted.spots" in call("simulators").stdout
    assert "images that are added up" in call("simulators", "planted.spots").stdout
    assert result("simulators", "planted.spots")["inputs"] == []
    assert result("simulate", "planted.spots", f"{lab}/a/b", "-p", "seed=x", code=2)["kind"] == "invalid_input"
    assert [one["ref"] for one in result("find", 'simulator == "planted.spots" and kind == "table"', lab)["found"]] == [
        f"{lab}/a/b-columns/v1"
    ]


def test_made_again_it_is_the_same_bit_for_bit(lab: str, done: Path) -> None:
    emstore.simulate("planted.spots", f"{lab}/a/b", params={"seed": 4})
    for name in ("b", "b-columns", "b-phase"):
        found = result("reproduce", f"{lab}/a/{name}")
        assert (found["identical"], found["deterministic"], found["differences"]) == (True, True, [])
    assert "identical, bit for bit" in call("reproduce", f"{lab}/a/b").stdout
    assert os.listdir(done.parent / "home" / "scratch") == []  # noqa: PTH208
