"""The audit log: the events of our server beside those of stock Feast's, for the same requests, and
those of calls of gRPC, which stock Feast does not tell of, beside those of requests."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from feast.feature_server import get_app
from feast.protos.feast.serving.GrpcServer_pb2 import PushRequest, WriteToOnlineStoreRequest
from feast.protos.feast.types.Value_pb2 import Value
from grpc_health.v1 import health_pb2, health_pb2_grpc

from feastrs.server import Server
from testbed.asgi_client import AsgiClient
from testbed.demo import NATIVE_VIEWS
from testbed.grpc_server import PATIENCE, Client, code_of, integers, request
from testbed.http import ask, in_flight, until
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo

READ = {"features": ["driver_stats:trips"], "entities": {"driver_id": [1001]}}
PUSH = {
    "push_source_name": "driver_push",
    "df": {"driver_id": [1001], "event_timestamp": ["2026-02-01T00:00:00"], "age": [40]},
}
REQUESTS: list[tuple[str, Any]] = [
    ("/get-online-features", READ),
    ("/get-online-features", {"features": ["nothing:x"], "entities": {"driver_id": [1]}}),
    ("/push", PUSH),
    ("/push", PUSH | {"push_source_name": "nobody"}),
    ("/write-to-online-store", {}),
    ("/nothing", {}),
]
PLAIN = ["/health", "/docs", "/openapi.json"]


def audited(demo: Applied, folder: Path, redis: RedisServer | None = None, **settings: Any) -> Repo:
    audit = {"enabled": True, "sink": "file", "file_path": str(folder / "audit.log"), **settings}
    server = {"type": "local", "audit_logging": audit}
    repo = demo.open(folder, redis, settings={"feature_server": server})
    repo.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
    return repo


def events(folder: Path, count: int) -> list[dict[str, Any]]:
    """What is in the log once so many events are."""
    log = folder / "audit.log"

    def lines() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    until(lambda: len(lines()) >= count, f"{count} events")
    return [json.loads(line) for line in lines()]


def settled(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what differs each time."""
    assert datetime.fromisoformat(event.pop("timestamp").replace("Z", "+00:00"))
    assert event.pop("duration_ms") >= 0
    request_id = event.pop("request_id")
    assert request_id == "r-1" or re.fullmatch(
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", request_id
    )
    event["source"].pop("ip")
    return event


def test_events_are_those_of_feast(demo: Applied, tmp_path: Path) -> None:
    ours, stocks = tmp_path / "ours", tmp_path / "stock"
    with Server(audited(demo, ours).ours(), port=0, no_access_log=True) as server:
        for path, body in REQUESTS:
            ask(server.url, path, json.dumps(body).encode())
        for path in PLAIN:
            ask(server.url, path)
    app = get_app(audited(demo, stocks).stock())
    client, lifespan = AsgiClient(app), app.router.lifespan_context(app)
    # It opens the log, and closes it.
    client.run(lifespan.__aenter__())
    for path, body in REQUESTS:
        client.post(path, body)
    for path in PLAIN:
        client.get(path)
    client.run(lifespan.__aexit__(None, None, None))
    client.close()

    found = [settled(event) for event in events(ours, len(REQUESTS))]
    expected = [settled(event) for event in events(stocks, len(REQUESTS))]
    assert len(found) == len(expected) == len(REQUESTS)
    told = []
    for event, stock in zip(found, expected, strict=True):
        told.append((event["outcome"], event["detail"]))
        if stock["outcome"] == "error":
            # Feast's log does not know what is answered when a handler has raised.
            assert stock.pop("detail").endswith(" -> 500")
            assert (stock.pop("outcome"), event.pop("outcome")) == ("error", "failure")
            del event["detail"]
        assert event == stock
    assert told == [
        ("success", "POST /get-online-features -> 200"),
        ("failure", "POST /get-online-features -> 404"),
        ("success", "POST /push -> 200"),
        ("failure", "POST /push -> 422"),
        ("failure", "POST /write-to-online-store -> 422"),
        ("failure", "POST /nothing -> 404"),
    ]


def test_who_asks_is_told(demo: Applied, tmp_path: Path) -> None:
    with Server(audited(demo, tmp_path).ours(), port=0, no_access_log=True) as server:
        headers = {"X-Request-Id": "r-1", "X-Forwarded-For": "10.0.0.7, 10.0.0.1"}
        ask(server.url, "/get-online-features", json.dumps(READ).encode(), **headers)
        ask(server.url, "/get-online-features", json.dumps(READ).encode())

    told, plain = events(tmp_path, 2)
    assert (told["request_id"], told["source"]["ip"]) == ("r-1", "10.0.0.7")
    assert plain["source"] == {"ip": "127.0.0.1", "transport": "http"}
    assert plain["principal"] == {"username": "", "roles": [], "auth_type": ""}


def test_reads_that_succeed_may_be_left_out(demo: Applied, tmp_path: Path) -> None:
    repo = audited(demo, tmp_path, log_successful_reads=False)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        for path, body in REQUESTS:
            ask(server.url, path, json.dumps(body).encode())

    details = [event["detail"] for event in events(tmp_path, len(REQUESTS) - 1)]
    assert len(details) == len(REQUESTS) - 1
    assert "POST /get-online-features -> 200" not in details


