"""Ctrl-C, a cancelled task and the interpreter's exit are prompt, whatever is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.interpreter import Interpreter, assert_prompt
from testbed.plain import plain, wide
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo
from testbed.s3 import BUCKET, ENVIRONMENT, S3Server

# Nothing ends by itself while a test looks.
PATIENT = "socket_timeout=60,socket_connect_timeout=60,timeout=60"
MATERIALIZE = (
    "from datetime import datetime; store.materialize(datetime(2000, 1, 1), datetime(2040, 1, 1))"
)


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer("7.0")
    yield server
    server.resume()
    server.close()


def patient(applied: Applied, folder: Path, address: str, **online: str) -> Repo:
    """A repo on the Redis at `address`, with settings that are not in a hurry."""
    store = {"type": "redis", "connection_string": f"{address},{PATIENT}", **online}
    repo = applied.open(folder, online_store=store)
    del repo.config["online_store"]["path"]
    repo.write_config()
    return repo


@pytest.fixture
def repo(applied: Applied, server: RedisServer, tmp_path: Path) -> Repo:
    """Filled."""
    repo = patient(applied, tmp_path, server.connection_string(1))
    repo.ours().materialize(EARLY, LATE)
    return repo


@contextlib.contextmanager
def silent_server(*, accepts: bool) -> Iterator[str]:
    """The address of somebody who takes connections and says nothing; or not even takes them."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(64 if accepts else 0)
        address = listener.getsockname()
        while not accepts:
            other = stack.enter_context(socket.socket())
            other.settimeout(0.3)
            try:
                other.connect(address)
            except TimeoutError:
                break
        yield f"127.0.0.1:{address[1]}"


@contextlib.contextmanager
def locked(repo: Repo) -> Iterator[None]:
    """Another process has the SQLite file locked: locks do not tell connections of one apart."""
    with Interpreter(repo.folder, "import sqlite3") as holder:
        holder.run(f"held = sqlite3.connect({str(repo.sqlite_path)!r}, isolation_level=None)")
        holder.run("held.execute('BEGIN EXCLUSIVE')")
        yield


