"""`push` through both doors: the views of a push source, both stores, and what comes after."""

from __future__ import annotations

import asyncio
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import feast
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureService, FeatureView, Field, PushSource, RequestSource, ValueType
from feast.data_source import PushMode
from feast.on_demand_feature_view import on_demand_feature_view
from feast.stream_feature_view import StreamFeatureView
from feast.types import Float64, Int64

import feastrs
from feastrs.errors import PushSourceNotFoundException
from testbed.dump import assert_same_redis, assert_same_sqlite, dump_redis
from testbed.redis_server import RedisServer
from testbed.repo import Applied, Repo, apply, file_source

AT = datetime(2024, 5, 1, 8, tzinfo=timezone.utc)
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
FRAME = pd.DataFrame(
    {
        "driver_id": [1, 2, 2],
        "event_timestamp": pd.to_datetime([AT, AT, AT + timedelta(hours=1)], utc=True),
        "trips": [7, 8, 9],
        "rate": [0.5, None, 0.25],
    }
)
ROWS = [{"driver_id": 1}, {"driver_id": 2}]


def make(folder: Path) -> Applied:
    """Two views of one push source, one of them made from a stream; one of another source."""
    pq.write_table(pa.Table.from_pandas(FRAME.head(1)), folder / "batch.parquet")
    fields = [Field(name="driver_id", dtype=Int64), Field(name="trips", dtype=Int64)]
    rate = Field(name="rate", dtype=Float64)

    def source(name: str) -> PushSource:
        batch = file_source(folder / "batch.parquet", name=f"{name}_batch")
        return PushSource(name=name, batch_source=batch)

    def view(name: str, source: Any, fields: list[Field]) -> FeatureView:
        ttl = timedelta(days=3650)
        return FeatureView(name=name, entities=[DRIVER], ttl=ttl, schema=fields, source=source)

    clicks, stars = source("clicks"), source("stars")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # experimental
        streamed = StreamFeatureView(
            name="streamed",
            entities=[DRIVER],
            ttl=timedelta(days=3650),
            schema=[*fields, rate],
            source=clicks,
            timestamp_field="event_timestamp",
        )
    starred = view("starred", stars, [fields[0], rate])
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

    service = FeatureService(name="stars", features=[starred], precompute_online=True)
    views = [view("clicked", clicks, fields), streamed, starred, written]
    return apply(folder / "applied", [DRIVER, *views, service])


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return make(tmp_path_factory.mktemp("push"))


@pytest.fixture
def twins(applied: Applied, tmp_path: Path, either_store: RedisServer | None) -> tuple[Repo, Repo]:
    twins = applied.twins(tmp_path, either_store)
    for repo in twins:
        store = repo.stock()
        if either_store is None:  # the tables that `feast apply` would have made
            store._get_provider().update_infra(  # type: ignore[attr-defined]
                "demo", [], store.list_stream_feature_views(), [], [], partial=False
            )
    return twins


