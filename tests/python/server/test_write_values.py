"""Rows as JSON, for every value type: our server leaves the store that Feast's leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.feature_server import get_app as feasts_app
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import (
    Array,
    Bool,
    Bytes,
    Decimal,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Map,
    ScalarMap,
    Set,
    String,
    Struct,
    TimeUuid,
    UnixTimestamp,
    Uuid,
    ZonedTimestamp,
)

from feastrs.asgi import get_app
from testbed.asgi_client import Answer, AsgiClient
from testbed.dump import assert_same_redis, canonical
from testbed.redis_server import RedisServer
from testbed.repo import Repo, apply, file_source

DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
AT = datetime(2026, 2, 1, tzinfo=timezone.utc)
U = "550e8400-e29b-41d4-a716-446655440000"
BIG = 2**53 + 1
NOT_A_TIME = -(2**63)


@dataclass(frozen=True)
class Case:
    """Columns of one type, each a list of JSON values."""

    dtype: FeastType
    same: list[list[Any]] = field(default_factory=list)
    """Both take them, and store the same."""
    mended: list[tuple[list[Any], list[Any]]] = field(default_factory=list)
    """Feast refuses them, or stores something else: what we store, as Python values."""
    refused: list[list[Any]] = field(default_factory=list)
    """Feast answers 500, we 422."""


CASES = {
    "int32": Case(
        Int32,
        same=[
            [1],
            [1.9],
            ["7"],
            [True],
            [None],
            [1, None],
            [1, 2.5],
            [" 7 "],
            ["1_0"],
            [-1.9],
            ["-7"],
            ["+7"],
        ],
        mended=[([True, 1], [1, 1])],
        refused=[["x"], [2**31], [""], [1e20], ["1__0"], ["_1"]],
    ),
    "int64": Case(
        Int64,
        same=[
            [1],
            [2**63 - 1],
            [1.9],
            ["7"],
            [True],
            [True, False],
            [True, None],
            ["1", None],
            [None],
            [BIG],
            [-(2**63)],
        ],
        mended=[
            ([BIG, None], [BIG, None]),
            ([BIG, 1.5], [BIG, 1]),
            ([1, "2"], [1, 2]),
            ([True, 1], [1, 1]),
            ([1, {"a": 1}], [1, None]),
            (["1", [1]], [1, None]),
        ],
        refused=[[2**63], [2**64], [-(2**63) - 1], [1e19]],
    ),
    "float32": Case(
        Float32,
        same=[
            [0.1],
            [1],
            ["0.1"],
            ["inf"],
            [True],
            [None],
            [None, 1.0],
            [1e39],
            ["1e5"],
            ["1_0.5"],
            [float("nan"), 1.0],
        ],
        refused=[["x"], [""]],
    ),
    "float64": Case(
        Float64,
        same=[
            [0.1],
            [1],
            [BIG],
            [None],
            [0],
            [0.0],
            [-0.0],
            [None, 1],
            [1, 2.5],
            [float("nan"), 1.0],
            [float("inf")],
        ],
        mended=[([2**70], [float(2**70)])],
        refused=[["0.1"], [True], [False], [0, "a"]],
    ),
    "string": Case(
        String,
        same=[
            ["a"],
            [""],
            [1],
            [1.0],
            [True],
            [None],
            ["a", None],
            [1e22],
            [2**63],
            ["ü\u2028"],
        ],
        mended=[
            ([None, 1], [None, "1"]),
            (["a", 1], ["a", "1"]),
            ([2**70], [str(2**70)]),
        ],
        refused=[],
    ),
    "bool": Case(
        Bool,
        same=[[True], [False], [1], [0], [2], [None], [True, None], [None, True], [-1]],
        mended=[([True, 1], [True, True])],
        refused=[[1.0], ["true"], [0.0]],
    ),
    "bytes": Case(
        Bytes,
        same=[[None]],
        mended=[(["YWI="], [b"ab"]), ([""], [b""])],
        refused=[["a"], [1], [0]],
    ),
    "timestamp": Case(
        UnixTimestamp,
        same=[[1700000000], ["1700000000"], [None], [True], [-1]],
        mended=[
            ([1700000000.7], [1700000000]),
            ([-1.5], [-2]),
            (["2026-02-01T00:00:00Z"], [1769904000]),
            (["2026-02-01"], [1769904000]),
            # As a null in a Parquet file is stored.
            ([None, 1], [NOT_A_TIME, 1]),
        ],
        refused=[[2**63], ["x"]],
    ),
    "int64_list": Case(
        Array(Int64),
        same=[[[1, 2]], [[]], [None], [[1], None], [[], [1]]],
        refused=[
            [[1.5]],
            [["1"]],
            [[1, None]],
            [[True]],
            ["[1,2]"],
            [1],
            [[[1]]],
            [[2**63]],
            [{"a": 1}],
        ],
    ),
    "int32_list": Case(Array(Int32), same=[[[1, 2]]], refused=[[[2**31]], [[1.0]]]),
    "float32_list": Case(
        Array(Float32),
        same=[[[0.1]], [[0.1, None]], [[1, 0.5]], [[]]],
        mended=[([[1]], [[1.0]])],
        refused=[[["x"]]],
    ),
    "float64_list": Case(
        Array(Float64),
        same=[[[0.1]], [[0.1, None]], [[None]]],
        mended=[([[1]], [[1.0]])],
    ),
    "string_list": Case(
        Array(String),
        same=[[["a"]], [["a", None]], [[None]], [[]]],
        refused=[[[1]]],
    ),
    "bool_list": Case(Array(Bool), same=[[[True]], [[True, None]]], refused=[[[1]], [["a"]]]),
    "bytes_list": Case(
        Array(Bytes), same=[[[]]], mended=[([["YWI="]], [[b"ab"]])], refused=[[[1]]]
    ),
    "timestamp_list": Case(
        Array(UnixTimestamp),
        same=[[[1]], [[None]], [[]]],
        mended=[
            ([["2026-02-01"]], [[1769904000]]),
            ([[1.5]], [[1]]),
            ([["1"]], [[1]]),
        ],
    ),
    "int64_set": Case(
        Set(Int64),
        same=[[[1, 2, 1]], [[]], [None]],
        refused=[[["a"]], [[1.5]], [[1, None]]],
    ),
    "string_set": Case(Set(String), same=[[["a", "a"]]]),
    "map": Case(
        Map,
        same=[
            [{"a": 1}],
            [{"a": 1, "b": "x"}],
            ['{"a":1}'],
            [None],
            [{}],
            [{"a": None}],
            [{"a": [1, 2]}],
            [{"a": {"b": 1.5}}],
            [{"a": True}],
            [{"a": [1, 2.5]}],
            ['{"a":[{"b":1}]}'],
        ],
        refused=[["x"], [1], [[1]]],
    ),
    "struct": Case(
        Struct({"a": Int64}),
        same=[[{"a": 1}], ['{"a":1}'], [None], [{"b": 2}]],
        refused=[["x"]],
    ),
    "json": Case(
        Json,
        same=[
            ['{"a":1}'],
            ["1"],
            [{"a": 1}],
            [1.5],
            [None],
            ['"s"'],
            ["NaN"],
            ['{"a":"ü"}'],
            [{"a": "ü"}],
        ],
        mended=[
            ([{"a": 1.5, "b": [1]}], ['{"a": 1.5, "b": [1]}']),
            ([1], ["1"]),
            ([True], ["true"]),
            ([[1, 2]], ["[1, 2]"]),
        ],
        refused=[["x"], ["{'a':1}"]],
    ),
    "uuid": Case(Uuid, same=[[U], ["x"], [None], [0]], refused=[[1]]),
    "time_uuid": Case(TimeUuid, same=[[U]]),
    "decimal": Case(Decimal, same=[["1.50"], ["x"], [None], [0], [0.0]], refused=[[1], [1.5]]),
    "uuid_set": Case(Set(Uuid), same=[[[U]]]),
    "uuid_list": Case(Array(Uuid), same=[[[U]]]),
    "decimal_list": Case(Array(Decimal), same=[[["1.5"]]], refused=[[[1.5]]]),
    "json_list": Case(Array(Json), same=[[['{"a":1}']], [[{"a": 1}]]], refused=[[["x"]]]),
    "map_list": Case(Array(Map), same=[['[{"a":1}]']], refused=[[[1]]]),
    "nested": Case(
        Array(Array(Int64)),
        same=[[[[1], [2, 3]]], [[]], [None], [[[1.5]]], [[["a"]]]],
        refused=[[[1]]],
    ),
    "zoned": Case(ZonedTimestamp, same=[[None]], refused=[[1700000000], ["x"]]),
    "scalar_map": Case(ScalarMap, same=[[None]], refused=[[{"1": 2}]]),
}


# Types for which Feast takes collections for nulls.
SCALARS = ["int32", "int64", "float32", "float64", "string"]


@dataclass
class Side:
    """One repository behind a server."""

    repo: Repo
    client: AsgiClient

    def write(self, view: str, df: dict[str, Any]) -> Answer:
        body = {"feature_view_name": view, "df": df}
        return self.client.post("/write-to-online-store", body)


@pytest.fixture(scope="module")
def sides(
    tmp_path_factory: pytest.TempPathFactory, redis7: RedisServer
) -> Iterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("values")
    views = [_view(name, case.dtype, folder) for name, case in CASES.items()]
    ours, stock = apply(folder / "applied", [DRIVER, *views]).twins(folder / "twins", redis7)
    pair = (
        Side(ours, AsgiClient(get_app(ours.ours()))),
        Side(stock, AsgiClient(feasts_app(stock.stock()))),
    )
    yield pair
    for side in pair:
        side.client.close()


def _view(name: str, dtype: FeastType, folder: Path) -> FeatureView:
    return FeatureView(
        name=f"v_{name}",
        entities=[DRIVER],
        ttl=timedelta(days=3650),
        schema=[Field(name="driver_id", dtype=Int64), Field(name="x", dtype=dtype)],
        source=file_source(folder / "nowhere.parquet"),
    )


def columns_of(values: list[Any]) -> dict[str, Any]:
    """A `df` with the values in rows of their own; the last row is there for the others' sake."""
    rows = range(len(values))
    times = [(AT + timedelta(seconds=row)).isoformat() for row in rows]
    return {"driver_id": list(rows), "event_timestamp": times, "x": values}