class TestCtrlC:
    def test_before_a_reply(self, repo: Repo, server: RedisServer) -> None:
        with Interpreter(repo.folder) as python:

            def attempt() -> float:
                server.resume()
                python.run("ask()")
                server.stall()
                return python.interrupted("ask()")

            assert_prompt(attempt)

    def test_while_sending(self, applied: Applied, tmp_path: Path) -> None:
        # Nobody reads, so that the commands fill all buffers on the way.
        with silent_server(accepts=True) as address:
            repo = patient(applied, tmp_path, f"{address},db=0")
            with Interpreter(repo.folder, "ids = range(60_000)") as python:
                assert_prompt(lambda: python.interrupted("ask(*ids)"))

    def test_while_connecting(self, applied: Applied, tmp_path: Path) -> None:
        with silent_server(accepts=False) as address:
            repo = patient(applied, tmp_path, address)
            with Interpreter(repo.folder) as python:
                assert_prompt(lambda: python.interrupted("ask()"))

    @pytest.mark.parametrize("ssl", ["true", "false"])
    def test_in_a_handshake(self, ssl: str, applied: Applied, tmp_path: Path) -> None:
        with silent_server(accepts=True) as address:
            repo = patient(applied, tmp_path, f"{address},db=1,ssl={ssl},ssl_cert_reqs=none")
            with Interpreter(repo.folder) as python:
                assert_prompt(lambda: python.interrupted("ask()"))

    def test_waiting_for_a_connection(
        self, applied: Applied, server: RedisServer, tmp_path: Path
    ) -> None:
        address = f"{server.connection_string(1)},max_connections=1"
        repo = patient(applied, tmp_path, address)
        server.stall()
        with Interpreter(repo.folder) as python:
            python.run(IN_A_THREAD)
            assert_prompt(lambda: python.interrupted("ask()"))

    def test_between_attempts(self, applied: Applied, tmp_path: Path) -> None:
        """Nodes that know no slots are asked again and again, with pauses."""
        server = RedisServer("7.0", {"cluster-enabled": "yes", "databases": "1"})
        try:
            repo = patient(applied, tmp_path, f"127.0.0.1:{server.port}")
            with Interpreter(repo.folder) as python:
                assert_prompt(lambda: python.interrupted("ask()"))
        finally:
            server.close()

    @pytest.mark.parametrize("is_known", [True, False])
    def test_in_a_cluster(self, is_known: bool, applied: Applied, tmp_path: Path) -> None:
        server = RedisServer("7.0", {"cluster-enabled": "yes", "databases": "1"})
        try:
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                while client.cluster("info")["cluster_state"] != "ok":
                    pass
            address = f"127.0.0.1:{server.port}"
            repo = patient(applied, tmp_path, address, redis_type="redis_cluster")
            with Interpreter(repo.folder) as python:

                def attempt() -> float:
                    if is_known:
                        server.resume()
                        python.run("ask()")
                    server.stall()
                    return python.interrupted("ask()")

                assert_prompt(attempt)
        finally:
            server.resume()
            server.close()

    def test_asking_sentinels(self, applied: Applied, server: RedisServer, tmp_path: Path) -> None:
        address = f"127.0.0.1:{server.port}"
        repo = patient(
            applied, tmp_path, address, redis_type="redis_sentinel", sentinel_master="primary"
        )
        server.stall()
        with Interpreter(repo.folder) as python:
            assert_prompt(lambda: python.interrupted("ask()"))

    @pytest.mark.parametrize("line", ["ask()", MATERIALIZE])
    def test_waiting_for_sqlite(self, line: str, applied: Applied, tmp_path: Path) -> None:
        repo = applied.open(tmp_path)
        repo.ours().materialize(EARLY, LATE)
        with locked(repo), Interpreter(repo.folder) as python:
            assert_prompt(lambda: python.interrupted(line))

    def test_reading_a_registry(
        self, applied: Applied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        s3 = S3Server()
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("FEAST_S3_ENDPOINT_URL", s3.url)
        try:
            s3.client().create_bucket(Bucket=BUCKET)
            registry = {"path": f"s3://{BUCKET}/registry.db"}
            repo = applied.open(tmp_path, settings={"registry": registry})
            s3.may_answer.clear()
            with Interpreter(repo.folder) as python:
                assert_prompt(lambda: python.interrupted("store.list_entities()"))
        finally:
            s3.close()


@pytest.fixture(scope="module", params=[1, 4], ids=["one view", "four views at once"])
def wide_applied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Applied:
    return wide(tmp_path_factory.mktemp("wide"), 60_000, views=request.param)


class TestCtrlCWhileMaterializing:
    @pytest.mark.parametrize("is_stalled", [True, False])
    def test_to_redis(
        self, is_stalled: bool, wide_applied: Applied, server: RedisServer, tmp_path: Path
    ) -> None:
        repo = patient(wide_applied, tmp_path, server.connection_string(1))
        with Interpreter(repo.folder) as python, server.client(1) as client:

            def under_way() -> None:
                while client.dbsize() == 0:
                    pass
                if is_stalled:
                    server.stall()

            def attempt() -> float:
                server.resume()
                client.flushdb()
                python.begin(MATERIALIZE)
                under_way()
                if is_stalled:
                    python.wait_until_blocked()
                return python.interrupt()

            assert_prompt(attempt)

    def test_to_sqlite(self, wide_applied: Applied, tmp_path: Path) -> None:
        repo = wide_applied.open(tmp_path)
        with Interpreter(repo.folder) as python:

            def attempt() -> float:
                repo.sqlite_path.unlink(missing_ok=True)
                python.begin(MATERIALIZE)
                while not repo.sqlite_path.exists() or repo.sqlite_path.stat().st_size < 1 << 20:
                    pass
                return python.interrupt()

            assert_prompt(attempt)


@pytest.fixture(params=["receive", "connect", "sqlite"])
def stuck(request: pytest.FixtureRequest, applied: Applied, tmp_path: Path) -> Iterator[Repo]:
    """A repo whose store never answers."""
    if request.param == "sqlite":
        repo = applied.open(tmp_path)
        repo.ours().materialize(EARLY, LATE)
        with locked(repo):
            yield repo
    else:
        with silent_server(accepts=request.param == "receive") as address:
            yield patient(applied, tmp_path, f"{address},db=1")


def test_ctrl_c_ends_a_loop_that_waits(stuck: Repo) -> None:
    with Interpreter(stuck.folder) as python:
        assert_prompt(lambda: python.interrupted("asyncio.run(ask_many())"))


async def _cancelled(repo: Repo) -> float:
    task = asyncio.create_task(repo.ours().get_online_features_async(["v:x"], [{"driver_id": 1}]))
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.monotonic() - began


def test_a_cancelled_task_ends(stuck: Repo) -> None:
    assert_prompt(lambda: asyncio.run(_cancelled(stuck)))


IN_A_THREAD = "threading.Thread(target=ask, daemon=True).start()"
IN_A_LOOP = (
    "loop = asyncio.new_event_loop(); task = loop.create_task(ask_async()); "
    "loop.run_until_complete(asyncio.sleep(0.05))"
)


@pytest.mark.parametrize("begin", [IN_A_THREAD, IN_A_LOOP])
def test_exit_does_not_wait(begin: str, stuck: Repo) -> None:
    """For reads of daemon threads, and of a loop that nobody ended."""

    def attempt() -> float:
        with Interpreter(stuck.folder, begin) as python:
            return python.exited()

    assert_prompt(attempt)


def test_a_thread_that_outlives_the_interpreter_leaves_it_alone(stuck: Repo) -> None:
    """It looks for signals now and then, and there is nobody any more to ask."""
    with Interpreter(stuck.folder, IN_A_THREAD) as python:
        python.outlives_itself(seconds=2)
