"""Spans of the server, over HTTP and gRPC, as a collector that takes OTLP over HTTP gets them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from feastrs.server import Limits, Server
from testbed.demo import NATIVE_VIEWS
from testbed.grpc_server import PATIENCE, Client, code_of, integers, request
from testbed.http import ask, in_flight, until
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
NAMES, DRIVERS = ["driver_stats:trips", "driver_stats:conv_rate"], [1001, 1002, 1003]
FEATURES = json.dumps({"features": NAMES, "entities": {"driver_id": DRIVERS}}).encode()
READ = request({"driver_id": integers(*DRIVERS)}, NAMES)


class Collector:
    """Takes what is exported to it."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                message = ExportTraceServiceRequest.FromString(body)
                collector.requests.append((self.path, headers, message))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self) -> list[Span]:
        """All that has come, in order."""
        resources = [each for _, _, message in self.requests for each in message.resource_spans]
        return [span for each in resources for scope in each.scope_spans for span in scope.spans]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector to which the environment sends the spans."""
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ranking")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    yield collector
    collector.close()


@pytest.fixture
def repo(demo: Applied, redis7: RedisServer, tmp_path: Path) -> Repo:
    repo = demo.open(tmp_path, redis7)
    repo.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
    return repo


@contextlib.contextmanager
def calling(repo: Repo, **options: Any) -> Iterator[tuple[Server, Client]]:
    """A server of both protocols, and a client of its gRPC."""
    with (
        Server(repo.ours(), port=0, grpc_port=0, no_access_log=True, **options) as server,
        Client(server.grpc_address) as client,
    ):
        yield server, client


def _attributes(span: Span) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for attribute in span.attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        told[attribute.key] = (
            [one.string_value for one in value.values] if kind == "array_value" else value
        )
    return told


def test_a_request_is_a_span_in_the_trace_of_its_caller(repo: Repo, collector: Collector) -> None:
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        assert ask(server.url, "/get-online-features", FEATURES, **CALLER)[0] == 200
        read, span = until(lambda: collector.spans(), "the spans")
        port = int(server.url.rsplit(":", 1)[1])

    in_the_trace(read, span)
    assert span.name == "POST /get-online-features"
    assert _attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/get-online-features",
        "http.response.status_code": 200,
        "url.path": "/get-online-features",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "server.port": port,
        "network.protocol.version": "1.1",
    }


def test_a_call_is_a_span_in_the_trace_of_its_caller(repo: Repo, collector: Collector) -> None:
    with calling(repo) as (server, client):
        client.serving.GetOnlineFeatures(READ, metadata=CALLER.items(), timeout=PATIENCE)
        read, span = until(lambda: collector.spans(), "the spans")
        port = int(server.grpc_address.rsplit(":", 1)[1])

    in_the_trace(read, span)
    assert span.name == "feast.serving.ServingService/GetOnlineFeatures"
    told = _attributes(span)
    assert told.pop("user_agent.original").startswith("grpc-python/")
    assert told == {
        "rpc.system": "grpc",
        "rpc.service": "feast.serving.ServingService",
        "rpc.method": "GetOnlineFeatures",
        "rpc.grpc.status_code": 0,
        "client.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "server.port": port,
    }


def in_the_trace(read: Span, asked: Span) -> None:
    """These are the spans of a request with the headers of `CALLER`, and of its read."""
    assert {span.trace_id.hex() for span in (read, asked)} == {TRACE}
    assert {span.trace_state for span in (read, asked)} == {"vendor=1"}
    assert asked.parent_span_id.hex() == PARENT
    assert asked.kind == Span.SPAN_KIND_SERVER
    assert read.parent_span_id == asked.span_id
    assert read.kind == Span.SPAN_KIND_CLIENT
    assert _attributes(read) == {
        "db.system.name": "redis",
        "db.operation.name": "get_online_features",
        "feast.project": "demo",
        "feast.feature_views": ["driver_stats"],
        "feast.feature_count": 2,
        "feast.entity_count": 3,
    }
    times = [
        asked.start_time_unix_nano,
        read.start_time_unix_nano,
        read.end_time_unix_nano,
        asked.end_time_unix_nano,
    ]
    assert times == sorted(times)


def test_spans_go_where_the_environment_says(repo: Repo, collector: Collector) -> None:
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        assert ask(server.url, "/health")[0] == 200
        until(lambda: collector.spans(), "the span")

    path, headers, message = collector.requests[0]
    assert path == "/v1/traces"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["api-key"] == "secret"
    (each,) = message.resource_spans
    resource = {one.key: one.value.string_value for one in each.resource.attributes}
    assert (resource["service.name"], resource["telemetry.sdk.name"]) == ("ranking", "feastrs")
    (span,) = each.scope_spans[0].spans
    assert (span.name, span.parent_span_id) == ("GET /health", b"")


def test_a_failure_is_told(
    repo: Repo, redis7: RedisServer, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(request_timeout=0.3)
    with Server(repo.ours(), port=0, no_access_log=True, limits=limits) as server:
        assert ask(server.url, "/get-online-features", FEATURES)[0] == 200
        redis7.stall()
        try:
            status, _ = ask(server.url, "/get-online-features", FEATURES)
        finally:
            redis7.resume()
        failed = until(
            lambda: [span for span in collector.spans() if span.HasField("status")], "the span"
        )

    assert status == 504
    assert failed[0].status.code == Status.STATUS_CODE_ERROR
    told = _attributes(failed[0])
    assert (told["http.response.status_code"], told["error.type"]) == (504, "504")


def test_a_failed_call_is_told(repo: Repo, redis7: RedisServer, collector: Collector) -> None:
    with calling(repo, limits=Limits(request_timeout=0.3)) as (_, client):
        redis7.stall()
        try:
            code, _ = code_of(client.python.GetOnlineFeatures, READ)
        finally:
            redis7.resume()
        mistake = request({"driver_id": integers(1)}, ["nothing:x"])
        code_of(client.python.GetOnlineFeatures, mistake)
        code_of(client.channel.unary_unary("/nothing/Nothing"), b"")

    assert code.name == "DEADLINE_EXCEEDED"
    told = [(span.name, _attributes(span), span.status.code) for span in collector.spans()]
    assert [
        (name, span["rpc.grpc.status_code"], span.get("error.type"), status)
        for name, span, status in told
    ] == [
        ("GrpcFeatureServer/GetOnlineFeatures", 4, "DEADLINE_EXCEEDED", Status.STATUS_CODE_ERROR),
        ("GrpcFeatureServer/GetOnlineFeatures", 5, None, Status.STATUS_CODE_UNSET),
        ("grpc", 12, "UNIMPLEMENTED", Status.STATUS_CODE_ERROR),
    ]


def test_a_call_that_its_client_cancels_is_told(
    repo: Repo, redis7: RedisServer, collector: Collector
) -> None:
    with calling(repo) as (server, client):
        redis7.stall()
        try:
            waiting = client.serving.GetOnlineFeatures.future(READ, timeout=PATIENCE)
            until(lambda: in_flight(server.url) == 1, "the call")
            waiting.cancel()
            until(lambda: in_flight(server.url) == 0, "its end")
        finally:
            redis7.resume()

    (told,) = [_attributes(span) for span in collector.spans() if span.name.startswith("feast.")]
    assert told["error.type"] == "client_gone"
    assert "rpc.grpc.status_code" not in told


def test_a_trace_that_its_caller_does_not_record_is_not_recorded(
    repo: Repo, collector: Collector
) -> None:
    with calling(repo) as (server, client):
        for flags in ("00", "01"):
            parent = f"00-{TRACE}-{PARENT}-{flags}"
            ask(server.url, "/health", traceparent=parent)
            nothing = client.channel.unary_unary("/nothing/Nothing")
            code_of(nothing, b"", metadata=[("traceparent", parent)])

    # What has gathered is sent before the server ends.
    assert sorted(span.name for span in collector.spans()) == ["GET /health", "grpc"]
    assert {span.parent_span_id.hex() for span in collector.spans()} == {PARENT}


def test_what_makes_no_sense_is_no_reason_not_to_serve(
    repo: Repo,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        assert ask(server.url, "/health")[0] == 200

    assert "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'" in caplog.text
    assert not collector.requests


def test_a_collector_that_is_not_there_keeps_nobody_waiting(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hidden@127.0.0.1:9")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        for _ in range(5):
            assert ask(server.url, "/get-online-features", FEATURES)[0] == 200

    assert "are not taken by the collector" in caplog.text
    assert "hidden" not in caplog.text
