"""Services with `precompute_online`: their vectors are Feast's, and are read as Feast reads."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.types import Array, Float32, Float64, Int64, String

from testbed.demo import DRIVERS
from testbed.doors import ask_both, difference, refuse_both
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Repo, apply, file_source

NOW = datetime.now(timezone.utc)
OLD = NOW - timedelta(days=40)
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
ROWS = [{"driver_id": 1000 + i} for i in (3, 1, 3, 0)]


def view(folder: Path, name: str, ttl: timedelta, at: datetime, **features: Any) -> FeatureView:
    table = {
        "driver_id": pa.array(range(1000, 1000 + DRIVERS), pa.int64()),
        "event_timestamp": pa.array([at] * DRIVERS, pa.timestamp("us", "UTC")),
        **{feature: column for feature, (column, _) in features.items()},
    }
    pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return FeatureView(
        name=name,
        entities=[DRIVER],
        ttl=ttl,
        schema=[
            Field(name="driver_id", dtype=Int64),
            *(Field(name=feature, dtype=dtype) for feature, (_, dtype) in features.items()),
        ],
        source=file_source(folder / f"{name}.parquet"),
    )


@pytest.fixture(scope="module")
def repo(redis7: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("precomputed")
    count = range(DRIVERS)
    fresh = view(
        folder,
        "fresh",
        timedelta(days=3650),
        NOW,
        rate=(pa.array([i / 8 for i in count], pa.float32()), Float32),
        trips=(pa.array([None if i % 3 == 0 else i for i in count], pa.int64()), Int64),
        label=(pa.array([f"d{i}" for i in count]), String),
    )
    old = view(
        folder,
        "old",
        timedelta(days=1),
        OLD,
        score=(pa.array([i / 2 for i in count]), Float64),
        vector=(pa.array([[i, 0.5] for i in count], pa.list_(pa.float64())), Array(Float64)),
    )
    both = FeatureService(
        name="both", features=[fresh, old.with_name("aged")], precompute_online=True
    )
    lonely = FeatureService(name="lonely", features=[fresh], precompute_online=True)
    changed = FeatureService(name="changed", features=[fresh[["rate"]]], precompute_online=True)
    applied = apply(folder / "applied", [DRIVER, fresh, old, both, lonely, changed])
    repo = applied.open(folder / "repo", redis7)
    store = repo.stock()
    store.materialize(EARLY, LATE)
    assert store.precompute_feature_service("both") == DRIVERS
    assert store.precompute_feature_service("changed") == DRIVERS
    store.apply([FeatureService(name="changed", features=[fresh], precompute_online=True)])
    with redis7.client(repo.database) as client:
        forget(client, "lonely")
    repo.ours().refresh_registry()
    return repo


def forget(client: Any, service: str) -> None:
    """Takes a service's vectors away, as for entities that came later."""
    from feast.infra.online_stores.helpers import _mmh3

    for key in client.scan_iter():
        client.hdel(key, _mmh3(f"__precomputed__{service}:vector"))


def ask(store: Any, service: str, full_feature_names: bool = True) -> Any:
    return store.get_online_features(store.get_feature_service(service), ROWS, full_feature_names)


def test_values(repo: Repo) -> None:
    ask_both(repo, lambda store: ask(store, "both").to_dict())


def test_times_are_those_of_the_vectors(repo: Repo) -> None:
    ask_both(repo, lambda store: ask(store, "both").to_dict(include_event_timestamps=True))


def test_order_and_statuses(repo: Repo) -> None:
    """Too old by `ttl` is marked, and stays, as in Feast."""
    response = ask(repo.ours(), "both")
    assert response.feature_names == [
        *("fresh__rate", "fresh__trips", "fresh__label"),
        *("aged__score", "aged__vector"),
    ]
    statuses = response.statuses()
    assert statuses["fresh__rate"] == ["PRESENT"] * 4
    assert statuses["fresh__trips"] == ["NULL_VALUE", "PRESENT", "NULL_VALUE", "NULL_VALUE"]
    assert statuses["aged__score"] == ["OUTSIDE_MAX_AGE"] * 4

    stock = ask(repo.stock(), "both").proto
    by_name = dict(zip(stock.metadata.feature_names.val, stock.results, strict=True))
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    for name in ("fresh__rate", "aged__score", "aged__vector"):
        assert [FieldStatus.Name(one) for one in by_name[name].statuses] == statuses[name]


def test_a_prepared_reader(repo: Repo) -> None:
    service = repo.ours().get_feature_service("both")
    reader = repo.ours().online_reader(service, full_feature_names=True)
    assert reader.feature_names == ask(repo.ours(), "both").feature_names
    assert reader.read(ROWS).to_dict() == ask(repo.ours(), "both").to_dict()


def test_a_coroutine(repo: Repo) -> None:
    service = repo.ours().get_feature_service("both")
    answer = asyncio.run(repo.ours().get_online_features_async(service, ROWS, True))
    assert answer.to_dict() == ask(repo.ours(), "both").to_dict()
    assert answer.statuses() == ask(repo.ours(), "both").statuses()


@pytest.mark.parametrize("service", ["lonely", "changed"])
def test_vectors_that_are_missing_or_of_another_form(repo: Repo, service: str) -> None:
    ours, stock = refuse_both(repo, lambda store: ask(store, service).to_dict())
    assert isinstance(ours, type(stock))
    assert f"feast precompute {service}" in str(ours)


def test_one_missing_vector_is_enough(repo: Repo) -> None:
    rows = [*ROWS, {"driver_id": 7}]

    def question(store: Any) -> Any:
        service = store.get_feature_service("both")
        return store.get_online_features(service, rows, True).to_dict()

    ours, stock = refuse_both(repo, question)
    assert isinstance(ours, type(stock))


def test_bytes_that_are_no_vector(repo: Repo) -> None:
    store = repo.stock()
    key = EntityKey(join_keys=["driver_id"])
    key.entity_values.add().int64_val = 77
    store._get_provider().online_store.write_precomputed_vector(
        store.config, "both", store.project, key, b"\x0a\xff"
    )

    def question(store: Any) -> Any:
        service = store.get_feature_service("both")
        return store.get_online_features(service, [{"driver_id": 77}], True).to_dict()

    with pytest.raises(ValueError, match="malformed"):
        question(repo.ours())


def test_short_names_of_a_precomputed_service(repo: Repo) -> None:
    """Feast finds vectors only by full names, and otherwise raises."""
    short = ask(repo.ours(), "both", full_feature_names=False).to_dict()
    full = ask(repo.ours(), "both").to_dict()
    assert list(short) == ["driver_id", "rate", "trips", "label", "score", "vector"]
    assert difference(list(short.values()), list(full.values())) is None
    with pytest.raises(RuntimeError):
        ask(repo.stock(), "both", full_feature_names=False)
