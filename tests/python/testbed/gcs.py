"""The answers of Google Cloud Storage's XML API to who reads a registry; there is no server of
Google's to be had for tests.
"""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class GcsServer:
    """Objects in memory, by path; `requests` is what was asked: method, path and status."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.requests: list[tuple[str, str, int]] = []
        handler = type("Handler", (_Handler,), {"bucket": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """What `STORAGE_EMULATOR_HOST` is set to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    bucket: Any

    def do_GET(self) -> None:
        body, generation = self.bucket.objects.get(self._name(), (b"", 0))
        if not generation:
            self._reply(404, b"<Code>NoSuchKey</Code>")
        elif self.headers.get("If-None-Match") == _etag(body):
            self._reply(304, b"", body, generation)
        else:
            self._reply(200, body, body, generation)

    def _name(self) -> str:
        return unquote(urlsplit(self.path).path)

    def _reply(
        self, status: int, body: bytes, stored: bytes | None = None, generation: int = 0
    ) -> None:
        self.bucket.requests.append((self.command, self.path, status))
        self.send_response(status)
        if stored is not None:
            self.send_header("ETag", _etag(stored))
            self.send_header("x-goog-generation", str(generation))
            self.send_header("Last-Modified", "Fri, 01 Mar 2024 12:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'
