"""Values that a request brings, in every type that people have them in: as keys, as columns,
and as request data for a function."""

from __future__ import annotations

import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bytes, Float64, Int32, Int64, String, UnixTimestamp
from hypothesis import given
from hypothesis import strategies as st

from testbed.doors import ask_both, difference
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Repo, apply, file_source

AT = datetime(2024, 5, 1, tzinfo=timezone.utc)
SOME_ID = uuid.UUID("12345678-1234-5678-1234-567812345678")

TYPES = {
    "int32": (ValueType.INT32, Int32, pa.array([1, 2, 3], pa.int32())),
    "int64": (ValueType.INT64, Int64, pa.array([1, 2, 1714521600], pa.int64())),
    "string": (ValueType.STRING, String, pa.array(["1", str(SOME_ID), "1.5"])),
    "bytes": (ValueType.BYTES, Bytes, pa.array([b"1", b"a", b"\xff"])),
    "time": (
        ValueType.UNIX_TIMESTAMP,
        UnixTimestamp,
        pa.array([AT, AT + timedelta(days=1), AT + timedelta(days=2)], pa.timestamp("us", "UTC")),
    ),
}


def key_view(name: str, folder: Path) -> list[Any]:
    kind, dtype, keys = TYPES[name]
    path = folder / f"{name}.parquet"
    pq.write_table(
        pa.table(
            {
                f"k_{name}": keys,
                "event_timestamp": pa.array([AT] * 3, pa.timestamp("us", "UTC")),
                "x": pa.array([0.5, 1.5, 2.5]),
            }
        ),
        path,
    )
    entity = Entity(name=f"e_{name}", join_keys=[f"k_{name}"], value_type=kind)
    view = FeatureView(
        name=f"v_{name}",
        entities=[entity],
        ttl=timedelta(days=3650),
        schema=[Field(name=f"k_{name}", dtype=dtype), Field(name="x", dtype=Float64)],
        source=file_source(path),
    )
    return [entity, view]


@pytest.fixture(scope="module")
def repo(redis7: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("request_values")
    request = RequestSource(name="given", schema=[Field(name="anything", dtype=String)])

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[request], schema=[Field(name="seen", dtype=String)], mode="python"
    )
    def echo(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"seen": [f"{type(one).__name__} {one!r}" for one in inputs["anything"]]}

    objects = [definition for name in TYPES for definition in key_view(name, folder)]
    repo = apply(folder / "applied", [*objects, request, echo]).open(folder / "repo", redis7)
    repo.stock().materialize(EARLY, LATE)
    return repo


KEYS: list[tuple[str, Any]] = [
    *(("int64", of(2)) for of in (np.int8, np.int32, np.int64, np.uint64, np.float32, np.float64)),
    *(("int64", value) for value in (np.bool_(True), Decimal(2), np.str_("2"))),
    *(("int64", value) for value in (pd.Timestamp(AT),)),
    *(("int32", of(2)) for of in (np.int16, np.int32, np.int64, np.uint8, np.float64)),
    *(("string", value) for value in (np.str_("1"), SOME_ID, np.float64(1.5), Decimal("1.5"))),
    *(("string", value) for value in (np.int64(1), b"1", AT)),
    ("bytes", b"a"),
    *(("time", value) for value in (AT, AT.replace(tzinfo=None), pd.Timestamp(AT))),
    *(("time", value) for value in (np.datetime64("2024-05-01"), 1714521600)),
    *(("time", value) for value in (np.int64(1714521600), pd.Timestamp("2024-05-01"))),
    ("time", AT.astimezone(timezone(timedelta(hours=5)))),
]


@pytest.mark.parametrize(("name", "value"), KEYS, ids=lambda part: repr(part))
def test_keys(name: str, value: Any, repo: Repo) -> None:
    rows = [{f"k_{name}": value}]
    ask_both(repo, lambda store: store.get_online_features([f"v_{name}:x"], rows).to_dict())


COLUMNS: dict[str, tuple[str, Any]] = {
    "an array": ("int64", np.array([1, 2, 9])),
    "a small array": ("int64", np.array([1, 2, 9], np.int16)),
    "floats": ("int64", np.array([1.0, 2.0])),
    "an array of text": ("string", np.array(["1", "1.5"])),
    "an array of objects": ("string", np.array(["1", 1.5], object)),
    "an array of times": ("time", np.array(["2024-05-01", "2024-05-02"], "datetime64[ns]")),
    "a series": ("int64", pd.Series([1, 2, 9])),
    "a series with another index": ("int64", pd.Series([1, 2, 9], index=[5, 6, 7])),
    "a nullable series": ("int64", pd.Series([1, 2, 9], dtype="Int64")),
    "a series of text": ("string", pd.Series(["1", "1.5"], dtype="string")),
    "categories": ("string", pd.Series(["1", "1.5"], dtype="category")),
    "a series of times": ("time", pd.Series(pd.to_datetime(["2024-05-01"], utc=True))),
    "an index": ("int64", pd.Index([1, 2])),
    "a tuple": ("int64", (1, 2)),
    "a range": ("int64", range(3)),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns(name: str, repo: Repo) -> None:
    """Feast takes only what is a `Sequence`; ours is what it makes of the same values in a list."""
    key, values = COLUMNS[name]
    ask = [f"v_{key}:x"]
    ours = repo.ours().get_online_features(ask, {f"k_{key}": values}).to_dict()
    stock = repo.stock().get_online_features(ask, {f"k_{key}": list(values)}).to_dict()
    assert difference(ours, stock) is None


REQUEST_DATA: list[list[Any]] = [
    [1, 2, -3],
    [1.5, float("inf"), 2],
    [True, False],
    ["a", ""],
    ["a", None],
    [None, 1],
    [None, None],
    [b"a", b"\xff"],
    [np.int64(1), np.int64(2)],
    [np.int32(1), np.int16(2)],
    [np.float32(0.1)],
    [np.float64(0.1), float("nan")],
    [np.bool_(True)],
    [AT, AT + timedelta(seconds=1.5)],
    [AT.replace(tzinfo=None)],
    [pd.Timestamp(AT), pd.Timestamp("2024-05-01 10:00", tz="Europe/Berlin")],
    [np.datetime64("2024-05-01T10:00:00")],
    [SOME_ID],
    [Decimal("1.50")],
    [[1, 2], [3]],
    [["a"], []],
    [[0.5], None],
    [np.array([1.5, 2.5])],
    [{"a": {"b": [1, 2]}}, {"b": "x"}],
    [{1, 2}],
]


@pytest.mark.parametrize("values", REQUEST_DATA, ids=repr)
def test_request_data(values: list[Any], repo: Repo) -> None:
    rows = [{"anything": value} for value in values]
    ask_both(repo, lambda store: store.get_online_features(["echo:seen"], rows).to_dict())


SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    # Feast infers no type from what is empty.
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.binary(min_size=1),
    st.datetimes(datetime(1980, 1, 1), datetime(2030, 1, 1), timezones=st.just(timezone.utc)),
    st.uuids(),
    st.dates(date(1980, 1, 1), date(2030, 1, 1)).map(pd.Timestamp),
)


@given(value=SCALARS, count=st.integers(1, 3), with_null=st.booleans())
def test_any_request_data(value: Any, count: int, with_null: bool, repo: Repo) -> None:
    rows = [{"anything": value}] * count + [{"anything": None}] * with_null
    ask_both(repo, lambda store: store.get_online_features(["echo:seen"], rows).to_dict())
