"""Rows that are handed over: `write_to_online_store` through both doors leaves equal stores."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.types import Float32, Float64, Int64, String, UnixTimestamp

import feastrs
from feastrs.errors import ColumnMissingError, FeatureViewNotFoundException, NullKeyError
from testbed.case_views import AT, DRIVER, ROWS, fields_of, rows_of, stored_values, view_of
from testbed.doors import refuse_both
from testbed.dump import assert_same_redis, assert_same_sqlite, dump_redis, dump_sqlite
from testbed.redis_server import RedisServer
from testbed.repo import Applied, Repo, apply, file_source
from testbed.values import CASES, MENDED, mended_values

CASE_NAMES = [case.name for case in CASES]
CASES_BY_NAME = {case.name: case for case in CASES}
CUSTOMER = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def case_twins(
    either_store: RedisServer | None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Repo, Repo]:
    folder = tmp_path_factory.mktemp("writes")
    applied = apply(folder / "applied", [DRIVER, *(view_of(case, folder) for case in CASES)])
    return applied.twins(folder / "twins", either_store)


@pytest.mark.parametrize("case", CASE_NAMES)
def test_values_of_every_type(case: str, case_twins: tuple[Repo, Repo]) -> None:
    ours, stock = case_twins
    table = rows_of(CASES_BY_NAME[case])
    frame = table.to_pandas()

    stock.stock().write_to_online_store(f"v_{case}", frame)

    # As pandas has it, as Arrow memory, and as lists of objects.
    for form in (frame, table, table.to_pydict()):
        report = ours.ours().write_to_online_store(f"v_{case}", form)
        assert report.entities_written == ROWS
        assert stored(ours, case) == stored(stock, case), type(form)


def stored(repo: Repo, case: str) -> Any:
    """What the store has of the view of that case."""
    if repo.server is None:
        return dump_sqlite(repo.sqlite_path)[f"demo_v_{case}"]
    return fields_of(repo, case)


@pytest.mark.parametrize("name", [case.name for case in MENDED])
def test_mended_values(name: str, tmp_path: Path, redis7: RedisServer) -> None:
    """Columns that stock Feast can't write, or not rightly."""
    case = next(case for case in MENDED if case.name == name)
    repo = apply(tmp_path / "applied", [DRIVER, view_of(case, tmp_path)]).open(
        tmp_path / "repo", redis7
    )
    times = [AT + timedelta(seconds=i) for i in range(ROWS)]
    columns = {"driver_id": range(ROWS), "event_timestamp": times, name: case.column(ROWS)}

    repo.ours().write_to_online_store(f"v_{name}", pa.table(columns))

    expected = mended_values(name)
    values = stored_values(repo, case)
    for row in range(ROWS):
        assert values[row] == expected[row % len(expected)], f"row {row}"


# -- forms of frames --------------------------------------------------------------------------

SCHEMA = [
    Field(name="driver_id", dtype=Int64),
    Field(name="rate", dtype=Float32),
    Field(name="trips", dtype=Int64),
    Field(name="label", dtype=String),
    Field(name="seen", dtype=UnixTimestamp),
]
FRAME = pd.DataFrame(
    {
        "driver_id": [1, 2, 3],
        "event_timestamp": pd.to_datetime([AT, AT + HOUR, AT - HOUR], utc=True),
        "rate": [0.5, float("nan"), -1.25],
        "trips": [7, 2**40, -1],
        "label": ["a", None, "ž"],
        "seen": pd.to_datetime([AT, AT, AT]),
        "unknown": [1.0, 2.0, 3.0],
    }
)
TABLE = pa.Table.from_pandas(FRAME)


