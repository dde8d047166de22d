"""Rows for the offline store that wait for others: when they are written, and that none is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, PushSource, ValueType
from feast.types import Int64

from feastrs.server import Server
from testbed.http import ask, until
from testbed.repo import Applied, Repo, apply, file_source


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What rows are added to."""
    path = tmp_path / "rides.parquet"
    times = pa.array([], pa.timestamp("us", tz="UTC"))
    ids = pa.array([], pa.int64())
    pq.write_table(pa.table({"driver_id": ids, "event_timestamp": times, "rides": ids}), path)
    return path


@pytest.fixture
def applied(source: Path, tmp_path: Path) -> Applied:
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="rides",
        entities=[driver],
        schema=[Field(name="driver_id", dtype=Int64), Field(name="rides", dtype=Int64)],
        source=PushSource(name="ridden", batch_source=file_source(source)),
    )
    return apply(tmp_path / "applied", [driver, view])


def batching(applied: Applied, folder: Path, size: int, seconds: int) -> Repo:
    settings = {
        "type": "local",
        "offline_push_batching_enabled": True,
        "offline_push_batching_batch_size": size,
        "offline_push_batching_batch_interval_seconds": seconds,
    }
    return applied.open(folder / "repo", settings={"feature_server": settings})


def push(server: Server, driver: int, **others: Any) -> None:
    row = {"driver_id": [driver], "event_timestamp": ["2026-02-01T00:00:00Z"], "rides": [4]}
    body = {"push_source_name": "ridden", "df": row | others, "to": "offline"}
    assert ask(server.url, "/push", json.dumps(body).encode())[0] == 200


def drivers(source: Path) -> list[int]:
    """Those that were pushed."""
    ids: list[int] = pq.read_table(source, columns=["driver_id"]).column("driver_id").to_pylist()
    return ids


def test_enough_rows_are_written_together(applied: Applied, source: Path, tmp_path: Path) -> None:
    repo = batching(applied, tmp_path, size=3, seconds=3600)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        push(server, 5000)
        push(server, 5001)
        assert drivers(source) == []
        push(server, 5002)
        until(lambda: drivers(source) == [5000, 5001, 5002], "the batch is written")


def test_rows_do_not_wait_for_ever(applied: Applied, source: Path, tmp_path: Path) -> None:
    repo = batching(applied, tmp_path, size=1000, seconds=1)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        push(server, 5000)
        until(lambda: drivers(source) == [5000], "the row is written")


def test_a_stop_writes_what_waits(applied: Applied, source: Path, tmp_path: Path) -> None:
    repo = batching(applied, tmp_path, size=1000, seconds=3600)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        for driver in range(5000, 5010):
            push(server, driver)
        assert drivers(source) == []

    assert drivers(source) == [*range(5000, 5010)]


def test_rows_of_one_push_do_not_spoil_those_of_others(
    applied: Applied, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repo = batching(applied, tmp_path, size=1000, seconds=3600)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        push(server, 5000)
        push(server, 5001, another=[1])
        push(server, 5002)

    assert drivers(source) == [5000, 5002]
    assert "another" in caplog.text


def test_rows_that_cannot_be_written_are_told(
    applied: Applied, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repo = batching(applied, tmp_path, size=1000, seconds=3600)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        push(server, 5000)
        source.write_bytes(b"no Parquet")

    assert "1 rows that were pushed" in caplog.text
