"""Ways in which the row of one driver may be wrong online, and what a verification calls them.

The view is `drivers`, with the features `x` (a double), `n` (an integer) and `name`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import mmh3
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, ValueType
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64, Int64, String
from google.protobuf.timestamp_pb2 import Timestamp

from feastrs._native import encode_entity_keys
from testbed.repo import Applied, Repo, apply, file_source

VIEW = "drivers"
AT = datetime(2024, 5, 1, 8, tzinfo=timezone.utc)
TIME = pa.timestamp("us", tz="UTC")
GARBAGE = b"\xff\xfe no value"


def source_rows(count: int, at: datetime = AT, shift: int = 0) -> pa.Table:
    """Drivers 0, 1, …, a second one after the other, each with an older row before it."""
    newest = [at + timedelta(seconds=i) for i in range(count)]
    older = [time - timedelta(days=1) for time in newest]
    ids = list(range(count))
    return pa.table(
        {
            "driver_id": pa.array(ids * 2, pa.int64()),
            "event_timestamp": pa.array(older + newest, TIME),
            "x": pa.array([-1.0] * count + [i / 2 + shift for i in ids]),
            "n": pa.array([None] * count + [i * 10 + shift for i in ids], pa.int64()),
            "name": pa.array(["old"] * count + [f"driver {i}" for i in ids]),
        }
    )


def drivers(folder: Path, count: int, table: pa.Table | None = None) -> Applied:
    """The view applied, its Parquet file at `folder / "drivers.parquet"`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "drivers.parquet"
    pq.write_table(table if table is not None else source_rows(count), path, row_group_size=500)
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name=VIEW,
        entities=[driver],
        ttl=timedelta(days=1),
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="x", dtype=Float64),
            Field(name="n", dtype=Int64),
            Field(name="name", dtype=String),
        ],
        source=file_source(path),
    )
    return apply(folder / "applied", [driver, view])


def _key(driver: int) -> bytes:
    (key,) = encode_entity_keys([("driver_id", "INT64", [driver])], 3)
    return key


class OnlineRows:
    """What is stored of each driver, to be spoilt."""

    def set(self, driver: int, feature: str, value: bytes) -> None:
        """Another value of a feature."""
        raise NotImplementedError

    def drop(self, driver: int, feature: str) -> None:
        """No value of a feature."""
        raise NotImplementedError

    def drop_row(self, driver: int) -> None:
        """No row."""
        raise NotImplementedError

    def set_time(self, driver: int, time: datetime) -> None:
        """Another event timestamp."""
        raise NotImplementedError

    def spoil_time(self, driver: int) -> None:
        """An event timestamp that is none."""
        raise NotImplementedError


class RedisRows(OnlineRows):
    """In Redis."""

    def __init__(self, repo: Repo) -> None:
        self._client = repo.redis()
        self._project = repo.config["project"].encode()

    def key(self, driver: int) -> bytes:
        """The key of the driver's hash."""
        return _key(driver) + self._project

    def _field(self, feature: str) -> bytes:
        return mmh3.hash(f"{VIEW}:{feature}", signed=False).to_bytes(4, "little")

    def _set(self, driver: int, field: bytes, value: bytes) -> None:
        self._client.hset(self.key(driver), field, value)  # type: ignore[arg-type]

    def set(self, driver: int, feature: str, value: bytes) -> None:
        self._set(driver, self._field(feature), value)

    def drop(self, driver: int, feature: str) -> None:
        assert self._client.hdel(self.key(driver), self._field(feature)) == 1  # type: ignore[arg-type]

    def drop_row(self, driver: int) -> None:
        assert self._client.delete(self.key(driver)) == 1

    def set_time(self, driver: int, time: datetime) -> None:
        message = Timestamp()
        message.FromDatetime(time)
        self._set(driver, f"_ts:{VIEW}".encode(), message.SerializeToString())

    def spoil_time(self, driver: int) -> None:
        self._set(driver, f"_ts:{VIEW}".encode(), GARBAGE)

    def drop_time(self, driver: int) -> None:
        """A row that lost its event timestamp."""
        assert self._client.hdel(self.key(driver), f"_ts:{VIEW}") == 1

    def replace(self, driver: int) -> None:
        """Something else than a hash."""
        self._client.set(self.key(driver), "a string")

    def close(self) -> None:
        self._client.close()


