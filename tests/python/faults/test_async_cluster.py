"""Asynchronous reads of a Redis Cluster: many in flight on one event loop and another, some of
them cancelled, while slots move, a master dies and the process forks."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feastrs import errors
from testbed.plain import plain, plain_table
from testbed.process import wait_for
from testbed.redis_topologies import RedisCluster, eventually, kill
from testbed.repo import EARLY, LATE, Applied, Repo

DRIVERS = 400


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"), plain_table(DRIVERS))


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """One that no test breaks."""
    cluster = RedisCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def fragile() -> Iterator[RedisCluster]:
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
    repo.ours().materialize(EARLY, LATE)
    return repo


async def ask(store: Any, drivers: list[int]) -> list[float]:
    rows = [{"driver_id": driver} for driver in drivers]
    answer: list[float] = (await store.get_online_features_async(["v:x"], rows)).to_dict()["x"]
    return answer


def expected(drivers: list[int]) -> list[float]:
    return [driver / 2 for driver in drivers]


async def many(store: Any, seed: int = 0) -> None:
    dice = random.Random(seed)
    asked = [dice.sample(range(DRIVERS), dice.choice([1, 3, 20, 300])) for _ in range(64)]
    answers = await asyncio.gather(*(ask(store, drivers) for drivers in asked))
    assert answers == [expected(drivers) for drivers in asked]


def test_many_in_flight_on_one_event_loop_after_another_and_beside_it(
    cluster: RedisCluster, applied: Applied, tmp_path: Path
) -> None:
    store = repo_on(cluster, applied, tmp_path).ours()
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(5):
                asyncio.run(many(store, 10 * seed + turn))
        except BaseException as error:
            failed.append(error)

    work(0)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    reader = store.online_reader(["v:x"])
    rows = [{"driver_id": driver} for driver in range(DRIVERS)]
    assert asyncio.run(reader.read_async(rows)).to_dict() == reader.read(rows).to_dict()


def test_replicas_share_asynchronous_reads(
    cluster: RedisCluster, applied: Applied, tmp_path: Path
) -> None:
    store = repo_on(cluster, applied, tmp_path, ",read_from_replicas=true").ours()

    def is_replicated() -> bool:
        # A replica may not have heard of a row yet, and then it is one that is not there.
        return asyncio.run(ask(store, list(range(DRIVERS)))) == expected(list(range(DRIVERS)))

    for _ in range(6):
        eventually("the replicas have the rows", is_replicated)
    replicas = cluster.nodes[RedisCluster.MASTERS :]

    def is_read_from(node: Any) -> bool:
        with node.client() as client:
            stats = client.info("commandstats")
        return any(name in stats for name in ("cmdstat_hgetall", "cmdstat_hmget"))

    def all_are_read_from() -> bool:
        asyncio.run(many(store))
        return all(is_read_from(node) for node in replicas)

    eventually("all replicas are read from", all_are_read_from)


def test_cancelled_while_a_node_stalls(
    cluster: RedisCluster, applied: Applied, tmp_path: Path
) -> None:
    """What was asked for by those that are gone is thrown away: later reads, on the same
    connections, get their own rows and no others.
    """
    store = repo_on(cluster, applied, tmp_path).ours()
    dice = random.Random(11)
    node, cancelled = cluster.nodes[1], list[int]()

    async def one_round() -> None:
        node.stall()
        asked = [dice.sample(range(DRIVERS), dice.choice([1, 2, 30, 300])) for _ in range(30)]
        tasks = [asyncio.create_task(ask(store, drivers)) for drivers in asked]
        gone = dice.sample(range(30), 15)
        for index in gone:
            for _ in range(dice.choice([0, 1, 3])):
                await asyncio.sleep(0)
            tasks[index].cancel()
        later = [dice.sample(range(DRIVERS), dice.choice([1, 30])) for _ in range(20)]
        tasks += [asyncio.create_task(ask(store, drivers)) for drivers in later]
        await asyncio.sleep(0)
        node.resume()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for index, (drivers, answer) in enumerate(zip(asked + later, answers, strict=True)):
            if index in gone and isinstance(answer, asyncio.CancelledError):
                cancelled.append(index)
            else:
                # Of those that were to go, some have found all of their rows on other nodes.
                assert answer == expected(drivers)

    async def main() -> None:
        for _ in range(40):
            await one_round()
        assert len(cancelled) > 300

    try:
        asyncio.run(main())
    finally:
        node.resume()


def test_fork_before_and_after_and_while_reads_are_in_flight(
    cluster: RedisCluster, applied: Applied, tmp_path: Path
) -> None:
    store = repo_on(cluster, applied, tmp_path).ours()

    def in_child() -> int:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asyncio.run(many(store))
                code = 0
            finally:
                os._exit(code)
        return child

    async def main() -> list[int]:
        children = []
        for seed in range(10):
            reads = asyncio.gather(*(many(store, seed) for _ in range(2)))
            await asyncio.sleep(0)
            children.append(in_child())
            await reads
        return children

    children = [in_child(), *asyncio.run(main()), in_child()]
    assert [os.waitstatus_to_exitcode(wait_for(child)) for child in children] == [0] * 12
    asyncio.run(many(store))


def test_a_slot_moves_and_a_master_dies_under_reads_in_flight(
    fragile: RedisCluster, applied: Applied, tmp_path: Path
) -> None:
    """Not one wrong value, every error typed, and in the end all is well."""
    store = repo_on(fragile, applied, tmp_path, ",socket_timeout=1.5").ours()
    done, wrong, failed, right = threading.Event(), [], [], [0]

    async def read(seed: int) -> None:
        dice = random.Random(seed)
        while not done.is_set():
            drivers = dice.sample(range(DRIVERS), dice.choice([1, 10, 300]))
            try:
                if await ask(store, drivers) != expected(drivers):
                    wrong.append(drivers)
            except Exception as error:
                failed.append(error)
            else:
                right[0] += 1

    async def main() -> None:
        await asyncio.gather(*(read(seed) for seed in range(32)))

    def more() -> None:
        wanted = right[0] + 20
        eventually("reads succeed again", lambda: right[0] >= wanted)

    def is_served() -> bool:
        try:
            return asyncio.run(ask(store, list(range(DRIVERS)))) == expected(list(range(DRIVERS)))
        except (errors.StoreUnavailableError, errors.StoreTimeoutError):
            return False

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        for source in (0, 1, 2):
            key = fragile.masters_keys(source)[0]
            fragile.move_slot(key, source, (source + 1) % 3, more)
        kill(fragile.nodes[1])
        more()
        eventually("the replica serves", is_served)
        more()
    finally:
        done.set()
        thread.join()

    assert wrong == []
    for error in failed:
        assert isinstance(error, (errors.StoreUnavailableError, errors.StoreTimeoutError)), error
    asyncio.run(many(store))