def driver_view(name: str = "v", **options: Any) -> FeatureView:
    options.setdefault("schema", SCHEMA)
    options.setdefault("source", file_source("nowhere.parquet"))
    options.setdefault("entities", [DRIVER])
    return FeatureView(name=name, ttl=timedelta(days=3650), **options)


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    order = driver_view(
        "order",
        entities=[DRIVER, CUSTOMER],
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="customer_id", dtype=String),
            Field(name="total", dtype=Float64),
        ],
    )
    made = driver_view(
        "made", source=file_source("made.parquet", created_timestamp_column="created")
    )
    mapping = {"evt": "event_timestamp", "n": "trips"}
    renamed = driver_view("renamed", source=file_source("r.parquet", field_mapping=mapping))
    world = FeatureView(
        name="world",
        entities=[],
        ttl=timedelta(days=3650),
        schema=[Field(name="mood", dtype=Int64)],
        source=file_source("world.parquet"),
    )
    objects = [DRIVER, CUSTOMER, driver_view(), order, made, renamed, world]
    return apply(tmp_path_factory.mktemp("applied"), objects)


@pytest.fixture
def twins(applied: Applied, tmp_path: Path, either_store: RedisServer | None) -> tuple[Repo, Repo]:
    twins = applied.twins(tmp_path, either_store)
    twins[0].stock()  # makes the tables that `feast apply` would have made
    return twins


