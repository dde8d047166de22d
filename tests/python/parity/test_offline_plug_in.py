"""`offline_store: {type: feastrs.feast.FileOfflineStore}` in an unchanged Feast."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import feast
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.data_source import PushMode
from feast.errors import FeastJoinKeysDuringMaterialization
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.repo_config import FeastConfigError
from feast.types import Int64

from testbed.demo import DRIVERS, NATIVE_VIEWS, NOON, make_demo
from testbed.dump import assert_same_sqlite
from testbed.plain import plain_definitions, plain_table
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo, apply, file_source

OURS = {"offline_store": {"type": "feastrs.feast.FileOfflineStore"}}
DUCKDB = {"offline_store": {"type": "duckdb"}}


@pytest.fixture
def demo(tmp_path: Path) -> Applied:
    return make_demo(tmp_path / "demo")


def plugged(applied: Applied, folder: Path) -> Repo:
    return applied.open(folder, settings=OURS)


def offline_store(repo: Repo) -> Any:
    return repo.stock()._get_provider().offline_store  # type: ignore[attr-defined]


def pulled(repo: Repo, what: str, view: str, start: Any = EARLY, end: Any = LATE) -> pa.Table:
    """All columns of the view's source by `pull_{what}_from_table_or_query`."""
    definition = repo.stock().get_feature_view(view)
    source = definition.batch_source
    job = getattr(offline_store(repo), f"pull_{what}_from_table_or_query")(
        config=repo.stock().config,
        data_source=source,
        join_key_columns=[one.name for one in definition.entity_columns],
        feature_name_columns=[one.name for one in definition.features],
        timestamp_field=source.timestamp_field,
        created_timestamp_column=source.created_timestamp_column,
        start_date=start,
        end_date=end,
    )
    return job.to_arrow()


def rows(table: pa.Table, names: Sequence[str]) -> list[Any]:
    return sorted(table.select(names).to_pylist(), key=lambda row: repr([row[n] for n in names]))


class TestPulls:
    @pytest.mark.parametrize("view", ["driver_stats", "driver_profile", "order_stats"])
    @pytest.mark.parametrize("what", ["latest", "all"])
    def test_rows_are_those_of_feasts_duckdb_store(
        self, what: str, view: str, demo: Applied, tmp_path: Path
    ) -> None:
        ours = plugged(demo, tmp_path / "ours")
        duckdb = demo.open(tmp_path / "duckdb", settings=DUCKDB)
        ends = NOON, NOON + timedelta(minutes=7 * 35)
        for window in ((EARLY, LATE), ends, (LATE, LATE)):
            found = pulled(ours, what, view, *window)
            expected = pulled(duckdb, what, view, *window)
            assert rows(found, expected.column_names) == rows(expected, expected.column_names)

    def test_types_are_those_of_the_source(self, demo: Applied, tmp_path: Path) -> None:
        found = pulled(plugged(demo, tmp_path / "ours"), "latest", "driver_stats")
        source = pq.read_schema(demo.folder.parent / "data" / "driver_stats.parquet")
        assert found.num_rows == DRIVERS
        assert {field.name: field.type for field in found.schema} == {
            name: source.field(name).type for name in found.column_names
        }
        assert found["trips"].null_count > 0

    def test_both_ends_belong_to_the_window(self, demo: Applied, tmp_path: Path) -> None:
        ours = plugged(demo, tmp_path / "ours")
        second = timedelta(seconds=1)
        start, end = NOON + 3 * second, NOON + 5 * second
        assert pulled(ours, "all", "driver_profile", start, end).num_rows == 3
        naive = [moment.replace(tzinfo=None) for moment in (start, end)]
        assert pulled(ours, "all", "driver_profile", *naive).num_rows == 3
        inside = timedelta(microseconds=1)
        found = pulled(ours, "all", "driver_profile", start + inside, end - inside)
        assert found["driver_id"].to_pylist() == [1004]
        assert pulled(ours, "all", "driver_profile", start, None).num_rows == DRIVERS - 3
        assert pulled(ours, "all", "driver_profile", None, end).num_rows == 6

    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    def test_of_equal_times_the_newest_created_then_the_last(
        self, unit: str, tmp_path: Path
    ) -> None:
        kind = pa.timestamp(unit)
        at = [NOON, NOON, NOON, NOON - timedelta(seconds=1), NOON, NOON]
        made = [NOON, NOON + timedelta(seconds=5), NOON, LATE, NOON, None]
        table = pa.table(
            {
                "driver_id": pa.array([1, 1, 1, 1, None, None], pa.int64()),
                "event_timestamp": pa.array([one.replace(tzinfo=None) for one in at], kind),
                "made": pa.array([one and one.replace(tzinfo=None) for one in made], kind),
                "x": pa.array(range(6), pa.int64()),
            }
        )
        repo = plugged(of_table(tmp_path, table, created="made"), tmp_path / "ours")
        # Rows without a key are one entity, as ever in Feast; materialization decides on them.
        assert pulled(repo, "latest", "v")["x"].to_pylist() == [1, 4]
        assert pulled(repo, "latest", "v", None, NOON)["x"].to_pylist() == [1, 4]
        early = NOON - timedelta(microseconds=1)
        assert pulled(repo, "latest", "v", None, early)["x"].to_pylist() == [3]
        assert pulled(repo, "all", "v", NOON, NOON)["x"].to_pylist() == [0, 1, 2, 4, 5]
        assert pulled(repo, "all", "v").schema.field("event_timestamp").type.tz == "UTC"

    def test_a_source_without_the_join_key(self, tmp_path: Path) -> None:
        applied = of_table(tmp_path, plain_rows(), created="")
        pq.write_table(plain_rows().drop_columns(["driver_id"]), tmp_path / "v.parquet")
        repo = plugged(applied, tmp_path / "ours")
        with pytest.raises(FeastJoinKeysDuringMaterialization, match="driver_id"):
            pulled(repo, "latest", "v")

    def test_an_empty_source(self, tmp_path: Path) -> None:
        repo = plugged(of_table(tmp_path, plain_rows().slice(0, 0)), tmp_path / "ours")
        assert pulled(repo, "latest", "v").num_rows == 0
        assert pulled(repo, "all", "v").column_names == ["driver_id", "x", "event_timestamp"]

    def test_a_folder(self, tmp_path: Path) -> None:
        applied = of_table(tmp_path, plain_rows())
        (tmp_path / "v.parquet").unlink()
        for number in range(3):
            file = tmp_path / "v.parquet" / f"part-{number}.parquet"
            file.parent.mkdir(exist_ok=True)
            pq.write_table(plain_rows(first=number), file)
        repo = plugged(applied, tmp_path / "ours")
        assert pulled(repo, "latest", "v")["driver_id"].to_pylist() == [0, 1, 2, 3, 4]
        assert pulled(repo, "all", "v").num_rows == 9


