"""Feature servers: stock Feast's, asked in this process, and ours, a process of its own."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from testbed.asgi_client import AsgiClient
from testbed.repo import Repo

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    content_type: str | None
    body: bytes


class StockServer:
    """The ASGI application of stock Feast's server: its own code, with no socket before it."""

    def __init__(self, repo: Repo) -> None:
        from feast.feature_server import get_app

        self._store = repo.stock()
        # One loop for all requests: stock Feast's Redis client belongs to that which it met first.
        self._client = AsgiClient(get_app(self._store))

    def ask(
        self, path: str, body: bytes, headers: Mapping[str, str] = JSON, method: str = "POST"
    ) -> Reply:
        """The reply to one request."""
        answer = self._client.ask(method, path, body, headers)
        return Reply(answer.status, answer.headers.get("content-type"), answer.body)

    def close(self) -> None:
        """Closes its connections, and ends the loop."""
        self._client.run(self._store.close())
        self._client.close()


class OurServer:
    """`feastrs serve` in a process of its own, asked over one connection that is kept."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(
        self, path: str, body: bytes, headers: Mapping[str, str] = JSON, method: str = "POST"
    ) -> Reply:
        """The reply to one request."""
        self._connection.request(method, path, body=body, headers=dict(headers))
        response = self._connection.getresponse()
        return Reply(response.status, response.getheader("content-type"), response.read())

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


@contextmanager
def our_server(repo: Repo, *options: str) -> Iterator[OurServer]:
    """Serves `repo` on a free port; afterwards it is told to stop, and has to."""
    command = [sys.executable, "-m", "feastrs", "-c", str(repo.folder), "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--no-access-log", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        server = OurServer(_port(process))
        yield server
        server.close()
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _port(process: subprocess.Popen[str]) -> int:
    """The port that the server says it listens on."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"http://[^\s:]+:(\d+)", line):
            return int(found.group(1))
    raise AssertionError(f"the server ended: {''.join(said)}")
