"""The registry after a materialization: as stock Feast would have left it, nothing lost."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import feast
import pytest
from feast.protos.feast.core.Registry_pb2 import Registry

import feastrs
from testbed.demo import NATIVE_VIEWS, NOON
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo


def read_registry(path: Path) -> Registry:
    registry = Registry()
    registry.ParseFromString(path.read_bytes())
    return registry


def without_clock(path: Path) -> Registry:
    """The registry without what every write renews: ids and times of writing."""
    registry = read_registry(path)
    assert registry.version_id
    assert registry.HasField("last_updated")
    registry.version_id = ""
    registry.ClearField("last_updated")
    for view in registry.feature_views:
        view.meta.ClearField("last_updated_timestamp")
    return registry


def test_intervals_state_and_order_are_as_stock_leaves_them(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    ours, stock = demo.twins(tmp_path, redis7)
    # One view after the other, as stock does it: views at once are recorded as each is done.
    ours.config["materialization"] = {"max_memory_mb": 64}
    ours.write_config()
    for repo, store in ((ours, ours.ours()), (stock, stock.stock())):
        store.materialize(EARLY, NOON, feature_views=["driver_profile"])
        store.materialize(EARLY, LATE, feature_views=["driver_stats", "world"])
        store.materialize(NOON, LATE, feature_views=["driver_profile"])
        assert repo.registry_path.exists()

    assert without_clock(ours.registry_path) == without_clock(stock.registry_path)


def test_each_write_renews_version_and_times(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    repo = demo.open(tmp_path, redis7)
    before = read_registry(repo.registry_path)
    started = datetime.now(timezone.utc) - timedelta(seconds=1)

    repo.ours().materialize(EARLY, LATE, feature_views=["driver_stats"])

    after = read_registry(repo.registry_path)
    assert after.version_id != before.version_id
    assert after.last_updated.ToDatetime(timezone.utc) >= started
    [view] = [view for view in after.feature_views if view.spec.name == "driver_stats"]
    assert view.meta.last_updated_timestamp.ToDatetime(timezone.utc) >= started


def test_stock_opens_what_we_wrote(demo: Applied, redis7: RedisServer, tmp_path: Path) -> None:
    repo = demo.open(tmp_path, redis7)
    repo.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)

    store = feast.FeatureStore(repo_path=str(repo.folder))

    for name in NATIVE_VIEWS:
        view = store.get_feature_view(name)
        assert view.materialization_intervals == [(EARLY, LATE)]
    assert store.get_feature_service("driver_service").name == "driver_service"
    assert [view.name for view in store.list_on_demand_feature_views()] == ["doubled"]
    answer = store.get_online_features(["driver_stats:trips"], [{"driver_id": 1001}]).to_dict()
    assert (
        answer
        == repo.ours().get_online_features(["driver_stats:trips"], [{"driver_id": 1001}]).to_dict()
    )


def test_fields_of_a_newer_feast_survive(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    """Unknown fields, at the top, in the view and deep inside it."""
    repo = demo.open(tmp_path, redis7)
    registry = read_registry(repo.registry_path)
    [view] = [view for view in registry.feature_views if view.spec.name == "driver_stats"]
    unknown = bytes([0xFA, 0xBB, 0x3F, 3]) + b"new"  # field 130 959, length-delimited
    view.spec.batch_source.MergeFromString(unknown)
    view.spec.MergeFromString(unknown)
    view.meta.MergeFromString(unknown)
    view.MergeFromString(unknown)
    registry.MergeFromString(unknown)
    repo.registry_path.write_bytes(registry.SerializeToString())
    assert registry.SerializeToString().count(unknown) == 5

    repo.ours().materialize(EARLY, LATE, feature_views=["driver_stats", "driver_profile"])

    assert repo.registry_path.read_bytes().count(unknown) == 5


def test_incremental_goes_on_where_the_last_run_ended(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    ours, stock = demo.twins(tmp_path, redis7)
    middle = NOON + timedelta(hours=2)
    for store in (ours.ours(), stock.stock()):
        store.materialize(EARLY, middle, feature_views=["driver_stats"])
        store.materialize_incremental(LATE, feature_views=["driver_stats"])

    left, right = (intervals(repo, "driver_stats") for repo in (ours, stock))
    assert left == right == [(EARLY, middle), (middle, LATE)]


def test_first_incremental_run_starts_a_ttl_ago(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    """`ttl` 365 days; 0 counts as a year, and so does none: a registry can't tell them apart."""
    ours, stock = demo.twins(tmp_path, redis7)
    end = datetime.now(timezone.utc)
    names = ["driver_stats", "driver_profile", "place_facts"]
    for store in (ours.ours(), stock.stock()):
        store.materialize_incremental(end, feature_views=names)

    for name in names:
        [(our_start, our_end)] = intervals(ours, name)
        [(stock_start, stock_end)] = intervals(stock, name)
        assert our_end == stock_end
        assert abs(our_start - stock_start) < timedelta(minutes=2)


