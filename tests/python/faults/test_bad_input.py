"""Bad input: an error of the right class that names the thing, and no secret in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import feastrs
from feastrs import errors
from testbed.plain import AT, TIME, plain, plain_definitions, plain_table
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo, apply

SECRET = "hunter2-and-more"


def fails(kind: type[BaseException], action: Callable[[], Any], *names: str) -> str:
    """The action raises `kind`, which is a `FeastrsError` or Feast's own; returns the text."""
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    for name in names:
        assert name in text, f"{name!r} is not in {text!r}"
    assert SECRET not in text
    assert SECRET not in repr(caught.value)
    return text


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"))


class TestConfiguration:
    def test_no_yaml(self, tmp_path: Path) -> None:
        fails(
            Exception,
            lambda: feastrs.FeatureStore(repo_path=str(tmp_path)),
            "feature_store.yaml",
            str(tmp_path),
        )

    def test_no_folder(self, tmp_path: Path) -> None:
        missing = tmp_path / "nowhere"
        fails(Exception, lambda: feastrs.FeatureStore(repo_path=str(missing)), str(missing))

    @pytest.mark.parametrize(
        "text", ["project: [demo", "project: demo\n\tx: 1", "- a\n- b", "", "project: 5: 6"]
    )
    def test_broken_yaml(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "feature_store.yaml").write_text(text)
        fails(
            Exception, lambda: feastrs.FeatureStore(repo_path=str(tmp_path)), "feature_store.yaml"
        )

    def test_unset_variable(
        self, applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("FEASTRS_TEST_UNSET", raising=False)
        repo = applied.open(tmp_path)
        repo.config["online_store"]["path"] = "${FEASTRS_TEST_UNSET}/online.db"
        repo.write_config()
        fails(Exception, repo.ours, "FEASTRS_TEST_UNSET")

    def test_variables_and_defaults(
        self, applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEASTRS_TEST_PROJECT", "demo")
        repo = applied.open(tmp_path)
        text = (tmp_path / "feature_store.yaml").read_text()
        text = text.replace("project: demo", "project: $FEASTRS_TEST_PROJECT")
        text = text.replace("path: online.db", 'path: ${FEASTRS_TEST_UNSET:"other.db"}')
        (tmp_path / "feature_store.yaml").write_text(text)
        repo.ours().materialize(EARLY, LATE)
        assert repo.ours().project == "demo"
        assert (tmp_path / "other.db").exists()

    def test_unknown_online_setting(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path, online_store={"pahts": "x.db"})
        fails(ValueError, repo.ours, "pahts", "online_store")

    @pytest.mark.parametrize("version", [1, 4, "x"])
    def test_unsupported_key_version(self, version: Any, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path, settings={"entity_key_serialization_version": version})
        fails(ValueError, repo.ours, "entity_key_serialization_version")

    def test_unknown_top_level_key_warns(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path, settings={"feets": 1})
        with pytest.warns(UserWarning, match="feets"):
            repo.ours()

    def test_no_project(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        del repo.config["project"]
        repo.write_config()
        fails(ValueError, repo.ours, "project")

    def test_config_and_file_together(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        fails(
            ValueError,
            lambda: feastrs.FeatureStore(
                config=repo.config, fs_yaml_file=tmp_path / "feature_store.yaml"
            ),
        )


class TestRegistry:
    def test_missing(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        repo.registry_path.unlink()
        fails(Exception, lambda: repo.ours().list_entities(), "registry.db")

    @pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
    def test_truncated(self, share: float, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        data = repo.registry_path.read_bytes()
        repo.registry_path.write_bytes(data[: int(len(data) * share)])
        fails(Exception, lambda: repo.ours().list_entities(), "registry.db")

    @pytest.mark.parametrize(
        "data",
        [b"SQLite format 3\x00" + bytes(100), b"\xff" * 64, b"project: demo\n", b"PAR1" * 9],
        ids=["sqlite", "ones", "yaml", "parquet"],
    )
    def test_not_a_registry(self, data: bytes, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        repo.registry_path.write_bytes(data)
        fails(Exception, lambda: repo.ours().list_entities(), "registry.db")

    def test_a_folder(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        repo.registry_path.unlink()
        repo.registry_path.mkdir()
        fails(Exception, lambda: repo.ours().list_entities(), "registry.db")

    def test_another_project(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        repo.config["project"] = "stranger"
        repo.write_config()
        fails(
            Exception,
            lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 1}]),
            "v",
            "stranger",
        )


def materialize(folder: Path, table: pa.Table | None, server: RedisServer) -> Repo:
    """A repo whose Parquet file is `table`."""
    return plain(folder, table).open(folder / "repo", server)


def without(name: str) -> pa.Table:
    return plain_table().drop_columns([name])


def with_column(name: str, column: pa.Array) -> pa.Table:
    table = plain_table()
    return table.set_column(table.column_names.index(name), name, column)


class TestSource:
    @pytest.fixture(autouse=True)
    def _nothing_is_recorded(self, tmp_path: Path, redis7: RedisServer) -> Iterator[None]:
        """Whatever goes wrong, no interval is recorded and no entity is written."""
        self.repo: Repo | None = None
        yield
        assert self.repo is not None
        assert self.repo.stock().get_feature_view("v").materialization_intervals == []
        with self.repo.redis() as client:
            assert client.dbsize() == 0

    def refused(self, repo: Repo, kind: type[BaseException], *names: str) -> str:
        self.repo = repo
        return fails(kind, lambda: repo.ours().materialize(EARLY, LATE), *names)

    def test_missing(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, None, redis7)
        (tmp_path / "v.parquet").unlink()
        self.refused(repo, FileNotFoundError, "v.parquet")

    def test_glob_without_a_match(self, tmp_path: Path, redis7: RedisServer) -> None:
        pq.write_table(plain_table(), tmp_path / "v.parquet")
        applied = apply(tmp_path / "applied", plain_definitions(tmp_path / "v*.parquet"))
        (tmp_path / "v.parquet").unlink()
        self.refused(applied.open(tmp_path / "repo", redis7), FileNotFoundError, "v*.parquet")

    @pytest.mark.parametrize("size", [0, 3, 100, -1])
    def test_truncated(self, size: int, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, None, redis7)
        data = (tmp_path / "v.parquet").read_bytes()
        (tmp_path / "v.parquet").write_bytes(data[:size])
        self.refused(repo, ValueError, "v.parquet")

    def test_damaged_page(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, None, redis7)
        data = bytearray((tmp_path / "v.parquet").read_bytes())
        data[4:120] = bytes(116)
        (tmp_path / "v.parquet").write_bytes(bytes(data))
        self.refused(repo, ValueError, "v.parquet")

    def test_no_key_column(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, without("driver_id"), redis7)
        self.refused(repo, Exception, "driver_id", "v.parquet")

    def test_no_timestamp_column(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, without("event_timestamp"), redis7)
        self.refused(repo, Exception, "event_timestamp", "v.parquet")

    def test_no_feature_column(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, without("x"), redis7)
        self.refused(repo, Exception, "'x'", "v.parquet")

    @pytest.mark.parametrize(
        "column",
        [
            pa.array(["a", "b", "c"]),
            pa.array([b"a", b"b", b"c"]),
            pa.array([[1.0], [2.0], []]),
            pa.array([AT] * 3, TIME),
        ],
        ids=["string", "binary", "list", "timestamp"],
    )
    def test_feature_of_another_type(
        self, column: pa.Array, tmp_path: Path, redis7: RedisServer
    ) -> None:
        repo = materialize(tmp_path, with_column("x", column), redis7)
        self.refused(repo, Exception, "'x'")

    @pytest.mark.parametrize(
        "column",
        [pa.array(["1", "x", "3"]), pa.array([[1], [2], [3]]), pa.array([1.5, 2.5, 3.5])],
        ids=["string", "list", "fraction"],
    )
    def test_key_of_another_type(
        self, column: pa.Array, tmp_path: Path, redis7: RedisServer
    ) -> None:
        repo = materialize(tmp_path, with_column("driver_id", column), redis7)
        self.refused(repo, Exception, "driver_id")

    @pytest.mark.parametrize(
        "column",
        [pa.array(["a", "b", "c"]), pa.array([[1], [2], [3]]), pa.array([True, False, True])],
        ids=["string", "list", "bool"],
    )
    def test_timestamp_of_another_type(
        self, column: pa.Array, tmp_path: Path, redis7: RedisServer
    ) -> None:
        repo = materialize(tmp_path, with_column("event_timestamp", column), redis7)
        self.refused(repo, Exception, "event_timestamp")

    def test_null_keys(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(
            tmp_path, with_column("driver_id", pa.array([1, None, None], pa.int64())), redis7
        )
        self.refused(repo, ValueError, "driver_id", "2")

    def test_a_folder_without_files(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, None, redis7)
        (tmp_path / "v.parquet").unlink()
        (tmp_path / "v.parquet").mkdir()
        self.refused(repo, FileNotFoundError, "v.parquet")


def test_an_empty_file_is_no_error(tmp_path: Path, redis7: RedisServer) -> None:
    repo = materialize(tmp_path, plain_table(0), redis7)
    report = repo.ours().materialize(EARLY, LATE)
    assert report.views[0].entities_written == 0


class TestRedis:
    def test_not_there(self, applied: Applied, redis7: RedisServer, tmp_path: Path) -> None:
        repo = applied.open(tmp_path, redis7)
        repo.config["online_store"]["connection_string"] = "127.0.0.1:1,db=0"
        repo.write_config()
        fails(
            ConnectionError,
            lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 1}]),
            "127.0.0.1:1",
        )
        fails(ConnectionError, lambda: repo.ours().materialize(EARLY, LATE), "127.0.0.1:1")
        assert repo.ours().get_feature_view("v").materialization_intervals == []

    def test_no_such_host(self, applied: Applied, redis7: RedisServer, tmp_path: Path) -> None:
        repo = applied.open(tmp_path, redis7)
        repo.config["online_store"]["connection_string"] = "no-such-host.invalid:6379"
        repo.write_config()
        fails(
            ConnectionError,
            lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 1}]),
            "no-such-host.invalid",
        )

    @pytest.mark.parametrize("password", [None, SECRET])
    def test_wrong_password(
        self,
        password: str | None,
        applied: Applied,
        guarded: RedisServer,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        repo = applied.open(tmp_path, guarded)
        text = f"127.0.0.1:{guarded.port},db=0"
        repo.config["online_store"]["connection_string"] = (
            text if password is None else f"{text},password={password}"
        )
        repo.write_config()
        with caplog.at_level(logging.DEBUG):
            store = repo.ours()
            fails(
                (errors.FeastrsError),
                lambda: store.get_online_features(["v:x"], [{"driver_id": 1}]),
                f"127.0.0.1:{guarded.port}",
            )
            fails(errors.FeastrsError, lambda: store.materialize(EARLY, LATE))
        captured = capfd.readouterr()
        for shown in (repr(store), str(store), repr(store.config), str(store.config)):
            assert SECRET not in shown
        assert SECRET not in captured.out + captured.err + caplog.text

    def test_right_password_is_never_shown(
        self,
        applied: Applied,
        guarded: RedisServer,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        repo = applied.open(tmp_path, guarded)
        with caplog.at_level(logging.DEBUG):
            repo.ours().materialize(EARLY, LATE)
            response = repo.ours().get_online_features(["v:x"], [{"driver_id": 2}])
        captured = capfd.readouterr()
        shown = repr(repo.ours()) + repr(repo.ours().config) + repr(response)
        assert response.to_dict()["x"] == [1.0]
        assert guarded.password not in shown + captured.out + captured.err + caplog.text

    def test_value_that_is_no_value(
        self, applied: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        repo = applied.open(tmp_path, redis7)
        repo.ours().materialize(EARLY, LATE)
        for garbage in (b"\xff\xff\xff", b"\x29\x00", b"\x12\xff\xff\xff\xff\x7f", b"\x07"):
            with repo.redis() as client:
                for key in client.scan_iter():
                    for field in client.hkeys(key):
                        if not field.startswith(b"_ts:"):
                            client.hset(key, field, garbage)
            fails(
                ValueError,
                lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 1}]).to_dict(),
                "x",
            )

    def test_timestamp_that_is_no_timestamp(
        self, applied: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        repo = applied.open(tmp_path, redis7)
        repo.ours().materialize(EARLY, LATE)
        with repo.redis() as client:
            for key in client.scan_iter():
                client.hset(key, "_ts:v", b"\xff\xff")
        fails(
            ValueError,
            lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 1}]).to_dict(),
            "v",
        )

    def test_key_that_is_no_hash(
        self, applied: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        repo = applied.open(tmp_path, redis7)
        repo.ours().materialize(EARLY, LATE)
        with repo.redis() as client:
            for key in client.scan_iter():
                client.set(key, b"text")
        fails(
            errors.FeastrsError,
            lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 1}]).to_dict(),
            "WRONGTYPE",
        )
        fails(errors.FeastrsError, lambda: repo.ours().materialize(EARLY, LATE))

    def test_out_of_memory(self, applied: Applied, tmp_path: Path) -> None:
        server = RedisServer("7.0", {"maxmemory": "1", "maxmemory-policy": "noeviction"})
        try:
            repo = applied.open(tmp_path, server)
            fails(errors.FeastrsError, lambda: repo.ours().materialize(EARLY, LATE), "OOM")
            assert repo.ours().get_feature_view("v").materialization_intervals == []
        finally:
            server.close()

    def test_a_server_that_went_away_and_came_back(
        self, applied: Applied, redis7: RedisServer, tmp_path: Path
    ) -> None:
        """A pooled connection that the server has closed is replaced without an error."""
        repo = applied.open(tmp_path, redis7)
        repo.ours().materialize(EARLY, LATE)
        ask = lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 2}]).to_dict()  # noqa: E731
        before = ask()
        with repo.redis() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        assert ask() == before


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """A server that wants a password."""
    server = RedisServer("7.0", password="open-sesame-42")
    yield server
    server.close()


