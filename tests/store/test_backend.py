"""References and storage at their edges: bad names, secrets in URLs, services that do not keep their word."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

import emstore
from command_line import call, result
from emstore.errors import InvalidInput, Kind, NotFound, StorageFailed
from emstore.geometry import Axis
from emstore.store import Place, open_store, verify
from emstore.store.backend import Backend
from emstore.store.layout import check_name
from emstore.store.store import resolve
from emstore.store.url import open_backend
from range_server import serve
from sealed import ramp, seal, volume


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "-a",
        ".a",
        "a/b",
        "a b",
        "é",
        "a\n",
        "zarr.json",
        "c",
        "labels",
        "s0",
        "v12",
        "con",
        "nul.txt",
        "a..b",
        "a.",
        "a" * 65,
    ],
)
def test_names_that_would_not_work_everywhere_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as told:
        check_name(name, "array")
    assert told.value.kind is Kind.BAD_NAME


@pytest.mark.parametrize("url", [
    "s3://key:SECRET@bucket/lab", "https://user:SECRET@host/lab.zarr/d/a", "https://host/lab.zarr?X-Amz-Signature=SECRET",
    "s3://bucket/lab#SECRET", "https://:SECRET@host:99999/x", "s3://[SECRET/x",
])  # fmt: skip
@pytest.mark.parametrize("verb", ["ls", "verify", "init"])
def test_secrets_in_urls_are_refused_and_never_repeated(url: str, verb: str) -> None:
    assert result(verb, url, code=2)["kind"] == "bad_ref"
    said = call(verb, url)
    assert "SECRET" not in said.stdout + said.stderr


@pytest.mark.parametrize("url", ["ftp://host/lab", "s3:///lab", "s3://bucket/../lab", "s3://bucket/%2e%2e/lab", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as told:
        resolve(url)
    assert told.value.kind is Kind.BAD_REF


@pytest.mark.parametrize("name", ["what?.zarr", "run#1.zarr", "a%20b.zarr", "[x].zarr", "caf\udce9.zarr"])
def test_a_path_may_be_called_anything(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    if "\udce9" in name:
        assert call("init", root).returncode in (0, 2, 8)
        return
    assert call("init", root).returncode == 0
    seal(volume("small", ramp((9, 8), "u1"), Axis("y", 9), Axis("x", 8)), f"{root}/d/a")
    assert result("verify", root, "--data")["ok"] is True


def test_references_do_not_lead_out(tmp_path: Path) -> None:
    emstore.create_store(str(tmp_path / "lab.zarr"))
    for ref in (
        "lab.zarr/../../etc",
        "lab.zarr/d/../../etc",
        "lab.zarr/d/a/v1/s0",
        "lab.zarr/d/a/x1",
        "~nobody-of-that-name/lab",
        "n" * 300,
    ):
        with pytest.raises((NotFound, InvalidInput)):
            emstore.open(str(tmp_path / ref) if not ref.startswith("~") else ref)


def test_storage_that_overwrites_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore

    real = obstore.put

    def careless(store: Any, key: str, data: Any, *, mode: str = "overwrite", **options: Any) -> Any:
        return real(store, key, data, mode="overwrite", **options)

    monkeypatch.setattr("emstore.store.backend.obstore.put", careless)
    with pytest.raises(StorageFailed) as told:
        emstore.create_store(str(tmp_path / "lab.zarr"))
    assert told.value.kind is Kind.STORE_UNSAFE
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_store_over_plain_http(tmp_path: Path) -> None:
    emstore.create_store(str(tmp_path / "lab.zarr"))
    seal(volume("small", ramp((9, 8), "u1"), Axis("y", 9), Axis("x", 8)), f"{tmp_path}/lab.zarr/d/a")
    with serve(tmp_path) as served:
        version = emstore.open(f"{served.url}/lab.zarr/d/a/v1")
        assert (version.array()[:, :] == ramp((9, 8), "u1")).all()
        backend = open_backend(f"{served.url}/lab.zarr")
        with pytest.raises((StorageFailed, InvalidInput)):
            backend.put_new("new", b"x")
    [checked] = verify(open_store(str(tmp_path / "lab.zarr")), Place("d", "a", 1), data=True)
    assert checked.ok


@pytest.mark.parametrize("number", [13, 30])
def test_a_place_that_may_not_be_written_says_so(number: int) -> None:
    """As obstore words it where a folder cannot be made: a general failure, whatever the reason."""
    said = RuntimeError(f"Generic LocalFileSystem error: Unable to create dir /lab: Refused (os error {number})\n\nDebug ...")
    explained = Backend(None, "lab.zarr")._explain(said, "key")
    assert str(explained).startswith("lab.zarr/key: writing is not allowed there\n  -> check the file permissions")


KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtesttest", "AWS_REGION": "us-east-1"}


@contextlib.contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve these answers in turn, the last one for ever; gives the address and the requests so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Sun, 01 Jan 2023 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the environment of an S3 client."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)

    def use(endpoint: str, **keys: str) -> None:
        for name, value in {"AWS_ENDPOINT_URL": endpoint, **keys}.items():
            monkeypatch.setenv(name, value)

    return use


@pytest.mark.parametrize("verb", ["ls", "init"])
def test_a_service_that_is_down_is_told_of_soon_and_plainly(verb: str, s3: Callable[..., None]) -> None:
    with socket.socket() as taken:  # bound but not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        s3(f"http://someone:SECRET@{address}", **KEYS)
        started = time.monotonic()
        error = result(verb, "s3://lab/store", code=8)
    assert time.monotonic() - started < 30
    assert error["what"] == f"the storage service at http://{address} does not answer"
    assert error["where"] == "s3://lab/store"
    assert "AWS_ENDPOINT_URL" in error["fix"]


@pytest.mark.parametrize(
    "asked", ["PUT http://169.254.169.254/latest/api/token", "GET http://metadata.google.internal/computeMetadata/v1/x"]
)
def test_missing_credentials_are_said(asked: str) -> None:
    """As obstore words it: it then asks the cloud's own machines, which are not there."""
    said = RuntimeError(f"Generic S3 error: Error performing {asked} in 4 ms - HTTP error: error sending request\n\nDebug ...")
    explained = Backend(None, "s3://lab/store")._explain(said, "zarr.json")
    assert (explained.what, explained.where) == ("there are no credentials for this storage", "s3://lab/store")
    assert "AWS_ACCESS_KEY_ID" in str(explained.fix)


