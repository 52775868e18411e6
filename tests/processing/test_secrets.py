"""No store tells who processed, on which machine, where: planted names are searched for in every object."""

import getpass
import os
import signal
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import emstore
from command_line import EMSTORE
from emstore.errors import PrivacyRefused
from emstore.geometry import Axis
from sealed import seal, volume

PLANTED = {
    "HOME": "/far/zebediah-quill",
    "USER": "zebediah-quill",
    "LOGNAME": "zebediah-quill",
    "USERNAME": "zebediah-quill",
    "HOSTNAME": "scope-room-nine",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDKEY",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-word",
    "DASK_SCHEDULER_ADDRESS": "tcp://planted-user:planted-pass@scope-room-nine:8786",
}

RECIPE = """
name = "steps"
inputs = ["scan"]
[steps.smooth]
processor = "denoise.gaussian"
inputs = ["scan"]
[steps.mask]
processor = "segment.otsu"
inputs = ["smooth"]
[steps.figures]
processor = "measure.statistics"
inputs = ["mask"]
[steps.faulty]
processor = "engine.fault"
inputs = ["scan"]
params = { fault = "raise" }
"""


def told(folder: Path) -> dict[str, bytes]:
    """Return every object of a store, with its name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def search(folder: Path, words: list[str]) -> list[tuple[str, str]]:
    found = []
    for name, body in told(folder).items():
        texts = [name.encode(), body]
        for start in (0, 16):  # what may be packed
            try:
                texts.append(zlib.decompress(body[start:]))
            except zlib.error:
                continue
        found += [(name, word) for word in words for text in texts if word.lower().encode() in text.lower()]
    return found


def environment() -> dict[str, str]:
    """Return the planted environment, in which the test's own processors are found."""
    return {**os.environ, **PLANTED, "PYTHONPATH": os.pathsep.join(sys.path)}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **PLANTED, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [EMSTORE, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text('{"a": "/FAR/zebediah-quill/x"}')
    (tmp_path / "packed").write_bytes(zlib.compress(b"scope-room-nine"))
    assert sorted(search(tmp_path, ["zebediah-quill", "scope-room-nine"])) == [
        ("packed", "scope-room-nine"),
        ("zarr.json", "zebediah-quill"),
    ]


def test_no_object_tells_who_or_where(tmp_path: Path) -> None:
    folder = tmp_path / "zebediah-quill" / "planted-folder"
    folder.mkdir(parents=True)
    store = folder / "lab.zarr"
    emstore.create_store(str(store))
    values = np.random.default_rng(0).normal(size=(40, 64, 64)).astype("f4")
    seal(volume("scan", values, *[Axis(n, s) for n, s in zip("zyx", values.shape, strict=True)]), f"{store}/em/scan")
    (folder / "steps.toml").write_text(RECIPE)

    failed = run(folder, "process", str(folder / "steps.toml"), f"{store}/em/scan", f"{store}/work")
    assert failed.returncode == 11, failed.stderr
    for where in (("--processes", "2"), ("--threads", "1")):
        done = run(
            folder, "process", "interpolate.linear", f"{store}/em/scan", f"{store}/em/{where[0][2:]}", "-p", "factor=2", *where
        )
        assert done.returncode == 0, done.stderr
    killed = subprocess.Popen(
        [EMSTORE, "process", "engine.fault", f"{store}/em/scan", f"{store}/em/killed", "-p", "pause=30"],
        env=environment(),
    )
    while not list(store.glob("em/killed/v1/.emstore/lease/*")):
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    sealed = {path.parent.relative_to(store).as_posix() for path in store.glob("*/*/v*/zarr.json")}
    assert sealed == {
        "em/scan/v1", "em/processes/v1", "em/threads/v1", "work/smooth/v1", "work/mask/v1", "work/figures/v1",
    }  # fmt: skip
    assert list(store.glob("work/faulty/v1/.emstore/*"))  # what failed and what was killed are searched, too
    words = ["zebediah-quill", "scope-room-nine", "planted-", "akiaplanted", str(tmp_path), "lab.zarr", "steps.toml"]
    words += [name for name in (socket.gethostname(), str(Path.home()), getpass.getuser()) if len(name) > 4]
    assert search(store, words) == []


@pytest.mark.parametrize(
    "text",
    [
        "/a/b/scan",
        "~/scan",
        "C:\\scans\\1",
        "\\\\server\\share",
        "file:///scan",
        "s3://key:secret@bucket/scan",
        "see https://a:b@c",
    ],
)
def test_parameters_that_would_tell_are_refused(lab: str, text: str) -> None:
    values = np.zeros((4, 4, 4), "u1")
    scan = seal(volume("scan", values, *[Axis(n, 4) for n in "zyx"]), f"{lab}/em/scan").ref
    for terms in ({"sample/identifier_sample": text}, {text: "a"}, {"sample/a": {"b": [text]}}):
        with pytest.raises(PrivacyRefused):
            emstore.process("transform.calibrate", [scan], f"{lab}/em/told", params={"terms": terms})
    assert not Path(lab, "em/told").exists()
    done = emstore.process(
        "transform.calibrate", [scan], f"{lab}/em/told", params={"terms": {"sample/identifier_sample": "A/7 ~5"}}
    )
    assert done.created
