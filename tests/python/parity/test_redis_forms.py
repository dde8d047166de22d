"""The forms in which Redis may hold a hash, and what a server may withhold.

New entities are sent as hashes that the client has serialized (RESTORE), existing ones in
transactions: whichever way is taken, the store is the one that stock Feast's HSETs make.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.types import Bytes, Float64, Int64

from testbed.demo import NATIVE_VIEWS
from testbed.dump import assert_same_redis, dump_redis
from testbed.plain import AT, TIME
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo, apply, file_source

DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
ROWS = 40


def view(folder: Path, name: str, dtype: object, columns: dict[str, pa.Array]) -> FeatureView:
    table = {
        "driver_id": pa.array(range(ROWS), pa.int64()),
        "event_timestamp": pa.array([AT + timedelta(seconds=i) for i in range(ROWS)], TIME),
    }
    pq.write_table(pa.table(table | columns), folder / f"{name}.parquet")
    return FeatureView(
        name=name,
        entities=[DRIVER],
        ttl=timedelta(days=1),
        schema=[
            Field(name="driver_id", dtype=Int64),
            *(Field(name=column, dtype=dtype) for column in columns),
        ],
        source=file_source(folder / f"{name}.parquet"),
    )


# Lengths around the limits of a listpack's entries, of its back-lengths, of RDB's own lengths.
LENGTHS = [0, 1, 59, 60, 61, 62, 63, 64, 65, 124, 127, 128, 4093, 4096, 16_380, 16_384, 70_000]


def forms(folder: Path) -> dict[str, FeatureView]:
    folder.mkdir()
    long = [bytes([i % 256]) * LENGTHS[i % len(LENGTHS)] for i in range(ROWS)]
    doubles = pa.array([i / 3 for i in range(ROWS)])
    return {
        "narrow": view(folder, "narrow", Float64, {"x": doubles}),
        "long": view(folder, "long", Bytes, {"x": pa.array(long), "y": pa.array(long[::-1])}),
        # More entries than a listpack takes (hash-max-listpack-entries: 512; fields: twice).
        "many": view(folder, "many", Float64, {f"f_{i}": doubles for i in range(260)}),
        "very_many": view(folder, "very_many", Float64, {f"f_{i}": doubles for i in range(600)}),
        "nulls": view(folder, "nulls", Float64, {"x": pa.nulls(ROWS, pa.float64())}),
    }


@pytest.mark.parametrize("name", ["narrow", "long", "many", "very_many", "nulls"])
def test_new_hashes(name: str, any_redis: RedisServer, tmp_path: Path) -> None:
    """Contents, expiry and the encoding that the server would have chosen itself."""
    applied = apply(tmp_path / "applied", [DRIVER, forms(tmp_path / "data")[name]])
    ours, stock = applied.twins(
        tmp_path / "twins", any_redis, online_store={"key_ttl_seconds": 500}
    )

    stock.stock().materialize(EARLY, LATE)
    report = ours.ours().materialize(EARLY, LATE)

    assert report.entities_written == ROWS
    dump = assert_same_redis(ours.redis(), stock.redis())
    assert len(dump) == ROWS
    if any_redis.version == "7.0":
        assert encodings(ours) == encodings(stock)
    answers = [
        repo.ours().get_online_features([f"{name}:{first(name)}"], rows()).to_dict()
        for repo in (ours, stock)
    ]
    assert answers[0] == answers[1]


def first(name: str) -> str:
    return "f_0" if "many" in name else "x"


def rows() -> list[dict[str, int]]:
    return [{"driver_id": i} for i in range(ROWS)]


def encodings(repo: Repo) -> dict[bytes, bytes]:
    with repo.redis() as client:
        return {key: client.object("encoding", key) for key in client.scan_iter()}


def test_views_that_share_a_hash(any_redis: RedisServer, tmp_path: Path) -> None:
    """The second view meets hashes that are there: their other fields stay."""
    views = forms(tmp_path / "data")
    applied = apply(tmp_path / "applied", [DRIVER, *views.values()])
    ours, stock = applied.twins(tmp_path / "twins", any_redis)

    for name in ("narrow", "very_many", "long", "nulls", "many"):
        stock.stock().materialize(EARLY, LATE, [name])
        ours.ours().materialize(EARLY, LATE, feature_views=[name])

    assert_same_redis(ours.redis(), stock.redis())


def test_fields_of_strangers_survive(any_redis: RedisServer, tmp_path: Path) -> None:
    views = forms(tmp_path / "data")
    applied = apply(tmp_path / "applied", [DRIVER, views["narrow"]])
    ours, stock = applied.twins(tmp_path / "twins", any_redis)
    ours.ours().materialize(EARLY, LATE)
    for repo in (ours, stock):
        with repo.redis() as client:
            keys = dump_redis(ours.redis())
            for key in list(keys)[::2]:
                client.hset(key, "stranger", b"\xffkeep me")
            client.expire(next(iter(keys)), 300)
    with ours.redis() as client:
        for key in list(dump_redis(ours.redis()))[1::2]:
            client.delete(key)

    stock.stock().materialize(EARLY, LATE)
    ours.ours().materialize(EARLY, LATE)

    assert_same_redis(ours.redis(), stock.redis())


def test_listpacks_of_other_limits(demo: Applied, tmp_path: Path) -> None:
    """A server whose limits are not the default ones gets no form that it would not make."""
    settings = {"hash-max-listpack-entries": "3", "hash-max-listpack-value": "8"}
    server = RedisServer("7.0", {**settings, "sanitize-dump-payload": "yes"})
    try:
        ours, stock = demo.twins(tmp_path, server)
        stock.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
        ours.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
        assert_same_redis(ours.redis(), stock.redis())
        response = ours.ours().get_online_features(["driver_stats:trips"], [{"driver_id": 1001}])
        assert response.to_dict()["trips"] == [41]
    finally:
        server.close()


@pytest.fixture(scope="module")
def restricted() -> Iterator[RedisServer]:
    server = RedisServer("7.0")
    yield server
    server.close()


WITHHELD = [
    "-restore",
    "-hgetall",
    "-restore -hgetall",
    "-restore -copy",
    "-config -info -command",
    "-@dangerous",
    "-@admin -@dangerous -restore -hgetall -eval -evalsha -script -function",
]


@pytest.mark.parametrize("withheld", WITHHELD)
def test_commands_that_an_acl_withholds(
    withheld: str, demo: Applied, restricted: RedisServer, redis7: RedisServer, tmp_path: Path
) -> None:
    """What is refused costs speed, never data."""
    ours, stock = demo.open(tmp_path / "ours", restricted), demo.open(tmp_path / "stock", redis7)
    with restricted.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "limited", "reset", "on", ">pass-word-7", "~*", "&*", "+@all",
            *withheld.split(),
        )  # fmt: skip
    ours.config["online_store"]["connection_string"] += ",username=limited,password=pass-word-7"
    ours.write_config()

    stock.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
    ours.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)

    assert_same_redis(ours.redis(), stock.redis())
    features = ["driver_stats:trips", "driver_profile:age", "driver_stats:label"]
    rows = [{"driver_id": 1000 + i} for i in range(25)]
    answers = [repo.ours().get_online_features(features, rows).to_dict() for repo in (ours, stock)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("command", ["auto", "hgetall", "hmget"])
def test_read_commands_agree(
    command: str, demo: Applied, any_redis: RedisServer, tmp_path: Path
) -> None:
    """`read_command` changes how it is read, never what."""
    repo = demo.open(tmp_path, any_redis)
    repo.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
    repo.config["online_store"]["read_command"] = command
    folder = tmp_path / "other"
    folder.mkdir()
    config = {**repo.config, "registry": str(repo.registry_path)}
    other = Repo(folder, config, repo.server, repo.database)
    rows = [{"driver_id": 1000 + i} for i in range(25)]
    for features in (
        ["driver_stats:trips"],
        ["driver_stats:trips", "driver_profile:age", "driver_profile:tags"],
    ):
        ours = other.ours().get_online_features(features, rows).to_dict()
        assert ours == repo.stock().get_online_features(features, rows).to_dict()


def test_a_server_that_refuses_the_payload_is_no_loss(
    demo: Applied, redis62: RedisServer, redis7: RedisServer, tmp_path: Path
) -> None:
    """Redis 6.2 knows no listpacks in RESTORE; it gets the same hashes another way."""
    old, new = demo.open(tmp_path / "old", redis62), demo.open(tmp_path / "new", redis7)
    old.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
    new.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
    assert_same_redis(old.redis(), new.redis())
