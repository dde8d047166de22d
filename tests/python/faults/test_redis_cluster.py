"""A Redis Cluster of three masters and three replicas: written as Feast writes it, and read while
slots move and a master dies."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feastrs import errors
from testbed.disturbed import assert_wide, materialize_disturbed
from testbed.plain import plain, plain_table, wide
from testbed.redis_topologies import RedisCluster, eventually, kill
from testbed.repo import EARLY, LATE, Applied, Repo

DRIVERS = 400


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"), plain_table(DRIVERS))


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    cluster = RedisCluster()
    yield cluster
    cluster.close()


def repo_on(cluster: RedisCluster, applied: Applied, folder: Path, parameters: str = "") -> Repo:
    repo = applied.open(folder)
    repo.config["online_store"] = {
        "type": "redis",
        "redis_type": "redis_cluster",
        "connection_string": cluster.connection_string + parameters,
    }
    repo.write_config()
    return repo


def test_rows_that_are_handed_over(cluster: RedisCluster, applied: Applied, tmp_path: Path) -> None:
    repo = repo_on(cluster, applied, tmp_path)
    rows = plain_table(DRIVERS).to_pandas().drop_duplicates("driver_id", keep="last")
    repo.stock().write_to_online_store("v", rows)
    by_feast = cluster.hashes()
    cluster.flush()

    report = repo.ours().write_to_online_store("v", rows)

    assert report.entities_written == len(rows)
    assert cluster.hashes() == by_feast


def test_verification(cluster: RedisCluster, applied: Applied, tmp_path: Path) -> None:
    """Rows of every master are found, and what is broken on one does not hide the others."""
    repo = repo_on(cluster, applied, tmp_path)
    repo.ours().materialize(EARLY, LATE)
    (view,) = repo.ours().verify_online(sample=None).views
    assert view.matching == DRIVERS

    for master in range(3):
        gone, broken, older, *_ = cluster.masters_keys(master)
        with cluster.nodes[master].client() as client:
            client.delete(gone)
            client.set(broken, "no hash")
            client.hset(older, b"_ts:v", b"\x08\x01")  # type: ignore[arg-type]
    (view,) = repo.ours().verify_online(sample=None).views

    assert (view.missing, view.unreadable, view.stale) == (3, 3, 3)
    assert view.matching == DRIVERS - 9


def ask(store: Any, drivers: list[int]) -> list[float | None]:
    response = store.get_online_features(["v:x"], [{"driver_id": i} for i in drivers])
    answer: list[float | None] = response.to_dict()["x"]
    return answer


def test_both_write_the_same_and_read_it(
    cluster: RedisCluster, applied: Applied, tmp_path: Path
) -> None:
    repo = repo_on(cluster, applied, tmp_path)
    repo.stock().materialize(EARLY, LATE)
    by_feast = cluster.hashes()
    cluster.flush()

    report = repo.ours().materialize(EARLY, LATE)

    assert report.views[0].entities_written == DRIVERS
    assert cluster.hashes() == by_feast
    # Onto rows that are there, too.
    repo.ours().materialize(EARLY, LATE)
    assert cluster.hashes() == by_feast
    assert sum(len(cluster.masters_keys(i)) for i in range(3)) == DRIVERS
    drivers = [DRIVERS + 5, *range(DRIVERS - 1, -1, -3)]
    expected = [None, *(i / 2 for i in drivers[1:])]
    assert ask(repo.ours(), drivers) == expected
    assert ask(repo.stock(), drivers) == expected
    replicas = repo_on(cluster, applied, tmp_path / "replicas", ",read_from_replicas=true")
    eventually("the replicas have the rows", lambda: ask(replicas.ours(), drivers) == expected)


def test_threads_that_read_while_a_slot_moves_and_a_master_dies(
    cluster: RedisCluster, applied: Applied, tmp_path: Path
) -> None:
    """Not one wrong value, every error typed, and in the end all is well."""
    repo = repo_on(cluster, applied, tmp_path, ",socket_timeout=1.5")
    repo.ours().materialize(EARLY, LATE)
    store = repo.ours()
    drivers = list(range(DRIVERS))
    expected = [i / 2 for i in drivers]
    done, wrong, failed, right = threading.Event(), [], [], [0]

    def read() -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            some = drivers[turn % 7 :: 1 + turn % 5]
            try:
                if ask(store, some) != [expected[i] for i in some]:
                    wrong.append(some)
            except Exception as error:
                failed.append(error)
            else:
                right[0] += 1

    def more() -> None:
        wanted = right[0] + 2
        eventually("reads succeed again", lambda: right[0] >= wanted)

    def is_served() -> bool:
        with contextlib.suppress(errors.StoreUnavailableError, errors.StoreTimeoutError):
            return ask(store, drivers) == expected
        return False

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for source in (0, 1, 2):
            key = cluster.masters_keys(source)[0]
            cluster.move_slot(key, source, (source + 1) % 3, more)
        kill(cluster.nodes[1])
        more()
        eventually("the replica serves", is_served)
        more()
    finally:
        done.set()
        for thread in threads:
            thread.join()

    assert wrong == []
    for error in failed:
        assert isinstance(error, (errors.StoreUnavailableError, errors.StoreTimeoutError)), error
    assert ask(store, drivers) == expected


def test_a_master_dies_during_a_materialization(cluster: RedisCluster, tmp_path: Path) -> None:
    """Rows of which its replica had not heard are written again: nothing is recorded before."""
    drivers = 60_000
    repo = repo_on(cluster, wide(tmp_path, drivers), tmp_path / "repo")
    with cluster.nodes[1].client() as victim:
        has_failed = materialize_disturbed(repo, victim.dbsize, lambda: kill(cluster.nodes[1]))

    def materialize_again() -> bool:
        with contextlib.suppress(errors.StoreUnavailableError, errors.StoreTimeoutError):
            return bool(repo.ours().materialize(EARLY, LATE))
        return False

    if has_failed:
        eventually("the replica takes writes", materialize_again)
    assert_wide(repo, drivers)