def intervals(repo: Repo, name: str) -> list[tuple[datetime, datetime]]:
    registry = read_registry(repo.registry_path)
    [view] = [view for view in registry.feature_views if view.spec.name == name]
    return [
        (
            interval.start_time.ToDatetime(timezone.utc),
            interval.end_time.ToDatetime(timezone.utc),
        )
        for interval in view.meta.materialization_intervals
    ]


def test_concurrent_writers_lose_nothing(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    """Every interval of every writer is there; the file is never torn for a reader."""
    import feastrs

    repo = demo.open(tmp_path, redis7)
    rounds = 6
    failures: list[BaseException] = []

    def write(name: str) -> None:
        try:
            store = feastrs.FeatureStore(repo_path=str(repo.folder))
            for i in range(rounds):
                start = NOON + timedelta(days=i)
                store.materialize(start, start + timedelta(hours=1), feature_views=[name])
        except BaseException as error:
            failures.append(error)

    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            read_registry(repo.registry_path)

    names = ["driver_stats", "driver_profile", "order_stats", "world"]
    writers = [threading.Thread(target=write, args=(name,)) for name in names]
    reader = threading.Thread(target=read)
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()

    assert not failures
    for name in names:
        assert len(intervals(repo, name)) == rounds, name


def test_a_symlinked_registry_stays_a_symlink(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    repo = demo.open(tmp_path / "repo", redis7)
    real = tmp_path / "elsewhere.db"
    repo.registry_path.rename(real)
    repo.registry_path.symlink_to(real)

    repo.ours().materialize(EARLY, LATE, feature_views=["world"])

    assert repo.registry_path.is_symlink()
    assert intervals(repo, "world") == [(EARLY, LATE)]


def test_refresh_registry_sees_what_others_wrote(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    repo = demo.open(tmp_path, redis7)
    store = repo.ours()
    assert store.get_feature_view("world").materialization_intervals == []
    repo.stock().materialize(EARLY, LATE, ["world"])

    store.refresh_registry()

    assert store.get_feature_view("world").materialization_intervals == [(EARLY, LATE)]


def test_intervals_are_compacted_on_request(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    repo = demo.open(tmp_path, redis7)
    store = repo.ours()
    hours = [NOON + timedelta(hours=hour) for hour in range(6)]
    for start, end in [(0, 1), (1, 2), (4, 5)]:
        store.materialize(hours[start], hours[end], feature_views=["driver_stats"])
    store.materialize(EARLY, LATE, feature_views=["world"])

    assert store.compact_materialization_intervals() == {"driver_stats": 2}

    view = feast.FeatureStore(repo_path=str(repo.folder)).get_feature_view("driver_stats")
    assert view.materialization_intervals == [(hours[0], hours[2]), (hours[4], hours[5])]
    assert view.most_recent_end_time == hours[5]
    assert store.compact_materialization_intervals(["driver_stats", "world"]) == {}
    with pytest.raises(feastrs.errors.FeatureViewNotFoundException):
        store.compact_materialization_intervals(["nope"])


WRITER = """
import sys
from datetime import datetime, timedelta, timezone
import feastrs
store = feastrs.FeatureStore(repo_path=sys.argv[1])
start = datetime(2030, 1, 1, tzinfo=timezone.utc) + timedelta(days=int(sys.argv[2]))
for step in range(100):
    at = start + timedelta(minutes=step)
    store.materialize(at, at, feature_views=["world", "place_facts"][int(sys.argv[2]):][:1])
"""


def test_two_processes_that_write_a_hundred_times_lose_nothing(
    demo: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    repo = demo.open(tmp_path, redis7)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(repo.folder), str(number)])
        for number in range(2)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    views = {view.spec.name: view.meta for view in read_registry(repo.registry_path).feature_views}
    for name in ("world", "place_facts"):
        intervals = views[name].materialization_intervals
        assert len({interval.start_time.seconds for interval in intervals}) == 100, name
