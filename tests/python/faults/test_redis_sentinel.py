"""A master that sentinels watch over: found, and followed when it dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feastrs import errors
from testbed.plain import plain
from testbed.redis_topologies import Watched, eventually, kill
from testbed.refusals import fails
from testbed.repo import EARLY, LATE, Applied


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.close()


def test_a_failover(watched: Watched, applied: Applied, tmp_path: Path) -> None:
    """Materialized natively; reads and writes go on at the new master."""
    repo = applied.open(tmp_path)
    repo.config["online_store"] = {
        "type": "redis",
        "redis_type": "redis_sentinel",
        "sentinel_master": "primary",
        "connection_string": watched.connection_string,
    }
    repo.write_config()
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