def plain_rows(first: int = 0) -> pa.Table:
    return pa.table(
        {
            "driver_id": pa.array(range(first, first + 3), pa.int64()),
            "event_timestamp": pa.array([NOON] * 3, pa.timestamp("us", tz="UTC")),
            "x": pa.array([1, None, 3], pa.int64()),
        }
    )


def of_table(folder: Path, table: pa.Table, created: str = "") -> Applied:
    """A view `v` of drivers with a feature `x`, its source being `table`."""
    pq.write_table(table, folder / "v.parquet")
    driver = feast.Entity(name="driver", join_keys=["driver_id"], value_type=feast.ValueType.INT64)
    view = feast.FeatureView(
        name="v",
        entities=[driver],
        ttl=timedelta(days=1),
        schema=[feast.Field(name="driver_id", dtype=Int64), feast.Field(name="x", dtype=Int64)],
        source=file_source(folder / "v.parquet", created_timestamp_column=created),
    )
    return apply(folder / "applied", [driver, view])


class TestWrites:
    def test_feasts_engine_materializes_the_same(self, demo: Applied, tmp_path: Path) -> None:
        ours, stock = plugged(demo, tmp_path / "ours"), demo.open(tmp_path / "stock")
        for repo in (ours, stock):
            repo.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
        assert_same_sqlite(ours.sqlite_path, stock.sqlite_path)

    def test_our_engine_reads_the_files_itself(
        self, demo: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = {"batch_engine": {"type": "feastrs.feast.MaterializationEngine"}}
        store = {"type": "feastrs.feast.SqliteOnlineStore", "path": "online.db"}
        ours = demo.open(tmp_path / "ours", settings=OURS | engine | {"online_store": store})
        stock = demo.open(tmp_path / "stock")
        refused = "pull_latest_from_table_or_query", "pull_all_from_table_or_query"
        for name in refused:
            monkeypatch.setattr(f"feastrs.feast.files.FileOfflineStore.{name}", None)
        opened = feast.FeatureStore(repo_path=str(ours.folder))
        views = [view for view in opened.list_feature_views() if view.name in NATIVE_VIEWS]
        provider: Any = opened._get_provider()
        provider.update_infra(opened.project, [], views, [], [], partial=False)
        opened.materialize(EARLY, LATE, NATIVE_VIEWS)
        stock.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
        assert_same_sqlite(ours.sqlite_path, stock.sqlite_path)

    def test_a_push_to_the_offline_store(self, demo: Applied, tmp_path: Path) -> None:
        repo = plugged(demo, tmp_path / "ours")
        path = demo.folder.parent / "data" / "driver_profile.parquet"
        before = pq.read_table(path)
        pushed = before.slice(0, 2).to_pandas()
        pushed["driver_id"] = [7001, 7002]
        repo.stock().push("driver_push", pushed, to=PushMode.OFFLINE)

        after = pq.read_table(path)
        assert after.schema.equals(before.schema)
        assert after.num_rows == before.num_rows + 2
        assert {7001, 7002} < set(after["driver_id"].to_pylist())

    def test_a_write_that_lacks_a_column_changes_nothing(
        self, demo: Applied, tmp_path: Path
    ) -> None:
        repo = plugged(demo, tmp_path / "ours")
        path = demo.folder.parent / "data" / "driver_profile.parquet"
        before = path.read_bytes()
        table = pq.read_table(path).drop_columns(["vip"])
        view = repo.stock().get_feature_view("driver_profile")
        with pytest.raises(ValueError, match="vip"):
            offline_store(repo).offline_write_batch(repo.stock().config, view, table, None)
        assert path.read_bytes() == before

    def test_progress_is_told(self, demo: Applied, tmp_path: Path) -> None:
        repo = plugged(demo, tmp_path / "ours")
        path = demo.folder.parent / "data" / "driver_profile.parquet"
        told: list[int] = []
        view = repo.stock().get_feature_view("driver_profile")
        table = pq.read_table(path).slice(0, 4)
        offline_store(repo).offline_write_batch(repo.stock().config, view, table, told.append)
        assert told == [4]

    def test_logged_features_come_back(self, demo: Applied, tmp_path: Path) -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        repo = plugged(demo, tmp_path / "ours")
        store = repo.stock()
        service = feast.FeatureService(
            name="logged",
            features=[store.get_feature_view("driver_profile")[["age"]]],
            logging_config=LoggingConfig(
                destination=FileLoggingDestination(path=str(folder)), sample_rate=1.0
            ),
        )
        store.apply([service])
        now = datetime.now(timezone.utc)
        micros = pa.timestamp("us", tz="UTC")
        logs = pa.table(
            {
                "driver_id": pa.array([1001, 1002], pa.int64()),
                "driver_profile__age": pa.array([21, 22], pa.int32()),
                "driver_profile__age__timestamp": pa.array([now, now], micros),
                "driver_profile__age__status": pa.array([1, 1], pa.int32()),
                "__log_timestamp": pa.array([now, now], micros),
                "__log_date": pa.array([now.date(), now.date()], pa.date32()),
                "__request_id": pa.array(["a", "b"]),
            }
        )
        store.write_logged_features(logs, service)
        provider: Any = store._get_provider()
        hour = timedelta(hours=1)
        job = provider.retrieve_feature_service_logs(
            service, now - hour, now + hour, store.config, store.registry
        )
        found = job.to_arrow().sort_by("driver_id")
        assert found["driver_profile__age"].to_pylist() == [21, 22]


def test_settings(tmp_path: Path, demo: Applied) -> None:
    settings = {"offline_store": OURS["offline_store"] | {"s3_region": "eu-west-1"}}
    repo = demo.open(tmp_path / "ours", settings=settings)
    assert repo.stock().config.offline_store.s3_region == "eu-west-1"
    # The same file serves feastrs.FeatureStore.
    assert repo.ours().materialize(EARLY, LATE, ["driver_profile"]).delegated == {}
    settings["offline_store"]["s3_regino"] = "x"
    with pytest.raises(FeastConfigError, match="s3_regino"):
        feast.FeatureStore(repo_path=str(demo.open(tmp_path / "typo", settings=settings).folder))


def test_a_view_that_is_also_written_offline(redis7: RedisServer, tmp_path: Path) -> None:
    """Stock Feast takes no columns in another order than the file's, and gives them so."""
    path = tmp_path / "v.parquet"
    pq.write_table(plain_table(), path)
    objects = plain_definitions(path)
    objects[1].offline = True
    repo = apply(tmp_path / "applied", objects).open(tmp_path / "repo", redis7)

    report = repo.ours().materialize(EARLY, LATE)

    assert list(report.delegated) == ["v"]
    assert repo.redis().dbsize() == 3
    rows = pq.read_table(path).to_pylist()
    assert rows[3:] == rows[:3] == plain_table().to_pylist()