def assert_equal_stores(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    if ours.server is None:
        assert_same_sqlite(ours.sqlite_path, stock.sqlite_path)
    else:
        assert_same_redis(ours.redis(), stock.redis())


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("to", [PushMode.ONLINE, feastrs.PushMode.ONLINE, "online"])
def test_every_view_of_the_source(to: Any, is_async: bool, twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    for frame in (FRAME, FRAME.assign(trips=1, event_timestamp=AT + timedelta(minutes=1))):
        newest = frame.sort_values("event_timestamp").drop_duplicates("driver_id", keep="last")
        if ours.server is None:  # where stock overwrites with older rows
            newest = newest.head(1 if frame is not FRAME else 2)
        stock.stock().push("clicks", newest)
        if is_async:
            report = asyncio.run(ours.ours().push_async("clicks", frame, to=to))
        else:
            report = ours.ours().push("clicks", frame, to=to)
    assert sorted(view.view for view in report) == ["clicked", "streamed"]
    assert [view.entities_written for view in report] == [1, 1]
    assert not report.delegated
    assert_equal_stores(twins)


def test_an_unknown_source_is_refused(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    for store in (ours.ours(), stock.stock()):
        with pytest.raises(feast.errors.PushSourceNotFoundException, match="nobody"):
            store.push("nobody", FRAME)
    with pytest.raises(PushSourceNotFoundException, match="push sources are clicks, stars"):
        ours.ours().push("nobody", FRAME)
    with pytest.raises(ValueError, match="to is 'everywhere'; give one of ONLINE, OFFLINE"):
        ours.ours().push("clicks", FRAME, to="everywhere")


def test_a_stream_is_read_once_for_all_views(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    newest = FRAME.tail(2)
    stock.stock().push("clicks", newest)
    ours.ours().push("clicks", pa.Table.from_pandas(newest).to_reader())
    assert_equal_stores(twins)


def test_vectors_are_renewed(applied: Applied, tmp_path: Path, redis7: RedisServer) -> None:
    twins = ours, stock = applied.twins(tmp_path, redis7)
    newest = FRAME.iloc[[0, 2]]
    stock.stock().push("stars", newest)
    ours.ours().push("stars", newest)
    answers = [
        repo.stock().get_online_features(
            repo.stock().get_feature_service("stars"), ROWS, full_feature_names=True
        )
        for repo in twins
    ]
    assert answers[0].to_dict() == answers[1].to_dict()
    assert answers[0].to_dict()["starred__rate"] == [0.5, 0.25]
    # Feast leaves them as they were after a write.
    changed = newest.assign(rate=[1.5, 2.5], event_timestamp=AT + timedelta(days=1))
    ours.ours().write_to_online_store("starred", changed)
    service = ours.ours().get_feature_service("stars")
    answer = ours.ours().get_online_features(service, ROWS).to_dict()
    assert answer["rate"] == [1.5, 2.5]


def test_on_demand_views_are_written_by_feast(
    applied: Applied, tmp_path: Path, redis7: RedisServer
) -> None:
    ours, stock = applied.twins(tmp_path, redis7)
    rows = {"driver_id": [1, 2], "factor": [3, 4]}
    for store in (ours.ours(), stock.stock()):
        report = store.write_to_online_store("written", pd.DataFrame(rows))
        if report is not None:
            assert "on-demand" in report.delegated["written"]
    for frame in (pa.table(rows), rows):
        ours.ours().write_to_online_store("written", frame)
    values = [
        {name: value for name, value in row.fields.items() if not name.startswith(b"_ts")}
        for row in dump_redis(ours.redis()).values()
    ]
    stocks = [
        {name: value for name, value in row.fields.items() if not name.startswith(b"_ts")}
        for row in dump_redis(stock.redis()).values()
    ]
    assert values == stocks
    assert len(values) == 2


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("mode", ["OFFLINE", "ONLINE_AND_OFFLINE"])
def test_offline(mode: str, is_async: bool, tmp_path: Path, redis7: RedisServer) -> None:
    pairs = []
    for side in ("ours", "stock"):
        folder = tmp_path / side
        folder.mkdir()
        repo = make(folder).open(folder / "repo", redis7)
        pairs.append((repo, folder / "batch.parquet"))
    (ours, our_file), (stock, stock_file) = pairs
    frame = FRAME.iloc[[0, 2]].reset_index(drop=True)
    stock.stock().push("stars", frame, to=PushMode[mode])
    if is_async:
        report = asyncio.run(ours.ours().push_async("stars", frame, to=mode.lower()))
    else:
        report = ours.ours().push("stars", pa.Table.from_pandas(frame), to=mode.lower())

    left, right = (pd.read_parquet(file) for file in (our_file, stock_file))
    order = ["driver_id", "event_timestamp", "rate"]
    left, right = (rows.sort_values(order).reset_index(drop=True) for rows in (left, right))
    assert len(left) == 3
    pd.testing.assert_frame_equal(left, right)
    assert report.appended == {"starred": 2}
    assert "starred" not in report.delegated
    written = assert_same_rows(ours, stock)
    assert written == (2 if "ONLINE" in mode else 0)


def test_views_of_one_source_get_rows_offline_once(tmp_path: Path) -> None:
    """Stock Feast adds them once for each view."""
    folders = [tmp_path / side for side in ("ours", "stock")]
    repos = []
    for folder in folders:
        folder.mkdir()
        repos.append(make(folder).open(folder / "repo"))
    ours, stock = repos
    stock.stock().push("clicks", FRAME, to=PushMode.OFFLINE)
    rows = FRAME.to_dict("records")
    for given in (FRAME, rows, FRAME.to_dict("list")):
        report = ours.ours().push("clicks", given, to="offline")
        assert sorted(report.appended.values()) == [0, 3]
    assert len(pd.read_parquet(folders[0] / "batch.parquet")) == 1 + 3 * 3
    assert len(pd.read_parquet(folders[1] / "batch.parquet")) == 1 + 3 * 2

    with pytest.raises(ValueError, match=r"missing are \[rate\], too many are \[\]"):
        ours.ours().push("clicks", FRAME.drop(columns="rate"), to="offline")
    assert len(pd.read_parquet(folders[0] / "batch.parquet")) == 1 + 3 * 3


def assert_same_rows(ours: Repo, stock: Repo) -> int:
    """How many entities both stores have, apart from vectors, which know when they were made."""
    dumps = []
    for repo in (ours, stock):
        rows = dump_redis(repo.redis())
        dumps.append({key: len(row.fields) for key, row in rows.items()})
    assert dumps[0] == dumps[1]
    return len(dumps[0])
