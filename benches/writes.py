"""Rows that are handed over, feastrs beside stock Feast: `write_to_online_store` and `push`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from materializations import same_hashes
from measure import Job, Rounds, millis, say
from own_process import open_store, plug_in

if TYPE_CHECKING:
    import pandas as pd

    from testbed.redis_server import RedisServer
    from testbed.repo import Applied, Repo

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
ROWS = 10_000
FEATURES = 50
# Of one round: enough for a 99th percentile.
PUSHES = 500
PLUGGED = ", by `feast` with `feastrs.feast.RedisOnlineStore`"


def apply_view(folder: Path) -> Applied:
    """A view of doubles that a push source feeds."""
    from feast import Entity, FeatureView, Field, PushSource, ValueType
    from feast.types import Float64, Int64

    from testbed.repo import apply, file_source

    folder.mkdir(parents=True)
    frame(0).head(1).to_parquet(folder / "wide.parquet")
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    features = [Field(name=f"f_{i}", dtype=Float64) for i in range(FEATURES)]
    batch = file_source(folder / "wide.parquet", name="wide_batch")
    view = FeatureView(
        name="wide",
        entities=[driver],
        ttl=timedelta(days=3650),
        schema=[Field(name="driver_id", dtype=Int64), *features],
        source=PushSource(name="rides", batch_source=batch),
    )
    return apply(folder / "applied", [driver, view])


def frame(hour: int) -> pd.DataFrame:
    """A row of each driver, later hour by hour."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(hour)
    columns: dict[str, Any] = {
        "driver_id": np.arange(ROWS),
        "event_timestamp": pd.Timestamp(START + timedelta(hours=hour)),
    }
    return pd.DataFrame(columns | {f"f_{i}": random.random(ROWS) for i in range(FEATURES)})


@dataclass
class Writes:
    """What was measured."""

    folder: Path
    server: RedisServer
    rounds: Rounds
    jobs: list[Job] = field(default_factory=list)

    def run(self) -> None:
        ours, stock = apply_view(self.folder / "definitions").twins(self.folder, self.server)
        plug_in(ours)
        plugged = open_store("plugged", str(ours.folder))
        for suffix, store in (("", ours.ours()), (PLUGGED, plugged)):
            doors = {"feastrs": (ours, store), "feast": (stock, stock.stock())}
            # Both have connected and read their registry, and begin with the same rows.
            for repo, store in doors.values():
                with repo.redis() as client:
                    client.flushdb()
                store.write_to_online_store("wide", frame(0).head(1))
            self.frames(doors, suffix)
            self.pushes(doors, suffix)

    def frames(self, doors: dict[str, tuple[Repo, Any]], suffix: str) -> None:
        title = f"`write_to_online_store`, {ROWS:,} x {FEATURES}, into an empty store"
        for name, target, is_emptied in (
            (title, 30, True),
            ("the same, onto an older row of every entity", 10, False),
        ):
            say(name)
            found: dict[str, list[float]] = {"feastrs": [], "feast": []}
            correct = True
            for hour in range(1, 1 + self.rounds.our_materializations):
                given = frame(hour if is_emptied else 100 + hour)
                for door, (repo, store) in doors.items():
                    if is_emptied:
                        with repo.redis() as client:
                            client.flushdb()
                    started = time.perf_counter()
                    store.write_to_online_store("wide", given)
                    found[door].append(time.perf_counter() - started)
                correct &= is_same(doors)
            stock, ours = millis(found["feast"]), millis(found["feastrs"])
            goal = None if suffix else target
            self.jobs.append(Job(name + suffix, stock, ours, "ms", correct, goal))

    def pushes(self, doors: dict[str, tuple[Repo, Any]], suffix: str) -> None:
        say("pushes of one row")
        found: dict[str, list[float]] = {"feastrs": [], "feast": []}
        correct = True
        for hour in range(1, 1 + self.rounds.our_materializations):
            rows = frame(200 + hour).sample(PUSHES, random_state=hour)
            for door, (_, store) in doors.items():
                times = []
                for i in range(PUSHES):
                    # Made one by one, as a stream does: pandas keeps with a frame what is
                    # asked of it, and many that wait would be much garbage to look through.
                    row = rows.iloc[[i]]
                    started = time.perf_counter()
                    store.push("rides", row)
                    times.append(time.perf_counter() - started)
                found[door].append(sorted(times)[PUSHES * 99 // 100])
            correct &= is_same(doors)
        stock, ours = millis(found["feast"]), millis(found["feastrs"])
        name = f"`push` of one row of {FEATURES} features: p99"
        goal = None if suffix else 5
        self.jobs.append(Job(name + suffix, stock, ours, "ms", correct, goal))


def is_same(doors: dict[str, tuple[Repo, Any]]) -> bool:
    """Whether both stores are equal."""
    with doors["feastrs"][0].redis() as ours, doors["feast"][0].redis() as stock:
        return same_hashes(ours, stock, ROWS)
