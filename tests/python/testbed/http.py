"""A plain HTTP client, and waiting for what a server will say."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 30.0


def ask(url: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own: POST where there is a body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    try:
        method = "GET" if body is None else "POST"
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def in_flight(url: str) -> float:
    """How many requests a server says that it works on, on all its ports."""
    (count,) = re.findall(rb"^feastrs_requests_in_flight (\S+)$", ask(url, "/metrics")[1], re.M)
    return float(count)


def until(condition: Callable[[], Any], what: str) -> Any:
    """Asks until `condition` holds; gives what it gave."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if held := condition():
            return held
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)