@pytest.mark.parametrize("verb", ["ls", "info", "verify", "init"])
def test_a_bucket_that_is_missing_is_said(verb: str, s3: Callable[..., None]) -> None:
    body = b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
    with answering((404, body)) as (address, _):
        s3(address, **KEYS)
        error = result(verb, "s3://nobody/store", code=3)
    assert error["what"] == "there is no such bucket"
    assert error["where"] == "s3://nobody/store"
    assert error["fix"]


def test_wrong_credentials_are_said(s3: Callable[..., None]) -> None:
    with answering((403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")) as (address, _):
        s3(address, **KEYS)
        error = result("ls", "s3://lab/store", code=8)
    assert error["what"] == "access was refused"
    assert "credentials" in error["fix"]


def test_a_service_that_is_busy_for_a_moment_is_asked_again(s3: Callable[..., None]) -> None:
    busy = (503, b"<Error><Code>SlowDown</Code></Error>")
    with answering(busy, busy, busy, (200, b"here")) as (address, asked):
        s3(address, **KEYS)
        assert open_backend("s3://lab/store").get("key") == b"here"
    assert len(asked) == 4


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (5 << 19) + 3])
def test_an_object_is_hashed_piece_by_piece(tmp_path: Path, size: int) -> None:
    body = np.random.default_rng(size).bytes(size)
    (tmp_path / "a").write_bytes(body)
    assert open_backend(str(tmp_path)).digest("a") == (size, f"blake3:{blake3(body).hexdigest()}")
    with pytest.raises(NotFound):
        open_backend(str(tmp_path)).digest("b")