def ask_both(sides: tuple[Side, Side], name: str, values: list[Any]) -> tuple[Answer, Answer]:
    for side in sides:
        side.repo.redis().flushdb()
    ours, stock = (side.write(f"v_{name}", columns_of(values)) for side in sides)
    return ours, stock


def pairs(kind: str) -> list[Any]:
    return [
        pytest.param(name, entry, id=f"{name}-{json.dumps(entry, default=repr)}")
        for name, case in CASES.items()
        for entry in getattr(case, kind)
    ]


@pytest.mark.parametrize(("name", "values"), pairs("same"))
def test_the_same_is_stored(name: str, values: list[Any], sides: tuple[Side, Side]) -> None:
    ours, stock = ask_both(sides, name, values)
    assert (ours.status, ours.body) == (stock.status, stock.body) == (200, b"null")
    assert_same_redis(sides[0].repo.redis(), sides[1].repo.redis())


@pytest.mark.parametrize(("name", "values"), pairs("refused"))
def test_a_bad_value_is_422(name: str, values: list[Any], sides: tuple[Side, Side]) -> None:
    ours, stock = ask_both(sides, name, values)
    assert stock.status == 500
    assert ours.status == 422
    assert "column 'x', row" in ours.json
    assert sides[0].repo.redis().dbsize() == 0


