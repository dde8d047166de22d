"""`/push` and `/write-to-online-store`: the same requests to Feast's server and to ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureView, Field, PushSource, RequestSource, ValueType
from feast.feature_server import get_app as feasts_app
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float32, Float64, Int64, String

from feastrs.asgi import get_app
from testbed.asgi_client import Answer, AsgiClient
from testbed.dump import assert_same_redis
from testbed.redis_server import RedisServer
from testbed.repo import Applied, Repo, apply, file_source

AT = datetime(2026, 2, 1, tzinfo=timezone.utc)
TIME = "2026-02-01T00:00:00"
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
STATS = [
    Field(name="driver_id", dtype=Int64),
    Field(name="conv_rate", dtype=Float32),
    Field(name="acc", dtype=Float64),
    Field(name="trips", dtype=Int64),
    Field(name="label", dtype=String),
]


def df(**changes: Any) -> dict[str, Any]:
    """One row of the view `stats`."""
    row: dict[str, Any] = {
        "event_timestamp": [TIME],
        "created": [TIME],
        "conv_rate": [0.5],
        "acc": [0.25],
        "trips": [5],
        "label": ["x"],
        "driver_id": [5001],
    }
    return row | changes


def without(*names: str) -> dict[str, Any]:
    return {name: values for name, values in df().items() if name not in names}


def two(**changes: Any) -> dict[str, Any]:
    """Two rows."""
    return {name: values * 2 for name, values in df().items()} | {"driver_id": [1, 2]} | changes


def definitions(folder: Path) -> list[Any]:
    pq.write_table(
        pa.Table.from_pandas(
            pd.DataFrame(df())
            .astype({"conv_rate": "float32"})
            .assign(event_timestamp=AT, created=AT)
        ),
        folder / "stats.parquet",
    )
    batch = file_source(
        folder / "stats.parquet", name="stats_source", created_timestamp_column="created"
    )
    push = PushSource(name="driver_push", batch_source=batch)
    renamed = file_source(folder / "renamed.parquet", name="renamed", timestamp_field="at")

    def view(name: str, source: Any, schema: list[Field], **options: Any) -> FeatureView:
        return FeatureView(
            name=name,
            entities=options.pop("entities", [DRIVER]),
            ttl=timedelta(days=3650),
            schema=schema,
            source=source,
            **options,
        )

    one = [Field(name="driver_id", dtype=Int64), Field(name="x", dtype=Int64)]
    stats = view("stats", push, STATS)
    factor = RequestSource(name="factor", schema=[Field(name="factor", dtype=Int64)])

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        entities=[DRIVER],
        sources=[factor],
        schema=[Field(name="doubled", dtype=Int64)],
        mode="pandas",
        write_to_online_store=True,
    )
    def written(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"doubled": inputs["factor"] * 2})

    ready_push = PushSource(name="ready_push", batch_source=renamed)
    ready = view("ready", ready_push, [one[0], Field(name="y", dtype=Int64)])
    return [
        DRIVER,
        stats,
        view("offline_only", batch, one, online=False),
        view("off", batch, one, enabled=False),
        view("other_time", renamed, one),
        written,
        ready,
        FeatureService(name="prepared", features=[ready], precompute_online=True),
    ]


@dataclass
class Side:
    """One repository behind a server."""

    repo: Repo
    client: AsgiClient

    def close(self) -> None:
        self.client.close()


def sides_of(applied: Applied, folder: Path, server: RedisServer) -> tuple[Side, Side]:
    ours, stock = applied.twins(folder, server)
    return (
        Side(ours, AsgiClient(get_app(ours.ours()))),
        Side(stock, AsgiClient(feasts_app(stock.stock()))),
    )


@pytest.fixture(scope="module")
def sides(
    tmp_path_factory: pytest.TempPathFactory, redis7: RedisServer
) -> Iterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("writes")
    pair = sides_of(apply(folder / "applied", definitions(folder)), folder / "twins", redis7)
    yield pair
    for side in pair:
        side.close()


def write(frame: Any, view: Any = "stats", **more: Any) -> tuple[str, dict[str, Any]]:
    return "/write-to-online-store", {"feature_view_name": view, "df": frame, **more}


def push(frame: Any, source: Any = "driver_push", **more: Any) -> tuple[str, dict[str, Any]]:
    return "/push", {"push_source_name": source, "df": frame, **more}


X = {"driver_id": [1], "event_timestamp": [TIME], "created": [TIME], "x": [1]}

# What both answer alike.
SAME: dict[str, tuple[str, Any]] = {
    "written": write(df()),
    "unknown view": write(df(), view="nope"),
    "no columns": write({}),
    "no rows": write({name: [] for name in df()}),
    "one value for all rows": write(
        df(label="q", driver_id=[1, 2], trips=[3, 4])
        | {name: values * 2 for name, values in without("label", "driver_id", "trips").items()}
    ),
    "rows by label": write({name: {"0": values[0]} for name, values in df().items()}),
    "all null": write(df(trips=[None], conv_rate=[None], acc=[None], label=[None])),
    "one null": write(df(trips=[None])),
    "another column": write(df(zzz=[1])),
    "key of text": write(df(driver_id=["5022"])),
    "key of float": write(df(driver_id=[5023.0])),
    "created null": write(df(created=[None])),
    "zulu": write(df(event_timestamp=["2026-02-01T00:00:00Z"])),
    "offset": write(df(event_timestamp=["2026-02-01T00:00:00+02:00"])),
    "blank": write(df(event_timestamp=["2026-02-01 00:00:00"])),
    "date": write(df(event_timestamp=["2026-02-01"])),
    "nanoseconds of text": write(df(event_timestamp=["2026-02-01T00:00:00.123456789Z"])),
    "basic date": write(df(event_timestamp=["20260201"])),
    "month": write(df(event_timestamp=["2026-02"])),
    "nanoseconds": write(df(event_timestamp=[1769904000000000000])),
    "small number": write(df(event_timestamp=[1769904000])),
    "number with a fraction": write(df(event_timestamp=[1.5])),
    "registry afresh": write(df(), allow_registry_cache=False),
    "no transformation": write(df(), transform_on_write=False),
    "flag as text": write(df(), allow_registry_cache="no"),
    "bad flag": write(df(), allow_registry_cache="x"),
    "view that is not online": write(X, view="offline_only"),
    "view that is disabled": write(X, view="off"),
    "df is a list": write([]),
    "nothing": ("/write-to-online-store", {}),
    "wrong types": ("/write-to-online-store", {"feature_view_name": 1, "df": 1}),
    "no object": ("/write-to-online-store", []),
    "null": ("/write-to-online-store", None),
    "no JSON": ("/write-to-online-store", b"\xff"),
    "no body": ("/write-to-online-store", b""),
    "pushed": push(df()),
    "push twice": push(two(trips=[1, None])),
    "push of no columns": push({}),
    "unknown source": push(df(), source="nope"),
    "to an int": push(df(), to=1),
    "to null": push(df(), to=None),
    "push of nothing": ("/push", {}),
    "query": ("/push?async=true", push(df())[1]),
    "infinity": write(df(acc=[float("inf")], trips=[1])),
}

# What Feast answers 500 to, and what we answer.
MENDED: dict[str, tuple[tuple[str, Any], int]] = {
    "no feature": (write(without("acc")), 422),
    "no key": (write(without("driver_id")), 422),
    "no event time": (write(without("event_timestamp")), 422),
    "no created time": (write(without("created")), 422),
    "unequal": (write(df(trips=[1, 2])), 422),
    "single values": (write({name: values[0] for name, values in df().items()}), 422),
    "bad number": (write(df(trips=["x"])), 422),
    "null key": (write(df(driver_id=[None])), 422),
    "bad key": (write(df(driver_id=["x"])), 422),
    "bad time": (write(df(event_timestamp=["x"])), 422),
    "empty time": (write(df(event_timestamp=[""])), 422),
    "null time": (write(df(event_timestamp=[None])), 422),
    "bool time": (write(df(event_timestamp=[True])), 422),
    "far time": (write(df(event_timestamp=["9999-12-31T00:00:00Z"])), 422),
    "bad created": (write(df(created=["x"])), 422),
    "mixed forms of times": (
        write(two(event_timestamp=["2026-02-01T00:00:00Z", "2026-02-01 00:00:00"])),
        200,
    ),
    "time with and without fraction": (
        write(two(event_timestamp=["2026-02-01T00:00:05", "2026-02-01T00:00:05.678901"])),
        200,
    ),
    "mixed values": (write(two(trips=["5", 6])), 200),
    "bad destination": (push(df(), to="x"), 422),
    "bad destination and source": (push(df(), source="nope", to="x"), 422),
    "push of unequal columns": (push(df(trips=[1, 2])), 422),
    "push without columns": (push({"driver_id": [1]}), 422),
    "offline without a column": (push(without("label"), to="offline"), 422),
    "offline with another column": (push(df(zzz=[1]), to="offline"), 422),
}

# What Feast takes for dates although it may mean another day.
LOOSE_TIMES = ["02/03/2026", "13/02/2026", "Feb 1 2026", "now"]


def ask(sides: tuple[Side, Side], request: tuple[str, Any]) -> tuple[Answer, Answer]:
    for side in sides:
        side.repo.redis().flushdb()
    ours, stock = (side.client.post(*request) for side in sides)
    return ours, stock


@pytest.mark.parametrize("name", SAME)
def test_the_same_answer_and_store(name: str, sides: tuple[Side, Side]) -> None:
    ours, stock = ask(sides, SAME[name])
    if b"json_invalid" in stock.body:
        assert ours.json["detail"][0]["type"] == "json_invalid"
    else:
        assert (ours.status, ours.body) == (stock.status, stock.body)
    assert ours.headers.get("content-type") == stock.headers.get("content-type")
    assert ours.headers["content-length"] == str(len(ours.body))
    assert_same_redis(sides[0].repo.redis(), sides[1].repo.redis())


@pytest.mark.parametrize("name", MENDED)
def test_mistakes_are_the_clients(name: str, sides: tuple[Side, Side]) -> None:
    request, status = MENDED[name]
    ours, stock = ask(sides, request)
    assert stock.status == 500
    assert ours.status == status, ours.body
    if status != 200:
        assert sides[0].repo.redis().dbsize() == 0
        assert isinstance(ours.json, str) or "detail" in ours.json


@pytest.mark.parametrize("text", LOOSE_TIMES)
def test_loose_times_are_refused(text: str, sides: tuple[Side, Side]) -> None:
    ours, stock = ask(sides, write(df(event_timestamp=[text])))
    assert (ours.status, stock.status) == (422, 200)
    assert "is no time" in ours.json


def test_other_names_of_time_columns(sides: tuple[Side, Side]) -> None:
    """Feast's remote online store calls them so, whatever the source calls them."""
    frame = {"driver_id": [7], "event_timestamp": [TIME], "created": [None], "x": [3]}
    ours, stock = ask(sides, write(frame, view="other_time"))
    assert (ours.status, stock.status) == (200, 500)
    answer = sides[0].repo.ours().get_online_features(["other_time:x"], [{"driver_id": 7}])
    assert answer.to_dict()["x"] == [3]


