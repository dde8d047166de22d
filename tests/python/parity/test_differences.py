"""Where feastrs differs from Feast on purpose: one test for each line of the README's list."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Bytes, FeastType, Float64, Int64, Map, Set, String, Uuid

from testbed.demo import DRIVERS, NATIVE_VIEWS, NOON
from testbed.doors import difference
from testbed.dump import assert_same_redis, dump_redis, dump_sqlite
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo, apply, file_source

AT = datetime(2024, 5, 1, 8, tzinfo=timezone.utc)
TIME = pa.timestamp("us", tz="UTC")
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)


@pytest.fixture(scope="module")
def filled(
    demo: Applied, either_store: RedisServer | None, tmp_path_factory: pytest.TempPathFactory
) -> Repo:
    """The demo, materialized by stock Feast."""
    repo = demo.open(tmp_path_factory.mktemp("filled"), either_store)
    repo.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
    return repo


def one_feature(
    folder: Path,
    dtype: FeastType,
    column: pa.Array,
    *,
    keys: list[int | None] | None = None,
    times: list[datetime] | None = None,
) -> Applied:
    """A view `v` with a feature `x`, from one Parquet file."""
    count = len(column)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table(
            {
                "driver_id": pa.array(range(count) if keys is None else keys, pa.int64()),
                "event_timestamp": pa.array(times or [AT] * count, TIME),
                "x": column,
            }
        ),
        folder / "v.parquet",
    )
    view = FeatureView(
        name="v",
        entities=[DRIVER],
        ttl=timedelta(days=1),
        schema=[Field(name="driver_id", dtype=Int64), Field(name="x", dtype=dtype)],
        source=file_source(folder / "v.parquet"),
    )
    return apply(folder / "applied", [DRIVER, view])


def read_x(store: Any, drivers: list[int]) -> list[Any]:
    rows = [{"driver_id": driver} for driver in drivers]
    values: list[Any] = store.get_online_features(["v:x"], rows).to_dict()["x"]
    return values


def with_settings(repo: Repo, folder: Path, **online: Any) -> Any:
    """Another feastrs store on the same data, with settings under `online_store:`."""
    import feastrs

    folder.mkdir(exist_ok=True)
    config = {**repo.config, "registry": str(repo.registry_path)}
    config["online_store"] = {**config["online_store"], **online}
    if config["online_store"]["type"] == "sqlite":
        config["online_store"]["path"] = str(repo.sqlite_path)
    Repo(folder, config, repo.server, repo.database)
    return feastrs.FeatureStore(repo_path=str(folder))


def test_columns_come_in_the_order_asked_for(filled: Repo) -> None:
    features = ["driver_stats:trips", "driver_profile:tags", "driver_stats:conv_rate"]
    response = filled.ours().get_online_features(features, [{"driver_id": 1001}])
    assert list(response.to_dict()) == ["driver_id", "trips", "tags", "conv_rate"]
    assert list(response.to_df().columns) == ["driver_id", "trips", "tags", "conv_rate"]

    full = filled.ours().get_online_features(
        features, [{"driver_id": 1001}], full_feature_names=True
    )
    assert list(full.to_dict())[1:] == [name.replace(":", "__") for name in features]


def test_a_service_gives_its_own_order(filled: Repo) -> None:
    service = filled.ours().get_feature_service("driver_service")
    response = filled.ours().get_online_features(service, [{"driver_id": 1001}])
    asked = ["driver_id", "trips", "conv_rate", "age", "vip", "joined", "tags"]
    assert list(response.to_dict()) == asked


def test_an_absent_entity_is_not_found(filled: Repo) -> None:
    rows = [{"driver_id": 1000}, {"driver_id": 1}, {"driver_id": 1001}]
    response = filled.ours().get_online_features(
        ["driver_stats:acc_rate", "driver_stats:label", "driver_stats:trips"], rows
    )
    assert response.to_dict()["label"][1] is None
    statuses = response.statuses()
    assert statuses["label"] == ["PRESENT", "NOT_FOUND", "PRESENT"]
    assert statuses["driver_id"] == ["PRESENT"] * 3
    # Row 40 has no `trips`, row 41 has.
    assert statuses["trips"] == ["NULL_VALUE", "NOT_FOUND", "PRESENT"]


def test_feast_statuses_by_setting(filled: Repo, tmp_path: Path) -> None:
    """`online_statuses: feast`: what the store of that kind gives in stock Feast."""
    rows = [{"driver_id": 1000}, {"driver_id": 1}, {"driver_id": 1001}]
    features = ["driver_stats:acc_rate", "driver_stats:label", "driver_stats:trips"]
    store = with_settings(filled, tmp_path / "feast", online_statuses="feast")

    statuses = store.get_online_features(features, rows).statuses()

    proto = filled.stock().get_online_features(features, rows).proto
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    for name, vector in zip(proto.metadata.feature_names.val, proto.results, strict=True):
        assert statuses[name] == [FieldStatus.Name(status) for status in vector.statuses], name


def test_a_feature_added_later_is_not_found_with_the_time_of_its_view(
    redis7: RedisServer, tmp_path: Path
) -> None:
    repo = one_feature(tmp_path, Int64, pa.array([5])).open(tmp_path / "repo", redis7)
    repo.ours().materialize(EARLY, LATE)
    with repo.redis() as client:
        [key] = client.keys()
        for field in client.hkeys(key):
            if not field.startswith(b"_ts:"):
                client.hdel(key, field)

    response = repo.ours().get_online_features(["v:x"], [{"driver_id": 0}])

    assert response.statuses()["x"] == ["NOT_FOUND"]
    stamped = response.to_dict(include_event_timestamps=True)
    assert stamped["x"] == [None]
    assert stamped["x__ts"] == [int(AT.timestamp())]


def test_ttl_is_enforced_online_by_setting(filled: Repo, tmp_path: Path) -> None:
    rows = [{"driver_id": 1001}, {"driver_id": 1}]
    features = ["driver_stats:trips", "driver_profile:age"]
    plain = filled.ours().get_online_features(features, rows)
    assert plain.statuses()["trips"] == ["PRESENT", "NOT_FOUND"]

    strict = with_settings(filled, tmp_path / "strict", enforce_online_ttl=True)
    response = strict.get_online_features(features, rows)

    assert response.statuses()["trips"] == ["OUTSIDE_MAX_AGE", "NOT_FOUND"]
    assert response.to_dict()["trips"] == [None, None]
    # A ttl of zero is for ever.
    assert response.statuses()["age"] == ["PRESENT", "NOT_FOUND"]


def test_a_mapped_join_key_is_what_a_service_asks_by(filled: Repo) -> None:
    """Feast takes whichever comes later in the row: the key of the map, or the key itself."""
    places = range(3)
    mapped = [{"origin_id": i, "target_id": 2 - i} for i in places]
    both = [{**row, "place_id": 1} for row in mapped]
    store = filled.ours()
    service = store.get_feature_service("route_service")

    def ask(rows: list[dict[str, int]]) -> dict[str, list[Any]]:
        answer: dict[str, list[Any]] = store.get_online_features(
            service, rows, full_feature_names=True
        ).to_dict()
        return {name: values for name, values in answer.items() if name != "place_id"}

    assert ask(both) == ask(mapped)


def test_among_equal_rows_of_a_source_the_last_is_materialized(
    either_store: RedisServer | None, tmp_path: Path
) -> None:
    """Feast's local engine keeps the first of them, or any in a large table."""
    applied = one_feature(tmp_path, Float64, pa.array([1.0, 2.0, 3.0]), keys=[1, 1, 1])
    ours, stock = applied.twins(tmp_path / "twins", either_store)

    ours.ours().materialize(EARLY, LATE)
    stock.stock().materialize(EARLY, LATE)

    assert read_x(ours.ours(), [1]) == [3.0]
    assert read_x(stock.stock(), [1]) != [3.0]


