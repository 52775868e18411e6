"""No store tells who processed, on which machine, where: planted names are searched for in every object."""

import contextlib
import getpass
import io
import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import obstore
import pytest
import zarr

import emstore
from command_line import EMSTORE
from emstore.errors import PrivacyRefused
from emstore.geometry import Axis
from sealed import seal, volume
from seaweed import Seaweed

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


def unpacked(name: str, body: bytes) -> Iterator[bytes]:
    """Yield what an object tells, as it is and unpacked."""
    yield name.encode()
    yield body
    for start in (0, 16):
        with contextlib.suppress(zlib.error):
            yield zlib.decompress(body[start:])
    if zipfile.is_zipfile(io.BytesIO(body)):
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for member in archive.namelist():
                yield member.encode()
                yield archive.read(member)


def decoded(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the values of every array, read by zarr-python."""
    for path in folder.rglob("zarr.json"):
        if json.loads(path.read_text()).get("node_type") == "array":
            values = np.asarray(zarr.open_array(path.parent, mode="r")[...])
            text = values.tobytes() if values.dtype.kind in "biufc" else "\n".join(map(str, values.ravel())).encode()
            yield path.parent.relative_to(folder).as_posix(), text


def search(folder: Path, words: list[str]) -> list[tuple[str, str]]:
    texts = [(name, text) for name, body in told(folder).items() for text in unpacked(name, body)]
    return [(name, word) for name, text in [*texts, *decoded(folder)] for word in words if word.lower().encode() in text.lower()]


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
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b", "scope-room-nine " * 9)
    codec = zarr.codecs.BloscCodec(typesize=1, shuffle="bitshuffle")
    packed = zarr.create_array(tmp_path / "column", shape=(1400,), dtype="u1", compressors=codec)
    packed[...] = np.frombuffer(b"zebediah-quill" * 100, "u1")
    assert sorted(set(search(tmp_path, ["zebediah-quill", "scope-room-nine"]))) == [
        ("a.zip", "scope-room-nine"),
        ("column", "zebediah-quill"),
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


def test_no_object_on_a_service_tells_who_or_where(tmp_path: Path, seaweed: Seaweed) -> None:
    folder = tmp_path / "zebediah-quill" / "planted-folder"
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 900, (20, 32, 40)).astype("i2")
    nibabel.save(nibabel.Nifti1Image(values, np.diag([0.5, 0.5, 0.75, 1.0])), folder / "scan.nii")
    (folder / "steps.toml").write_text(RECIPE)
    store = seaweed.url("secrets")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [EMSTORE, *arguments], cwd=folder, env={**environment(), **seaweed.environment}, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip

    for code, *arguments in (
        (0, "init", store),
        (0, "ingest", str(folder / "scan.nii"), f"{store}/em/scan"),
        (11, "process", str(folder / "steps.toml"), f"{store}/em/scan", f"{store}/work"),
        (0, "process", "transform.crop", f"{store}/em/scan", f"{store}/em/part", "-p", 'index={"z":[0,9]}', "--processes", "2"),
    ):
        done = run(*arguments)
        assert done.returncode == code, done.stderr
        assert "hidden-word" not in done.stdout + done.stderr
    for name in ("em/signed", "em/scan"):
        signed = f"{store}/{name}?X-Amz-Signature=planted-signature&X-Amz-Credential=planted-credential"
        done = run(
            "process", "denoise.median", *((f"{store}/em/scan", signed) if name == "em/signed" else (signed, f"{store}/em/b"))
        )
        assert done.returncode == 2, done.stderr
        assert "planted" not in done.stdout + done.stderr

    copy = tmp_path / "copy"
    client = seaweed.client()
    for batch in obstore.list(client, "secrets/"):
        for entry in batch:
            path = copy / entry["path"].removeprefix("secrets/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(obstore.get(client, entry["path"]).bytes()))
    sealed = {path.parent.relative_to(copy).as_posix() for path in copy.glob("*/*/v*/zarr.json")}
    assert sealed == {"em/scan/v1", "em/part/v1", "work/smooth/v1", "work/mask/v1", "work/figures/v1"}
    assert list(copy.glob("work/faulty/v1/.emstore/*"))
    words = ["zebediah-quill", "scope-room-nine", "planted-", "hidden-word", "akia", "X-Amz", str(tmp_path), "steps.toml"]
    words += [seaweed.endpoint, seaweed.endpoint.partition("//")[2], "s3://"]
    words += [name for name in (socket.gethostname(), str(Path.home()), getpass.getuser()) if len(name) > 4]
    assert search(copy, words) == []


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
