"""Pushes to the offline store, where that is a folder or an object of S3 or Google's store."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, PushSource, ValueType
from feast.types import Float64, Int64

from feastrs import errors
from testbed.gcs import GcsServer
from testbed.plain import AT, TIME, plain_table
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Repo, apply, file_source
from testbed.s3 import BUCKET, S3Server

HOUR = timedelta(hours=1)


def frame(*drivers: int) -> pa.Table:
    """A row of each driver, an hour later than those that are there. Another order of columns."""
    return pa.table(
        {
            "x": [driver + 0.25 for driver in drivers],
            "driver_id": pa.array(drivers, pa.int32()),
            "event_timestamp": pa.array([AT + HOUR] * len(drivers), TIME),
        }
    )


def open_repo(folder: Path, path: str, server: RedisServer | None = None, **source: Any) -> Repo:
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="v",
        entities=[driver],
        schema=[Field(name="driver_id", dtype=Int64), Field(name="x", dtype=Float64)],
        source=PushSource(name="events", batch_source=file_source(path, name="batch", **source)),
    )
    return apply(folder / "applied", [driver, view]).open(folder / "repo", server)


def of_s3(s3: S3Server, folder: Path, key: str, server: RedisServer | None = None) -> Repo:
    return open_repo(folder, f"s3://{BUCKET}/{key}", server, s3_endpoint_override=s3.url)


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def put(s3: S3Server, key: str, table: pa.Table) -> None:
    s3.client().put_object(Bucket=BUCKET, Key=key, Body=parquet(table))


def get(s3: S3Server, key: str) -> pa.Table:
    body = s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return pq.read_table(io.BytesIO(body))


def keys(s3: S3Server) -> list[str]:
    listed = s3.client().list_objects_v2(Bucket=BUCKET)
    return [found["Key"] for found in listed["Contents"]]


def push(repo: Repo, *drivers: int) -> None:
    report = repo.ours().push("events", frame(*drivers), to="offline")
    assert report.appended == {"v": len(drivers)}
    assert not report.delegated


def drivers_of(table: pa.Table) -> list[int]:
    assert table.schema == plain_table().schema
    drivers: list[int] = table["driver_id"].to_pylist()
    return drivers


def materialized(repo: Repo) -> dict[int, float]:
    store = repo.ours()
    store.materialize(EARLY, LATE)
    read = store.get_online_features(["v:x"], [{"driver_id": i} for i in range(6)]).to_dict()
    return dict(zip(read["driver_id"], read["x"], strict=True))


@pytest.mark.parametrize("key", ["days", "days/"])
def test_a_folder_gets_an_object(
    key: str, s3: S3Server, redis7: RedisServer, tmp_path: Path
) -> None:
    put(s3, "days/part-0.parquet", plain_table())
    before = get(s3, "days/part-0.parquet")
    far = of_s3(s3, tmp_path / "far", key, redis7)
    folder = tmp_path / "days"
    folder.mkdir()
    pq.write_table(plain_table(), folder / "part-0.parquet")
    near = open_repo(tmp_path / "near", str(folder), redis7)

    for repo in (far, near):
        push(repo, 1, 4)
        push(repo, 5)

    found = keys(s3)
    assert len(found) == len(list(folder.iterdir())) == 3
    assert all(name.startswith("days/p") for name in found)
    assert get(s3, "days/part-0.parquet").equals(before)
    assert [drivers_of(get(s3, name)) for name in found] == [[0, 1, 2], [1, 4], [5]]
    assert (
        materialized(far)
        == materialized(near)
        == {
            0: 0.0,
            1: 1.25,
            2: 1.0,
            3: None,
            4: 4.25,
            5: 5.25,
        }
    )


def test_an_object_is_replaced(s3: S3Server, redis7: RedisServer, tmp_path: Path) -> None:
    put(s3, "x.parquet", plain_table())
    repo = of_s3(s3, tmp_path, "x.parquet", redis7)
    push(repo, 1)
    push(repo, 4)

    assert keys(s3) == ["x.parquet"]
    assert drivers_of(get(s3, "x.parquet")) == [0, 1, 2, 1, 4]
    body = s3.client().get_object(Bucket=BUCKET, Key="x.parquet")["Body"].read()
    footer = pq.read_metadata(io.BytesIO(body))
    assert footer.row_group(0).column(0).compression == "ZSTD"
    # pandas' and the like stay; ours is there once.
    assert [name for name in footer.metadata if name.startswith(b"feastrs")] == [
        b"feastrs.write_id"
    ]
    assert materialized(repo)[4] == 4.25


def test_who_was_faster_loses_nothing(s3: S3Server, tmp_path: Path) -> None:
    put(s3, "x.parquet", plain_table())
    repo = of_s3(s3, tmp_path, "x.parquet")
    others = iter([3, 5])

    def meet(request: dict[str, Any]) -> str | None:
        """Twice another writer is there between our look and our write."""
        if request["REQUEST_METHOD"] != "PUT":
            return None
        assert request["HTTP_IF_MATCH"]
        other = next(others, None)
        if other is None:
            return None
        s3.before = lambda _: None
        put(
            s3,
            "x.parquet",
            pa.concat_tables([get(s3, "x.parquet"), plain_table(6).slice(other, 1)]),
        )
        s3.before = meet
        return None

    s3.before = meet
    push(repo, 4)

    assert s3.count("PUT", 412) == 2
    assert drivers_of(get(s3, "x.parquet")) == [0, 1, 2, 3, 5, 4]


def test_a_lost_answer_does_not_double_the_rows(s3: S3Server, tmp_path: Path) -> None:
    put(s3, "x.parquet", plain_table())
    repo = of_s3(s3, tmp_path, "x.parquet")

    def lose(request: dict[str, Any]) -> str | None:
        """Writes what is sent, and does not say so."""
        if request["REQUEST_METHOD"] != "PUT":
            return None
        body = request["wsgi.input"].read(int(request["CONTENT_LENGTH"]))
        s3.before = lambda _: None
        s3.client().put_object(Bucket=BUCKET, Key="x.parquet", Body=body)
        return "503 Service Unavailable"

    s3.before = lose
    push(repo, 4)

    assert s3.count("PUT", 412) == 1
    assert drivers_of(get(s3, "x.parquet")) == [0, 1, 2, 4]


def test_one_that_is_never_fast_enough_is_told(s3: S3Server, tmp_path: Path) -> None:
    put(s3, "x.parquet", plain_table())
    repo = of_s3(s3, tmp_path, "x.parquet")
    s3.before = lambda request: (
        "412 Precondition Failed" if request["REQUEST_METHOD"] == "PUT" else None
    )
    with pytest.raises(ConnectionError, match="written over by others all the time"):
        push(repo, 4)
    s3.before = lambda _: None
    assert drivers_of(get(s3, "x.parquet")) == [0, 1, 2]


def test_what_can_not_be_added_to_is_refused(s3: S3Server, tmp_path: Path) -> None:
    put(s3, "days/day=1/x.parquet", plain_table())
    put(s3, "x.parquet", plain_table())
    with pytest.raises(errors.UnsupportedError, match=rf"s3://{BUCKET}/days' is divided"):
        push(of_s3(s3, tmp_path / "divided", "days"), 1)
    with pytest.raises(FileNotFoundError, match="no such object"):
        push(of_s3(s3, tmp_path / "none", "none.parquet"), 1)
    whole = of_s3(s3, tmp_path / "whole", "x.parquet")
    with pytest.raises(ValueError, match=r"missing are \[x\], too many are \[\]"):
        whole.ours().push("events", frame(1).drop(["x"]), to="offline")
    s3.command("reset-auth", "0")
    with pytest.raises(PermissionError, match=r"x\.parquet' may not be used"):
        push(whole, 1)


@pytest.mark.parametrize("key", ["days", "days/part-0.parquet"])
def test_google_cloud_storage(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in that knows the few requests of the XML API that are made."""
    server = GcsServer()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    part = f"/{BUCKET}/days/part-0.parquet"
    server.objects[part] = (parquet(plain_table()), 1)
    try:
        push(open_repo(tmp_path, f"gs://{BUCKET}/{key}"), 4)
        found = [pq.read_table(io.BytesIO(body)) for body, _ in server.objects.values()]
        expected = [[0, 1, 2], [4]] if key == "days" else [[0, 1, 2, 4]]
        assert [drivers_of(table) for table in found] == expected
    finally:
        server.close()