@pytest.mark.parametrize(
    ("name", "values"), [("string_list", ["abc"]), ("struct", [1]), ("nested", ["x"])]
)
def test_what_is_no_collection_is_422(
    name: str, values: list[Any], sides: tuple[Side, Side]
) -> None:
    """Feast stores the characters of a text, or makes an object around a number."""
    ours, stock = ask_both(sides, name, values)
    assert (ours.status, stock.status) == (422, 200)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in SCALARS for value in ([1], {"a": 1})],
)
def test_collections_count_as_nulls(name: str, value: Any, sides: tuple[Side, Side]) -> None:
    """Where there is nothing but nulls, nothing is written; Feast doesn't notice in time."""
    ours, stock = ask_both(sides, name, [value])
    assert (ours.status, ours.body) == (stock.status, stock.body) == (200, b"null")
    assert sides[0].repo.redis().dbsize() == 0
    assert stored(sides[1].repo, name) == [Value()]


@pytest.mark.parametrize(("name", "entry"), pairs("mended"))
def test_mended_values(
    name: str, entry: tuple[list[Any], list[Any]], sides: tuple[Side, Side]
) -> None:
    """Feast answers 500, or stores something that was not given."""
    values, expected = entry
    ours, stock = ask_both(sides, name, values)
    assert ours.status == 200, ours.body
    found = stored(sides[0].repo, name)
    assert [plain(value) for value in found] == expected
    assert stock.status == 500 or stored(sides[1].repo, name) != found


def stored(repo: Repo, name: str) -> list[Value]:
    """The values of the column, row by row."""
    import mmh3

    feature = mmh3.hash(f"v_{name}:x", signed=False).to_bytes(4, "little")
    with repo.redis() as client:
        # The key ends in the driver's number, little endian, and the project.
        keys = sorted(client.scan_iter(count=1000), key=lambda key: key[-12:])
        return [Value.FromString(canonical(client.hget(key, feature) or b"")) for key in keys]


def plain(value: Value) -> Any:
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    found = getattr(value, kind)
    return list(found.val) if kind.endswith(("_list_val", "_set_val")) else found
