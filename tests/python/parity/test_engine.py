"""`batch_engine: {type: feastrs.feast.MaterializationEngine}` in an unchanged Feast, beside Feast's
own engine: equal stores, and one interval in the registry, which Feast itself records.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import feast
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from feast.cli.cli import cli
from feast.types import Float64, Int64, String

import feastrs
from testbed.demo import NATIVE_VIEWS, definitions
from testbed.dump import assert_same_redis, assert_same_sqlite, dump_redis
from testbed.redis_server import RedisServer, free_port
from testbed.repo import EARLY, LATE, PLUG_INS, Applied, Repo, apply, file_source

ENGINE = "feastrs.feast.MaterializationEngine"
DRIVER = feast.Entity(name="driver", join_keys=["driver_id"], value_type=feast.ValueType.INT64)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="feastrs")
    return caplog


def by_feast(log: pytest.LogCaptureFixture) -> list[str]:
    """What went through Feast's local engine, each with the reason."""
    marker = " by Feast's local engine: "
    lines = (record.getMessage() for record in log.records)
    return [line.removeprefix("materializing ") for line in lines if marker in line]


def engined(repo: Repo, store: str | None = None, **settings: Any) -> feast.FeatureStore:
    """Stock Feast's store of `repo`, its engine being ours; `store`: the online store's type."""
    repo.plugged()  # makes tables
    online_store = dict(repo.config["online_store"])
    online_store["type"] = store or PLUG_INS[online_store["type"]]
    config = repo.config | {
        "online_store": online_store,
        "batch_engine": {"type": ENGINE} | settings,
    }
    file = repo.folder / "engine.yaml"
    file.write_text(yaml.safe_dump(config))
    return feast.FeatureStore(repo_path=str(repo.folder), fs_yaml_file=file)


def assert_equal(ours: Repo, stock: Repo) -> None:
    """The same rows, and the same intervals and states of the views."""
    if ours.server is None:
        assert_same_sqlite(ours.sqlite_path, stock.sqlite_path)
    else:
        assert assert_same_redis(ours.redis(), stock.redis())
    assert ledger(ours) == ledger(stock)


def ledger(repo: Repo) -> dict[str, Any]:
    # Opened anew: what the file says, not what a cache does.
    store = feast.FeatureStore(repo_path=str(repo.folder))
    return {
        view.name: (view.materialization_intervals, view.state)
        for view in store.list_feature_views()
    }


def materialize_both(twins: tuple[Repo, Repo], *arguments: Any, **options: Any) -> None:
    ours, stock = twins
    engined(ours).materialize(*arguments, **options)
    stock.stock().materialize(*arguments, **options)
    assert_equal(*twins)


