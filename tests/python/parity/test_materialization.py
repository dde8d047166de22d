"""What is read from Parquet: sources, times, windows, ties. Stock Feast's store must be equal."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.types import FeastType, Float64, Int64, String

from testbed.demo import NATIVE_VIEWS
from testbed.dump import assert_same_redis, assert_same_sqlite, dump_redis
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo, apply, file_source

AT = datetime(2024, 5, 1, 8, tzinfo=timezone.utc)
INT64 = ValueType.INT64
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)


def rows_table(times: list[Any], time_type: pa.DataType, **columns: Any) -> pa.Table:
    """Two rows of each of some drivers, newer ones not always later in the file."""
    count = len(times)
    return pa.table(
        {
            "driver_id": pa.array([i % max(1, count // 2) for i in range(count)], pa.int64()),
            "event_timestamp": pa.array(times, time_type),
            "x": pa.array([i / 2 for i in range(count)]),
            **columns,
        }
    )


def view(source: Any, name: str = "v", ttl: timedelta | None = timedelta(days=3650)) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[DRIVER],
        ttl=ttl,
        schema=[Field(name="driver_id", dtype=Int64), Field(name="x", dtype=Float64)],
        source=source,
    )


def assert_equal_stores(ours: Repo, stock: Repo, rows: int | None = None) -> None:
    """Redis or SQLite, whichever these repos have."""
    if ours.server is None:
        assert_same_sqlite(ours.sqlite_path, stock.sqlite_path)
        return
    dump = assert_same_redis(ours.redis(), stock.redis())
    assert rows is None or len(dump) == rows


def materialize_both(
    twins: tuple[Repo, Repo], start: datetime = EARLY, end: datetime = LATE, **options: Any
) -> None:
    ours, stock = twins
    stock.stock().materialize(start, end, **options)
    ours.ours().materialize(start, end, **options)


TIME_TYPES = {
    "ms": pa.timestamp("ms"),
    "us": pa.timestamp("us"),
    "ns": pa.timestamp("ns"),
    "us-utc": pa.timestamp("us", tz="UTC"),
    "ns-utc": pa.timestamp("ns", tz="UTC"),
    "ms-prague": pa.timestamp("ms", tz="Europe/Prague"),
    "us-offset": pa.timestamp("us", tz="+05:30"),
}


@pytest.mark.parametrize("name", TIME_TYPES)
def test_event_times_of_every_resolution_and_zone(
    name: str, tmp_path: Path, either_store: RedisServer | None
) -> None:
    kind = TIME_TYPES[name]
    times = [AT + timedelta(milliseconds=1250 * (i * 7 % 10)) for i in range(10)]
    if kind.tz is None:
        times = [time.replace(tzinfo=None) for time in times]
    pq.write_table(rows_table(times, kind), tmp_path / "v.parquet", coerce_timestamps=None)
    twins = apply(tmp_path / "applied", [DRIVER, view(file_source(tmp_path / "v.parquet"))]).twins(
        tmp_path / "twins", either_store
    )

    materialize_both(twins)

    assert_equal_stores(*twins, rows=5)


def test_int96_times(tmp_path: Path, redis7: RedisServer) -> None:
    times = [AT + timedelta(seconds=i) for i in range(6)]
    pq.write_table(
        rows_table(times, pa.timestamp("ns")),
        tmp_path / "v.parquet",
        use_deprecated_int96_timestamps=True,
    )
    twins = apply(tmp_path / "applied", [DRIVER, view(file_source(tmp_path / "v.parquet"))]).twins(
        tmp_path / "twins", redis7
    )

    materialize_both(twins)

    assert_equal_stores(*twins, rows=3)


def test_nanoseconds_are_cut_to_microseconds(tmp_path: Path, redis7: RedisServer) -> None:
    nanos = [int(AT.timestamp()) * 10**9 + 123_456_789, int(AT.timestamp()) * 10**9 + 999]
    pq.write_table(rows_table(nanos, pa.timestamp("ns", tz="UTC")), tmp_path / "v.parquet")
    twins = apply(tmp_path / "applied", [DRIVER, view(file_source(tmp_path / "v.parquet"))]).twins(
        tmp_path / "twins", redis7
    )

    materialize_both(twins)

    assert_equal_stores(*twins, rows=1)


def test_window_is_inclusive_at_both_ends(tmp_path: Path, either_store: RedisServer | None) -> None:
    times = [AT + timedelta(seconds=i) for i in range(10)]
    table = rows_table(times, pa.timestamp("us", tz="UTC"))
    table = table.set_column(0, "driver_id", pa.array(range(10), pa.int64()))
    pq.write_table(table, tmp_path / "v.parquet")
    twins = apply(tmp_path / "applied", [DRIVER, view(file_source(tmp_path / "v.parquet"))]).twins(
        tmp_path / "twins", either_store
    )

    materialize_both(twins, times[2], times[7])

    assert_equal_stores(*twins, rows=6)


def test_naive_and_zoned_windows(tmp_path: Path, redis7: RedisServer) -> None:
    times = [AT + timedelta(seconds=i) for i in range(10)]
    pq.write_table(rows_table(times, pa.timestamp("us", tz="UTC")), tmp_path / "v.parquet")
    applied = apply(tmp_path / "applied", [DRIVER, view(file_source(tmp_path / "v.parquet"))])
    zone = timezone(timedelta(hours=5))
    windows = {
        "naive": (times[2].replace(tzinfo=None), times[6].replace(tzinfo=None)),
        "zoned": (times[2].astimezone(zone), times[6].astimezone(zone)),
    }
    for name, (start, end) in windows.items():
        twins = applied.twins(tmp_path / name, redis7)
        materialize_both(twins, start, end)
        assert_equal_stores(*twins, rows=5)


def test_created_timestamp_breaks_ties(tmp_path: Path, either_store: RedisServer | None) -> None:
    created = [AT + timedelta(seconds=i * 7 % 10) for i in range(10)]
    table = rows_table(
        [AT] * 10,
        pa.timestamp("us", tz="UTC"),
        created=pa.array(created, pa.timestamp("us", tz="UTC")),
    )
    pq.write_table(table, tmp_path / "v.parquet")
    source = file_source(tmp_path / "v.parquet", created_timestamp_column="created")
    twins = apply(tmp_path / "applied", [DRIVER, view(source)]).twins(
        tmp_path / "twins", either_store
    )

    materialize_both(twins)

    assert_equal_stores(*twins, rows=5)


def test_folder_of_files(tmp_path: Path, redis7: RedisServer) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in range(3):
        times = [AT + timedelta(seconds=part * 5 % 7 + i) for i in range(8)]
        pq.write_table(
            rows_table(times, pa.timestamp("us", tz="UTC")), folder / f"part-{part}.parquet"
        )
    twins = apply(tmp_path / "applied", [DRIVER, view(file_source(folder))]).twins(
        tmp_path / "twins", redis7
    )

    materialize_both(twins)

    assert_equal_stores(*twins, rows=4)


def partitioned(folder: Path, names: list[str], dtype: FeastType) -> FeatureView:
    """A view of a folder of folders, each of one driver; its feature is in their names."""
    for driver, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        table = {"driver_id": [driver], "event_timestamp": [AT], "x": [0.5]}
        pq.write_table(pa.table(table), folder / name / "part.parquet")
    schema = [Field(name="driver_id", dtype=Int64), Field(name="part", dtype=dtype)]
    return FeatureView(
        name="v",
        entities=[DRIVER],
        ttl=timedelta(days=1),
        schema=schema,
        source=file_source(folder),
    )


@pytest.mark.parametrize(
    ("names", "dtype"),
    [
        (["part=a%20b", "part=%C3%A9", "part=100%"], String),
        (["part=01", "part=2"], Int64),
        (["part=01", "part=2"], String),
    ],
    ids=["encoded", "numbers", "numbers-as-text"],
)
def test_columns_of_folder_names(
    names: list[str], dtype: FeastType, tmp_path: Path, redis7: RedisServer
) -> None:
    view = partitioned(tmp_path / "parts", names, dtype)
    twins = apply(tmp_path / "applied", [DRIVER, view]).twins(tmp_path / "twins", redis7)

    materialize_both(twins)

    assert_equal_stores(*twins, rows=len(names))


def test_a_folder_name_may_stand_for_null(tmp_path: Path, redis7: RedisServer) -> None:
    names = ["part=__HIVE_DEFAULT_PARTITION__", "part=eu"]
    view = partitioned(tmp_path / "parts", names, String)
    store = apply(tmp_path / "applied", [DRIVER, view]).open(tmp_path / "repo", redis7).ours()

    store.materialize(EARLY, LATE)

    answer = store.get_online_features(["v:part"], {"driver_id": [0, 1]}).to_dict()
    assert answer["part"] == [None, "eu"]


def test_glob(tmp_path: Path, redis7: RedisServer) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in range(3):
        times = [AT + timedelta(seconds=part * 5 % 7 + i) for i in range(8)]
        pq.write_table(
            rows_table(times, pa.timestamp("us", tz="UTC")), folder / f"part-{part}.parquet"
        )
    (folder / "notes.txt").write_text("not Parquet")
    twins = apply(tmp_path / "applied", [DRIVER, view(file_source(folder / "*.parquet"))]).twins(
        tmp_path / "twins", redis7
    )

    materialize_both(twins)

    assert_equal_stores(*twins, rows=4)


def test_path_relative_to_the_repo(tmp_path: Path, redis7: RedisServer) -> None:
    applied = apply(tmp_path / "applied", [DRIVER, view(file_source("data/v.parquet"))])
    twins = applied.twins(tmp_path / "twins", redis7)
    times = [AT + timedelta(seconds=i) for i in range(4)]
    for repo in twins:
        (repo.folder / "data").mkdir()
        pq.write_table(
            rows_table(times, pa.timestamp("us", tz="UTC")), repo.folder / "data" / "v.parquet"
        )

    materialize_both(twins)

    assert_equal_stores(*twins, rows=2)


def test_field_mapping(tmp_path: Path, either_store: RedisServer | None) -> None:
    times = [AT + timedelta(seconds=i) for i in range(8)]
    table = rows_table(times, pa.timestamp("us", tz="UTC")).rename_columns(
        ["drv", "happened", "raw"]
    )
    pq.write_table(table, tmp_path / "v.parquet")
    source = file_source(
        tmp_path / "v.parquet",
        timestamp_field="happened",
        field_mapping={"drv": "driver_id", "raw": "x"},
    )
    twins = apply(tmp_path / "applied", [DRIVER, view(source)]).twins(
        tmp_path / "twins", either_store
    )

    materialize_both(twins)

    assert_equal_stores(*twins, rows=4)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "lz4", "brotli"])
def test_compressions(compression: str, tmp_path: Path, redis7: RedisServer) -> None:
    times = [AT + timedelta(seconds=i) for i in range(40)]
    pq.write_table(
        rows_table(times, pa.timestamp("us", tz="UTC")),
        tmp_path / "v.parquet",
        compression=compression,
        row_group_size=7,
    )
    twins = apply(tmp_path / "applied", [DRIVER, view(file_source(tmp_path / "v.parquet"))]).twins(
        tmp_path / "twins", redis7
    )

    materialize_both(twins)

    assert_equal_stores(*twins, rows=20)


@pytest.mark.parametrize("version", [2, 3])
def test_demo(version: int, demo: Applied, any_server: RedisServer | None, tmp_path: Path) -> None:
    """Several views of one entity in one hash, a composite key, none at all, every store."""
    twins = demo.twins(tmp_path, any_server, key_version=version)

    materialize_both(twins, feature_views=NATIVE_VIEWS)

    assert_equal_stores(*twins)


def test_all_views_when_none_are_named(demo: Applied, redis7: RedisServer, tmp_path: Path) -> None:
    twins = demo.twins(tmp_path, redis7)

    materialize_both(twins)

    assert_equal_stores(*twins)


def test_key_ttl_seconds(demo: Applied, any_redis: RedisServer, tmp_path: Path) -> None:
    twins = demo.twins(tmp_path, any_redis, online_store={"key_ttl_seconds": 1000})

    materialize_both(twins, feature_views=["driver_stats"])

    assert_equal_stores(*twins, rows=20)
    assert all(990 <= hash_.ttl <= 1000 for hash_ in dump_redis(twins[0].redis()).values())


def test_ignored_rows_do_not_renew_the_ttl(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    """`equal_timestamps: skip` so that the second run writes nothing, as with stock Feast."""
    ours, stock = demo.twins(tmp_path, redis7, online_store={"key_ttl_seconds": 1000})
    ours.config["online_store"]["equal_timestamps"] = "skip"
    ours.write_config()
    twins = (ours, stock)
    materialize_both(twins, feature_views=["driver_stats"])
    for repo in twins:
        with repo.redis() as client:
            for key in client.scan_iter():
                client.expire(key, 500)

    materialize_both(twins, feature_views=["driver_stats"])

    assert_equal_stores(*twins, rows=20)
    assert all(hash_.ttl <= 500 for hash_ in dump_redis(ours.redis()).values())


def test_skip_dedup(demo: Applied, redis7: RedisServer, tmp_path: Path) -> None:
    twins = demo.twins(tmp_path, redis7, online_store={"skip_dedup": True})

    materialize_both(twins, feature_views=NATIVE_VIEWS)

    assert_equal_stores(*twins)


def test_a_second_run_adds_only_what_is_new(
    demo: Applied, any_server: RedisServer | None, tmp_path: Path
) -> None:
    from testbed.demo import NOON

    twins = demo.twins(tmp_path, any_server)

    materialize_both(twins, NOON, NOON + timedelta(hours=2), feature_views=NATIVE_VIEWS)
    materialize_both(twins, NOON + timedelta(hours=2, seconds=1), LATE, feature_views=NATIVE_VIEWS)

    assert_equal_stores(*twins)


def test_versioned_views(demo: Applied, either_store: RedisServer | None, tmp_path: Path) -> None:
    """`enable_online_feature_view_versioning`: a view that was changed bears the suffix `_vN`."""
    settings = {
        "registry": {
            "path": "registry.db",
            "registry_type": "file",
            "enable_online_feature_view_versioning": True,
        }
    }
    source = file_source(demo.folder.parent / "data" / "driver_stats.parquet")
    applied = apply(tmp_path / "applied", [DRIVER, _versioned(source, ["trips"])])
    apply_again(applied, [DRIVER, _versioned(source, ["trips", "label"])])
    twins = applied.twins(tmp_path / "twins", either_store, settings=settings)

    materialize_both(twins)

    assert_equal_stores(*twins)


def _versioned(source: Any, features: list[str]) -> FeatureView:
    kinds = {"trips": Int64, "label": String}
    return FeatureView(
        name="changing",
        entities=[DRIVER],
        ttl=timedelta(days=3650),
        schema=[
            Field(name="driver_id", dtype=Int64),
            *(Field(name=name, dtype=kinds[name]) for name in features),
        ],
        source=source,
    )


def apply_again(applied: Applied, objects: list[Any]) -> None:
    import feast

    feast.FeatureStore(repo_path=str(applied.folder)).apply(objects)


def test_report(demo: Applied, redis7: RedisServer, tmp_path: Path) -> None:
    """What the run says about itself."""
    repo = demo.open(tmp_path, redis7)

    report = repo.ours().materialize(EARLY, LATE, feature_views=["driver_stats"])

    [line] = report.views
    assert line.view == "driver_stats"
    assert (line.start, line.end) == (EARLY, LATE)
    assert line.rows_read == 60
    assert line.entities_written == 20
    assert line.rows_older == 0
    assert line.null_keys == 0
    assert line.seconds >= 0


def test_many_views_at_once(redis7: RedisServer, tmp_path: Path) -> None:
    """Half of them share a join key, and with it the hashes that they are written to."""
    objects: list[Any] = [DRIVER]
    for number in range(8):
        key = "driver_id" if number % 2 else f"key_{number}"
        entity = DRIVER if number % 2 else Entity(name=key, join_keys=[key], value_type=INT64)
        ids = [(i * 7 + number) % 300 for i in range(900)]
        times = [AT + timedelta(minutes=i) for i in range(900)]
        table = pa.table({key: ids, "event_timestamp": times, "x": [i / 2 for i in range(900)]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
        schema = [Field(name=key, dtype=Int64), Field(name="x", dtype=Float64)]
        source = file_source(tmp_path / f"{number}.parquet")
        objects.append(
            FeatureView(name=f"v{number}", entities=[entity], schema=schema, source=source)
        )
        objects.extend([] if number % 2 else [entity])
    twins = apply(tmp_path / "applied", objects).twins(tmp_path, redis7)

    materialize_both(twins)

    assert_equal_stores(*twins, rows=5 * 300)
    ours, stock = (repo.stock() for repo in twins)
    ours.refresh_registry()
    for number in range(8):
        views = (store.get_feature_view(f"v{number}") for store in (ours, stock))
        assert len({tuple(view.materialization_intervals) for view in views}) == 1
