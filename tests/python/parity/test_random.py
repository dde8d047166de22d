"""Random tables of random schemas: whatever stock Feast makes of them, feastrs makes too."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.types import (
    Array,
    Bool,
    Bytes,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    Set,
    String,
    UnixTimestamp,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.doors import difference
from testbed.dump import assert_same_redis, assert_same_sqlite
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, apply, file_source

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Kind:
    """A column that stock Feast materializes without loss, and what may stand in it."""

    dtype: FeastType
    arrow: pa.DataType
    values: st.SearchStrategy[Any]
    nullable: bool = True


TEXT = st.text(max_size=12)
# A column of nothing but empty strings is null in stock Feast: see test_differences.py.
SOME_TEXT = st.text(min_size=1, max_size=12)
SMALL = st.integers(-(2**31), 2**31 - 1)
LARGE = st.integers(-(2**63), 2**63 - 1)
# With a null beside it stock Feast takes an int64 through a double, so these must survive that.
EXACT = st.integers(-(2**53), 2**53)
SINGLE = st.floats(width=32)
DOUBLE = st.floats()
MOMENT = st.datetimes(datetime(1980, 1, 1), datetime(2037, 1, 1), timezones=st.just(timezone.utc))
WHOLE_MOMENT = MOMENT.map(lambda moment: moment.replace(microsecond=0))

KINDS = [
    Kind(Int32, pa.int32(), SMALL),
    Kind(Int64, pa.int64(), LARGE, nullable=False),
    Kind(Int64, pa.int64(), EXACT),
    Kind(Float32, pa.float32(), SINGLE),
    Kind(Float64, pa.float64(), DOUBLE),
    Kind(Bool, pa.bool_(), st.booleans()),
    Kind(String, pa.string(), SOME_TEXT),
    Kind(Bytes, pa.binary(), st.binary(min_size=1, max_size=80)),
    Kind(UnixTimestamp, TIME, MOMENT),
    Kind(Array(Int64), pa.list_(pa.int64()), st.lists(LARGE, max_size=4)),
    Kind(Array(Float32), pa.list_(pa.float32()), st.lists(SINGLE, max_size=4)),
    Kind(Array(String), pa.list_(pa.string()), st.lists(TEXT, max_size=4)),
    Kind(Array(Bool), pa.list_(pa.bool_()), st.lists(st.booleans(), max_size=4)),
    Kind(Array(UnixTimestamp), pa.list_(TIME), st.lists(WHOLE_MOMENT, max_size=3)),
    Kind(Set(String), pa.list_(pa.string()), st.lists(TEXT, max_size=4)),
    Kind(Set(Int64), pa.list_(pa.int64()), st.lists(LARGE, max_size=4)),
]

KEYS = [
    (ValueType.INT64, Int64, pa.int64(), st.integers(-3, 3)),
    (ValueType.STRING, String, pa.string(), st.sampled_from(["", "a", "b", "ž"])),
    (ValueType.INT32, Int32, pa.int32(), st.integers(0, 4)),
]


@dataclass(frozen=True)
class Example:
    """A view and its table."""

    keys: list[int]
    kinds: list[int]
    table: pa.Table
    row_group_size: int
    key_version: int


@st.composite
def examples(draw: st.DrawFn) -> Example:
    keys = draw(st.lists(st.sampled_from(range(len(KEYS))), min_size=1, max_size=2, unique=True))
    kinds = draw(st.lists(st.sampled_from(range(len(KINDS))), min_size=1, max_size=6))
    rows = draw(st.integers(1, 25))
    columns: dict[str, pa.Array] = {}
    for key in keys:
        _, _, arrow, values = KEYS[key]
        columns[f"key_{key}"] = pa.array(
            draw(st.lists(values, min_size=rows, max_size=rows)), arrow
        )
    # No two rows of one entity at one time: which of them stock Feast keeps is an accident.
    offsets = draw(st.lists(st.integers(0, 10**9), min_size=rows, max_size=rows, unique=True))
    columns["event_timestamp"] = pa.array(
        [START + timedelta(microseconds=offset) for offset in offsets], TIME
    )
    for position, kind in enumerate(kinds):
        values = KINDS[kind].values
        if KINDS[kind].nullable:
            values = st.none() | values
        columns[f"f_{position}"] = pa.array(
            draw(st.lists(values, min_size=rows, max_size=rows)), KINDS[kind].arrow
        )
    return Example(
        keys,
        kinds,
        pa.table(columns),
        draw(st.integers(1, 30)),
        draw(st.sampled_from([2, 3])),
    )


COUNTER = itertools.count()


@settings(max_examples=40)
@given(example=examples())
def test_random_tables(
    example: Example,
    either_store: RedisServer | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"random-{next(COUNTER)}"
    folder.mkdir()
    view = make_view(example, folder)
    entities = [
        Entity(name=f"entity_{key}", join_keys=[f"key_{key}"], value_type=KEYS[key][0])
        for key in example.keys
    ]
    ours, stock = apply(folder / "applied", [*entities, view]).twins(
        folder / "twins", either_store, key_version=example.key_version
    )

    stock.stock().materialize(EARLY, LATE)
    ours.ours().materialize(EARLY, LATE)

    if either_store is None:
        assert_same_sqlite(ours.sqlite_path, stock.sqlite_path)
    else:
        assert_same_redis(ours.redis(), stock.redis())
    rows = [
        {
            name: example.table[name][row].as_py()
            for name in example.table.column_names[: len(example.keys)]
        }
        for row in range(example.table.num_rows)
    ]
    features = [f"v:f_{position}" for position in range(len(example.kinds))]
    answers = [
        store.get_online_features(features, rows).to_dict(include_event_timestamps=True)
        for store in (ours.ours(), stock.stock())
    ]
    assert difference(*answers) is None
    if either_store is not None:
        with ours.redis() as left, stock.redis() as right:
            left.flushdb()
            right.flushdb()


def make_view(example: Example, folder: Path) -> FeatureView:
    path = folder / "v.parquet"
    pq.write_table(example.table, path, row_group_size=example.row_group_size)
    entities = [
        Entity(name=f"entity_{key}", join_keys=[f"key_{key}"], value_type=KEYS[key][0])
        for key in example.keys
    ]
    return FeatureView(
        name="v",
        entities=entities,
        ttl=timedelta(days=3650),
        schema=[
            *(Field(name=f"key_{key}", dtype=KEYS[key][1]) for key in example.keys),
            *(
                Field(name=f"f_{position}", dtype=KINDS[kind].dtype)
                for position, kind in enumerate(example.kinds)
            ),
        ],
        source=file_source(path),
    )
