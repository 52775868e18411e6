"""The test server itself keeps to RFC 9110, or what it proves is worth nothing."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from range_server import Served, serve

CONTENT = bytes(range(200))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(CONTENT)
    (tmp_path / "empty").write_bytes(b"")
    with serve(tmp_path) as server:
        yield server


def ask(served: Served, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-9", 206, CONTENT[:10], "bytes 0-9/200"),
        ("bytes=190-", 206, CONTENT[190:], "bytes 190-199/200"),
        ("bytes=190-999", 206, CONTENT[190:], "bytes 190-199/200"),
        ("bytes=-4", 206, CONTENT[-4:], "bytes 196-199/200"),
        ("bytes=-999", 206, CONTENT, "bytes 0-199/200"),
        ("bytes=0-199", 206, CONTENT, "bytes 0-199/200"),
        ("bytes=200-", 416, b"", "bytes */200"),
        ("bytes=-0", 416, b"", "bytes */200"),
        ("bytes=9-3", 200, CONTENT, None),
        ("bytes=0-1,4-5", 200, CONTENT, None),
        ("lines=1-2", 200, CONTENT, None),
    ],
)
def test_ranges(served: Served, wanted: str, status: int, body: bytes, content_range: str | None) -> None:
    got, content, headers = ask(served, "/folder/file", Range=wanted)
    assert (got, content, headers.get("Content-Range")) == (status, body, content_range)


def test_head_tells_the_size_and_sends_nothing(served: Served) -> None:
    status, body, headers = ask(served, "/folder/file", "HEAD")
    assert (status, body, headers["Content-Length"], headers["Accept-Ranges"]) == (200, b"", "200", "bytes")


@pytest.mark.parametrize("path", ["/", "/folder", "/folder/", "/absent", "/folder/../empty", "/%2e%2e/empty", "/folder%2Ffile"])
def test_nothing_but_files_is_shown(served: Served, path: str) -> None:
    assert ask(served, path)[:2] == (404, b"")


def test_an_empty_file(served: Served) -> None:
    assert ask(served, "/empty")[:2] == (200, b"")
    assert ask(served, "/empty", Range="bytes=-1")[0] == 416


def test_requests_are_counted(served: Served) -> None:
    ask(served, "/folder/file")
    ask(served, "/absent", "HEAD")
    assert served.requests == ["GET /folder/file 200", "HEAD /absent 404"]
