"""What a trainer learns is sealed with what it learnt from; a stop anywhere costs little."""

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emstore
import emstore_schemas
from command_line import EMSTORE, call, lines, result
from emstore import training
from emstore.errors import Interrupted, InvalidInput, NotFound, ProcessingFailed
from emstore.events import Event, Finished, Noted, Reached


def scratch(done: Path) -> list[Path]:
    folder = done.parent / "home" / "scratch"
    return sorted(folder.iterdir()) if folder.exists() else []


def test_the_weights_are_sealed_and_cite_what_they_were_learnt_from(lab: str, crops: list[str], done: Path) -> None:
    events: list[Event] = []
    latest = [ref.rpartition("/")[0] for ref in crops]
    version = emstore.train("planted.mean", latest, f"{lab}/nets/mean", params={"seed": 8}, listener=events.append)
    weights = version.weights()
    expected = emstore.open(crops[0]).xarray()["image"].values.mean()
    np.testing.assert_allclose(weights.arrays["layer/mean"], expected, rtol=1e-6)
    record = version.record
    assert (record.activity.type, record.activity.name) == ("train", "planted.mean")
    assert record.params == {
        "trainer": "planted.mean",
        "trainer_version": "1",
        "device": "cpu",
        "params": {"epochs": 4, "pause": 0.0, "seed": 8, "fault": ""},
    }
    assert (record.random.seed, record.random.deterministic) == (8, False)
    assert [(i.role, i.ref, i.id) for i in record.inputs] == [
        ("training", "crops/training/v1", emstore.open(crops[0]).id),
        ("validation", "crops/validation/v1", emstore.open(crops[1]).id),
    ]
    assert record.notes == ("Learnt the mean.",)
    emstore_schemas.validate("record", record.model_dump(mode="json"))
    shares = [event.share for event in events if isinstance(event, Reached)]
    assert (shares[0], shares[-1], shares) == (0, 1, sorted(shares))
    assert events[-1] == Finished(version.ref, version.id)
    assert Noted(version.ref, "Learnt the mean.") in events
    assert scratch(done) == []


def test_the_same_is_not_trained_again_and_another_is(lab: str, crops: list[str], done: Path) -> None:
    first = emstore.train("planted.mean", crops, f"{lab}/nets/mean")
    told = done.read_text()
    assert emstore.train("planted.mean", crops, f"{lab}/nets/mean", threads=1).id == first.id
    assert done.read_text() == told
    assert emstore.train("planted.mean", crops[::-1], f"{lab}/nets/mean").place.version == 2
    assert emstore.train("planted.mean", crops, f"{lab}/nets/mean", params={"epochs": 2}).place.version == 3
    assert emstore.train("planted.mean", crops, f"{lab}/nets/mean", again=True).place.version == 4


def test_killed_in_the_middle_it_goes_on_from_the_last_checkpoint(lab: str, crops: list[str], done: Path) -> None:
    arguments = ["train", "planted.mean", *crops, f"{lab}/nets/mean", "-p", "pause=0.3", "-p", "epochs=6"]
    process = subprocess.Popen([EMSTORE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    limit = time.monotonic() + 60
    while "epoch 2" not in done.read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.kill()
    process.communicate()
    [made] = result(*arguments)["versions"]
    assert (made["created"], made["ref"]) == (True, f"{lab}/nets/mean/v1")
    assert sorted(done.read_text().split("\n")[:-1]) == [f"epoch {k}" for k in range(6)]
    np.testing.assert_allclose(
        emstore.open(made["ref"]).weights().arrays["layer/mean"],
        emstore.open(crops[0]).xarray()["image"].values.mean(),
        rtol=1e-6,
    )
    assert scratch(done) == []


def test_half_sealed_weights_are_ended_with_the_very_same(
    lab: str, crops: list[str], done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = training.seal_weights

    def stop(held: Any, weights: Any, record: Any) -> None:
        def late() -> Any:
            raise KeyboardInterrupt

        seal(held, weights, late)

    monkeypatch.setattr(training, "seal_weights", stop)
    with pytest.raises(Interrupted, match="resumes"):
        emstore.train("planted.mean", crops, f"{lab}/nets/mean")
    told = done.read_text()
    monkeypatch.undo()
    monkeypatch.setenv("PLANTED_LOG", str(done))
    monkeypatch.setenv("EMSTORE_HOME", str(done.parent / "home"))
    version = emstore.train("planted.mean", crops, f"{lab}/nets/mean")
    assert version.place.version == 1
    assert done.read_text() == told
    assert version.weights().arrays["chance"].shape == (16,)
    assert result("verify", version.ref, "--data")["ok"] is True


def test_what_is_wrong_is_said_and_nothing_is_sealed(lab: str, crops: list[str], done: Path) -> None:
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"fault": "raise"}, ProcessingFailed, "RuntimeError: the loss ran away"),
        ({"fault": "nothing"}, InvalidInput, "gave no weights"),
        ({"fault": "name"}, InvalidInput, "bad name"),
        ({"epochs": 0}, InvalidInput, "epochs"),
    ]
    for params, kind, words in cases:
        with pytest.raises(kind, match=words):
            emstore.train("planted.mean", crops, f"{lab}/nets/mean", params=params)
    with pytest.raises(InvalidInput, match=r"2 inputs \(training, validation\), not 1"):
        emstore.train("planted.mean", crops[:1], f"{lab}/nets/mean")
    with pytest.raises(InvalidInput, match="no device"):
        emstore.train("planted.mean", crops, f"{lab}/nets/mean", device="tpu")
    with pytest.raises(NotFound, match=r"planted\.mean"):
        emstore.train("planted.nothing", crops, f"{lab}/nets/mean")
    assert result("ls", f"{lab}/nets")["versions"] == []


def test_the_commands(lab: str, crops: list[str], done: Path) -> None:
    told = call("train", "planted.mean", *crops, f"{lab}/nets/mean", "--threads", "1", "--device", "cpu", "--json")
    assert lines(told)[0]["event"] == "reached"
    [made] = lines(told)[-1]["versions"]
    assert (made["kind"], made["created"]) == ("model", True)
    assert "was there already" in call("train", "planted.mean", *crops, f"{lab}/nets/mean").stdout
    assert "training, validation" in call("trainers").stdout
    assert "passes over the data" in call("trainers", "planted.mean").stdout
    assert [one["ref"] for one in result("find", 'kind == "model" and trainer == "planted.mean"', lab)["found"]] == [
        f"{lab}/nets/mean/v1"
    ]
    tree = call("lineage", f"{lab}/nets/mean").stdout
    assert "crops/training/v1" in tree
    assert "validation" in tree
