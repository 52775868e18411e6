"""`emstore train` with a real trainer, as a user runs it."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emstore
from command_line import EMSTORE, call, lines


def test_interrupted_it_goes_on_and_done_it_is_not_done_again(
    crystal_lab: Path, refs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMSTORE_HOME", str(tmp_path / "home"))
    params = {"steps": 160, "validations": 160, "batch": 8, "filters": 4, "seed": 2}
    options = [word for name, value in params.items() for word in ("-p", f"{name}={value}")]
    command = ["train", "autoencoder", *refs, f"{crystal_lab}/nets/command", *options, "--threads", "1", "--json"]

    told: list[dict[str, Any]] = []
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    with subprocess.Popen([EMSTORE, *command], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1].get("share", 0) > 0.1:
                process.send_signal(signal.SIGINT)
                break
        told += map(json.loads, process.stdout)
    assert (process.returncode, told[-1]["kind"]) == (130, "interrupted")
    reached = [event for event in told if event.get("event") == "reached"]
    assert [event["share"] for event in reached] == sorted(event["share"] for event in reached)
    assert reached[-1]["share"] < 1

    done = call(*command)
    assert done.returncode == 0, done.stderr
    steps = [event["what"] for event in lines(done) if event.get("event") == "reached" and event["what"].startswith("step")]
    assert int(steps[0].split()[1].rstrip(":")) > 0.1 * 160 - 1
    assert steps[-1].startswith("step 160:")
    [made] = lines(done)[-1]["versions"]
    assert made["created"]
    version = emstore.open(made["ref"])
    figures = version.weights().figures
    assert (figures["steps"], figures["resumed"]) == (160, 1)
    assert all(np.isfinite(row).all() for row in figures["history"])
    assert not (tmp_path / "home" / "scratch").exists() or not list((tmp_path / "home" / "scratch").iterdir())

    again = call(*command)
    [same] = lines(again)[-1]["versions"]
    assert (same["ref"], same["created"]) == (made["ref"], False)
    assert not [event for event in lines(again) if event.get("event") == "reached"]
