"""Asynchronous reads and the process they live in: forks, exit, stalls, lost connections."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from testbed.plain import plain, plain_table
from testbed.process import wait_for
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


async def ask(store: Any, drivers: list[int]) -> dict[str, list[Any]]:
    rows = [{"driver_id": driver} for driver in drivers]
    answer: dict[str, list[Any]] = (await store.get_online_features_async(["v:x"], rows)).to_dict()
    return answer


def expected(drivers: list[int]) -> dict[str, list[Any]]:
    return {"driver_id": drivers, "x": [driver / 2 for driver in drivers]}


async def many(store: Any, count: int = 40) -> None:
    answers = await asyncio.gather(*(ask(store, [i, i + 1]) for i in range(count)))
    assert answers == [expected([i, i + 1]) for i in range(count)]


def in_child(work: Any) -> int:
    """Runs `work` in a forked child; gives its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def succeeded(child: int) -> bool:
    return os.waitstatus_to_exitcode(wait_for(child)) == 0


def test_fork_before_and_after_the_first_asynchronous_read(repo: Repo) -> None:
    store = repo.ours()

    def work() -> None:
        for _ in range(5):
            asyncio.run(many(store))

    before = in_child(work)
    work()
    after = [in_child(work) for _ in range(2)]
    work()
    assert succeeded(before)
    assert all(succeeded(child) for child in after)
    work()


def test_fork_while_reads_are_in_flight(repo: Repo) -> None:
    """As a callback that starts a process: the child has a loop and connections of its own."""
    store = repo.ours()

    async def main() -> list[int]:
        children = []
        for _ in range(20):
            reads = [asyncio.create_task(ask(store, [i])) for i in range(40)]
            await asyncio.sleep(0)
            children.append(in_child(lambda: asyncio.run(many(store))))
            assert await asyncio.gather(*reads) == [expected([i]) for i in range(40)]
        return children

    children = asyncio.run(main())
    assert all(succeeded(child) for child in children)


def test_a_fork_goes_on_with_the_loop_that_it_inherited(repo: Repo) -> None:
    store = repo.ours()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(many(store))

    child = in_child(lambda: loop.run_until_complete(many(store)))

    assert succeeded(child)
    loop.run_until_complete(many(store))
    loop.close()


def _many_in_folder(folder: str) -> bool:
    import feastrs

    asyncio.run(many(feastrs.FeatureStore(repo_path=folder)))
    return True


def test_multiprocessing(repo: Repo) -> None:
    asyncio.run(many(repo.ours()))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_many_in_folder, [str(repo.folder)] * 4) == [True] * 4


