"""Fixtures for all Python tests.

The whole run is in UTC: stock Feast's SQLite store reads naive UTC times as local ones, so
only there do its bytes mean what they say.
"""

from __future__ import annotations

import logging
import os
import time

os.environ["TZ"] = "UTC"
time.tzset()

from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from testbed.redis_server import RedisServer  # noqa: E402

if TYPE_CHECKING:
    from testbed.repo import Applied, Repo
    from testbed.s3 import S3Server

settings.register_profile(
    "feastrs",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("feastrs")


@pytest.fixture(autouse=True)
def _plain_logging() -> None:
    """Loggers as a program finds them: Feast's command, run by another test, gives a level to
    every logger that has feast in its name."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("feastrs") and isinstance(logger, logging.Logger):
            logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def redis7() -> Iterator[RedisServer]:
    """Redis 7.0."""
    yield from _running("7.0")


@pytest.fixture(scope="session")
def redis62() -> Iterator[RedisServer]:
    """Redis 6.2."""
    yield from _running("6.2")


@pytest.fixture(scope="session", params=["redis7", "redis62"])
def any_redis(request: pytest.FixtureRequest) -> RedisServer:
    """Each Redis version in turn."""
    server: RedisServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session", params=["sqlite", "redis7", "redis62"])
def any_server(request: pytest.FixtureRequest) -> RedisServer | None:
    """Each online store in turn; `None` is SQLite."""
    if request.param == "sqlite":
        return None
    server: RedisServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session", params=["sqlite", "redis7"])
def either_store(request: pytest.FixtureRequest) -> RedisServer | None:
    """SQLite (`None`) and Redis 7, where the version makes no difference."""
    if request.param == "sqlite":
        return None
    server: RedisServer = request.getfixturevalue(request.param)
    return server


def _running(version: str) -> Iterator[RedisServer]:
    # The server checks whole payloads: a hash that we serialize must be one that it would make.
    server = RedisServer(version, {"sanitize-dump-payload": "yes"})
    yield server
    server.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    """The demo's definitions, applied, and its sources."""
    from testbed.demo import make_demo

    return make_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def repo(demo: Applied, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A repo of the demo on SQLite, filled, so that there is something to read."""
    from testbed.demo import NATIVE_VIEWS
    from testbed.repo import EARLY, LATE

    repo = demo.open(tmp_path_factory.mktemp("repo"))
    repo.ours().materialize(EARLY, LATE, feature_views=NATIVE_VIEWS)
    return repo


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 endpoint with an empty bucket, and the credentials for it in the environment."""
    from testbed.s3 import BUCKET, ENVIRONMENT, S3Server

    server = S3Server()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    server.command("reset")
    server.client().create_bucket(Bucket=BUCKET)
    yield server
    server.before = lambda _: None
    server.command("reset-auth", "inf")
    server.close()


@pytest.fixture
def applied(tmp_path: Path) -> Callable[[Sequence[Any]], Any]:
    """Applies definitions with stock Feast in this test's folder."""
    from testbed.repo import apply

    return lambda objects: apply(tmp_path / "applied", objects)
