"""Joins of many rows, on several threads: against polars' own, and beside other work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.types import Float64, Int64, String

from testbed.interpreter import AT_MOST, Interpreter
from testbed.repo import Applied, Repo, apply, file_source

ROWS, LABELS = 300_000, 200_000
TTL = timedelta(seconds=ROWS // 20)
BEGIN = np.datetime64(datetime(2024, 1, 1), "us")
MICROS = pa.timestamp("us", tz="UTC")
SHUFFLES = {"by_time": "event_timestamp", "by_key": "key", "in_no_order": None}


def keys_of(kind: str, numbers: Any) -> pa.Array:
    if kind == "text":
        return pa.array([f"key {number}" for number in numbers])
    # So far apart that they can't be numbered by place.
    return pa.array(numbers * (2**40 if kind == "far" else 1))


def rows_of(count: int, seed: int, kind: str) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    # Whole seconds, so that there are many ties.
    seconds = random.integers(0, ROWS // 10, count).astype("m8[s]")
    return {
        "key": keys_of(kind, random.integers(0, 5_000, count)),
        "event_timestamp": pa.array(BEGIN + seconds.astype("m8[us]"), MICROS),
    }


def definitions(folder: Path, kind: str) -> list[Any]:
    value_type, dtype = (ValueType.STRING, String) if kind == "text" else (ValueType.INT64, Int64)
    entity = Entity(name="thing", join_keys=["key"], value_type=value_type)
    views = [
        FeatureView(
            name=name,
            entities=[entity],
            ttl=TTL,
            schema=[
                Field(name="key", dtype=dtype),
                Field(name="number", dtype=Int64),
                Field(name="noise", dtype=Float64),
            ],
            source=file_source(folder / f"{name}.parquet"),
        )
        for name in SHUFFLES
    ]
    return [entity, *views]


def write(folder: Path, kind: str) -> None:
    table = pa.table(rows_of(ROWS, 1, kind))
    for name, column in SHUFFLES.items():
        ordered = table.sort_by(column) if column else table
        ordered = ordered.append_column("number", pa.array(range(ROWS)))
        noise = np.random.default_rng(2).random(ROWS)
        ordered = ordered.append_column("noise", pa.array(noise, mask=noise < 0.1))
        pq.write_table(ordered, folder / f"{name}.parquet", row_group_size=23_000)


def by_polars(folder: Path, labels: pa.Table) -> pl.DataFrame:
    """The same joins, one after the other."""
    left = pl.from_arrow(labels)
    assert isinstance(left, pl.DataFrame)
    left = left.sort("event_timestamp", maintain_order=True)
    for name in SHUFFLES:
        right = pl.read_parquet(folder / f"{name}.parquet")
        # Of equal times the last row is the one next to the label.
        right = right.sort("event_timestamp", maintain_order=True)
        right = right.rename({column: f"{name}__{column}" for column in ("number", "noise")})
        left = left.join_asof(
            right,
            on="event_timestamp",
            by="key",
            tolerance=f"{TTL // timedelta(seconds=1)}s",
            check_sortedness=False,
        )
    return left.sort("label")


FEATURES = [f"{name}:{feature}" for name in SHUFFLES for feature in ("number", "noise")]


def labels_of(kind: str, count: int = LABELS) -> pa.Table:
    return pa.table(rows_of(count, 3, kind) | {"label": pa.array(range(count))})


def join(repo: Repo, labels: Any) -> pa.Table:
    job = repo.ours().get_historical_features(labels, FEATURES, full_feature_names=True)
    return pa.table(job.to_arrow())


@pytest.mark.parametrize("kind", ["near", "far", "text"])
def test_many_rows_are_joined_as_polars_does(kind: str, tmp_path: Path) -> None:
    write(tmp_path, kind)
    repo = apply(tmp_path / "applied", definitions(tmp_path, kind)).open(tmp_path / "ours")
    labels = labels_of(kind)
    found = join(repo, labels)
    expected = by_polars(tmp_path, labels)
    for name in expected.columns:
        theirs = expected[name].to_arrow().cast(found[name].type)
        assert found[name].combine_chunks().equals(pa.chunked_array([theirs]).combine_chunks()), (
            name
        )
    assert 0 < found["by_time__number"].null_count < LABELS // 2


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    folder = tmp_path_factory.mktemp("near")
    write(folder, "near")
    return apply(folder / "applied", definitions(folder, "near"))


def test_many_threads_join_at_once(near: Applied, tmp_path: Path) -> None:
    repo = near.open(tmp_path / "ours")
    whole = labels_of("near", 40_000)
    expected = join(repo, whole)
    with ThreadPoolExecutor(8) as threads:
        parts = list(threads.map(lambda i: join(repo, whole.slice(5_000 * i, 5_000)), range(8)))
    assert pa.concat_tables(parts).combine_chunks().equals(expected.combine_chunks())


def test_pieces_within_a_small_budget(near: Applied, tmp_path: Path) -> None:
    expected = join(near.open(tmp_path / "whole"), labels_of("near"))
    small = {"materialization": {"max_memory_mb": 4}}
    repo = near.open(tmp_path / "ours", settings=small)
    job = repo.ours().get_historical_features(labels_of("near"), FEATURES, full_feature_names=True)
    batches = list(job.to_record_batches())
    assert len(batches) > 1
    assert pa.Table.from_batches(batches).combine_chunks().equals(expected.combine_chunks())
    path = tmp_path / "joined.parquet"
    job.to_parquet(path)
    assert pq.read_table(path).combine_chunks().equals(expected.combine_chunks())


def test_ctrl_c_stops_a_join(near: Applied, tmp_path: Path) -> None:
    repo = near.open(tmp_path / "ours")
    path = tmp_path / "labels.parquet"
    pq.write_table(labels_of("near", 2_000_000), path)
    setup = "import pyarrow.parquet as pq; "
    setup += f"labels = pq.read_table({str(path)!r}); "
    setup += f"job = store.get_historical_features(labels, {FEATURES!r}, full_feature_names=True)"
    with Interpreter(repo.folder, setup) as interpreter:
        for _ in range(3):
            interpreter.begin("while True: job.to_arrow()")
            interpreter.wait_until_busy()
            assert interpreter.interrupt() < AT_MOST
        interpreter.run("assert job.to_arrow().num_rows == 2_000_000")