def test_on_demand_views_are_written_by_feast(sides: tuple[Side, Side]) -> None:
    request = write({"driver_id": [1, 2], "factor": [3, 4]}, view="written")
    ours, stock = ask(sides, request)
    assert (ours.status, ours.body) == (stock.status, stock.body) == (200, b"null")
    counts = [side.repo.redis().dbsize() for side in sides]
    assert counts == [2, 2]


def test_ready_made_vectors_are_renewed(sides: tuple[Side, Side]) -> None:
    """Stock Feast leaves them out where the store writes asynchronously."""
    frame = {"driver_id": [1], "at": [TIME], "y": [3]}
    ours, _ = ask(sides, push(frame, source="ready_push"))
    assert ours.status == 200, ours.body
    store = sides[0].repo.ours()
    service = store.get_feature_service("prepared")
    assert store.get_online_features(service, [{"driver_id": 1}]).to_dict()["y"] == [3]


def test_what_python_raised_is_told(sides: tuple[Side, Side]) -> None:
    request = write({"driver_id": [1], "factor": ["a", "b"]}, view="written")
    ours, stock = ask(sides, request)
    assert stock.status == 500
    assert ours.status == 422  # the lengths are seen before
    request = write({"driver_id": [1], "factor": [{"a": 1}]}, view="written")
    ours, stock = ask(sides, request)
    assert (ours.status, ours.body) == (stock.status, stock.body)
    assert stock.status == 500


@pytest.mark.parametrize("to", ["offline", "online_and_offline"])
def test_offline(to: str, tmp_path: Path, redis7: RedisServer) -> None:
    tables = []
    pair = []
    for side in (0, 1):
        folder = tmp_path / str(side)
        folder.mkdir()
        both = sides_of(apply(folder / "applied", definitions(folder)), folder / "repo", redis7)
        pair.append(both[side])
        both[1 - side].close()
        frame = df(event_timestamp=["2026-02-02T00:00:00Z"], created=["2026-02-02T00:00:00Z"])
        answer = both[side].client.post(*push(frame, to=to))
        assert (answer.status, answer.body) == (200, b"")
        tables.append(pq.read_table(folder / "stats.parquet"))
    assert tables[0].num_rows == 2
    # Feast puts the new rows before the old ones.
    mine, feasts = (table.sort_by("event_timestamp").to_pylist() for table in tables)
    assert mine == feasts
    assert_same_redis(pair[0].repo.redis(), pair[1].repo.redis())
    for one in pair:
        one.close()
