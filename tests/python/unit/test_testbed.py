"""What the tests themselves stand on."""

from __future__ import annotations

import pytest

from testbed import redis_server
from testbed.redis_server import PortTakenError, RedisServer, free_port


def test_a_server_leaves_a_port_that_is_taken(
    redis7: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for a free port and the start of the server somebody may take it."""
    free = free_port()
    ports = iter([redis7.port, free])
    monkeypatch.setattr(redis_server, "free_port", lambda **_: next(ports))
    server = RedisServer("7.0")
    try:
        assert (server.port, server.client().ping()) == (free, True)
    finally:
        server.close()
    with pytest.raises(PortTakenError):
        RedisServer("7.0", port=redis7.port)