def test_newest_wins_whatever_the_order(
    demo: Applied, any_server: RedisServer | None, tmp_path: Path
) -> None:
    """Later window first, earlier window second, twice: as one run over both. SQLite too."""
    forward = demo.open(tmp_path / "forward", any_server)
    backward = demo.open(tmp_path / "backward", any_server)
    middle = NOON + timedelta(hours=2)
    forward.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)

    for _ in range(2):
        backward.ours().materialize(middle, LATE, feature_views=NATIVE_VIEWS)
        report = backward.ours().materialize(EARLY, middle, feature_views=NATIVE_VIEWS)

    assert sum(line.rows_older for line in report.views) > 0
    if any_server is None:
        assert dump_sqlite(forward.sqlite_path) == dump_sqlite(backward.sqlite_path)
    else:
        assert_same_redis(forward.redis(), backward.redis())


def test_concurrent_writers_end_with_the_newest(any_redis: RedisServer, tmp_path: Path) -> None:
    """Two processes' worth of writers on the same entities, over and over."""
    import feastrs

    count, versions = 400, 4
    repos = []
    reference = None
    for version in range(versions):
        applied = one_feature(
            tmp_path / f"source-{version}",
            Int64,
            pa.array([version] * count),
            times=[AT + timedelta(seconds=version)] * count,
        )
        repo = applied.open(tmp_path / f"repo-{version}", any_redis)
        reference = reference or repo
        repo.config["online_store"] = reference.config["online_store"]
        repo.write_config()
        repos.append(repo)
    failures: list[BaseException] = []

    def write(repo: Repo) -> None:
        try:
            store = feastrs.FeatureStore(repo_path=str(repo.folder))
            for _ in range(5):
                store.materialize(EARLY, LATE)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(repo,)) for repo in repos]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    assert read_x(repos[0].ours(), list(range(count))) == [versions - 1] * count


