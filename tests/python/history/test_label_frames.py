"""Label rows in every form: all of their columns come back as they were."""

from __future__ import annotations

import decimal
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testbed.demo import NOON, make_demo
from testbed.repo import Repo

LATER = NOON + timedelta(hours=2)
MICROS = pa.timestamp("us", tz="UTC")
FEATURES = ["driver_stats:trips", "driver_profile:age", "driver_profile:tags"]
NAMES = ["trips", "age", "tags"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("demo")
    return make_demo(folder / "demo").open(folder / "ours")


def labels() -> pa.Table:
    """Every third driver twice, an unknown one, and columns that are nobody's business."""
    drivers = [1000, 1005, 1005, 77, 1003]
    return pa.table(
        {
            "label": pa.array([True, None, False, True, None]),
            "driver_id": pa.array(drivers, pa.int64()),
            "event_timestamp": pa.array([LATER - timedelta(minutes=i) for i in range(5)], MICROS),
            "note": pa.array(["a", None, "c", "d", "e"], pa.large_string()),
            "price": pa.array([decimal.Decimal("1.50")] * 5, pa.decimal128(9, 2)),
            "inner": pa.array([{"x": [1]}, None, {"x": []}, {"x": None}, {"x": [2]}]),
        }
    )


def job(repo: Repo, rows: Any, features: list[str] = FEATURES, **options: Any) -> Any:
    return repo.ours().get_historical_features(rows, features, **options)


@pytest.fixture
def expected(demo: Repo) -> pa.Table:
    found = pa.table(job(demo, labels()).to_arrow())
    assert found.column_names == [*labels().column_names, *NAMES]
    assert found["age"].to_pylist() == [20, 25, 25, None, 23]
    return found


def test_arrow(demo: Repo, expected: pa.Table) -> None:
    assert expected.select(labels().column_names).equals(labels())
    chunked = pa.concat_tables([labels().slice(0, 2), labels().slice(2, 0), labels().slice(2)])
    assert pa.table(job(demo, chunked).to_arrow()).combine_chunks().equals(expected)
    reader = pa.RecordBatchReader.from_batches(chunked.schema, chunked.to_batches())
    assert pa.table(job(demo, reader).to_arrow()).combine_chunks().equals(expected)
    sliced = pa.concat_tables([labels(), labels()]).combine_chunks().slice(5)
    assert pa.table(job(demo, sliced).to_arrow()).equals(expected)


def test_polars(demo: Repo, expected: pa.Table) -> None:
    rows = pl.from_arrow(labels().drop_columns(["inner"]))
    assert isinstance(rows, pl.DataFrame)
    found = job(demo, rows)
    polars = found.to_polars()
    assert polars.columns == [*rows.columns, *NAMES]
    assert polars.select(rows.columns).equals(rows)
    assert polars["trips"].to_list() == expected["trips"].to_pylist()
    # Categories, and another time zone.
    rows = rows.with_columns(
        pl.col("note").cast(pl.Categorical),
        pl.col("event_timestamp").dt.convert_time_zone("America/New_York"),
    )
    polars = job(demo, rows).to_polars()
    assert polars["note"].to_list() == rows["note"].to_list()
    assert polars["event_timestamp"].dtype == rows["event_timestamp"].dtype
    assert polars["trips"].to_list() == expected["trips"].to_pylist()


def test_anything_with_a_capsule(demo: Repo, expected: pa.Table) -> None:
    relation = duckdb.sql("SELECT driver_id, event_timestamp FROM rows", connection=_connection())
    found = pa.table(job(demo, relation).to_arrow())
    assert found.select(NAMES).to_pylist() == expected.select(NAMES).to_pylist()


def _connection() -> Any:
    connection = duckdb.connect()
    connection.register("rows", labels())
    return connection


@pytest.mark.parametrize("as_text", [True, False])
def test_a_parquet_file(as_text: bool, demo: Repo, expected: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(labels(), path, row_group_size=2)
    found = pa.table(job(demo, str(path) if as_text else path).to_arrow())
    assert found.to_pylist() == expected.to_pylist()
    assert found.schema.equals(expected.schema)


class TestPandas:
    def test_index_and_dtypes_stay(self, demo: Repo, expected: pa.Table) -> None:
        rows = labels().to_pandas()
        rows.index = pd.Index(["e", "b", "b", "a", "c"], name="which")
        rows["kind"] = pd.Categorical(["x", "y", "x", None, "y"], categories=["z", "y", "x"])
        rows["thing"] = [object(), {1}, ..., len, None]
        rows["nullable"] = pd.array([1, None, 3, 4, 5], dtype="Int64")
        rows["text"] = pd.array(["a", None, "c", "d", "e"], dtype="string")
        rows["halves"] = np.array([0.5, np.nan, 1, 2, 3], dtype="float32")
        before = rows.copy()

        found = job(demo, rows).to_df()

        pd.testing.assert_frame_equal(found[list(before.columns)], before)
        pd.testing.assert_frame_equal(rows, before)
        assert list(found.columns) == [*before.columns, *NAMES]
        assert [None if pd.isna(one) else one for one in found["trips"]] == (
            expected["trips"].to_pylist()
        )

    def test_integers_with_nulls_stay_integers(self, demo: Repo, expected: pa.Table) -> None:
        found = job(demo, labels().to_pandas()).to_df()
        assert pd.api.types.is_integer_dtype(found["age"].dtype), found["age"].dtype

    def test_times_of_many_kinds(self, demo: Repo, expected: pa.Table) -> None:
        times = labels()["event_timestamp"].to_pandas()
        naive = times.dt.tz_localize(None)
        for given in (
            naive,
            naive.astype("datetime64[ns]"),
            naive.astype("datetime64[s]"),
            times.dt.tz_convert("Europe/Prague"),
            times.dt.tz_convert("Asia/Kathmandu").astype("datetime64[ns, Asia/Kathmandu]"),
            pd.Series([time.to_pydatetime() for time in times], dtype=object),
            pd.Series([time.to_pydatetime() for time in naive], dtype=object),
        ):
            rows = labels().to_pandas().assign(event_timestamp=given)
            found = job(demo, rows).to_df()
            pd.testing.assert_series_equal(found["event_timestamp"], rows["event_timestamp"])
            assert [None if pd.isna(one) else one for one in found["trips"]] == (
                expected["trips"].to_pylist()
            ), given.dtype

    def test_a_multi_index_and_numbers_as_names(self, demo: Repo) -> None:
        rows = labels().to_pandas().rename(columns={"note": 7})
        rows = rows.set_index([pd.Index(range(5), name="i"), pd.Index(list("vwxyz"), name="j")])
        found = job(demo, rows).to_df()
        pd.testing.assert_index_equal(found.index, rows.index)
        assert 7 in found.columns

    def test_a_category_as_a_key(self, demo: Repo) -> None:
        rows = pd.DataFrame(
            {
                "driver_id": [1000, 1001],
                "customer_id": pd.Categorical(["c1", "c0"]),
                "event_timestamp": [datetime(2024, 3, 3, tzinfo=timezone.utc)] * 2,
            }
        )
        found = job(demo, rows, ["order_stats:orders"]).to_df()
        expected = job(demo, rows.astype({"customer_id": str}), ["order_stats:orders"]).to_df()
        assert found["orders"].to_list() == expected["orders"].to_list()
        assert found["customer_id"].dtype == "category"
        assert found["orders"].notna().all()

    def test_no_rows(self, demo: Repo) -> None:
        rows = labels().to_pandas().iloc[:0]
        found = job(demo, rows).to_df()
        assert list(found.columns) == [*rows.columns, *NAMES]
        pd.testing.assert_frame_equal(found[list(rows.columns)], rows)


class TestResults:
    def test_batches(self, demo: Repo, expected: pa.Table) -> None:
        batches = list(job(demo, labels()).to_record_batches())
        assert pa.Table.from_batches(batches).combine_chunks().equals(expected)

    def test_again_and_again(self, demo: Repo, expected: pa.Table) -> None:
        once = job(demo, labels())
        for _ in range(2):
            assert pa.table(once.to_arrow()).equals(expected)
            assert len(once.to_df()) == 5

    def test_parquet(self, demo: Repo, expected: pa.Table, tmp_path: Path) -> None:
        path = tmp_path / "training.parquet"
        job(demo, labels()).to_parquet(str(path))
        assert pq.read_table(path).to_pylist() == expected.to_pylist()

    def test_explain_names_the_files(self, demo: Repo) -> None:
        text = job(demo, labels()).explain()
        assert "driver_stats.parquet" in text
        assert "driver_profile.parquet" in text
        assert "order_stats" not in text

    def test_metadata_is_as_feasts(self, demo: Repo) -> None:
        rows = labels().drop_columns(["inner"]).to_pandas()
        ours = job(demo, rows)
        feasts = demo.stock().get_historical_features(rows, FEATURES)
        assert ours.full_feature_names is feasts.full_feature_names is False
        assert list(ours.on_demand_feature_views) == feasts.on_demand_feature_views == []
        assert ours.metadata.features == feasts.metadata.features
        assert sorted(ours.metadata.keys) == sorted(feasts.metadata.keys)
        assert ours.metadata.min_event_timestamp == feasts.metadata.min_event_timestamp
        assert ours.metadata.max_event_timestamp == feasts.metadata.max_event_timestamp