class SqliteRows(OnlineRows):
    """In SQLite."""

    def __init__(self, repo: Repo) -> None:
        self._file = sqlite3.connect(repo.sqlite_path, isolation_level=None)
        self._table = f"{repo.config['project']}_{VIEW}"

    def _run(self, sql: str, *parameters: Any) -> None:
        assert self._file.execute(sql.format(self._table), parameters).rowcount > 0

    def set(self, driver: int, feature: str, value: bytes) -> None:
        self._run(
            'UPDATE "{}" SET value = ? WHERE entity_key = ? AND feature_name = ?',
            *(value, _key(driver), feature),
        )

    def drop(self, driver: int, feature: str) -> None:
        self._run(
            'DELETE FROM "{}" WHERE entity_key = ? AND feature_name = ?', _key(driver), feature
        )

    def drop_row(self, driver: int) -> None:
        self._run('DELETE FROM "{}" WHERE entity_key = ?', _key(driver))

    def set_time(self, driver: int, time: datetime) -> None:
        self._run(
            'UPDATE "{}" SET event_ts = ? WHERE entity_key = ?', int(time.timestamp()), _key(driver)
        )

    def spoil_time(self, driver: int) -> None:
        self._run('UPDATE "{}" SET event_ts = ? WHERE entity_key = ?', "soon", _key(driver))

    def close(self) -> None:
        self._file.close()


@contextlib.contextmanager
def online_rows(repo: Repo) -> Iterator[Any]:
    """The rows of the repo's store."""
    rows = SqliteRows(repo) if repo.server is None else RedisRows(repo)
    try:
        yield rows
    finally:
        rows.close()


@dataclass(frozen=True)
class Corruption:
    """One way."""

    name: str
    spoil: Callable[[Any, int], None]
    status: str
    """What the row is, then."""
    problem: tuple[str, str] | None = None
    """The feature that differs, and how."""


def _value(**value: Any) -> bytes:
    return Value(**value).SerializeToString()


CORRUPTIONS = [
    Corruption(
        "another value",
        lambda rows, driver: rows.set(driver, "x", _value(double_val=1e9)),
        *("different", ("x", "value")),
    ),
    Corruption(
        "one bit of a value",
        lambda rows, driver: rows.set(driver, "n", _value(int64_val=(driver * 10) ^ 1)),
        *("different", ("n", "value")),
    ),
    Corruption(
        "null", lambda rows, driver: rows.set(driver, "name", b""), "different", ("name", "value")
    ),
    Corruption(
        "another type",
        lambda rows, driver: rows.set(driver, "n", _value(int32_val=driver * 10)),
        *("different", ("n", "type")),
    ),
    Corruption(
        "garbage",
        lambda rows, driver: rows.set(driver, "name", GARBAGE),
        *("different",),
        ("name", "undecodable"),
    ),
    Corruption(
        "a value cut short",
        lambda rows, driver: rows.set(driver, "x", _value(double_val=driver / 2 + 1)[:-1]),
        *("different", ("x", "undecodable")),
    ),
    Corruption(
        "no value", lambda rows, driver: rows.drop(driver, "x"), "different", ("x", "absent")
    ),
    Corruption("no row", lambda rows, driver: rows.drop_row(driver), "missing"),
    Corruption(
        "an older row",
        lambda rows, driver: rows.set_time(driver, AT - timedelta(days=1)),
        "stale",
    ),
    Corruption("a time that is none", lambda rows, driver: rows.spoil_time(driver), "unreadable"),
]

# What can go wrong in Redis alone.
REDIS_CORRUPTIONS = [
    Corruption("no time", lambda rows, driver: rows.drop_time(driver), "missing"),
    Corruption("no hash", lambda rows, driver: rows.replace(driver), "unreadable"),
    Corruption(
        "a microsecond older",
        lambda rows, driver: rows.set_time(
            driver, AT + timedelta(seconds=driver) - timedelta(microseconds=1)
        ),
        "stale",
    ),
]
