"""Entity keys: every type, both versions, single and composite, in stores and in requests."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.types import Bytes, Float64, Int32, Int64, String, UnixTimestamp

from testbed.doors import ask_both, refuse_both
from testbed.dump import assert_same_redis, assert_same_sqlite
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo, apply, file_source

AT = datetime(2024, 5, 1, tzinfo=timezone.utc)
I32, I64 = 2**31 - 1, 2**63 - 1

TYPES = {
    "STRING": (String, pa.string(), ["", "a", "ž", "日本語", "a\x00b", "x" * 300]),
    "BYTES": (Bytes, pa.binary(), [b"", b"\x00", b"\xff\xfe", b"abc"]),
    "INT32": (Int32, pa.int32(), [0, 1, -1, I32, -I32 - 1]),
    "INT64": (Int64, pa.int64(), [0, 1, -1, I64, -I64 - 1, 2**53 + 1]),
    "UNIX_TIMESTAMP": (
        UnixTimestamp,
        pa.timestamp("us", tz="UTC"),
        [AT, AT - timedelta(days=40_000), AT + timedelta(seconds=1.5)],
    ),
}


def key_view(name: str, kinds: list[str], folder: Path) -> tuple[list[Entity], FeatureView]:
    """A view keyed by columns `k0`, `k1`, … with entities in reverse order."""
    columns = [f"k{i}_{name}" for i in range(len(kinds))]
    count = max(len(TYPES[kind][2]) for kind in kinds)
    table: dict[str, Any] = {
        column: pa.array(
            [TYPES[kind][2][i % len(TYPES[kind][2])] for i in range(count)], TYPES[kind][1]
        )
        for column, kind in zip(columns, kinds, strict=True)
    }
    table["event_timestamp"] = pa.array([AT] * count, pa.timestamp("us", tz="UTC"))
    table["x"] = pa.array([i / 2 for i in range(count)])
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table(table), path)
    entities = [
        Entity(name=f"e_{column}", join_keys=[column], value_type=ValueType[kind])
        for column, kind in zip(columns, kinds, strict=True)
    ]
    view = FeatureView(
        name=f"v_{name}",
        entities=list(reversed(entities)),
        ttl=timedelta(days=3650),
        schema=[
            *(
                Field(name=column, dtype=TYPES[kind][0])
                for column, kind in zip(columns, kinds, strict=True)
            ),
            Field(name="x", dtype=Float64),
        ],
        source=file_source(path),
    )
    return entities, view


SINGLE = {kind.lower(): [kind] for kind in TYPES}
COMPOSITE = {
    "two_ints": ["INT64", "INT32"],
    "text_and_int": ["STRING", "INT64"],
    "three": ["INT64", "STRING", "STRING"],
}
KEYS = SINGLE | COMPOSITE


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    folder = tmp_path_factory.mktemp("keys")
    objects: list[Any] = []
    for name, kinds in KEYS.items():
        entities, view = key_view(name, kinds, folder)
        objects += [*entities, view]
    return apply(folder / "applied", objects)


@pytest.fixture(scope="module", params=[2, 3])
def twins(
    request: pytest.FixtureRequest,
    applied: Applied,
    either_store: RedisServer | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Repo, Repo]:
    """Both stores filled, with keys of version 2 and of version 3."""
    ours, stock = applied.twins(
        tmp_path_factory.mktemp("twins"), either_store, key_version=request.param
    )
    stock.stock().materialize(EARLY, LATE)
    ours.ours().materialize(EARLY, LATE)
    return ours, stock


def test_stores_are_equal(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    if ours.server is None:
        assert_same_sqlite(ours.sqlite_path, stock.sqlite_path)
    else:
        assert_same_redis(ours.redis(), stock.redis())


def request_rows(name: str) -> list[dict[str, Any]]:
    kinds = KEYS[name]
    count = max(len(TYPES[kind][2]) for kind in kinds)
    return [
        {f"k{i}_{name}": TYPES[kind][2][row % len(TYPES[kind][2])] for i, kind in enumerate(kinds)}
        for row in range(count)
    ]


@pytest.mark.parametrize("name", KEYS)
def test_each_reads_what_the_other_wrote(name: str, twins: tuple[Repo, Repo]) -> None:
    rows = request_rows(name)
    for repo in twins:
        answer = ask_both(
            repo, lambda store: store.get_online_features([f"v_{name}:x"], rows).to_dict()
        )
        assert answer["x"][0] == 0.0


@pytest.mark.parametrize("name", KEYS)
def test_lists_of_columns_are_rows_too(name: str, twins: tuple[Repo, Repo]) -> None:
    rows = request_rows(name)
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    ask_both(twins[1], lambda store: store.get_online_features([f"v_{name}:x"], columns).to_dict())


COERCED = [
    *(("int64", value) for value in ("1", 1.9, True, b"1")),
    *(("int32", value) for value in ("1", True)),
    *(("string", value) for value in (1, 2.5, True)),
]


@pytest.mark.parametrize(("name", "value"), COERCED)
def test_coerced_key_values(name: str, value: Any, twins: tuple[Repo, Repo]) -> None:
    rows = [{f"k0_{name}": value}]
    ask_both(twins[1], lambda store: store.get_online_features([f"v_{name}:x"], rows).to_dict())


@pytest.mark.parametrize("value", [None, "x", float("nan"), [1], {"a": 1}, 2**63, "", object()])
def test_wrong_key_values_are_refused(value: Any, twins: tuple[Repo, Repo]) -> None:
    rows = [{"k0_int64": 1}, {"k0_int64": value}]
    ours, _ = refuse_both(
        twins[1], lambda store: store.get_online_features(["v_int64:x"], rows).to_dict()
    )
    assert isinstance(ours, ValueError)
    assert "k0_int64" in str(ours)
