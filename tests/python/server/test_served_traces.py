"""Spans of the server, as a collector that takes OTLP over HTTP gets them."""

from __future__ import annotations

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
from testbed.demo import NATIVE_VIEWS, make_demo
from testbed.http import ask, until
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FEATURES = json.dumps(
    {
        "features": ["driver_stats:trips", "driver_stats:conv_rate"],
        "entities": {"driver_id": [1001, 1002, 1003]},
    }
).encode()


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


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def repo(demo: Applied, redis7: RedisServer, tmp_path: Path) -> Repo:
    repo = demo.open(tmp_path, redis7)
    repo.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
    return repo


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
    caller = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        assert ask(server.url, "/get-online-features", FEATURES, **caller)[0] == 200
        read, request = until(lambda: collector.spans(), "the spans")
        port = int(server.url.rsplit(":", 1)[1])

    assert {span.trace_id.hex() for span in (read, request)} == {TRACE}
    assert {span.trace_state for span in (read, request)} == {"vendor=1"}
    assert request.parent_span_id.hex() == PARENT
    assert request.name == "POST /get-online-features"
    assert request.kind == Span.SPAN_KIND_SERVER
    told = _attributes(request)
    assert told == {
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

    assert read.parent_span_id == request.span_id
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
        request.start_time_unix_nano,
        read.start_time_unix_nano,
        read.end_time_unix_nano,
        request.end_time_unix_nano,
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


def test_a_trace_that_its_caller_does_not_record_is_not_recorded(
    repo: Repo, collector: Collector
) -> None:
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        ask(server.url, "/health", traceparent=f"00-{TRACE}-{PARENT}-00")
        ask(server.url, "/health", traceparent=f"00-{TRACE}-{PARENT}-01")

    # What has gathered is sent before the server ends.
    (span,) = collector.spans()
    assert span.parent_span_id.hex() == PARENT


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