@pytest.mark.parametrize("sink", ["logger", "stdout"])
def test_events_go_elsewhere(
    sink: str,
    demo: Applied,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, "feast.audit")
    repo = audited(demo, tmp_path, sink=sink)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        ask(server.url, "/get-online-features", json.dumps(READ).encode())

    said: dict[str, Callable[[], list[str]]] = {
        "logger": lambda: [one.getMessage() for one in caplog.records if one.name == "feast.audit"],
        "stdout": lambda: capfd.readouterr().out.splitlines(),
    }
    (event,) = (json.loads(line) for line in said[sink]() if "http.request" in line)
    assert event["detail"] == "POST /get-online-features -> 200"


def test_a_file_that_cannot_be_written_is_told(demo: Applied, tmp_path: Path) -> None:
    repo = audited(demo, tmp_path, file_path="/nowhere/audit.log")
    with pytest.raises(OSError, match=r"/nowhere/audit\.log"):
        Server(repo.ours(), port=0)


PYTHON, SERVING = "/GrpcFeatureServer", "/feast.serving.ServingService"
ROW = {
    "driver_id": Value(int64_val=1001),
    "age": Value(int32_val=40),
    "event_timestamp": Value(unix_timestamp_val=1_770_000_000),
}
# What is asked for as in `REQUESTS`, in the same order.
CALLS: list[tuple[str, Any]] = [
    (f"{SERVING}/GetOnlineFeatures", request({"driver_id": integers(1001)}, READ["features"])),
    (f"{PYTHON}/GetOnlineFeatures", request({"driver_id": integers(1)}, ["nothing:x"])),
    (
        f"{PYTHON}/Push",
        PushRequest(stream_feature_view="driver_push", to="online", typed_features=ROW),
    ),
    (f"{PYTHON}/Push", PushRequest(stream_feature_view="nobody", to="online", typed_features=ROW)),
    (f"{PYTHON}/WriteToOnlineStore", WriteToOnlineStoreRequest(features={"a": "1"})),
    ("/nothing/Nothing", PushRequest()),
]


def test_calls_are_told_as_requests_are(demo: Applied, tmp_path: Path) -> None:
    with (
        Server(audited(demo, tmp_path).ours(), port=0, grpc_port=0, no_access_log=True) as server,
        Client(server.grpc_address) as client,
    ):
        for path, body in REQUESTS:
            ask(server.url, path, json.dumps(body).encode())
        for path, asked in CALLS:
            code_of(client.channel.unary_unary(path), asked.SerializeToString())
        health = health_pb2_grpc.HealthStub(client.channel)
        health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)

    told = [settled(event) for event in events(tmp_path, len(REQUESTS) + len(CALLS))]
    requests = [event for event in told if event["event_type"] == "http.request"]
    calls = [event for event in told if event["event_type"] == "grpc.request"]
    for call, same in zip(calls, requests, strict=True):
        for name in ("principal", "resource", "outcome"):
            assert call[name] == same[name]
    assert [event["source"] for event in calls] == [{"transport": "grpc"}] * len(CALLS)
    assert [event["action"]["path"] for event in calls] == [path for path, _ in CALLS]
    assert [event["detail"] for event in calls] == [
        "/feast.serving.ServingService/GetOnlineFeatures -> OK",
        "/GrpcFeatureServer/GetOnlineFeatures -> NOT_FOUND",
        "/GrpcFeatureServer/Push -> OK",
        "/GrpcFeatureServer/Push -> INVALID_ARGUMENT",
        "/GrpcFeatureServer/WriteToOnlineStore -> NOT_FOUND",
        "/nothing/Nothing -> UNIMPLEMENTED",
    ]


def test_who_calls_is_told(demo: Applied, tmp_path: Path) -> None:
    repo = audited(demo, tmp_path, log_successful_reads=False)
    metadata = [("x-request-id", "r-1"), ("x-forwarded-for", "10.0.0.7, 10.0.0.1")]
    (good, read), (bad, mistake) = CALLS[:2]
    with (
        Server(repo.ours(), port=None, grpc_port=0, no_access_log=True) as server,
        Client(server.grpc_address) as client,
    ):
        client.call(good, read.SerializeToString())
        for options in ({"metadata": metadata}, {}):
            code_of(client.channel.unary_unary(bad), mistake.SerializeToString(), **options)

    told, plain = events(tmp_path, 2)
    assert (told["request_id"], told["source"]["ip"]) == ("r-1", "10.0.0.7")
    assert plain["source"] == {"ip": "127.0.0.1", "transport": "grpc"}
    assert plain["principal"] == {"username": "", "roles": [], "auth_type": ""}


def test_a_call_that_its_client_cancels_is_told(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    repo = audited(demo, tmp_path, redis7)
    with (
        Server(repo.ours(), port=0, grpc_port=0, no_access_log=True) as server,
        Client(server.grpc_address) as client,
    ):
        redis7.stall()
        try:
            waiting = client.serving.GetOnlineFeatures.future(CALLS[0][1], timeout=PATIENCE)
            until(lambda: in_flight(server.url) == 1, "the call")
            waiting.cancel()
            until(lambda: in_flight(server.url) == 0, "its end")
        finally:
            redis7.resume()

    (event,) = [one for one in events(tmp_path, 1) if one["event_type"] == "grpc.request"]
    assert event["outcome"] == "error"
    assert event["detail"] == "/feast.serving.ServingService/GetOnlineFeatures -> CANCELLED"
