"""`kill -9` in the middle of a materialization, of the worker or of its store, then again: as if
nothing had happened."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.disturbed import assert_wide, materialize_disturbed
from testbed.dump import assert_same_redis, assert_same_sqlite
from testbed.plain import MATERIALIZE, wide
from testbed.redis_server import RedisServer
from testbed.redis_topologies import kill
from testbed.repo import EARLY, LATE, Repo

DRIVERS = 30_000


def kill_midway(repo: Repo, count_entities: Callable[[], int]) -> int:
    """Starts a materialization, kills it when some entities are there; returns how many."""
    process = subprocess.Popen(
        [sys.executable, "-c", MATERIALIZE, str(repo.folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while count_entities() == 0:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, "nothing is written"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return count_entities()


@pytest.mark.parametrize("withheld", [[], ["-restore"], ["-restore", "-copy"]])
def test_redis(withheld: list[str], any_redis: RedisServer, tmp_path: Path) -> None:
    applied = wide(tmp_path, DRIVERS)
    undisturbed, killed = applied.twins(tmp_path / "twins", any_redis)
    undisturbed.ours().materialize(EARLY, LATE)
    with killed.redis() as client:
        client.execute_command(
            "ACL", "SETUSER", "limited", "reset", "on", ">pass-word-7", "~*", "&*", "+@all",
            *withheld,
        )  # fmt: skip
    killed.config["online_store"]["connection_string"] += ",username=limited,password=pass-word-7"
    killed.write_config()

    with killed.redis() as client:
        there = kill_midway(killed, lambda: int(client.dbsize()))
    assert 0 < there < DRIVERS
    assert killed.ours().get_feature_view("wide").materialization_intervals == []

    killed.ours().materialize(EARLY, LATE)

    dump = assert_same_redis(killed.redis(), undisturbed.redis())
    assert len(dump) == DRIVERS
    assert killed.stock().get_feature_view("wide").materialization_intervals == [(EARLY, LATE)]
    for repo in (undisturbed, killed):
        with repo.redis() as client:
            client.flushdb()


def test_sqlite(tmp_path: Path) -> None:
    drivers = DRIVERS // 2
    applied = wide(tmp_path, drivers)
    undisturbed, killed = applied.twins(tmp_path / "twins")
    undisturbed.ours().materialize(EARLY, LATE)

    there = kill_midway(killed, lambda: entities_in(killed.sqlite_path))
    assert 0 < there < drivers
    assert killed.ours().get_feature_view("wide").materialization_intervals == []

    killed.ours().materialize(EARLY, LATE)

    assert_same_sqlite(killed.sqlite_path, undisturbed.sqlite_path)
    assert entities_in(killed.sqlite_path) == drivers
    assert killed.stock().get_feature_view("wide").materialization_intervals == [(EARLY, LATE)]


def entities_in(path: Path) -> int:
    if not path.exists():
        return 0
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        query = "SELECT count(*) FROM demo_wide WHERE feature_name = 'f_0'"
        count: int = connection.execute(query).fetchone()[0]
        return count
    except sqlite3.OperationalError:
        return 0  # no table yet, or the writer has the lock
    finally:
        connection.close()


def test_a_server_that_comes_back_empty(tmp_path: Path) -> None:
    """It has lost rows that it had acknowledged, and no later write fails for that."""
    drivers = 100_000
    server = RedisServer("7.0")
    repo = wide(tmp_path, drivers).open(tmp_path / "repo", server)
    again = []

    def restart() -> None:
        kill(server)
        server.close()
        again.append(RedisServer("7.0", port=server.port))

    try:
        with repo.redis() as client:
            assert materialize_disturbed(repo, client.dbsize, restart)
        repo.ours().materialize(EARLY, LATE)
        assert_wide(repo, drivers)
    finally:
        for other in (server, *again):
            other.close()
