"""The answers of Google Cloud Storage's XML API to who reads and writes a registry, or reads a
source; there is no server of Google's to be had for tests.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class GcsServer:
    """Objects in memory, by path: bytes and generation. `requests` is what was asked: method, path
    and status. `before_write` is called before an object is written; a status that it returns
    is the answer, and nothing is written.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.before_write: Callable[[], int | None] = lambda: None
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"bucket": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """What `STORAGE_EMULATOR_HOST` is set to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def count(self, method: str, status: int) -> int:
        """How many requests of that method were answered so."""
        return sum((method, status) == (m, s) for m, _, s in self.requests)

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    bucket: Any
    _content_range = ""

    def do_GET(self) -> None:
        if "list-type=2" in self.path:
            self._reply(200, self._listing())
            return
        body, generation = self.bucket.objects.get(self._name(), (b"", 0))
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not generation:
            self._reply(404, b"<Code>NoSuchKey</Code>")
        elif self.headers.get("If-None-Match") == _etag(body):
            self._reply(304, b"", body, generation)
        elif part:
            first, last = int(part[1]), int(part[2])
            self._content_range = f"bytes {first}-{last}/{len(body)}"
            self._reply(206, body[first : last + 1], body, generation)
        else:
            self._reply(200, body, body, generation)

    def do_HEAD(self) -> None:
        body, generation = self.bucket.objects.get(self._name(), (b"", 0))
        if generation:
            self._reply(200, body, body, generation)
        else:
            self._reply(404, b"")

    def _listing(self) -> bytes:
        prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        bucket = self._name().rstrip("/") + "/"
        found = ""
        for name, (body, _) in sorted(self.bucket.objects.items()):
            if name.startswith(bucket + prefix):
                found += (
                    f"<Contents><Key>{escape(name.removeprefix(bucket))}</Key>"
                    f"<LastModified>2024-03-01T12:00:00Z</LastModified>"
                    f"<ETag>{escape(_etag(body))}</ETag><Size>{len(body)}</Size></Contents>"
                )
        return f"<ListBucketResult>{found}</ListBucketResult>".encode()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        refused = self.bucket.before_write()
        if "Authorization" not in self.headers or refused:
            self._reply(refused or 401, b"<Code>Refused</Code>")
            return
        wanted = self.headers.get("x-goog-if-generation-match")
        with self.bucket.lock:
            _, generation = self.bucket.objects.get(self._name(), (b"", 0))
            is_met = wanted in (None, str(generation))
            if is_met:
                self.bucket.objects[self._name()] = body, generation + 1
        if is_met:
            self._reply(200, b"", body, generation + 1)
        else:
            self._reply(412, b"<Code>PreconditionFailed</Code>")

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
        if self._content_range:
            self.send_header("Content-Range", self._content_range)
            self._content_range = ""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'