def test_an_equal_timestamp_overwrites(either_store: RedisServer | None, tmp_path: Path) -> None:
    """A correction lands; `equal_timestamps: skip` gives Feast's rule."""
    applied = one_feature(tmp_path, Int64, pa.array([1, 2]))
    repo = applied.open(tmp_path / "repo", either_store)
    repo.ours().materialize(EARLY, LATE)
    one_feature(tmp_path, Int64, pa.array([11, 12]))

    with_settings(repo, tmp_path / "skip", equal_timestamps="skip").materialize(EARLY, LATE)
    assert read_x(repo.ours(), [0, 1]) == [1, 2]

    repo.ours().materialize(EARLY, LATE)
    assert read_x(repo.ours(), [0, 1]) == [11, 12]


def test_int64_beside_nulls_is_exact(either_store: RedisServer | None, tmp_path: Path) -> None:
    values = [2**53 + 1, None, 2**63 - 1, -(2**63)]
    repo = one_feature(tmp_path, Int64, pa.array(values, pa.int64())).open(
        tmp_path / "repo", either_store
    )

    repo.ours().materialize(EARLY, LATE)

    assert read_x(repo.ours(), [0, 1, 2, 3]) == values
    assert read_x(repo.stock(), [0, 1, 2, 3]) == values


def test_null_keys_are_an_error_with_count_and_sample(redis7: RedisServer, tmp_path: Path) -> None:
    applied = one_feature(tmp_path, Int64, pa.array(range(5)), keys=[1, None, 2, None, 3])
    repo = applied.open(tmp_path / "repo", redis7)

    with pytest.raises(ValueError, match="driver_id") as caught:
        repo.ours().materialize(EARLY, LATE)

    assert "2" in str(caught.value)
    assert repo.ours().get_feature_view("v").materialization_intervals == []


def test_null_keys_are_skipped_and_counted_by_setting(
    either_store: RedisServer | None, tmp_path: Path
) -> None:
    applied = one_feature(tmp_path, Int64, pa.array(range(5)), keys=[1, None, 2, None, 3])
    repo = applied.open(
        tmp_path / "repo", either_store, settings={"materialization": {"on_null_key": "skip"}}
    )

    report = repo.ours().materialize(EARLY, LATE)

    assert report.views[0].null_keys == 2
    assert report.views[0].entities_written == 3
    assert read_x(repo.ours(), [1, 2, 3]) == [0, 2, 4]


