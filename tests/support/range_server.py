"""A plain HTTP server for tests: what a lab's static file server gives, and nothing more.

GET and HEAD of files under one folder, byte ranges (first-last, first-, -suffix), 416 beyond the end, 404 for folders: no
listing. Bound to 127.0.0.1, at most `WORKERS` requests at a time. Requests are counted so that tests can bound them.
"""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

WORKERS = 64
"""Connections served at a time; clients keep theirs open, so this is more than any of them opens."""
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass
class Served:
    """A folder being served."""

    folder: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)
    """``METHOD path status`` of every request, in order of completion."""


class Unsatisfiable(Exception):
    """Nothing of the range can be had: 416."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return (first, stop) of the one range a header asks for.

    ``None`` for anything that is no single byte range, which is to be ignored (RFC 9110, 14.2).
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = int(match[2])
        if length == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - length), size
    first = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return first, min(last + 1, size)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    served: Served

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/") if part]
        path = self.served.folder.joinpath(*parts)
        if any(part in (".", "..") or "/" in part or "\0" in part for part in parts) or not path.is_file():
            self._head(404, {"Content-Length": "0"})
            return
        size = path.stat().st_size
        try:
            span = parse_range(self.headers.get("Range", ""), size)
        except Unsatisfiable:
            self._head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        first, stop = span or (0, size)
        headers = {"Content-Length": str(stop - first), "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if span is not None:
            headers["Content-Range"] = f"bytes {first}-{stop - 1}/{size}"
        self._head(200 if span is None else 206, headers)
        if body:
            with path.open("rb") as file:
                file.seek(first)
                self.wfile.write(file.read(stop - first))

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.served.requests.append(f"{self.command} {self.path} {status}")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


class _PooledServer(HTTPServer):
    request_queue_size = 128

    def __init__(self, handler: type[_Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="range-server")

    def process_request(self, request: Any, client_address: Any) -> None:
        self._pool.submit(self._work, request, client_address)

    def _work(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client went away
        finally:
            self.shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        self._pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def serve(folder: Path) -> Iterator[Served]:
    """Serve a folder until the block ends."""
    served = Served(folder)
    server = _PooledServer(type("Handler", (_Handler,), {"served": served}))
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
