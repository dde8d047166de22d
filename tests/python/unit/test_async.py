"""Asynchronous reads: what a user of asyncio relies on."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import feastrs
from testbed.plain import plain, plain_table
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo

COUNT = 400


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"), plain_table(COUNT))


@pytest.fixture
def repo(applied: Applied, either_store: RedisServer | None, tmp_path: Path) -> Repo:
    repo = applied.open(tmp_path, either_store)
    repo.ours().materialize(EARLY, LATE)
    return repo


def rows(drivers: list[int]) -> list[dict[str, Any]]:
    return [{"driver_id": driver} for driver in drivers]


def expected(drivers: list[int]) -> dict[str, list[Any]]:
    return {"driver_id": drivers, "x": [driver / 2 for driver in drivers]}


async def ask(store: Any, drivers: list[int]) -> dict[str, list[Any]]:
    response = await store.get_online_features_async(["v:x"], rows(drivers))
    answer: dict[str, list[Any]] = response.to_dict()
    return answer


async def many(store: Any, seed: int, count: int = 64) -> None:
    dice = random.Random(seed)
    asked = [dice.sample(range(COUNT), dice.choice([1, 3, 20, 300])) for _ in range(count)]
    answers = await asyncio.gather(*(ask(store, drivers) for drivers in asked))
    assert answers == [expected(drivers) for drivers in asked]


def test_many_in_flight_answer_as_the_blocking_read(repo: Repo) -> None:
    store = repo.ours()

    async def main() -> None:
        for seed in range(5):
            await many(store, seed)
        await many(store, 6, count=1000)

    asyncio.run(main())
    drivers = [2, 399, 5, 5, 7777]
    synchronous = store.get_online_features(["v:x"], rows(drivers))
    asynchronous = asyncio.run(store.get_online_features_async(["v:x"], rows(drivers)))
    assert asynchronous.to_dict() == synchronous.to_dict()
    assert asynchronous.statuses() == synchronous.statuses()


def test_a_prepared_reader_reads_asynchronously(repo: Repo) -> None:
    reader = repo.ours().online_reader(["v:x"])

    async def main() -> list[Any]:
        # A coroutine, which `create_task` takes.
        tasks = [asyncio.create_task(reader.read_async(rows([i]))) for i in range(64)]
        return [(await task).to_dict() for task in tasks]

    assert asyncio.run(main()) == [expected([i]) for i in range(64)]


async def end(stock: Any) -> None:
    """Ends stock Feast's connections, which its own `close` leaves open."""
    await stock._get_provider().online_store._client_async.aclose()


def test_it_is_stocks_answer(applied: Applied, redis7: RedisServer, tmp_path: Path) -> None:
    repo = applied.open(tmp_path, redis7)
    repo.ours().materialize(EARLY, LATE)

    async def main() -> tuple[Any, Any]:
        asked = ["v:x"], rows([1, 2, 300])
        ours = await repo.ours().get_online_features_async(*asked, full_feature_names=True)
        stock = await repo.stock().get_online_features_async(*asked, full_feature_names=True)
        await end(repo.stock())
        return ours.to_dict(), stock.to_dict()

    ours, stock = asyncio.run(main())
    assert ours == stock


def test_errors_are_those_of_the_blocking_read(repo: Repo) -> None:
    store = repo.ours()

    async def main() -> list[Any]:
        return await asyncio.gather(
            store.get_online_features_async(["nowhere:x"], rows([1])),
            ask(store, [3]),
            store.get_online_features_async(["v:x"], [{"driver": 1, "other": 2}]),
            store.get_online_features_async(["v:x"], [{"driver_id": "one"}]),
            return_exceptions=True,
        )

    with pytest.warns(UserWarning, match="entity's name"):
        no_view, good, _, no_number = asyncio.run(main())
    assert isinstance(no_view, feastrs.errors.FeatureViewNotFoundException)
    assert good == expected([3])
    assert isinstance(no_number, ValueError)


def test_every_run_has_a_loop_of_its_own(repo: Repo) -> None:
    """Stock Feast's client is bound to the first loop, and fails on the second."""
    store = repo.ours()
    for i in range(20):
        assert asyncio.run(ask(store, [i])) == expected([i])


def test_loops_that_end_leave_no_descriptor_behind(repo: Repo) -> None:
    store = repo.ours()

    def run_some() -> int:
        for i in range(30):
            asyncio.run(ask(store, [i]))
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    before = run_some()
    assert run_some() <= before


