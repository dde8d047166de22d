"""Asynchronous writes that are cancelled: the loop goes on, every entity has one whole row, and
later writes are as if nothing had been."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, PushSource, ValueType
from feast.types import Float64, Int64

import feastrs
from testbed.plain import AT, TIME
from testbed.redis_server import RedisServer
from testbed.repo import Applied, Repo, apply, file_source

DRIVERS = 2_000
FEATURES = [f"f_{i}" for i in range(8)]
ASKED = [f"pushed:{feature}" for feature in FEATURES]


def rows(version: int) -> pa.Table:
    """A row for each driver, newer with each version, which every feature has as its value."""
    values = pa.array([float(version)] * DRIVERS)
    return pa.table(
        {
            "driver_id": pa.array(range(DRIVERS), pa.int64()),
            "event_timestamp": pa.array([AT + timedelta(seconds=version)] * DRIVERS, TIME),
            **dict.fromkeys(FEATURES, values),
        }
    )


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    folder = tmp_path_factory.mktemp("pushed")
    pq.write_table(rows(0), folder / "pushed.parquet")
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    batch = file_source(folder / "pushed.parquet", name="batch")
    view = FeatureView(
        name="pushed",
        entities=[driver],
        ttl=timedelta(days=3650),
        schema=[
            Field(name="driver_id", dtype=Int64),
            *(Field(name=feature, dtype=Float64) for feature in FEATURES),
        ],
        source=PushSource(name="clicks", batch_source=batch),
    )
    return apply(folder / "applied", [driver, view])


Write = Callable[[feastrs.FeatureStore, int], Awaitable[Any]]
WRITES: list[Write] = [
    lambda store, version: store.write_to_online_store_async("pushed", rows(version)),
    lambda store, version: store.push_async("clicks", rows(version)),
]


def versions(repo: Repo) -> list[float | None]:
    """For each driver the version of its row, which must be a whole one."""
    asked = {"driver_id": list(range(DRIVERS))}
    answer = repo.ours().get_online_features(ASKED, asked).to_dict()
    for feature in FEATURES[1:]:
        assert answer[feature] == answer[FEATURES[0]]
    found: list[float | None] = answer[FEATURES[0]]
    return found


@pytest.mark.parametrize("write", WRITES, ids=["write_to_online_store_async", "push_async"])
def test_cancelled_at_any_moment(
    write: Write, applied: Applied, either_store: RedisServer | None, tmp_path: Path
) -> None:
    repo = applied.open(tmp_path, either_store)
    store = repo.ours()
    store.write_to_online_store("pushed", rows(0))
    dice = random.Random(7)

    async def main() -> list[bool]:
        ended = []
        for version in range(1, 40):
            task = asyncio.ensure_future(write(store, version))
            for _ in range(dice.choice([0, 1, 2, 5, 20, 200])):
                await asyncio.sleep(0)
            task.cancel()
            [outcome] = await asyncio.gather(task, return_exceptions=True)
            ended.append(isinstance(outcome, asyncio.CancelledError))
            assert ended[-1] or outcome.entities_written == DRIVERS, outcome
        await write(store, 100)
        return ended

    assert any(asyncio.run(main()))
    assert versions(repo) == [100.0] * DRIVERS


@pytest.mark.parametrize("write", WRITES, ids=["write_to_online_store_async", "push_async"])
def test_cancelled_while_the_server_stalls(write: Write, applied: Applied, tmp_path: Path) -> None:
    server = RedisServer("7.0")
    try:
        repo = applied.open(tmp_path, server)
        store = repo.ours()
        store.write_to_online_store("pushed", rows(0))

        async def ticks(seen: list[int]) -> None:
            while True:
                seen[0] += 1
                await asyncio.sleep(0.005)

        async def one_round(version: int) -> None:
            server.stall()
            tasks = [asyncio.ensure_future(write(store, version)) for _ in range(4)]
            seen = [0]
            ticker = asyncio.ensure_future(ticks(seen))
            while seen[0] < 10:  # the loop is free while they wait
                await asyncio.sleep(0.005)
            for task in tasks:
                assert not task.done()
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
            ticker.cancel()
            server.resume()
            # Whole rows, whatever has arrived of them.
            assert set(versions(repo)) <= set(map(float, range(version + 1)))

        async def main() -> None:
            for version in range(1, 6):
                await one_round(version)
            await write(store, 100)

        asyncio.run(main())
        assert versions(repo) == [100.0] * DRIVERS
        with repo.redis() as client:
            assert len(client.client_list()) < 20
    finally:
        server.resume()
        server.close()
