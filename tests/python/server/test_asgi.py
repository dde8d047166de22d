"""The server as an ASGI app: mounted in others' apps, started and stopped by them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

import feastrs
from feastrs.asgi import App, get_app
from testbed.asgi_client import AsgiClient
from testbed.demo import make_demo
from testbed.repo import EARLY, LATE

QUESTION = {
    "features": ["driver_stats:conv_rate"],
    "entities": {"driver_id": [1001, 1002]},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> feastrs.FeatureStore:
    folder = tmp_path_factory.mktemp("asgi")
    store: feastrs.FeatureStore = make_demo(folder / "demo").open(folder / "repo").ours()
    store.materialize(EARLY, LATE, ["driver_stats"])
    return store


@pytest.fixture
def app(store: feastrs.FeatureStore) -> App:
    return get_app(store)


def _in_fastapi(app: App) -> Any:
    outer = FastAPI()
    outer.mount("/features", app)
    return outer


def _in_starlette(app: App) -> Any:
    return Starlette(routes=[Mount("/features", app)])


def _below_a_root_path(app: App) -> Any:
    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"root_path": "/features"}, receive, send)

    return outer


@pytest.fixture(params=[_in_fastapi, _in_starlette, _below_a_root_path])
def mounted(request: pytest.FixtureRequest, app: App) -> Iterator[AsgiClient]:
    client = AsgiClient(request.param(app))
    yield client
    client.close()


def test_mounted(mounted: AsgiClient, store: feastrs.FeatureStore) -> None:
    answer = mounted.post("/features/get-online-features", QUESTION)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["metadata"]["feature_names"] == ["driver_id", "conv_rate"]
    rows = [{"driver_id": 1001}, {"driver_id": 1002}]
    expected = store.get_online_features(QUESTION["features"], rows).to_dict()
    assert answer.json["results"][1]["values"] == expected["conv_rate"]

    assert mounted.get("/features/health").status == 200
    assert mounted.get("/features/nowhere").json == {"detail": "Not Found"}
    wrong = mounted.get("/features/push")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


def test_a_body_in_pieces_and_one_too_large(app: App) -> None:
    async def ask(*pieces: bytes) -> list[Any]:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/get-online-features",
            "headers": [(b"content-type", b"application/json")],
        }
        left, sent = list(pieces), []

        async def receive() -> Any:
            piece = left.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(left)}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return sent

    start, body = asyncio.run(ask(b'{"features": ["driver_stats:conv_rate"],', b' "entities":{}}'))
    assert (start["status"], body["body"][:1]) == (422, b'"')
    start, _ = asyncio.run(ask(b" " * (16 * 2**20), b" " * (16 * 2**20), b"{}"))
    assert start["status"] == 413


def test_life_and_sockets(app: App) -> None:
    async def live() -> list[str]:
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[str] = []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        await app({"type": "websocket"}, receive, send)
        return sent

    assert asyncio.run(live()) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
        "websocket.close",
    ]


def test_many_at_once(app: App) -> None:
    """Requests in flight share connections, on any number of loops."""

    async def ask_many() -> list[int]:
        import json

        body = json.dumps(QUESTION).encode()
        statuses: list[int] = []

        async def ask() -> None:
            async def receive() -> Any:
                return {"type": "http.request", "body": body}

            async def send(message: Any) -> None:
                if "status" in message:
                    statuses.append(message["status"])

            scope = {
                "type": "http",
                "method": "POST",
                "path": "/get-online-features",
                "headers": [(b"content-type", b"application/json")],
            }
            await app(scope, receive, send)

        await asyncio.gather(*(ask() for _ in range(50)))
        return statuses

    for _ in range(2):
        assert asyncio.run(ask_many()) == [200] * 50


def test_a_path_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        get_app(feastrs.FeatureStore(config=_nothing(tmp_path), repo_path=str(tmp_path)))


def _nothing(folder: Path) -> dict[str, Any]:
    return {
        "project": "demo",
        "provider": "local",
        "registry": str(folder / "nowhere.db"),
        "online_store": {"type": "sqlite", "path": str(folder / "online.db")},
        "entity_key_serialization_version": 3,
    }
