"""Spans of OpenTelemetry around what a store does: which there are, what they tell, and that
there are none where nobody traces."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from feastrs import tracing
from feastrs.errors import FeatureViewNotFoundException
from testbed.demo import NATIVE_VIEWS, make_demo
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied

ROW = {
    "driver_id": [1001],
    "event_timestamp": [datetime(2026, 3, 1, tzinfo=timezone.utc)],
    "age": [40],
}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What was traced, in a process that has a provider for as long as the test takes."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # A provider can be set once in a process; the others would lose theirs.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def store(applied: Applied, either_store: RedisServer | None, tmp_path: Path) -> Any:
    store = applied.open(tmp_path, either_store).ours()
    store.materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
    return store


def _only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_read_is_a_span(
    store: Any, either_store: RedisServer | None, spans: InMemorySpanExporter
) -> None:
    rows = [{"driver_id": 1001}, {"driver_id": 1002}]
    features = ["driver_stats:conv_rate", "driver_stats:acc_rate"]
    with trace.get_tracer("test").start_as_current_span("request") as request:
        store.get_online_features(features, rows)

    read, _ = spans.get_finished_spans()
    assert read.name == "get_online_features"
    assert read.kind is trace.SpanKind.CLIENT
    assert read.instrumentation_scope is not None
    assert read.instrumentation_scope.name == "feastrs"
    assert read.parent is not None
    assert read.parent.span_id == request.get_span_context().span_id
    assert _attributes(read) == {
        "db.system.name": "redis" if either_store else "sqlite",
        "db.operation.name": "get_online_features",
        "feast.project": store.project,
        "feast.feature_count": 2,
        "feast.feature_views": ("driver_stats",),
        "feast.entity_count": 2,
    }


def test_every_way_to_read_is_one_span(store: Any, spans: InMemorySpanExporter) -> None:
    features = ["driver_stats:conv_rate"]
    reader = store.online_reader(features)
    reader.read({"driver_id": [1001]})
    asyncio.run(store.get_online_features_async(features, [{"driver_id": 1001}]))
    asyncio.run(reader.read_async([{"driver_id": 1001}]))
    service = store.get_feature_service("driver_service")
    store.get_online_features(service, [{"driver_id": 1001}])

    *others, by_service = spans.get_finished_spans()
    assert [span.name for span in others] == ["read", "get_online_features_async", "read_async"]
    assert [_attributes(span)["feast.entity_count"] for span in others] == [1, 1, 1]
    assert _attributes(by_service)["feast.feature_service"] == "driver_service"


def test_writes_are_spans(store: Any, spans: InMemorySpanExporter) -> None:
    store.write_to_online_store("pushed_stats", ROW)
    asyncio.run(store.write_to_online_store_async("pushed_stats", ROW))
    store.push("driver_push", ROW)
    asyncio.run(store.push_async("driver_push", ROW))

    writes = spans.get_finished_spans()
    names = ["write_to_online_store", "write_to_online_store_async", "push", "push_async"]
    assert [span.name for span in writes] == names
    for span in map(_attributes, writes):
        assert (span["feast.rows"], span["feast.entities_written"]) == (1, 1)
    assert _attributes(writes[0])["feast.feature_views"] == ("pushed_stats",)
    assert _attributes(writes[3])["feast.push_source"] == "driver_push"


def test_a_materialization_is_one_span(store: Any, spans: InMemorySpanExporter) -> None:
    store.materialize(EARLY, LATE, feature_views=["driver_stats", "world"])

    span = _only(spans)
    told = _attributes(span)
    assert span.name == "materialize"
    assert told["feast.feature_views"] == ("driver_stats", "world")
    assert told["feast.rows_read"] > told["feast.entities_written"] == 21


def test_a_failure_is_told(store: Any, spans: InMemorySpanExporter) -> None:
    with pytest.raises(FeatureViewNotFoundException) as raised:
        store.get_online_features(["nothing:x"], [{"driver_id": 1}])

    span = _only(spans)
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == str(raised.value)
    assert _attributes(span)["error.type"].endswith("FeatureViewNotFoundException")
    (event,) = span.events
    assert event.name == "exception"


def test_a_read_that_is_cancelled_ends_its_span(store: Any, spans: InMemorySpanExporter) -> None:
    async def cancelled() -> None:
        read = asyncio.create_task(
            store.get_online_features_async(["driver_stats:conv_rate"], [{"driver_id": 1001}])
        )
        await asyncio.sleep(0)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read

    asyncio.run(cancelled())

    assert _attributes(_only(spans))["error.type"].endswith("CancelledError")


def test_without_a_provider_there_is_no_span(store: Any) -> None:
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)

    assert tracing.span(store, "push") is None
    assert tracing.read(store, "read", [], []) is None


def test_opentelemetry_is_not_imported_for_it(store: Any) -> None:
    script = (
        "import sys, feastrs\n"
        f"store = feastrs.FeatureStore({str(store.repo_path)!r})\n"
        "store.get_online_features(['driver_stats:conv_rate'], [{'driver_id': 1001}])\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
