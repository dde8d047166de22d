"""The process we live in: imports, forks, signals, other threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from testbed.plain import plain, wide
from testbed.process import wait_for
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"))


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


HEAVY = ["feast", "pandas", "pyarrow", "numpy", "polars", "google.protobuf", "redis", "yaml"]


def test_import_is_pure() -> None:
    done = run(
        f"""
        import sys
        import feastrs, feastrs.errors
        assert not set(sys.modules) & {set(HEAVY)!r}, set(sys.modules) & {set(HEAVY)!r}
        """
    )
    assert done.returncode == 0, done.stderr


def test_the_main_job_loads_nothing_heavy(
    applied: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    """Not only at import: materialize, read and `to_dict` need none of it either."""
    repo = applied.open(tmp_path, redis7)
    done = run(
        f"""
        import sys
        from datetime import datetime
        import feastrs
        store = feastrs.FeatureStore(repo_path=sys.argv[1])
        store.materialize(datetime(2000, 1, 1), datetime(2040, 1, 1))
        response = store.get_online_features(["v:x"], [{{"driver_id": 2}}])
        assert response.to_dict() == {{"driver_id": [2], "x": [1.0]}}
        assert not set(sys.modules) & {set(HEAVY)!r}, set(sys.modules) & {set(HEAVY)!r}
        """,
        str(repo.folder),
    )
    assert done.returncode == 0, done.stderr


def ask(repo: Repo) -> object:
    return repo.ours().get_online_features(["v:x"], [{"driver_id": 2}]).to_dict()


EXPECTED = {"driver_id": [2], "x": [1.0]}


def test_fork_after_use(applied: Applied, either_store: RedisServer | None, tmp_path: Path) -> None:
    """As gunicorn with preload, Airflow and multiprocessing do; parent and child go on."""
    repo = applied.open(tmp_path / "read", either_store)
    repo.ours().materialize(EARLY, LATE)
    assert ask(repo) == EXPECTED
    # Each child also writes: to a repo of its own, for a view in the making can't be read.
    written = [applied.open(tmp_path / f"write-{i}", either_store) for i in range(3)]
    for other in written:
        other.ours().materialize(EARLY, LATE)

    children = []
    for other in written:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                good = all(ask(repo) == EXPECTED for _ in range(20))
                other.ours().materialize(EARLY, LATE)
                code = 0 if good and ask(other) == EXPECTED else 2
            finally:
                os._exit(code)
        children.append(child)
    assert all(ask(repo) == EXPECTED for _ in range(50))

    for child in children:
        assert os.waitstatus_to_exitcode(wait_for(child)) == 0
    assert ask(repo) == EXPECTED


def _ask_folder(folder: str) -> object:
    import feastrs

    store = feastrs.FeatureStore(repo_path=folder)
    return store.get_online_features(["v:x"], [{"driver_id": 2}]).to_dict()


def test_multiprocessing_pool(applied: Applied, redis7: RedisServer, tmp_path: Path) -> None:
    repo = applied.open(tmp_path, redis7)
    repo.ours().materialize(EARLY, LATE)
    assert ask(repo) == EXPECTED

    with multiprocessing.get_context("fork").Pool(2) as pool:
        answers = pool.map(_ask_folder, [str(repo.folder)] * 6)

    assert answers == [EXPECTED] * 6


def test_ctrl_c_records_nothing(redis7: RedisServer, tmp_path: Path) -> None:
    repo = wide(tmp_path, 60_000).open(tmp_path / "repo", redis7)
    code = """
        import sys
        from datetime import datetime
        import feastrs
        store = feastrs.FeatureStore(repo_path=sys.argv[1])
        try:
            store.materialize(datetime(2000, 1, 1), datetime(2040, 1, 1))
        except KeyboardInterrupt:
            sys.exit(3)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(repo.folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with repo.redis() as client:
        while client.dbsize() == 0:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 3, errors
        client.flushdb()
    assert repo.stock().get_feature_view("wide").materialization_intervals == []


def test_the_gil_is_free_while_materializing(redis7: RedisServer, tmp_path: Path) -> None:
    """Another thread keeps counting; with the GIL held it would stand still."""
    repo = wide(tmp_path, 40_000).open(tmp_path / "repo", redis7)
    store = repo.ours()
    store.list_feature_views()
    gaps: list[float] = []
    done = threading.Event()

    def tick() -> None:
        last = time.monotonic()
        while not done.is_set():
            time.sleep(0.001)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    started = time.monotonic()
    store.materialize(EARLY, LATE)
    took = time.monotonic() - started
    done.set()
    thread.join()
    with repo.redis() as client:
        client.flushdb()

    assert len(gaps) > 20
    assert max(gaps) < took / 2, f"a gap of {max(gaps):.3f} s in a run of {took:.3f} s"


def test_threads_share_a_store(
    applied: Applied, either_store: RedisServer | None, tmp_path: Path
) -> None:
    repo = applied.open(tmp_path, either_store)
    repo.ours().materialize(EARLY, LATE)
    wrong: list[object] = []

    def read(driver: int) -> None:
        rows = [{"driver_id": driver}]
        for _ in range(200):
            answer = repo.ours().get_online_features(["v:x"], rows).to_dict()
            if answer != {"driver_id": [driver], "x": [driver / 2]}:
                wrong.append(answer)

    threads = [threading.Thread(target=read, args=(i % 3,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
