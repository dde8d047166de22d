"""What a network can do to replies: cut, change and swallow them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from feastrs import errors
from testbed.plain import plain, plain_table
from testbed.proxy import Cut, Proxy
from testbed.redis_server import RedisServer
from testbed.refusals import fails
from testbed.repo import EARLY, LATE, Applied, Repo

DRIVERS = 300
ROWS = [{"driver_id": i} for i in range(DRIVERS)]
LATE_OR_INVALID = (errors.StoreTimeoutError, errors.StoreInvalidError)
EXPECTED = [i / 2 for i in range(DRIVERS)]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"), plain_table(DRIVERS))


@pytest.fixture
def proxy(redis7: RedisServer) -> Iterator[Proxy]:
    proxy = Proxy(redis7.port)
    yield proxy
    proxy.close()


@pytest.fixture
def repo(applied: Applied, redis7: RedisServer, proxy: Proxy, tmp_path: Path) -> Repo:
    """Filled, and read through the proxy."""
    repo = applied.open(tmp_path, redis7)
    # A URL, for once.
    repo.config["online_store"]["connection_string"] = (
        f"redis://127.0.0.1:{proxy.port}/{repo.database}?socket_timeout=0.4"
    )
    repo.write_config()
    repo.ours().materialize(EARLY, LATE)
    return repo


def values(repo: Repo) -> list[float]:
    answer: list[float] = repo.ours().get_online_features(["v:x"], ROWS).to_dict()["x"]
    return answer


def test_cut_in_mid_reply(repo: Repo, proxy: Proxy) -> None:
    """What was lost is asked for again; where all is lost, an error."""
    for length in (0, 1, 10, 100, 1000):
        cuts = iter([length, length * 2])

        def cut(data: bytes, cuts: Iterator[int] = cuts) -> bytes | Cut:
            at = next(cuts, None)
            return data if at is None else Cut(data[:at])

        proxy.forge = cut
        assert values(repo) == EXPECTED
    proxy.forge = lambda data: Cut(data[:50])
    fails(errors.StoreUnavailableError, lambda: values(repo), f"127.0.0.1:{proxy.port}")


@pytest.mark.parametrize(
    ("forge", "kinds"),
    [
        (lambda _: b"", (errors.StoreTimeoutError,)),
        (lambda data: data[: len(data) // 2], LATE_OR_INVALID),
        (lambda data: data.replace(b"*4", b"*2"), (errors.StoreInvalidError,)),
        (
            lambda data: data.replace(b"*4", b"*6"),
            (errors.StoreInvalidError, errors.StoreTimeoutError),
        ),
        (lambda data: data.replace(b"*4", b"+4"), (errors.StoreInvalidError,)),
        (lambda data: data.replace(b"$", b":"), (errors.StoreInvalidError,)),
        (lambda data: data.replace(b"$9", b"$8"), (errors.StoreInvalidError,)),
        (lambda data: data + b":1\r\n", (errors.StoreInvalidError,)),
        (lambda data: b"HTTP/1.1 200 OK\r\n\r\n", (errors.StoreInvalidError,)),
    ],
)
def test_changed_replies(
    forge: Callable[[bytes], bytes],
    kinds: tuple[type[Exception], ...],
    repo: Repo,
    proxy: Proxy,
) -> None:
    """Never a value; and afterwards all is right again."""
    assert values(repo) == EXPECTED
    proxy.forge = forge
    with pytest.raises(kinds):
        values(repo)
    proxy.forge = lambda data: data
    assert values(repo) == EXPECTED
