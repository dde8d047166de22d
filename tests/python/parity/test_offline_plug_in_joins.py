"""`feast.FeatureStore.get_historical_features` with `feastrs.feast.FileOfflineStore`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from testbed.demo import DRIVERS, NOON
from testbed.repo import Applied, Repo

OURS = {"offline_store": {"type": "feastrs.feast.FileOfflineStore"}}
FEATURES = [
    "driver_stats:trips",
    "driver_profile:age",
    "driver_stats:acc_rate",
    "order_stats:orders",
    "world:mood",
]


@pytest.fixture(scope="module")
def repo(demo: Applied, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Stock Feast with our offline store."""
    return demo.open(tmp_path_factory.mktemp("ours"), settings=OURS)


@pytest.fixture(scope="module")
def duckdb(demo: Applied, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    settings = {"offline_store": {"type": "duckdb"}}
    return demo.open(tmp_path_factory.mktemp("duckdb"), settings=settings)


def labels(count: int = 60) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "driver_id": [1000 + i % (DRIVERS + 3) for i in range(count)],
            "customer_id": [f"c{i % 4}" for i in range(count)],
            "origin_id": [i % 4 for i in range(count)],
            "target_id": [3 - i % 4 for i in range(count)],
            "factor": list(range(count)),
            "event_timestamp": pd.to_datetime(
                [NOON + i % 17 * timedelta(minutes=31) for i in range(count)]
            ),
            "label": list(range(count)),
        }
    )


def values(frame: pd.DataFrame, names: list[str]) -> list[list[Any]]:
    return [
        [None if pd.isna(value) else value for value in row]
        for row in frame[names].itertuples(index=False, name=None)
    ]


@pytest.mark.parametrize("full_feature_names", [False, True])
def test_values_are_those_of_feasts_duckdb_store(
    full_feature_names: bool, repo: Repo, duckdb: Repo
) -> None:
    rows = labels()
    found, expected = (
        one.stock().get_historical_features(rows, FEATURES, full_feature_names).to_df()
        for one in (repo, duckdb)
    )
    assert found["label"].tolist() == rows["label"].tolist()
    names = [name for name in expected.columns if name not in rows.columns]
    assert set(found.columns) == set(expected.columns)
    assert values(found, names) == values(expected.sort_values("label"), names)


def test_types_and_order(repo: Repo, demo: Applied) -> None:
    table = repo.stock().get_historical_features(labels(), FEATURES).to_arrow()
    source = pq.read_schema(demo.folder.parent / "data" / "driver_stats.parquet")
    assert table["trips"].type == source.field("trips").type == pa.int64()
    asked = [reference.split(":")[1] for reference in FEATURES]
    assert table.column_names == [*labels().columns, *asked]


def test_a_service_with_other_names_and_keys(repo: Repo, duckdb: Repo) -> None:
    rows = labels()
    found, expected = (
        one.stock()
        .get_historical_features(rows, one.stock().get_feature_service("route_service"), True)
        .to_df()
        for one in (repo, duckdb)
    )
    names = ["origin__heat", "target__heat"]
    assert values(found, names) == values(expected.sort_values("label"), names)
    assert found["origin__heat"].notna().any()


def test_on_demand_views(repo: Repo, duckdb: Repo) -> None:
    features = ["driver_stats:trips", "doubled:age_doubled"]
    found, expected = (
        one.stock().get_historical_features(labels(), features).to_df() for one in (repo, duckdb)
    )
    names = ["trips", "age_doubled"]
    assert values(found, names) == values(expected.sort_values("label"), names)
    assert found["age_doubled"].notna().any()


def test_a_range_of_dates_instead_of_labels(repo: Repo, demo: Applied, tmp_path: Path) -> None:
    """Each entity as it was at the end of the range, as Feast's file store has it."""
    dates = {"start_date": NOON - timedelta(days=1), "end_date": NOON + timedelta(hours=5)}
    stock = demo.open(tmp_path / "stock")
    features = ["driver_stats:trips", "driver_stats:acc_rate"]
    found, expected = (
        one.stock().get_historical_features(features=features, **dates).to_df()
        for one in (repo, stock)
    )
    names = ["driver_id", "trips", "acc_rate", "event_timestamp"]
    assert set(found.columns) == set(expected.columns)
    assert sorted(values(found, names), key=repr) == sorted(values(expected, names), key=repr)
    assert len(found) == DRIVERS


