"""The feature server within this process: how it starts and stops, what it says of itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from feastrs.server import Limits, Server
from testbed.http import ask, until
from testbed.process import wait_for
from testbed.redis_server import RedisServer
from testbed.repo import Applied, Repo


@pytest.fixture(scope="module")
def server(repo: Repo) -> Iterator[Server]:
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        yield server


def test_alive_and_ready(server: Server) -> None:
    assert ask(server.url, "/health") == (200, b"")
    assert ask(server.url, "/ready") == (200, b'{"ready":true}')


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/search", b"{}"),
        ("/retrieve-online-documents", b"{}"),
        ("/v1/vector_stores", None),
        ("/v1/vector_stores/x", None),
        ("/v1/vector_stores/x/search", b"{}"),
        ("/chat", None),
        ("/mcp", b"{}"),
    ],
)
def test_what_is_not_offered_is_501(path: str, body: bytes | None, server: Server) -> None:
    status, text = ask(server.url, path, body)
    assert status == 501
    assert "feast" in json.loads(text)


def test_a_trailing_slash_is_redirected(server: Server) -> None:
    assert ask(server.url, "/push/?a=b", b"{}") == (307, b"")


def test_the_api_describes_itself(server: Server) -> None:
    status, text = ask(server.url, "/openapi.json")
    assert status == 200
    assert "/get-online-features" in json.loads(text)["paths"]
    status, page = ask(server.url, "/docs")
    assert status == 200
    assert b"openapi.json" in page
    assert b"//" not in page.replace(b"// ", b""), "the page loads nothing from elsewhere"


def test_a_store_that_is_gone_makes_it_unready(demo: Applied, tmp_path: Path) -> None:
    redis = RedisServer("7.0")
    repo = demo.open(tmp_path, redis)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        assert ask(server.url, "/ready")[0] == 200
        redis.close()
        _, text = until(
            lambda: (answer := ask(server.url, "/ready"))[0] == 503 and answer, "unready"
        )
        assert json.loads(text)["ready"] is False
        assert ask(server.url, "/health") == (200, b"")


def test_an_address_that_is_taken(repo: Repo, server: Server) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    with pytest.raises(OSError, match=str(port)):
        Server(repo.ours(), port=port)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "no such host"}, "no such host"),
        ({"tls_key_path": "k"}, "tls_cert_path"),
        ({"registry_ttl_sec": -1}, "registry_ttl_sec"),
    ],
)
def test_arguments_that_can_not_be_used(options: Any, message: str, repo: Repo) -> None:
    with pytest.raises(ValueError, match=message):
        Server(repo.ours(), **{"port": 0, **options})


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="rows"):
        Limits(rows=0)
    with pytest.raises(ValueError, match="8192"):
        Limits(header_bytes=100)
    assert Limits(drain=0).drain == 0


def test_a_limit_holds(repo: Repo) -> None:
    with Server(repo.ours(), port=0, no_access_log=True, limits=Limits(body_bytes=10)) as server:
        status, text = ask(server.url, "/push", b"x" * 11)
        assert status == 413
        assert "10 bytes" in json.loads(text)


def test_it_stops_when_told(repo: Repo) -> None:
    server = Server(repo.ours(), port=0, no_access_log=True)
    assert server.wait(0) is False
    server.stop()
    assert server.wait(30) is True
    parts = urlsplit(server.url)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((parts.hostname, parts.port))


def test_it_stops_when_nobody_holds_it(repo: Repo) -> None:
    url = Server(repo.ours(), port=0, no_access_log=True).url
    parts = urlsplit(url)

    def is_gone() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((parts.hostname, parts.port)) != 0

    until(is_gone, "the end of a server that nobody holds")


def test_any_thread_may_wait_and_stop(repo: Repo) -> None:
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        waiting = [threading.Thread(target=server.wait) for _ in range(3)]
        for thread in waiting:
            thread.start()
        server.stop()
        for thread in waiting:
            thread.join(30)
            assert not thread.is_alive()


def test_a_forked_child_leaves_it_alone(repo: Repo) -> None:
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        assert ask(server.url, "/health")[0] == 200
        child = os.fork()
        if child == 0:
            server.stop()
            try:
                server.wait(0)
            except ValueError:
                # The child's own server runs.
                with Server(repo.ours(), port=0, no_access_log=True) as own:
                    os._exit(0 if ask(own.url, "/health")[0] == 200 else 2)
            os._exit(1)
        assert wait_for(child) == 0
        assert ask(server.url, "/health")[0] == 200


def test_a_child_does_not_keep_a_stopped_server_listening(repo: Repo) -> None:
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        parts = urlsplit(server.url)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
    try:
        with socket.socket() as probe:
            assert probe.connect_ex((parts.hostname, parts.port)) != 0
    finally:
        os.close(writer)
        assert wait_for(child) == 0


def test_a_process_that_ends_does_not_wait_for_it(repo: Repo) -> None:
    script = """if True:
        import sys
        from feastrs import FeatureStore
        from feastrs.server import Server
        kept = Server(FeatureStore(sys.argv[1]), port=0)
    """
    done = subprocess.run([sys.executable, "-c", script, str(repo.folder)], timeout=60, check=False)
    assert done.returncode == 0


def test_a_registry_is_refreshed_in_the_background(demo: Applied, tmp_path: Path) -> None:
    repo = demo.open(tmp_path)
    good = repo.registry_path.read_bytes()
    with Server(repo.ours(), port=0, no_access_log=True, registry_ttl_sec=0.05) as server:
        repo.registry_path.write_bytes(b"not a registry")

        def health() -> bytes:
            status, body = ask(server.url, "/health")
            assert status == 200
            return body

        text = until(health, "a failing refresh in /health")
        registry = json.loads(text)["registry"]
        assert "registry.db" in registry["error"]
        assert registry["refresh_failures"] >= 1

        repo.registry_path.write_bytes(good)
        until(lambda: not health(), "a good refresh")
