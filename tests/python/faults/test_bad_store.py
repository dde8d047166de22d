"""Online stores that are not there, refuse, or hold what Feast never wrote."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from feastrs import errors
from testbed.plain import plain, plain_table
from testbed.redis_server import RedisServer
from testbed.refusals import SECRET, fails
from testbed.repo import EARLY, LATE, Applied


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """A server that wants a password."""
    server = RedisServer("7.0", password="open-sesame-42")
    yield server
    server.close()


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

    def test_stalled(self, applied: Applied, tmp_path: Path) -> None:
        """A server that accepts and never answers: an error within the timeout."""
        server = RedisServer("7.0")
        try:
            repo = applied.open(tmp_path, server)
            repo.config["online_store"]["connection_string"] += ",socket_timeout=0.3"
            repo.write_config()
            repo.ours().materialize(EARLY, LATE)
            server.stall()
            started = time.monotonic()
            fails(
                TimeoutError,
                lambda: repo.ours().get_online_features(["v:x"], [{"driver_id": 1}]),
                f"127.0.0.1:{server.port}",
            )
            assert time.monotonic() - started < 3
            server.resume()
            # A late answer to the question above must not be taken for the answer to this one.
            answer = repo.ours().get_online_features(["v:x"], [{"driver_id": 2}]).to_dict()
            assert answer == {"driver_id": [2], "x": [1.0]}
        finally:
            server.resume()
            server.close()


class TestSqlite:
    def test_value_that_is_no_value(self, applied: Applied, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("version", "why"), [("7.0", "NOPERM"), ("6.2", "DUMP payload version")])
def test_that_restore_is_refused_is_logged_once(
    version: str, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(version)
    try:
        if version == "7.0":
            with server.client() as client:
                client.execute_command("ACL", "SETUSER", "default", "-restore")
        store = plain(tmp_path / "data", plain_table(400)).open(tmp_path / "repo", server).ours()

        with caplog.at_level(logging.INFO, "feastrs"):
            for _ in range(3):
                assert store.materialize(EARLY, LATE).entities_written == 400

        [line] = [line for line in caplog.records if "a slower way" in line.message]
        assert "RESTORE" in line.message
        assert line.name.startswith("feastrs.")
        assert line.levelno == logging.INFO
        assert f"127.0.0.1:{server.port}" in line.message
        assert why in line.message
        assert line.message.isprintable()
    finally:
        server.close()