def test_a_loop_in_each_of_many_threads(repo: Repo) -> None:
    store = repo.ours()
    wrong: list[BaseException] = []

    def work(seed: int) -> None:
        async def main() -> None:
            for round_ in range(5):
                await many(store, seed * 100 + round_, count=16)

        try:
            asyncio.run(main())
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_cancelled_reads_take_nothing_from_others(repo: Repo) -> None:
    """At every moment of a read: before it starts, in flight, when it is about to end."""
    store = repo.ours()
    dice = random.Random(7)

    async def one_round() -> None:
        asked = [dice.sample(range(COUNT), dice.choice([1, 3, 300])) for _ in range(40)]
        tasks = [asyncio.create_task(ask(store, drivers)) for drivers in asked]
        for task in dice.sample(tasks, 20):
            for _ in range(dice.choice([0, 0, 1, 2, 5])):
                await asyncio.sleep(0)
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for drivers, answer in zip(asked, answers, strict=True):
            assert answer == expected(drivers) or isinstance(answer, asyncio.CancelledError)

    async def main() -> None:
        for _ in range(50):
            await one_round()
        reads = asyncio.get_running_loop()._feastrs_reads  # type: ignore[attr-defined]
        assert len(reads) == 0

    asyncio.run(main())


def test_a_loop_closed_with_reads_in_flight(repo: Repo) -> None:
    """What nobody waits for any more comes to nothing; other loops go on."""
    store = repo.ours()
    for _ in range(20):
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(ask(store, [i])) for i in range(30)]
        loop.run_until_complete(asyncio.sleep(0))
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()
        assert asyncio.run(ask(store, [5])) == expected([5])
    # Not even cancelled: the tasks go with their loop.
    loop = asyncio.new_event_loop()
    waiting = [ask(store, [i]) for i in range(30)]

    async def start() -> None:
        for coroutine in waiting:
            coroutine.send(None)

    loop.run_until_complete(start())
    loop.close()
    for coroutine in waiting:
        coroutine.close()
    assert asyncio.run(ask(store, [5])) == expected([5])


def test_wait_for_ends_a_read(applied: Applied, tmp_path: Path) -> None:
    server = RedisServer("7.0")
    try:
        repo = applied.open(tmp_path, server)
        store = repo.ours()
        store.materialize(EARLY, LATE)

        async def main() -> None:
            await ask(store, [1])
            server.stall()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ask(store, [1]), 0.1)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ask(store, list(range(300))), 0.1)
            later = [asyncio.create_task(ask(store, [i])) for i in range(20)]
            await asyncio.sleep(0)
            server.resume()
            assert await asyncio.gather(*later) == [expected([i]) for i in range(20)]

        asyncio.run(main())
    finally:
        server.resume()
        server.close()


class Unwatching(asyncio.SelectorEventLoop):
    """A loop that can't watch descriptors, as there are some."""

    def add_reader(self, *_: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


def test_a_loop_that_can_not_watch_descriptors(repo: Repo) -> None:
    before = threading.active_count()
    for seed in range(3):
        run_on(Unwatching(), many(repo.ours(), seed))
    gc.collect()
    watchers = [thread for thread in threading.enumerate() if thread.name == "feastrs-relay"]
    for thread in watchers:
        thread.join(10)
    assert threading.active_count() == before


def test_uvloop(repo: Repo) -> None:
    import uvloop

    for seed in range(3):
        run_on(uvloop.new_event_loop(), many(repo.ours(), seed))


def test_eager_tasks_and_task_groups(repo: Repo) -> None:
    store = repo.ours()

    async def main() -> None:
        if hasattr(asyncio, "TaskGroup"):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(store, [i])) for i in range(20)]
            assert [task.result() for task in tasks] == [expected([i]) for i in range(20)]
        first, *_ = await asyncio.gather(ask(store, [1]), asyncio.sleep(0))
        assert first == expected([1])

    asyncio.run(main(), debug=True)


def test_initialize_and_close(repo: Repo) -> None:
    store = repo.ours()

    async def main() -> None:
        await store.initialize()
        assert await ask(store, [1]) == expected([1])
        await store.close()
        await store.close()
        assert await ask(store, [2]) == expected([2])

    asyncio.run(main())
    if repo.server is not None:
        with repo.redis() as client:
            ours = [c for c in client.client_list() if c["db"] == str(repo.database)]
        assert len(ours) >= 1
        asyncio.run(store.close())
        with repo.redis() as client:
            while True:
                clients = [c for c in client.client_list() if c["db"] == str(repo.database)]
                # The one that asks.
                if len(clients) == 1:
                    break


def test_what_only_feast_can_do_goes_to_feasts_own_method(
    applied: Applied, redis7: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = applied.open(tmp_path, redis7)
    repo.ours().materialize(EARLY, LATE)

    class Refusing:
        def start_online_features(self, *arguments: object) -> int:
            raise feastrs.errors.NeedsFeastError("substrait")

    monkeypatch.setattr(repo.ours(), "_native", Refusing())

    async def main() -> Any:
        return await repo.ours().get_online_features_async(["v:x"], rows([1]))

    assert asyncio.run(main()).to_dict() == expected([1])
