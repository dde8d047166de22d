"""An unchanged Feast whose online store is ours: what it writes and deletes, beside stock Feast."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import feast
import pandas as pd
import pytest
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

import feastrs
from testbed.demo import DRIVERS, NATIVE_VIEWS, NOON
from testbed.dump import assert_same_redis, assert_same_sqlite, dump_redis
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo

LATER = NOON + timedelta(days=30)


@pytest.fixture
def twins(demo: Applied, either_store: RedisServer | None, tmp_path: Path) -> tuple[Repo, Repo]:
    return demo.twins(tmp_path, either_store)


def assert_equal(twins: tuple[Repo, Repo]) -> None:
    ours, stock = twins
    if ours.server is None:
        assert_same_sqlite(ours.sqlite_path, stock.sqlite_path)
    else:
        assert_same_redis(ours.redis(), stock.redis())


def both(twins: tuple[Repo, Repo]) -> tuple[feast.FeatureStore, feast.FeatureStore]:
    return twins[0].plugged(), twins[1].stock()


def frame(ages: list[int], times: list[datetime]) -> pd.DataFrame:
    drivers = [1001 + i for i in range(len(ages))]
    return pd.DataFrame({"driver_id": drivers, "age": ages, "event_timestamp": times}).astype(
        {"age": "int32"}
    )


class TestWrites:
    @pytest.mark.parametrize("version", [2, 3])
    def test_materialized_by_feasts_engine(
        self, version: int, demo: Applied, any_server: RedisServer | None, tmp_path: Path
    ) -> None:
        twins = demo.twins(tmp_path, any_server, key_version=version)
        for store in both(twins):
            store.materialize(EARLY, LATE, NATIVE_VIEWS)
        assert_equal(twins)

    def test_pushed(self, twins: tuple[Repo, Repo]) -> None:
        """New entities and newer rows, then older ones, which change nothing in Redis."""
        for store in both(twins):
            store.materialize(EARLY, LATE, ["pushed_stats"])
            store.push("driver_push", frame([91, 92], [LATER, LATER + timedelta(microseconds=7)]))
            store.push("driver_push", frame([93, 94, 95], [LATER + timedelta(days=1)] * 3))
            if twins[0].server:
                store.push("driver_push", frame([1, 2, 3, 4], [NOON] * 3 + [LATER]))
        assert_equal(twins)

    def test_written_asynchronously(
        self, demo: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        twins = demo.twins(tmp_path, redis7)
        ours, stock = both(twins)
        asyncio.run(ours.push_async("driver_push", frame([91, 92], [LATER] * 2)))
        stock.push("driver_push", frame([91, 92], [LATER] * 2))
        assert_equal(twins)
        # Feast's client would belong to the first loop.
        asyncio.run(twins[0].plugged().push_async("driver_push", frame([93], [LATE])))

    def test_settings(self, demo: Applied, any_redis: RedisServer, tmp_path: Path) -> None:
        for number, settings in enumerate([{"key_ttl_seconds": 1000}, {"skip_dedup": True}]):
            twins = demo.twins(tmp_path / str(number), any_redis, online_store=settings)
            for store in both(twins):
                store.push("driver_push", frame([91, 92], [LATER] * 2))
                store.push("driver_push", frame([93], [NOON]))
            assert_equal(twins)

    def test_many_rows_of_an_entity_in_one_batch(
        self, demo: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        twins = demo.twins(tmp_path, redis7)
        rows = [row(1001 + i % 7, {"age": i}, LATER + timedelta(seconds=i)) for i in range(100)]
        random.Random(7).shuffle(rows)
        told: list[int] = []
        for store in both(twins):
            view = store.get_feature_view("pushed_stats")
            store.provider.online_write_batch(store.config, view, rows, told.append)
        assert_equal(twins)
        assert told[0] == 100

    def test_rows_with_other_features_than_the_first(
        self, demo: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        twins = demo.twins(tmp_path, redis7)
        rows = [
            row(1, {"trips": 1, "label": "a"}, LATER),
            row(2, {"trips": 2}, LATER),
            row(3, {"label": "c", "trips": 3}, LATER),
            row(4, {"label": "d"}, LATER),
            row(5, {"trips": 5, "label": "e"}, LATER),
        ]
        for store in both(twins):
            view = store.get_feature_view("driver_stats")
            store.provider.online_write_batch(store.config, view, rows, None)
        assert_equal(twins)

    def test_times_of_every_kind(self, twins: tuple[Repo, Repo]) -> None:
        moment = datetime(2024, 7, 1, 12, 30, 15, 123456)
        times = [
            moment,
            moment.replace(tzinfo=timezone.utc),
            moment.replace(tzinfo=ZoneInfo("Europe/Prague")),
            moment.replace(tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        ]
        if twins[0].server:  # stock Feast's SQLite store takes no others
            nanos = "2024-07-01T12:30:15.123456789"
            times += [pd.Timestamp(nanos), pd.Timestamp(nanos, tz="Asia/Tokyo")]
        rows = [row(number, {"age": number}, time) for number, time in enumerate(times)]
        rows += [(*row(90, {"age": 1}, moment)[:3], time) for time in times[:1]]
        for store in both(twins):
            view = store.get_feature_view("pushed_stats")
            store.provider.online_write_batch(store.config, view, rows, None)
        assert_equal(twins)

    def test_nothing(self, twins: tuple[Repo, Repo]) -> None:
        told: list[int] = []
        store = twins[0].plugged()
        view = store.get_feature_view("pushed_stats")
        store.provider.online_write_batch(store.config, view, [], told.append)
        assert told == [0]

    def test_a_key_that_is_none_is_named(self, twins: tuple[Repo, Repo]) -> None:
        store = twins[0].plugged()
        view = store.get_feature_view("pushed_stats")
        key = EntityKey(join_keys=["driver_id"], entity_values=[Value()])
        with pytest.raises(feastrs.errors.FeastrsError, match=r"'pushed_stats', row 0.*driver_id"):
            store.provider.online_write_batch(
                store.config, view, [(key, {"age": Value(int32_val=1)}, NOON, None)], None
            )

    def test_an_equal_time_overwrites_in_a_plugged_store(self, twins: tuple[Repo, Repo]) -> None:
        store = twins[0].plugged()
        for age in (5, 6):
            store.push("driver_push", frame([age], [LATER]))
        answer = store.get_online_features(["pushed_stats:age"], [{"driver_id": 1001}])
        assert answer.to_dict()["age"] == [6]


def row(driver: int, values: dict[str, Any], time: Any) -> tuple[Any, Any, Any, Any]:
    key = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver)])
    kinds = {"age": "int32_val", "trips": "int64_val", "label": "string_val"}
    messages = {name: Value(**{kinds[name]: value}) for name, value in values.items()}
    return key, messages, time, None


class TestDeletion:
    def test_of_views(self, demo: Applied, any_redis: RedisServer, tmp_path: Path) -> None:
        """Rows of other views in the same hashes stay, as in stock Feast."""
        twins = demo.twins(tmp_path, any_redis)
        for store in both(twins):
            store.materialize(EARLY, LATE, NATIVE_VIEWS)
            update(store, [store.get_feature_view(name) for name in ("driver_stats", "world")])
        assert_equal(twins)
        assert not times_of("driver_stats", twins[0])

    def test_deletion_of_rows_with_keys_of_version_2(
        self, demo: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        """Stock Feast looks for keys of version 3, and finds none."""
        twins = demo.twins(tmp_path, redis7, key_version=2)
        for store in both(twins):
            store.materialize(EARLY, LATE, NATIVE_VIEWS)
            update(store, [store.get_feature_view("driver_stats")])
        ours, stock = (times_of("driver_stats", repo) for repo in twins)
        assert (len(ours), len(stock)) == (0, DRIVERS)
        assert len(times_of("driver_profile", twins[0])) == DRIVERS

    def test_by_applying_less(self, demo: Applied, redis7: RedisServer, tmp_path: Path) -> None:
        twins = demo.twins(tmp_path, redis7)
        for store in both(twins):
            store.materialize(EARLY, LATE, ["order_stats", "place_facts"])
            store.apply(
                [], objects_to_delete=[store.get_feature_view("order_stats")], partial=False
            )
        assert_equal(twins)
        assert len(dump_redis(twins[0].redis())) == 3

    def test_not_without_a_scan(self, demo: Applied, redis7: RedisServer, tmp_path: Path) -> None:
        twins = demo.twins(tmp_path, redis7, online_store={"full_scan_for_deletion": False})
        for store in both(twins):
            store.materialize(EARLY, LATE, ["driver_stats"])
            update(store, [store.get_feature_view("driver_stats")])
        assert_equal(twins)
        assert len(dump_redis(twins[0].redis())) == DRIVERS

    def test_teardown(self, demo: Applied, redis7: RedisServer, tmp_path: Path) -> None:
        store = demo.open(tmp_path, redis7).plugged()
        store.materialize(EARLY, LATE, NATIVE_VIEWS)
        repo = demo.open(tmp_path, redis7)
        tear_down(store)
        assert not dump_redis(repo.redis())

    def test_deletion_leaves_projects_with_a_longer_name_alone(
        self, demo: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        """Stock Feast's pattern for the keys of `demo` also matches those of `prod_demo`."""
        repo = demo.open(tmp_path, redis7)
        store = repo.plugged()
        store.materialize(EARLY, LATE, ["driver_stats"])
        with repo.redis() as client:
            for key in list(client.scan_iter()):
                client.copy(key, key.removesuffix(b"demo") + b"prod_demo")
            tear_down(store)
            left = list(client.scan_iter())
        assert len(left) == DRIVERS
        assert all(key.endswith(b"prod_demo") for key in left)


def times_of(view: str, repo: Repo) -> list[bytes]:
    """The keys of hashes that have a row of the view."""
    hashes = dump_redis(repo.redis()).items()
    return [key for key, hash_ in hashes if f"_ts:{view}".encode() in hash_.fields]


def update(store: feast.FeatureStore, gone: list[Any]) -> None:
    store.provider.update_infra(store.project, gone, [], [], [], partial=False)


def tear_down(store: feast.FeatureStore) -> None:
    store.provider.teardown_infra(store.project, store.list_feature_views(), [])