def test_metadata(repo: Repo, demo: Applied, tmp_path: Path) -> None:
    rows = labels()
    ours, feasts = (
        one.stock().get_historical_features(rows, FEATURES).metadata
        for one in (repo, demo.open(tmp_path / "stock"))
    )
    assert ours.features == feasts.features
    assert sorted(ours.keys) == sorted(feasts.keys)
    assert ours.min_event_timestamp == feasts.min_event_timestamp
    assert ours.max_event_timestamp == feasts.max_event_timestamp


@pytest.mark.parametrize("name", ["training.parquet", "training"])
def test_a_saved_dataset(name: str, repo: Repo, tmp_path: Path) -> None:
    store = repo.stock()
    rows = labels().drop(columns=["customer_id", "origin_id", "target_id", "factor"])
    job = store.get_historical_features(rows, ["driver_stats:trips", "driver_profile:age"])
    storage = SavedDatasetFileStorage(path=str(tmp_path / name))
    with pytest.warns(RuntimeWarning, match="experimental"):
        dataset = store.create_saved_dataset(job, f"saved {name}", storage)
    assert len(dataset.to_df()) == len(rows)
    with pytest.warns(RuntimeWarning, match="experimental"):
        again = store.get_saved_dataset(f"saved {name}").to_df()
    expected = job.to_df()
    names = ["driver_id", "trips", "age", "event_timestamp"]
    assert sorted(values(again, names), key=repr) == sorted(values(expected, names), key=repr)

    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(storage)
    job.persist(storage, allow_overwrite=True)


def test_a_relative_path_is_the_repositorys(repo: Repo) -> None:
    job = repo.stock().get_historical_features(labels(), ["driver_stats:trips"])
    job.persist(SavedDatasetFileStorage(path="below/training.parquet"))
    written = repo.folder / "below" / "training.parquet"
    assert pq.read_metadata(written).num_rows == len(labels())
    assert [one.name for one in written.parent.iterdir()] == ["training.parquet"]


def test_mistakes_are_feasts(repo: Repo) -> None:
    store = repo.stock()
    with pytest.raises(ValueError, match="event_timestamp"):
        store.get_historical_features(
            labels().drop(columns="event_timestamp"), ["driver_stats:trips"]
        ).to_df()
    with pytest.raises((KeyError, ValueError), match="driver_id"):
        store.get_historical_features(
            labels().drop(columns="driver_id"), ["driver_stats:trips"]
        ).to_df()
    with pytest.raises(ValueError, match="str"):
        store.get_historical_features("SELECT 1", ["driver_stats:trips"]).to_df()


def test_created_times_are_heeded_on_request(repo: Repo, duckdb: Repo) -> None:
    rows = labels()
    found, expected = (
        one.stock()
        .get_historical_features(rows, ["driver_stats:trips"], filter_by_created_timestamp=True)
        .to_df()
        for one in (repo, duckdb)
    )
    assert values(found, ["trips"]) == values(expected.sort_values("label"), ["trips"])
    other = repo.stock().get_historical_features(rows, ["driver_stats:trips"]).to_df()
    assert values(found, ["trips"]) != values(other, ["trips"])


def test_explain(repo: Repo) -> None:
    job: Any = repo.stock().get_historical_features(labels(), ["driver_stats:trips"])
    assert "driver_stats.parquet" in job.explain()


def test_what_changed_in_the_registry_is_seen(demo: Applied, tmp_path: Path) -> None:
    repo = demo.open(tmp_path / "ours", settings=OURS)
    store = repo.stock()
    late = labels()
    late["event_timestamp"] = datetime(2024, 6, 1, tzinfo=timezone.utc)
    features = ["order_stats:total"]
    assert store.get_historical_features(late, features).to_df()["total"].isna().all()
    view = store.get_feature_view("order_stats")
    view.ttl = timedelta(days=1000)
    store.apply([view])
    assert store.get_historical_features(late, features).to_df()["total"].notna().any()
