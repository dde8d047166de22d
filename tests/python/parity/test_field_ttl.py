"""`field_ttl: true`: the fields of each view's rows expire with its ttl.

Redis before 7.4 does not know how: there, it is an error that says so. Both are tested, each
where the server at hand is one of those.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import feastrs
from testbed.dump import assert_same_redis
from testbed.plain import TIME, plain, plain_table
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Repo

DAY = timedelta(days=1)
ROW = {"driver_id": [7], "x": [0.5]}


def knows_field_ttl(repo: Repo) -> bool:
    with repo.redis() as client:
        major, minor, *_ = client.info("server")["redis_version"].split(".")
    return (int(major), int(minor)) >= (7, 4)


def expirations(repo: Repo) -> set[int]:
    """When fields expire, milliseconds since the epoch."""
    found: set[int] = set()
    with repo.redis() as client:
        for key in client.scan_iter():
            fields = client.hkeys(key)
            found.update(
                client.execute_command("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
            )
    return found


@pytest.mark.parametrize("door", ["ours", "plugged"])
def test_fields_expire_with_the_ttl_of_the_view(
    door: str, redis7: RedisServer, tmp_path: Path
) -> None:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    source = plain_table(40).set_column(1, "event_timestamp", pa.array([now] * 40, TIME))
    applied = plain(tmp_path, source)
    store_type = "redis" if door == "ours" else "feastrs.feast.RedisOnlineStore"
    settings = {"field_ttl": True, "type": store_type}
    lasting, plainly = applied.open(tmp_path / "a", redis7), applied.open(tmp_path / "b", redis7)
    lasting.config["online_store"].update(settings)
    lasting.write_config()
    store: Any = lasting.ours() if door == "ours" else lasting.stock()
    if not knows_field_ttl(lasting):
        with pytest.raises(feastrs.errors.StoreRefusedError, match=r"field_ttl needs Redis 7\.4"):
            store.write_to_online_store("v", to_frame(ROW | {"event_timestamp": [now]}))
        return

    store.materialize(EARLY, LATE)
    assert expirations(lasting) == {round((now + DAY).timestamp() * 1000)}
    plainly.ours().materialize(EARLY, LATE)
    assert_same_redis(lasting.redis(), plainly.redis())

    soon = now - DAY + timedelta(seconds=4)
    store.write_to_online_store(
        "v", to_frame({"driver_id": [99], "x": [1.5], "event_timestamp": [soon]})
    )
    rows = [{"driver_id": 99}, {"driver_id": 1}]
    while store.get_online_features(["v:x"], rows).to_dict()["x"] != [None, 0.5]:
        assert datetime.now(timezone.utc) < now + timedelta(seconds=60)
        time.sleep(0.05)


def to_frame(columns: dict[str, list[Any]]) -> Any:
    return pa.table(columns).to_pandas()
