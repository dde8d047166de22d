"""A master that sentinels watch over: found, and followed when it dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from feastrs import errors
from testbed.disturbed import assert_wide, materialize_disturbed
from testbed.plain import plain, wide
from testbed.redis_server import RedisServer
from testbed.redis_topologies import Watched, eventually, kill
from testbed.refusals import fails
from testbed.repo import EARLY, LATE, Applied, Repo


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.close()


def repo_on(watched: Watched, applied: Applied, folder: Path) -> Repo:
    repo = applied.open(folder)
    repo.config["online_store"] = {
        "type": "redis",
        "redis_type": "redis_sentinel",
        "sentinel_master": "primary",
        "connection_string": watched.connection_string,
    }
    repo.write_config()
    return repo


def test_a_failover(watched: Watched, applied: Applied, tmp_path: Path) -> None:
    """Materialized natively; reads and writes go on at the new master."""
    repo = repo_on(watched, applied, tmp_path)
    store = repo.ours()
    assert store.materialize(EARLY, LATE).delegated == {}
    rows = [{"driver_id": i} for i in (2, 0, 9)]
    expected = {"driver_id": [2, 0, 9], "x": [1.0, 0.0, None]}
    assert store.get_online_features(["v:x"], rows).to_dict() == expected
    assert repo.stock().get_online_features(["v:x"], rows).to_dict() == expected
    with watched.servers[1].client() as replica:
        eventually("the replica has the rows", lambda: replica.dbsize() == 3)

    kill(watched.servers[0])

    def is_served() -> bool:
        try:
            answer = store.get_online_features(["v:x"], rows).to_dict()
        except (errors.StoreUnavailableError, errors.StoreTimeoutError):
            return False
        assert answer == expected
        return True

    eventually("the new master serves", is_served)
    store.materialize(EARLY, LATE)
    with watched.servers[1].client() as master:
        assert master.info("replication")["role"] == "master"

    repo.config["online_store"]["sentinel_master"] = "nobody"
    unknown = applied.open(tmp_path / "unknown")
    unknown.config["online_store"] = repo.config["online_store"]
    unknown.write_config()
    fails(
        errors.StoreRefusedError,
        lambda: unknown.ours().get_online_features(["v:x"], rows),
        "'nobody'",
    )


def crash(watched: Watched) -> None:
    """The master dies, with what its replica has not heard of."""
    kill(watched.servers[0])


def hand_over(watched: Watched) -> None:
    """The replica is made master; the old one takes writes until it is told, and forgets them."""
    with watched.sentinels[0].client() as sentinel:
        sentinel.execute_command("SENTINEL", "FAILOVER", "primary")


WIDE_DRIVERS = 100_000


@pytest.mark.parametrize("fail", [crash, hand_over])
def test_a_failover_during_a_materialization(
    fail: Callable[[Watched], None], watched: Watched, tmp_path: Path
) -> None:
    """What is recorded is at the new master, all of it; or there is an error that is one of the
    store's, nothing is recorded, and once more makes it right.
    """
    applied = wide(tmp_path / "wide", WIDE_DRIVERS)
    repo = repo_on(watched, applied, tmp_path / "repo")
    with watched.servers[0].client() as master:
        has_failed = materialize_disturbed(repo, master.dbsize, lambda: fail(watched))

    eventually("the replica is master", lambda: is_master(watched.servers[1]))
    if has_failed:
        repo.ours().materialize(EARLY, LATE)
    assert_wide(repo, WIDE_DRIVERS)


def test_a_failover_during_a_write(watched: Watched, applied: Applied, tmp_path: Path) -> None:
    """Of each write that succeeded the rows are at the new master, though they be older."""
    repo = repo_on(watched, applied, tmp_path)
    store = repo.ours()
    drivers = list(range(500))
    written = []

    def write(hour: int) -> None:
        at = [f"2024-06-01T{hour:02}:00:00Z"] * len(drivers)
        frame = {"driver_id": drivers, "event_timestamp": at, "x": [float(hour)] * len(drivers)}
        assert store.write_to_online_store("v", frame).entities_written == len(drivers)
        written.append(hour)

    write(1)
    kill(watched.servers[0])
    for hour in range(2, 24):
        try:
            write(hour)
        except (errors.StoreUnavailableError, errors.StoreTimeoutError):
            continue
        if is_master(watched.servers[1]):
            break

    assert len(written) > 1
    rows = {"driver_id": drivers}
    eventually("the new master serves", lambda: is_master(watched.servers[1]))
    assert set(store.get_online_features(["v:x"], rows).to_dict()["x"]) == {float(written[-1])}


def is_master(server: RedisServer) -> bool:
    with server.client() as client:
        return bool(client.info("replication")["role"] == "master")
