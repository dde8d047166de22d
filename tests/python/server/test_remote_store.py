"""Feast's remote online store: an unchanged Feast reads and writes through our server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import feast
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from feast import Entity, FeatureService, FeatureView, Field, PushSource, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Bool, Float32, Float64, Int64, Json, String, UnixTimestamp

from feastrs.server import Server
from testbed.redis_server import RedisServer
from testbed.repo import Repo, apply, file_source

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
FRAME = pd.DataFrame(
    {
        "driver_id": [1, 2],
        # One with a fraction of a second, one without.
        "event_timestamp": [AT, AT.replace(microsecond=0)],
        "created": [AT, AT],
        "trips": [5, 2**53 + 1],
        "rate": [0.5, 0.1],
        "acc": [0.1, None],
        "label": ["x", None],
        "good": [True, None],
        "seen": [AT, AT],
        "tags": [["a", "b"], []],
        "note": ['{"a": 1}', "null"],
    }
)
FEATURES = {
    "trips": Int64,
    "rate": Float32,
    "acc": Float64,
    "label": String,
    "good": Bool,
    "seen": UnixTimestamp,
    "tags": Array(String),
    "note": Json,
}
REFERENCES = [f"stats:{name}" for name in FEATURES]
ROWS = [{"driver_id": 1}, {"driver_id": 2}, {"driver_id": 3}]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory, redis7: RedisServer) -> Repo:
    folder = tmp_path_factory.mktemp("remote")
    pq.write_table(pa.Table.from_pandas(FRAME), folder / "stats.parquet")
    # The columns that the client sends are called otherwise.
    batch = file_source(
        folder / "stats.parquet", name="stats_source", created_timestamp_column="created"
    )
    fields = [Field(name=name, dtype=dtype) for name, dtype in FEATURES.items()]
    stats = FeatureView(
        name="stats",
        entities=[DRIVER],
        ttl=timedelta(days=36500),
        schema=[Field(name="driver_id", dtype=Int64), *fields],
        source=PushSource(name="clicks", batch_source=batch),
    )
    service = FeatureService(name="rates", features=[stats[["rate", "trips"]]])
    return apply(folder / "applied", [DRIVER, stats, service]).open(folder / "repo", redis7)


@pytest.fixture
def remote(repo: Repo) -> Iterator[feast.FeatureStore]:
    """A stock Feast whose online store is our server."""
    repo.redis().flushdb()
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        file = repo.folder / "remote.yaml"
        online = {"type": "remote", "path": server.url}
        file.write_text(yaml.safe_dump(repo.config | {"online_store": online}))
        yield feast.FeatureStore(repo_path=str(repo.folder), fs_yaml_file=Path(file))


def read(store: feast.FeatureStore, features: Any = None) -> dict[str, Any]:
    return store.get_online_features(features or REFERENCES, ROWS).to_dict()


@pytest.mark.parametrize("method", ["write", "push"])
def test_what_is_written_is_read(method: str, remote: feast.FeatureStore, repo: Repo) -> None:
    if method == "write":
        remote.write_to_online_store("stats", df=FRAME.copy())
    else:
        remote.push("clicks", FRAME.copy())
    # The values that a Feast on the store itself finds there.
    assert read(repo.stock()) == {
        "driver_id": [1, 2, 3],
        "trips": [5, 2**53 + 1, None],
        "rate": [0.5, pytest.approx(0.1), None],
        "acc": [0.1, None, None],
        "label": ["x", None, None],
        "good": [True, None, None],
        "seen": [AT.replace(microsecond=0), AT.replace(microsecond=0), None],
        "tags": [["a", "b"], [], None],
        # As Feast reads JSON documents.
        "note": [{"a": 1}, None, None],
    }
    found = read(remote, REFERENCES[:5])
    assert found == {name: read(repo.stock())[name] for name in found}
    service = remote.get_feature_service("rates")
    assert read(remote, service)["trips"] == [5, 2**53 + 1, None]


def test_single_views_are_read(remote: feast.FeatureStore) -> None:
    remote.write_to_online_store("stats", df=FRAME.copy())
    keys = [
        EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=row["driver_id"])])
        for row in ROWS
    ]
    provider: Any = remote._get_provider()
    view = remote.get_feature_view("stats")
    rows = provider.online_store.online_read(remote.config, view, keys, ["trips", "rate"])
    assert rows[0][0] == AT
    assert [values["trips"].int64_val for _, values in rows] == [5, 2**53 + 1, 0]
    assert rows[0][1]["rate"].float_val == 0.5
    assert rows[2][1]["trips"].WhichOneof("val") is None


def test_a_materialization_runs_on_the_server(remote: feast.FeatureStore, repo: Repo) -> None:
    remote.materialize(AT - timedelta(days=1), AT + timedelta(days=1), ["stats"])
    assert read(repo.stock())["trips"] == [5, 2**53 + 1, None]
    remote.materialize_incremental(AT + timedelta(days=2), ["stats"])
    view = repo.stock().registry.get_feature_view("stats", "demo", allow_cache=False)
    assert len(view.materialization_intervals) == 2


def test_errors_are_feasts_own(remote: feast.FeatureStore) -> None:
    provider: Any = remote._get_provider()
    view = remote.get_feature_view("stats")
    view.name = "nope"
    key = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=1)])
    with pytest.raises(feast.errors.FeatureViewNotFoundException, match="nope"):
        provider.online_store.online_read(remote.config, view, [key], ["trips"])