def assert_equal_stores(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    if ours.server is None:
        assert_same_sqlite(ours.sqlite_path, stock.sqlite_path)
    else:
        assert_same_redis(ours.redis(), stock.redis())


FORMS: dict[str, Callable[[], Any]] = {
    "pandas": lambda: FRAME,
    "pandas with an index": lambda: FRAME.set_index(pd.Index(["x", "y", "z"])),
    "pandas, the key as index": lambda: FRAME.set_index("driver_id"),
    "pandas, key and time as index": lambda: FRAME.set_index(["driver_id", "event_timestamp"]),
    "pandas, Arrow types": lambda: FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "pandas, nullable types": lambda: FRAME.convert_dtypes(),
    "pandas, a zone": lambda: FRAME.assign(
        event_timestamp=FRAME["event_timestamp"].dt.tz_convert("Europe/Prague")
    ),
    "pandas, naive": lambda: FRAME.assign(
        event_timestamp=FRAME["event_timestamp"].dt.tz_localize(None)
    ),
    "pandas, times as objects": lambda: FRAME.assign(
        event_timestamp=FRAME["event_timestamp"].astype(object)
    ),
    "pandas, times as text": lambda: FRAME.assign(
        event_timestamp=FRAME["event_timestamp"].map(lambda time: time.isoformat())
    ),
    "pandas, strided": lambda: pd.concat([FRAME, FRAME])[::2].sort_values("driver_id"),
    "polars": lambda: pl.from_arrow(TABLE),
    "table": lambda: TABLE,
    "table of chunks": lambda: pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)]),
    "batch": lambda: TABLE.to_batches()[0],
    "reader": lambda: TABLE.to_reader(max_chunksize=2),
    "duckdb": lambda: duckdb.from_arrow(TABLE),
    "dict": lambda: TABLE.to_pydict(),
    "dict of arrays": lambda: {
        name: FRAME[name].to_numpy() if FRAME[name].dtype.kind in "if" else FRAME[name]
        for name in FRAME
    },
    "dict of Arrow": lambda: {name: TABLE[name] for name in TABLE.column_names},
    "list": lambda: TABLE.to_pylist(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_frame(form: str, twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    stock.stock().write_to_online_store("v", FRAME)

    report = ours.ours().write_to_online_store("v", FORMS[form]())

    [view] = report.views
    assert (view.view, view.entities_written, view.rows_older) == ("v", 3, 0)
    assert_equal_stores(twins)


def test_inputs_and_single_values(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    rows = {"driver_id": [1, 2], "event_timestamp": AT, "rate": [1, 2], "trips": 3, "label": "x"}
    rows["seen"] = [None, AT]
    stock.stock().write_to_online_store("v", inputs=rows)

    assert ours.ours().write_to_online_store("v", inputs=rows).entities_written == 2

    assert_equal_stores(twins)


def test_asynchronously(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    stock.stock().write_to_online_store("v", FRAME)

    report = asyncio.run(ours.ours().write_to_online_store_async("v", FRAME))

    assert report.entities_written == 3
    assert_equal_stores(twins)


# -- which row stays --------------------------------------------------------------------------


def test_the_newest_of_a_frame_and_of_the_store(
    applied: Applied, tmp_path: Path, redis7: RedisServer
) -> None:
    twins = ours, stock = applied.twins(tmp_path, redis7)
    order = [4, 1, 3, 0, 2]
    frame = pd.concat([FRAME.assign(trips=i, event_timestamp=AT + i * HOUR) for i in order])
    older = FRAME.assign(trips=9, event_timestamp=[AT + 9 * HOUR, AT, AT + 9 * HOUR])

    for rows in (frame, older):
        stock.stock().write_to_online_store("v", rows)
        report = ours.ours().write_to_online_store("v", rows)

    assert (report.entities_written, report.views[0].rows_older) == (2, 1)
    assert_equal_stores(twins)


def trips(store: Any, view: str = "v", rows: int = 3) -> list[Any]:
    drivers = [{"driver_id": i + 1} for i in range(rows)]
    answer: list[Any] = store.get_online_features([f"{view}:trips"], drivers).to_dict()["trips"]
    return answer


def test_of_equal_times_in_a_frame_the_last_stays(
    applied: Applied, tmp_path: Path, redis7: RedisServer
) -> None:
    ours, stock = applied.twins(tmp_path, redis7)
    frame = pd.concat([FRAME.assign(trips=5), FRAME.assign(trips=6)])
    stock.stock().write_to_online_store("v", frame)
    assert trips(stock.stock()) == [5, 5, 5]

    ours.ours().write_to_online_store("v", frame)
    assert trips(ours.ours()) == [6, 6, 6]
    ours.ours().write_to_online_store("v", FRAME.assign(trips=7))
    assert trips(ours.ours()) == [7, 7, 7]

    skips = {"equal_timestamps": "skip"}
    skipping = applied.open(tmp_path / "skipping", redis7, online_store=skips).ours()
    skipping.write_to_online_store("v", frame)
    assert skipping.write_to_online_store("v", FRAME.assign(trips=7)).entities_written == 0
    assert trips(skipping) == [5, 5, 5]


def test_created_timestamps(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    frame = FRAME.assign(created=AT + HOUR)
    stock.stock().write_to_online_store("made", frame)
    ours.ours().write_to_online_store("made", frame)
    assert_equal_stores(twins)

    corrected = pd.concat([frame.assign(trips=8, created=AT + 3 * HOUR), frame.assign(trips=9)])
    ours.ours().write_to_online_store("made", corrected)
    assert trips(ours.ours(), "made") == [8, 8, 8]


def test_writers_at_once_end_with_the_newest(
    applied: Applied, tmp_path: Path, either_store: RedisServer | None
) -> None:
    repo = applied.open(tmp_path, either_store)
    drivers = np.arange(1, 31)
    columns = {"driver_id": drivers, "rate": 0.5, "label": "x", "seen": AT}

    def write(first: int) -> None:
        store = feastrs.FeatureStore(repo_path=str(repo.folder))
        for i in range(first, 40, 4):
            store.write_to_online_store(
                "v", columns | {"trips": i, "event_timestamp": AT + timedelta(seconds=i)}
            )

    threads = [threading.Thread(target=write, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert trips(repo.ours(), rows=30) == [39] * 30


# -- keys, names, versions --------------------------------------------------------------------


@pytest.mark.parametrize("key_version", [2, 3])
def test_composite_keys(
    applied: Applied, tmp_path: Path, redis7: RedisServer, key_version: int
) -> None:
    twins = ours, stock = applied.twins(tmp_path, redis7, key_version=key_version)
    frame = pd.DataFrame(
        {"total": [1.0, 2.0], "customer_id": ["a", "b"], "driver_id": [1, 1], "event_timestamp": AT}
    )

    stock.stock().write_to_online_store("order", frame)
    ours.ours().write_to_online_store("order", frame)

    assert_equal_stores(twins)


def test_settings_of_the_store(applied: Applied, tmp_path: Path, redis7: RedisServer) -> None:
    settings = {"key_ttl_seconds": 600, "skip_dedup": True}
    twins = ours, stock = applied.twins(tmp_path, redis7, online_store=settings)
    for frame in (FRAME, FRAME.assign(trips=1, event_timestamp=AT - HOUR)):
        stock.stock().write_to_online_store("v", frame)
        ours.ours().write_to_online_store("v", frame)
    assert_equal_stores(twins)


def test_names_of_the_view_or_of_its_source(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    stock.stock().write_to_online_store("renamed", FRAME)
    ours.ours().write_to_online_store("renamed", FRAME)
    assert_equal_stores(twins)

    in_source = FRAME.assign(trips=11).rename(columns={"event_timestamp": "evt", "trips": "n"})
    ours.ours().write_to_online_store("renamed", in_source)
    assert trips(ours.ours(), "renamed") == [11, 11, 11]
    with pytest.raises(KeyError):
        stock.stock().write_to_online_store("renamed", in_source)


def test_a_view_without_entities_is_readable(
    applied: Applied, tmp_path: Path, redis7: RedisServer
) -> None:
    """Stock Feast writes it under a key that nobody reads."""
    ours, stock = applied.twins(tmp_path, redis7)
    frame = pd.DataFrame({"mood": [3], "event_timestamp": [AT]})
    stock.stock().write_to_online_store("world", frame)
    assert stock.stock().get_online_features(["world:mood"], [{"driver_id": 1}]).to_dict()[
        "mood"
    ] == [None]

    ours.ours().write_to_online_store("world", frame)

    for door in (ours.ours(), ours.stock()):
        assert door.get_online_features(["world:mood"], [{"driver_id": 1}]).to_dict()["mood"] == [3]


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["driver_id", "event_timestamp", "rate"])
def test_a_missing_column(column: str, twins: tuple[Repo, Repo]) -> None:
    frame = FRAME.drop(columns=column)
    ours, _ = refuse_both(twins[1], lambda store: store.write_to_online_store("v", frame))
    assert isinstance(ours, ColumnMissingError)
    assert isinstance(ours, KeyError)
    assert column in str(ours)


@pytest.mark.filterwarnings("ignore:Cannot write:UserWarning")
@pytest.mark.parametrize(
    "frame", [FRAME.head(0), FRAME.assign(rate=np.nan, trips=None, label=None, seen=None)]
)
def test_nothing_to_write_is_a_warning(frame: Any, twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    stock.stock().write_to_online_store("v", frame)
    with pytest.warns(UserWarning, match="view 'v': nothing is written"):
        assert ours.ours().write_to_online_store("v", frame).entities_written == 0
    assert_equal_stores(twins)


def test_null_keys(applied: Applied, tmp_path: Path, redis7: RedisServer) -> None:
    repo = applied.open(tmp_path / "repo", redis7)
    for keys in ([1, None, 3], [1, float("nan"), 3], pa.array([1, None, 3])):
        rows = {"driver_id": keys, "event_timestamp": AT, "rate": 1.0, "trips": 1}
        rows |= {"label": "x", "seen": AT}
        with pytest.raises(NullKeyError, match=r"view 'v': 1 rows .* at source rows 1 "):
            repo.ours().write_to_online_store("v", rows)
        assert dump_redis(repo.redis()) == {}
    with pytest.raises(Exception, match=r"."):
        repo.stock().write_to_online_store("v", pd.DataFrame(rows))
    skips = {"materialization": {"on_null_key": "skip"}}
    skipping = applied.open(tmp_path / "skipping", redis7, settings=skips)
    [view] = skipping.ours().write_to_online_store("v", rows)
    assert (view.rows, view.entities_written, view.null_keys) == (3, 2, 1)


def test_null_times(twins: tuple[Repo, Repo]) -> None:
    frame = FRAME.assign(event_timestamp=[FRAME["event_timestamp"][0], pd.NaT, pd.NaT])
    ours, _ = refuse_both(twins[1], lambda store: store.write_to_online_store("v", frame))
    assert "row 1 has no time in its event timestamp column 'event_timestamp'" in str(ours)


def test_int64_beside_nulls_is_exact_in_frames(twins: tuple[Repo, Repo]) -> None:
    big = [2**53 + 1, None, 2**63 - 1]
    for values in (big, pd.array(big, dtype="Int64")):
        rows = {"driver_id": [1, 2, 3], "event_timestamp": AT, "rate": 1.0, "trips": values}
        twins[0].ours().write_to_online_store("v", rows | {"label": "x", "seen": AT})
        assert trips(twins[0].ours()) == big


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "text for a number": ({"trips": ["7", "8", "x"]}, "column 'trips', row 2: 'x' can't be stored"),
    "text for a number in Arrow": (
        {"trips": pa.array(["7", "8", "x"])},
        "column 'trips', row 2: x of Arrow type",
    ),
    "too large": ({"driver_id": [1, 2, 2**70]}, "column 'driver_id', row 2"),
    "no time": ({"event_timestamp": ["2024-05-01", "x", "y"]}, 'row 1: "x" is no time'),
    "an object": ({"event_timestamp": [AT, object(), AT]}, "row 1: .* give a datetime"),
    "another length": ({"trips": [1, 2]}, "column 'trips' has 2 rows, others have 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_does_not_fit_is_named(name: str, twins: tuple[Repo, Repo]) -> None:
    columns, message = REFUSED[name]
    rows = FRAME.to_dict("list") | columns
    with pytest.raises((TypeError, ValueError), match=message):
        twins[0].ours().write_to_online_store("v", rows)


def test_wrong_arguments(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    with pytest.raises(FeatureViewNotFoundException, match="'v'"):
        ours.ours().write_to_online_store("w", FRAME)
    with pytest.raises(KeyError):
        stock.stock().write_to_online_store("w", FRAME)
    for both in (ours.ours(), stock.stock()):
        with pytest.raises(ValueError, match=r"both|Both"):
            both.write_to_online_store("v", FRAME, inputs=FRAME)
    with pytest.raises(ValueError, match="give df or inputs"):
        ours.ours().write_to_online_store("v")
    with pytest.raises(TypeError, match="the frame is of type int"):
        ours.ours().write_to_online_store("v", 7)
    with pytest.raises(TypeError, match="row 1 of the frame is of type str"):
        ours.ours().write_to_online_store("v", [{"driver_id": 1}, "x"])
    with pytest.raises(ValueError, match="single values"):
        ours.ours().write_to_online_store("v", {"driver_id": 1})
    with pytest.raises(ValueError, match="more than one column 'rate'"):
        ours.ours().write_to_online_store("v", pd.concat([FRAME, FRAME[["rate"]]], axis=1))


def test_times_of_python_and_numpy(twins: tuple[Repo, Repo]) -> None:
    """All of them the same midnight."""
    midnight = datetime(2024, 5, 1, tzinfo=timezone.utc)
    ours, stock = twins
    day = FRAME.assign(event_timestamp=midnight, seen=midnight)
    stock.stock().write_to_online_store("v", day)
    for time in (
        midnight,
        midnight.astimezone(timezone(HOUR)),
        midnight.replace(tzinfo=None),
        date(2024, 5, 1),
        "2024-05-01",
        "2024-05-01T02:00:00+02:00",
        int(midnight.timestamp()) * 10**9,
        np.datetime64("2024-05-01"),
        pd.Timestamp(midnight),
    ):
        ours.ours().write_to_online_store(
            "v", day.to_dict("list") | {"event_timestamp": [time] * 3}
        )
        assert_equal_stores(twins)