@pytest.mark.parametrize("version", [2, 3])
def test_demo(
    version: int,
    demo: Applied,
    any_server: RedisServer | None,
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    """Several views of one entity in one hash, a composite key, none at all, every store."""
    twins = demo.twins(tmp_path, any_server, key_version=version)

    materialize_both(twins, EARLY, LATE, NATIVE_VIEWS)

    assert not by_feast(log)
    assert ledger(twins[0])["driver_stats"][0] == [(EARLY, LATE)]


def test_feasts_redis_store_will_do(
    demo: Applied, redis7: RedisServer, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    ours, stock = demo.twins(tmp_path, redis7, online_store={"key_ttl_seconds": 1000})
    engined(ours, "redis").materialize(EARLY, LATE, NATIVE_VIEWS)
    stock.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
    assert_equal(ours, stock)
    assert not by_feast(log)


def test_feasts_sqlite_store_is_written_by_feast(
    demo: Applied, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """Two copies of the SQLite library on one file would not see each other's locks."""
    ours, stock = demo.twins(tmp_path)
    engined(ours, "sqlite").materialize(EARLY, LATE, ["driver_stats"])
    stock.stock().materialize(EARLY, LATE, ["driver_stats"])
    assert_equal(ours, stock)
    assert "SQLite" in by_feast(log)[0]


def test_command_line(demo: Applied, either_store: RedisServer | None, tmp_path: Path) -> None:
    """`feast materialize`, then `materialize-incremental` from where it ended."""
    twins = demo.twins(tmp_path, either_store)
    middle = "2024-03-01T15:00:00"
    for command in (
        ["materialize", "2000-01-01T00:00:00", middle, "-v", "driver_stats", "-v", "world"],
        ["materialize-incremental", "2024-04-01T00:00:00", "-v", "driver_stats"],
    ):
        for repo, file in zip(twins, ("engine.yaml", "feature_store.yaml"), strict=True):
            engined(repo)
            repo.stock()
            folder = str(repo.folder)
            result = CliRunner().invoke(cli, ["-c", folder, "-f", f"{folder}/{file}", *command])
            assert result.exit_code == 0, result.output
    assert_equal(*twins)
    assert len(ledger(twins[0])["driver_stats"][0]) == 2


def test_feast_serve(demo: Applied, redis7: RedisServer, tmp_path: Path) -> None:
    """The server's `/materialize`."""
    ours, stock = demo.twins(tmp_path, redis7)
    engined(ours)
    port = free_port()
    executable = Path(sys.executable).with_name("feast")
    arguments = ["-c", ours.folder, "-f", ours.folder / "engine.yaml", "serve", "-p", str(port)]
    with (tmp_path / "log").open("w") as output:
        server = subprocess.Popen([executable, *arguments], stdout=output, stderr=output)
    try:
        while server.poll() is None and not answers(f"http://127.0.0.1:{port}/health"):
            time.sleep(0.1)
        body = {
            "start_ts": EARLY.isoformat(),
            "end_ts": LATE.isoformat(),
            "feature_views": NATIVE_VIEWS,
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/materialize",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()
    finally:
        server.terminate()
        server.wait()
    stock.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
    assert_equal(ours, stock)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url).close()
    except OSError:
        return False
    return True


VERSIONED = {
    "registry": {
        "path": "registry.db",
        "registry_type": "file",
        "enable_online_feature_view_versioning": True,
    }
}


class TestVersions:
    @pytest.fixture
    def changed(self, demo: Applied, tmp_path: Path) -> Applied:
        source = file_source(demo.folder.parent / "data" / "driver_stats.parquet")
        applied = apply(tmp_path / "applied", [DRIVER, self.view(source, {"trips": Int64})])
        both = self.view(source, {"trips": Int64, "label": String})
        feast.FeatureStore(repo_path=str(applied.folder)).apply([DRIVER, both])
        return applied

    @staticmethod
    def view(source: Any, features: dict[str, Any]) -> feast.FeatureView:
        return feast.FeatureView(
            name="changing",
            entities=[DRIVER],
            ttl=timedelta(days=3650),
            schema=[
                feast.Field(name="driver_id", dtype=Int64),
                *(feast.Field(name=name, dtype=dtype) for name, dtype in features.items()),
            ],
            source=source,
        )

    @pytest.mark.parametrize("version", [None, "v0", "v1"])
    def test_each(
        self,
        version: str | None,
        changed: Applied,
        either_store: RedisServer | None,
        tmp_path: Path,
        log: pytest.LogCaptureFixture,
    ) -> None:
        """The present version, and one that is asked for."""
        twins = changed.twins(tmp_path / "twins", either_store, settings=VERSIONED)
        if either_store is None and version == "v0":
            for repo in twins:
                make_table(repo, "changing")
        materialize_both(twins, EARLY, LATE, ["changing"], version=version)
        assert not by_feast(log)


def make_table(repo: Repo, view: str) -> None:
    """Of a version that is not the present one, which Feast does not make."""
    import sqlite3

    with sqlite3.connect(repo.sqlite_path) as connection:
        connection.execute(
            f'CREATE TABLE IF NOT EXISTS "demo_{view}" (entity_key BLOB, feature_name TEXT, '
            "value BLOB, value_text TEXT, vector_value BLOB, event_ts timestamp, "
            "created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
        )
    connection.close()


def test_registry_in_a_database(
    demo: Applied, redis7: RedisServer, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """What the core can't write, Feast keeps."""
    registry = {"registry_type": "sql", "path": f"sqlite:///{tmp_path}/registry.sqlite"}
    ours = demo.open(tmp_path / "ours", redis7, settings={"registry": registry})
    stock = demo.open(tmp_path / "stock", redis7)
    store = engined(ours)
    store.apply(definitions(demo.folder.parent / "data"))
    store.materialize(EARLY, LATE, NATIVE_VIEWS)
    stock.stock().materialize(EARLY, LATE, NATIVE_VIEWS)
    assert assert_same_redis(ours.redis(), stock.redis())
    view = store.get_feature_view("driver_stats")
    assert view.materialization_intervals == [(EARLY, LATE)]
    assert not by_feast(log)


def null_keys(folder: Path) -> Applied:
    columns = {
        "driver_id": pa.array([1, None, 3], pa.int64()),
        "event_timestamp": pa.array([EARLY] * 3),
        "x": [1.0, 2.0, 3.0],
    }
    return v_of(pa.table(columns), folder)


def v_of(table: pa.Table, folder: Path, **options: Any) -> Applied:
    """A view `v` of a feature `x`."""
    pq.write_table(table, folder / "v.parquet")
    view = feast.FeatureView(
        name="v",
        entities=[DRIVER],
        schema=[feast.Field(name="driver_id", dtype=Int64), feast.Field(name="x", dtype=Float64)],
        source=file_source(folder / "v.parquet", **options),
    )
    return apply(folder / "applied", [DRIVER, view])


@pytest.mark.parametrize("offline", ["file", "testbed.other_offline_store.OtherOfflineStore"])
def test_an_incremental_run_up_to_a_time_before_the_last_one(
    offline: str, demo: Applied, redis7: RedisServer, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """A run that is late or repeated finds nothing to do, and says so."""
    twins = demo.twins(tmp_path, redis7, settings={"offline_store": {"type": offline}})
    twins[1].config["offline_store"] = {"type": "file"}
    twins[1].write_config()
    materialize_both(twins, EARLY, LATE, ["driver_stats"])
    before = LATE - timedelta(days=1)
    engined(twins[0]).materialize_incremental(before, ["driver_stats"])
    twins[1].stock().materialize_incremental(before, ["driver_stats"])
    assert_equal(*twins)
    assert "nothing to materialize" in log.text


def test_an_error_is_told_and_nothing_recorded(tmp_path: Path, redis7: RedisServer) -> None:
    repo = null_keys(tmp_path).open(tmp_path / "repo", redis7)
    before = ledger(repo)
    with pytest.raises(feastrs.errors.FeastrsError, match=r"driver_id.*batch_engine"):
        engined(repo).materialize(EARLY, LATE)
    assert ledger(repo) == before
    assert repo.redis().dbsize() == 0


def test_settings_of_the_engine(tmp_path: Path, redis7: RedisServer) -> None:
    repo = null_keys(tmp_path).open(tmp_path / "repo", redis7)
    engined(repo, on_null_key="skip", max_memory_mb=64).materialize(EARLY, LATE)
    assert repo.redis().dbsize() == 2
    assert ledger(repo)["v"][0] == [(EARLY, LATE)]


def test_feastrs_door_on_the_same_file(demo: Applied, redis7: RedisServer, tmp_path: Path) -> None:
    repo = demo.open(tmp_path, redis7, settings={"batch_engine": {"type": ENGINE}})
    report = repo.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
    assert not report.delegated


class TestOtherOfflineStores:
    """Whatever reads the rows, the core takes them as they come."""

    SETTINGS: ClassVar = {
        "offline_store": {"type": "testbed.other_offline_store.OtherOfflineStore"}
    }

    @pytest.mark.parametrize("version", [2, 3])
    def test_demo(
        self,
        version: int,
        demo: Applied,
        either_store: RedisServer | None,
        tmp_path: Path,
        log: pytest.LogCaptureFixture,
    ) -> None:
        twins = demo.twins(tmp_path, either_store, key_version=version, settings=self.SETTINGS)
        ours, stock = twins
        # Whose own engine converts the first chunk of a table alone.
        stock.config["offline_store"] = {"type": "file"}
        stock.write_config()
        materialize_both(twins, EARLY, LATE, NATIVE_VIEWS)
        assert not by_feast(log)
        assert "reading the rows of driver_stats by Feast" in log.text
        assert ledger(ours)["driver_stats"][0] == [(EARLY, LATE)]

    @pytest.mark.parametrize("given", ["file", "mapping", "config"])
    def test_feastrs_makes_no_rows_of_python_of_them(
        self,
        given: str,
        demo: Applied,
        redis7: RedisServer,
        tmp_path: Path,
        log: pytest.LogCaptureFixture,
    ) -> None:
        ours, stock = demo.twins(tmp_path, redis7, settings=self.SETTINGS)
        config: Any = {**ours.config, "repo_path": str(ours.folder)}
        if given == "config":
            config = feast.RepoConfig(**config)
        arguments: Any = {"repo_path": ours.folder} if given == "file" else {"config": config}

        report = feastrs.FeatureStore(**arguments).materialize(EARLY, LATE, ["driver_stats"])

        assert list(report.delegated) == ["driver_stats"]
        assert "materialized driver_stats: " in log.text
        stock.config["offline_store"] = {"type": "file"}
        stock.write_config()
        stock.stock().materialize(EARLY, LATE, ["driver_stats"])
        assert_equal(ours, stock)

    def test_rows_of_nothing_but_nulls(self, tmp_path: Path, redis7: RedisServer) -> None:
        columns = {"driver_id": [1, 2], "event_timestamp": [EARLY] * 2, "x": [None, float("nan")]}
        table = pa.table(columns).cast(
            pa.schema(
                [
                    ("driver_id", pa.int64()),
                    ("event_timestamp", pa.timestamp("us", tz="UTC")),
                    ("x", pa.float64()),
                ]
            )
        )
        twins = v_of(table, tmp_path).twins(tmp_path / "twins", redis7, settings=self.SETTINGS)
        materialize_both(twins, EARLY, LATE)

    def test_field_mapping_and_created_timestamps(
        self, tmp_path: Path, redis7: RedisServer
    ) -> None:
        later = EARLY + timedelta(hours=1)
        table = pa.table(
            {
                "id": pa.array([1, 1, 2, 2], pa.int64()),
                "at": pa.array([EARLY] * 4, pa.timestamp("us", tz="UTC")),
                "made": pa.array([later, EARLY, EARLY, later], pa.timestamp("us", tz="UTC")),
                "x": [1.0, 2.0, 3.0, 4.0],
            }
        )
        mapping = {"id": "driver_id", "at": "event_timestamp", "made": "created"}
        applied = v_of(table, tmp_path, field_mapping=mapping, created_timestamp_column="created")
        twins = applied.twins(tmp_path / "twins", redis7, settings=self.SETTINGS)
        materialize_both(twins, EARLY, LATE)
        assert len(dump_redis(twins[0].redis())) == 2


class TestByFeast:
    def test_transformations(
        self, demo: Applied, redis7: RedisServer, tmp_path: Path, log: pytest.LogCaptureFixture
    ) -> None:
        source = file_source(demo.folder.parent / "data" / "driver_profile.parquet")

        def older(frame):  # type: ignore[no-untyped-def]  # Feast would look the types up
            return frame.assign(age=frame["age"] + 1)

        view = feast.BatchFeatureView(
            name="older",
            entities=[DRIVER],
            mode="pandas",
            udf=older,
            schema=[
                feast.Field(name="driver_id", dtype=Int64),
                feast.Field(name="age", dtype=Int64),
            ],
            source=source,
            online=True,
            ttl=timedelta(days=1),
        )
        twins = apply(tmp_path / "applied", [DRIVER, view]).twins(tmp_path / "twins", redis7)
        materialize_both(twins, EARLY, LATE)
        assert by_feast(log) == ["older by Feast's local engine: has a transformation"]