# What each process begins with.
PREAMBLE = """
import asyncio, sys
import feastrs
store = feastrs.FeatureStore(repo_path=sys.argv[1])
ask = lambda i: store.get_online_features_async(["v:x"], [{"driver_id": i}])
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "sys.exit(0)",
        "raise SystemExit(0)",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    ],
)
def test_exit_with_reads_in_flight(repo: Repo, ending: str) -> None:
    done = run(
        f"""
        async def main():
            await ask(1)
            tasks = [asyncio.create_task(ask(i % 300)) for i in range(1000)]
            await asyncio.sleep(0)
            {ending}
        asyncio.run(main())
        """,
        str(repo.folder),
    )
    assert (done.returncode, done.stderr) == (-15 if "SIGTERM" in ending else 0, "")


def test_exit_with_a_loop_that_nobody_ended(repo: Repo) -> None:
    """In a daemon thread, and stopped in the main thread: exit waits for neither."""
    done = run(
        """
        import threading
        async def for_ever():
            while True:
                await asyncio.gather(*(ask(i) for i in range(50)))
                started.set()
        started = threading.Event()
        loop = asyncio.new_event_loop()
        threading.Thread(target=lambda: loop.run_until_complete(for_ever()), daemon=True).start()
        started.wait()
        """,
        str(repo.folder),
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_exit_while_the_server_is_stalled(applied: Applied, tmp_path: Path) -> None:
    server = RedisServer("7.0")
    try:
        repo = applied.open(tmp_path, server)
        repo.ours().materialize(EARLY, LATE)
        done = run(
            f"""
            import os, signal
            async def main():
                await ask(1)
                os.kill({server.pid}, signal.SIGSTOP)
                tasks = [asyncio.create_task(ask(i)) for i in range(50)]
                await asyncio.sleep(0.1)
            asyncio.run(main())
            """,
            str(repo.folder),
        )
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        server.resume()
        server.close()


def test_cancelled_while_the_server_stalls(applied: Applied, tmp_path: Path) -> None:
    """Whatever was asked for by those that are gone is thrown away: later reads, on the same
    connections, get their own rows and no others.
    """
    server = RedisServer("7.0")
    dice = random.Random(11)
    try:
        repo = applied.open(tmp_path, server)
        store = repo.ours()
        store.materialize(EARLY, LATE)

        async def one_round() -> None:
            server.stall()
            asked = [dice.sample(range(COUNT), dice.choice([1, 2, 30, 300])) for _ in range(30)]
            tasks = [asyncio.create_task(ask(store, drivers)) for drivers in asked]
            gone = dice.sample(range(30), 15)
            for index in gone:
                for _ in range(dice.choice([0, 1, 3])):
                    await asyncio.sleep(0)
                tasks[index].cancel()
            later = [dice.sample(range(COUNT), dice.choice([1, 30])) for _ in range(20)]
            tasks += [asyncio.create_task(ask(store, drivers)) for drivers in later]
            await asyncio.sleep(0)
            server.resume()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for index, (drivers, answer) in enumerate(zip(asked + later, answers, strict=True)):
                if index in gone:
                    assert isinstance(answer, asyncio.CancelledError)
                else:
                    assert answer == expected(drivers)

        async def main() -> None:
            for _ in range(40):
                await one_round()

        asyncio.run(main())
        with repo.redis() as client:
            own = [c for c in client.client_list() if c["db"] == str(repo.database)]
        # Not one connection for each that was cancelled.
        assert len(own) < 20
    finally:
        server.resume()
        server.close()


def test_a_stalled_server_is_a_timeout(applied: Applied, tmp_path: Path) -> None:
    server = RedisServer("7.0")
    try:
        text = f"{server.connection_string(1)},socket_timeout=0.3"
        repo = applied.open(tmp_path, server, online_store={"connection_string": text})
        store = repo.ours()
        store.materialize(EARLY, LATE)

        async def main() -> None:
            await ask(store, [1])
            server.stall()
            answers = await asyncio.gather(
                *(ask(store, [i]) for i in range(20)), return_exceptions=True
            )
            assert all(isinstance(answer, TimeoutError) for answer in answers), answers
            server.resume()
            await many(store)

        asyncio.run(main())
    finally:
        server.resume()
        server.close()


def test_connections_are_killed_under_load(applied: Applied, tmp_path: Path) -> None:
    server = RedisServer("7.0")
    try:
        repo = applied.open(tmp_path, server)
        store = repo.ours()
        store.materialize(EARLY, LATE)

        async def read(seed: int) -> None:
            dice = random.Random(seed)
            for _ in range(100):
                drivers = dice.sample(range(COUNT), dice.choice([1, 5, 300]))
                assert await ask(store, drivers) == expected(drivers)

        async def main() -> None:
            readers = asyncio.gather(*(read(seed) for seed in range(16)))
            with repo.redis() as client:
                while not readers.done():
                    client.client_kill_filter(_type="normal", skipme=True)
                    await asyncio.sleep(0.01)
            await readers

        asyncio.run(main())
    finally:
        server.close()


def test_a_server_that_comes_back_is_found_again(applied: Applied, tmp_path: Path) -> None:
    server = RedisServer("7.0")
    repo = applied.open(tmp_path, server)
    store = repo.ours()
    store.materialize(EARLY, LATE)
    asyncio.run(many(store))
    server.close()
    with pytest.raises(ConnectionError):
        asyncio.run(many(store))

    again = RedisServer("7.0", port=server.port)
    try:
        store.materialize(EARLY, LATE)
        asyncio.run(many(store))
    finally:
        again.close()