@pytest.mark.parametrize(
    ("dtype", "column"),
    [
        (Array(Int64), pa.array([[1], [2, None]], pa.list_(pa.int64()))),
        (Array(Uuid), pa.array([[], [None]], pa.list_(pa.string()))),
    ],
    ids=["int64", "uuid"],
)
def test_null_inside_a_list_is_an_error_that_names_it(
    dtype: FeastType, column: pa.Array, redis7: RedisServer, tmp_path: Path
) -> None:
    repo = one_feature(tmp_path, dtype, column).open(tmp_path / "repo", redis7)

    with pytest.raises((ValueError, TypeError), match="x") as caught:
        repo.ours().materialize(EARLY, LATE)

    assert "row" in str(caught.value)


def test_an_empty_list_inside_a_list_stays_one(
    either_store: RedisServer | None, tmp_path: Path
) -> None:
    column = pa.array([[[1], [], None]], pa.list_(pa.list_(pa.int64())))
    repo = one_feature(tmp_path, Array(Array(Int64)), column).open(tmp_path / "repo", either_store)

    repo.ours().materialize(EARLY, LATE)

    assert read_x(repo.ours(), [0]) == [[[1], [], None]]
    assert read_x(repo.stock(), [0]) == [[[1], [], None]]


@pytest.mark.parametrize(
    ("dtype", "column"),
    [
        (Set(String), pa.array([[f"s{i * 7 % 40}" for i in range(40)]])),
        (Map, pa.array(['{"b": 1, "a": {"z": 1, "y": 2, "x": 3}, "c": 2}'])),
    ],
    ids=["set", "map"],
)
def test_sets_and_maps_are_written_in_one_order(
    dtype: FeastType, column: pa.Array, redis7: RedisServer, tmp_path: Path
) -> None:
    """The same bytes in every process: elements sorted."""
    applied = one_feature(tmp_path, dtype, column)
    stored = []
    for run in range(2):
        repo = applied.open(tmp_path / f"repo-{run}", redis7)
        materialize_elsewhere(repo, PYTHONHASHSEED=str(run))
        with repo.redis() as client:
            [key] = client.keys()
            stored.append(sorted(client.hgetall(key).items()))

    assert stored[0] == stored[1]
    [data] = [data for field, data in stored[0] if not field.startswith(b"_ts:")]
    value = Value.FromString(data)
    if value.HasField("string_set_val"):
        assert list(value.string_set_val.val) == sorted(value.string_set_val.val)


def materialize_elsewhere(repo: Repo, **environment: str) -> None:
    """Materializes with feastrs in a process of its own."""
    code = (
        "import sys, feastrs\n"
        "from datetime import datetime, timezone as z\n"
        "feastrs.FeatureStore(repo_path=sys.argv[1]).materialize(\n"
        "    datetime(2000, 1, 1, tzinfo=z.utc), datetime(2040, 1, 1, tzinfo=z.utc))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(repo.folder)],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )


def test_colliding_features_are_refused(redis7: RedisServer, tmp_path: Path) -> None:
    """Two features of one view with one 32-bit field hash would share a field."""
    first, second = colliding_names("v")
    pq.write_table(
        pa.table(
            {
                "driver_id": pa.array([1], pa.int64()),
                "event_timestamp": pa.array([AT], TIME),
                first: pa.array([1.0]),
                second: pa.array([2.0]),
            }
        ),
        tmp_path / "v.parquet",
    )
    view = FeatureView(
        name="v",
        entities=[DRIVER],
        ttl=timedelta(days=1),
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name=first, dtype=Float64),
            Field(name=second, dtype=Float64),
        ],
        source=file_source(tmp_path / "v.parquet"),
    )
    repo = apply(tmp_path / "applied", [DRIVER, view]).open(tmp_path / "repo", redis7)

    with pytest.raises(Exception, match=first) as caught:
        repo.ours().materialize(EARLY, LATE)

    assert second in str(caught.value)
    assert dump_redis(repo.redis()) == {}