class TestSqlite:
    def test_value_that_is_no_value(self, applied: Applied, tmp_path: Path) -> None:
        import sqlite3

        repo = applied.open(tmp_path)
        repo.ours().materialize(EARLY, LATE)
        connection = sqlite3.connect(repo.sqlite_path)
        connection.execute("UPDATE demo_v SET value = X'FFFFFF'")
        connection.commit()
        connection.close()
        fails(
            ValueError,
            lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 1}]).to_dict(),
            "x",
        )

    def test_not_a_database(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        repo.sqlite_path.write_bytes(b"no database at all" * 100)
        fails(errors.FeastrsError, lambda: repo.ours().materialize(EARLY, LATE), "online.db")
        fails(
            errors.FeastrsError,
            lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 1}]),
            "online.db",
        )

    def test_folder_that_may_not_be_written(self, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path, online_store={"path": "/proc/no/online.db"})
        fails(errors.FeastrsError, lambda: repo.ours().materialize(EARLY, LATE), "/proc/no")


def test_window_must_be_times(applied: Applied, tmp_path: Path) -> None:
    store = applied.open(tmp_path).ours()
    fails(TypeError, lambda: store.materialize("yesterday", datetime.now(timezone.utc)))


def test_config_mapping_needs_no_file(applied: Applied, tmp_path: Path) -> None:
    repo = applied.open(tmp_path)
    config = yaml.safe_load((tmp_path / "feature_store.yaml").read_text())
    config["registry"] = str(repo.registry_path)
    config["online_store"]["path"] = str(repo.sqlite_path)
    store = feastrs.FeatureStore(config=config)
    assert [view.name for view in store.list_feature_views()] == ["v"]
