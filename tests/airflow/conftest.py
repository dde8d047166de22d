"""A Redis, a copy of the example that is written to it, and Airflow in a home of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed.redis_server import RedisServer, free_port

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "airflow" / "materialize_driver_stats.py"
DAG = EXAMPLE.stem

SETTINGS = """\
project: driver_stats
provider: local
registry: data/registry.db
online_store:
  type: redis
  connection_string: {connection_string}
entity_key_serialization_version: 3
"""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer("7.0")
    yield server
    server.close()


class Airflow:
    """Airflow with a home, a database and one DAG of its own."""

    def __init__(self, home: Path, repo: Path) -> None:
        self.home = home
        self.dag_file = home / "dags" / EXAMPLE.name
        self.dag_file.parent.mkdir()
        self.dag_file.write_text(EXAMPLE.read_text().replace('"retries": 2', '"retries": 0'))
        self._port = free_port()
        self._environment = os.environ | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dag_file.parent),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self._server}/execution/",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "FEATURE_REPO_DIR_ENV_VAR": str(repo),
        }
        assert self.run("db", "migrate").returncode == 0

    @property
    def _server(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`airflow` with these arguments; its log is part of what pytest shows on failure."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        print(done.stdout)
        return done

    def test_dag(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`airflow dags test`, for the day of which the example has the newest rows."""
        return self.run("dags", "test", *arguments, DAG, "2026-01-21")

    @contextmanager
    def api_server(self) -> Iterator[None]:
        """What tasks in processes of their own talk to."""
        arguments = ["--host", "127.0.0.1", "--port", str(self._port), "--apps", "execution"]
        with (self.home / "api-server.log").open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "airflow", "api-server", *arguments],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_for(server)
            yield
        finally:
            server.terminate()
            server.wait(timeout=60)

    def _wait_for(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 120
        while not self._answers():
            log = (self.home / "api-server.log").read_text()
            assert server.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self._server}/execution/health", timeout=5).close()
        except OSError:  # not there, or not yet up to answering
            return False
        return True

    def task_log(self, task: str) -> list[tuple[str, str, str]]:
        """What Airflow shows of a task: level, logger and text of each line."""
        [path] = (self.home / "logs" / f"dag_id={DAG}").glob(f"*/task_id={task}/attempt=1.log")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [(line["level"], line.get("logger", ""), line["event"]) for line in lines]


@pytest.fixture
def airflow(redis: RedisServer, tmp_path: Path) -> Airflow:
    repo = tmp_path / "driver_stats"
    shutil.copytree(ROOT / "examples" / "driver_stats", repo)
    connection_string = redis.connection_string(0)
    settings = SETTINGS.format(connection_string=connection_string)
    (repo / "feature_store.yaml").write_text(settings)
    home = tmp_path / "airflow"
    home.mkdir()
    return Airflow(home, repo)