def colliding_names(view: str) -> tuple[str, str]:
    import mmh3

    seen: dict[int, str] = {}
    for i in range(2_000_000):
        name = f"f{i}"
        field = mmh3.hash(f"{view}:{name}", signed=False)
        if field in seen:
            return seen[field], name
        seen[field] = name
    raise AssertionError("no collision")


def test_sqlite_times_do_not_depend_on_the_machines_zone(demo: Applied, tmp_path: Path) -> None:
    utc, tokyo = demo.twins(tmp_path)
    materialize_elsewhere(utc, TZ="UTC")
    materialize_elsewhere(tokyo, TZ="Asia/Tokyo")

    assert dump_sqlite(utc.sqlite_path) == dump_sqlite(tokyo.sqlite_path)


@pytest.mark.parametrize(
    ("dtype", "column"),
    [
        (String, pa.array(["", None, ""])),
        (Bytes, pa.array([b"", None, b""])),
    ],
    ids=["string", "bytes"],
)
def test_a_column_of_empty_values_is_not_null(
    dtype: FeastType, column: pa.Array, either_store: RedisServer | None, tmp_path: Path
) -> None:
    """Stock Feast takes a batch without a non-empty value for nulls."""
    repo = one_feature(tmp_path, dtype, column).open(tmp_path / "repo", either_store)

    repo.ours().materialize(EARLY, LATE)

    assert read_x(repo.ours(), [0, 1, 2]) == column.to_pylist()
    assert read_x(repo.stock(), [0, 1, 2]) == column.to_pylist()


def test_a_missing_part_of_a_composite_key_is_an_error(filled: Repo) -> None:
    with pytest.raises(KeyError, match="customer_id"):
        filled.ours().get_online_features(["order_stats:total"], [{"driver_id": 1000}])


def test_null_val_is_null(either_store: RedisServer | None, tmp_path: Path) -> None:
    """A value whose case is `null_val`; stock Feast gives the number of the enum, 0."""
    repo = one_feature(tmp_path, Int64, pa.array([5])).open(tmp_path / "repo", either_store)
    store = repo.stock()
    key = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=0)])
    store._get_provider().online_write_batch(  # type: ignore[attr-defined]
        store.config, store.get_feature_view("v"), [(key, {"x": Value(null_val=0)}, AT, None)], None
    )

    response = repo.ours().get_online_features(["v:x"], [{"driver_id": 0}])

    assert response.to_dict()["x"] == [None]
    assert response.statuses()["x"] == ["NULL_VALUE"]


def test_a_column_of_times_may_be_numbers(either_store: RedisServer | None, tmp_path: Path) -> None:
    """Epoch seconds as int64 or double; stock Feast makes null of doubles."""
    from feast.types import UnixTimestamp

    column = pa.array([0.0, 1.75, None])
    repo = one_feature(tmp_path, UnixTimestamp, column).open(tmp_path / "repo", either_store)

    repo.ours().materialize(EARLY, LATE)

    zero = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert read_x(repo.ours(), [0, 1, 2]) == [zero, zero + timedelta(seconds=1), None]


def test_disable_event_timestamp_takes_every_row(
    either_store: RedisServer | None, tmp_path: Path
) -> None:
    """As Feast documents it; its local engine keeps to the window all the same."""
    times = [AT + timedelta(days=day) for day in range(4)]
    applied = one_feature(tmp_path, Int64, pa.array(range(4)), times=times)
    repo = applied.open(tmp_path / "repo", either_store)

    repo.ours().materialize(times[2], times[3], disable_event_timestamp=True)

    assert read_x(repo.ours(), [0, 1, 2, 3]) == [0, 1, 2, 3]


def test_every_driver_was_there(filled: Repo) -> None:
    """The reference of this file: stock Feast sees the same values."""
    rows = [{"driver_id": 1000 + i} for i in range(DRIVERS)]
    answers = [
        store.get_online_features(["driver_stats:trips", "driver_profile:age"], rows).to_dict()
        for store in (filled.ours(), filled.stock())
    ]
    assert difference(*answers) is None
