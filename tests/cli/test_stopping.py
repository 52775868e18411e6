"""Stopping on request: Ctrl-C and SIGTERM leave nothing half-done to be seen, and the same command goes on."""

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from command_line import EMSTORE, call, emstore, lines, result


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that takes a while to ingest: 96 MiB of noise."""
    path = tmp_path_factory.mktemp("large") / "large.nii"
    values = np.random.default_rng(0).integers(0, 1 << 15, (192, 512, 512), dtype=np.int16)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def heed() -> None:
    """Let a child hear Ctrl-C even where this run was started in the background, where shells have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_ingest_resumes(large: Path, tmp_path: Path, number: signal.Signals) -> None:
    call("init", tmp_path / "s.zarr")
    command = [EMSTORE, "ingest", large, tmp_path / "s.zarr/d/a", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "advanced":
            break
    process.send_signal(number)
    rest, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == ""
    error = json.loads(rest.splitlines()[-1])
    assert error["kind"] == "interrupted"
    assert "same command" in error["fix"]
    assert result("ls", tmp_path / "s.zarr")["versions"] == []
    [state] = result("status", tmp_path / "s.zarr")["versions"]
    assert state["state"] == "unfinished"
    assert result("verify", tmp_path / "s.zarr")["ok"] is True
    done = emstore(*command[1:])
    assert done.returncode == 0, done.stderr
    assert lines(done)[-1]["versions"][0]["ref"].endswith("/d/a/v1")
    assert result("verify", tmp_path / "s.zarr", "--data")["ok"] is True


def test_words_when_stopped_say_how_to_go_on(large: Path, tmp_path: Path) -> None:
    call("init", tmp_path / "s.zarr")
    command = [EMSTORE, "ingest", large, tmp_path / "s.zarr/d/a"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    while not list((tmp_path / "s.zarr").glob("d/a/v1/.emstore/txn.json")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    *_, error, fix = said.splitlines()
    assert error.startswith("error: ")
    assert "same command" in fix
    assert "Traceback" not in said


def test_progress_is_shown_on_a_terminal_only(tmp_path: Path) -> None:
    small = tmp_path / "small.nii"
    image = nibabel.Nifti1Image(np.ones((40, 50, 60), np.int16), np.eye(4))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, small)
    call("init", tmp_path / "s.zarr")
    ours, theirs = pty.openpty()
    try:
        command = [EMSTORE, "ingest", small, tmp_path / "s.zarr/d/a", "--no-pyramid"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env={**os.environ, "TERM": "xterm"})
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end was closed: the process ended
                break
            if not part:
                break
            shown += part
        out, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
    assert process.returncode == 0
    assert b"/d/a/v1" in shown
    assert b"kB" in shown or b"KiB" in shown
    assert "sealed" in out
    again = emstore("ingest", small, tmp_path / "s.zarr/d/b", "--no-pyramid")
    assert again.stderr == ""
