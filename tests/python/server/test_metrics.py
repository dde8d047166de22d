"""Metrics: Feast's families by name, labels, buckets and meaning, compared with what stock Feast's
server counts of the same requests; ours beside them; the port; the library."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureView, Field, PushSource, ValueType
from feast.feature_server import get_app as feasts_app
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Int64
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

import feastrs
from feastrs import metrics
from feastrs.server import Server
from testbed import demo
from testbed.asgi_client import AsgiClient
from testbed.http import ask
from testbed.process import wait_for
from testbed.repo import EARLY, LATE, Applied, Repo, apply, file_source

READ = "/get-online-features"
AT = datetime(2026, 1, 2, tzinfo=timezone.utc)
WIDE = [f"w{number}" for number in range(12)]
DF = {"driver_id": [1], "event_timestamp": ["2026-02-01T00:00:00"], "trips": [5], "fares": [1]}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def definitions(folder: Path) -> list[Any]:
    rows = pd.DataFrame({"driver_id": [1, 2], "trips": [7, 8], "fares": [9, None]})
    rows["event_timestamp"] = AT
    rows.to_parquet(folder / "stats.parquet")
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    source = file_source(folder / "stats.parquet")

    def view(name: str, *features: str, **options: Any) -> FeatureView:
        schema = [Field(name=name, dtype=Int64) for name in ("driver_id", *features)]
        common = {"name": name, "entities": [driver], "ttl": timedelta(0), "schema": schema}
        return FeatureView(**(common | {"source": source} | options))

    push = PushSource(name="pushed", batch_source=source)
    stats = view("stats", "trips", "fares", source=push)
    wide = view("wide", *WIDE)
    service = FeatureService(name="svc", features=[stats[["trips"]], wide])
    return [driver, push, stats, wide, service]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    folder = tmp_path_factory.mktemp("applied")
    return apply(folder, definitions(folder))


@pytest.fixture(scope="module")
def repo(applied: Applied, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    repo = applied.open(tmp_path_factory.mktemp("repo"))
    repo.stock()
    repo.ours().materialize(EARLY, LATE, feature_views=["stats"])
    return repo


@pytest.fixture(scope="module")
def server(repo: Repo) -> Iterator[Server]:
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        yield server


def scraped(server: Server) -> str:
    status, body = ask(server.url, "/metrics")
    assert status == 200
    return body.decode()


def samples(text: str) -> Samples:
    families = list(text_string_to_metric_families(text))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def since(before: Samples, after: Samples) -> Samples:
    """What was counted between two scrapes."""
    counted = {name: value - before.get(name, 0.0) for name, value in after.items()}
    return {name: value for name, value in counted.items() if value}


def features(*names: str) -> dict[str, Any]:
    return {"entities": {"driver_id": [1, 2, 3]}, "features": list(names)}


REQUESTS: list[tuple[str, Any]] = [
    (READ, features("stats:trips", "stats:fares")),
    (READ, features("stats:trips")),
    (READ, features("stats:trips", *(f"wide:{name}" for name in WIDE))),
    (READ, {"entities": {"driver_id": [1]}, "feature_service": "svc"}),
    (READ, {"entities": {"driver_id": [1] * 300}, "features": ["stats:trips"]}),
    # Errors of the handler, which are counted.
    (READ, features("nope:x")),
    (READ, features("stats:nope")),
    (READ, features()),
    (READ, features("trips")),
    (READ, {"entities": {"driver_id": [1]}, "feature_service": "nope"}),
    (READ, {"entities": {}, "features": ["stats:trips"]}),
    # Requests that no handler sees, which are not.
    (READ, {"entities": 5}),
    (READ, {}),
    ("/push", {"push_source_name": "pushed", "df": DF}),
    ("/push", {"push_source_name": "pushed", "df": DF}),
    ("/push", {"push_source_name": "nope", "df": DF}),
    ("/push", {"push_source_name": "pushed", "df": DF, "to": "nowhere"}),
    ("/push", {}),
    ("/write-to-online-store", {"feature_view_name": "stats", "df": DF}),
    ("/materialize", {"start_ts": "x", "end_ts": "y", "feature_views": ["stats"]}),
    ("/materialize", {"feature_views": 7}),
    ("/materialize-incremental", {"end_ts": "x", "feature_views": ["stats"]}),
]


@pytest.fixture
def stock_metrics(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = importlib.import_module("feast.metrics")
    monkeypatch.setattr(module, "_config", module.build_metrics_flags())
    return module


def stock_text(module: Any) -> str:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=os.environ["PROMETHEUS_MULTIPROC_DIR"])
    return generate_latest(registry).decode()


# What both count alike. Durations differ, and statuses of a store that stock Feast misreads.
COMPARED = (
    "feast_feature_server_request_total",
    "feast_feature_server_request_latency_seconds_count",
    "feast_online_features_request_total",
    "feast_online_features_entity_count_bucket",
    "feast_online_features_entity_count_sum",
    "feast_push_request_total",
    "feast_feature_server_online_store_read_duration_seconds_count",
)


def test_requests_are_counted_as_feast_counts_them(
    server: Server, repo: Repo, stock_metrics: Any
) -> None:
    stock = AsgiClient(feasts_app(repo.stock()))
    before = samples(scraped(server)), samples(stock_text(stock_metrics))
    for path, body in REQUESTS:
        data = json.dumps(body).encode()
        ask(server.url, path, data)
        stock.post(path, data)
    after = samples(scraped(server)), samples(stock_text(stock_metrics))
    stock.close()

    ours, theirs = (
        {name: value for name, value in since(*pair).items() if name[0] in COMPARED}
        for pair in zip(before, after, strict=True)
    )
    assert ours == theirs
    assert {name for name, _ in ours} == set(COMPARED)


def test_statuses_are_those_of_the_answer(server: Server) -> None:
    body = features("stats:trips", "stats:fares", "wide:w0")
    before = samples(scraped(server))
    _, text = ask(server.url, READ, json.dumps(body).encode())
    counted = since(before, samples(scraped(server)))

    answer = json.loads(text)
    statuses = dict(
        zip(
            answer["metadata"]["feature_names"],
            (result["statuses"] for result in answer["results"]),
            strict=True,
        )
    )
    of_stats = statuses["trips"] + statuses["fares"]
    name = "feast_online_features_status_total"

    def total(view: str, status: str) -> float:
        labels = frozenset({"feature_view": view, "status": status}.items())
        return counted.get((name, labels), 0.0)

    assert total("stats", "present") == of_stats.count("PRESENT") > 0
    assert total("stats", "not_found") == of_stats.count("NOT_FOUND") > 0
    assert total("wide", "present") == 0
    assert total("wide", "not_found") == 3


def test_families_are_feasts(server: Server, stock_metrics: Any) -> None:
    ask(server.url, READ, json.dumps(features("stats:trips")).encode())
    text = scraped(server)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    kinds = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
    stock = {
        one._name: one for one in vars(stock_metrics).values() if isinstance(one, tuple(kinds))
    }
    seen = {name: family for name, family in families.items() if name.startswith("feast_")}
    assert set(seen) <= set(stock)
    assert len(seen) > 5
    for name, family in seen.items():
        theirs = stock[name]
        assert family.type == kinds[type(theirs)]
        assert family.documentation == theirs._documentation
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        # A gauge of several processes gets one more.
        assert labels - {"pid"} == set(theirs._labelnames)
        if isinstance(theirs, Histogram):
            bounds = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
            assert {float(bound) for bound in bounds} == set(theirs._upper_bounds)


def test_ours_are_beside_them(server: Server) -> None:
    ask(server.url, READ, json.dumps(features("stats:trips")).encode())
    text = scraped(server)
    for name in [
        "feastrs_store_read_seconds_count",
        "feastrs_decode_seconds_count",
        "feastrs_registry_age_seconds",
        "feastrs_requests_in_flight",
        'feast_feature_freshness_seconds{feature_view="stats",project="demo"}',
    ]:
        assert f"\n{name}" in text, name


def test_materializations_are_counted(applied: Applied, tmp_path: Path) -> None:
    repo = applied.open(tmp_path)
    repo.stock()
    body = {"start_ts": "2026-01-01", "end_ts": "2026-01-03", "feature_views": ["stats"]}
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        before = samples(scraped(server))
        assert ask(server.url, "/materialize", json.dumps(body).encode())[0] == 200
        counted = since(before, samples(scraped(server)))
    view = ("feature_view", "stats")
    total = "feast_materialization_result_total"
    assert counted[total, frozenset({view, ("status", "success")})] == 1
    assert counted["feast_materialization_duration_seconds_count", frozenset({view})] == 1


def test_what_is_switched_off_is_not_counted(applied: Applied, tmp_path: Path) -> None:
    off = ["resource", "request", "online_features", "push", "materialization", "freshness"]
    settings = {"feature_server": {"type": "local", "metrics": dict.fromkeys(off, False)}}
    repo = applied.open(tmp_path / "off", settings=settings)
    repo.stock()
    try:
        with Server(repo.ours(), port=0, no_access_log=True) as server:
            before = samples(scraped(server))
            ask(server.url, READ, json.dumps(features("stats:trips")).encode())
            counted = since(before, samples(scraped(server)))
        assert not [name for name, _ in counted if name.startswith("feast_")]
    finally:
        # They are the process's.
        with Server(applied.open(tmp_path / "on").ours(), port=0, no_access_log=True):
            pass


def test_a_port_of_their_own(repo: Repo) -> None:
    with Server(repo.ours(), port=0, no_access_log=True, metrics_port=0) as server:
        url = server.metrics_url
        assert url is not None
        for path in ("/metrics", "/", "/anything"):
            with urllib.request.urlopen(url + path) as response:
                text = response.read().decode()
                assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert "feast_feature_freshness_seconds" in text


def test_a_port_that_is_taken_does_not_stop_the_server(
    repo: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        port = taken.getsockname()[1]
        with Server(repo.ours(), port=0, no_access_log=True, metrics_port=port) as server:
            assert server.metrics_url is None
            assert ask(server.url, "/health")[0] == 200
    assert str(port) in caplog.text


def test_the_library_counts_its_reads(repo: Repo) -> None:
    store = feastrs.FeatureStore(repo_path=str(repo.folder))
    entities = [{"driver_id": 1}, {"driver_id": 77}]
    before = samples(metrics.text())

    store.get_online_features(["stats:trips"], entities)
    store.online_reader(["stats:trips"]).read(entities)
    asyncio.run(store.get_online_features_async(["stats:trips"], entities))

    counted = since(before, samples(metrics.text()))
    total, view = "feast_online_features_status_total", ("feature_view", "stats")
    assert counted["feast_online_features_request_total", frozenset()] == 3
    assert counted["feast_online_features_entity_count_sum", frozenset()] == 6
    assert counted[total, frozenset({view, ("status", "present")})] == 3
    assert counted[total, frozenset({view, ("status", "not_found")})] == 3


def test_transformations_and_retrievals_are_counted(tmp_path: Path) -> None:
    demo.write_parquet(tmp_path)
    objects = demo.definitions(tmp_path)
    profile = next(one for one in objects if one.name == "driver_profile")

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[profile],
        schema=[Field(name="age_next", dtype=Int64)],
        mode="python",
        track_metrics=True,
    )
    def aged(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"age_next": [None if age is None else age + 1 for age in inputs["age"]]}

    repo = apply(tmp_path / "applied", [*objects, aged]).open(tmp_path / "repo")
    store = repo.ours()
    store.materialize(EARLY, LATE, feature_views=["driver_profile"])
    before = samples(metrics.text())

    with Server(store, port=0, no_access_log=True) as server:
        body = {"entities": {"driver_id": [1001]}, "features": ["aged:age_next"]}
        assert ask(server.url, READ, json.dumps(body).encode())[0] == 200
    rows = {"driver_id": [1001, 1002], "event_timestamp": [demo.NOON, demo.NOON]}
    store.get_historical_features(pd.DataFrame(rows), ["driver_stats:trips"]).to_df()

    counted = since(before, samples(metrics.text()))
    view = frozenset({("odfv_name", "aged"), ("mode", "python")})
    assert counted["feast_feature_server_transformation_duration_seconds_count", view] == 1
    method = ("method", "to_arrow")
    total = "feast_offline_store_request_total"
    assert counted[total, frozenset({method, ("status", "success")})] == 1
    assert counted["feast_offline_store_row_count_sum", frozenset({method})] == 2
    assert counted["feast_offline_store_request_latency_seconds_count", frozenset({method})] == 1


def test_a_forked_child_counts_for_itself(repo: Repo) -> None:
    store = repo.ours()
    metrics.enable()
    store.get_online_features(["stats:trips"], [{"driver_id": 1}])
    with metrics.start_http_server(port=0) as exporter:
        child = os.fork()
        if child == 0:
            metrics.enable()
            nothing = samples(metrics.text())
            store.get_online_features(["stats:trips"], [{"driver_id": 1}])
            name = ("feast_online_features_request_total", frozenset[tuple[str, str]]())
            is_right = name not in nothing and samples(metrics.text())[name] == 1
            exporter.close()
            os._exit(0 if is_right else 1)
        assert wait_for(child) == 0
        with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/") as response:
            assert b"feast_online_features_request_total" in response.read()
