"""Materializations, feastrs beside stock Feast, and beside ready-made commands."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bare_client import BareClient
from measure import Bound, Job, Rounds, say
from own_process import child, plug_in

if TYPE_CHECKING:
    import redis

    from testbed.redis_server import RedisServer
    from testbed.repo import Applied, Repo

ROWS_PER_ENTITY = 2
START = datetime(2024, 1, 1, tzinfo=timezone.utc)
EARLY, LATE = START - timedelta(days=1), START + timedelta(days=30)
# Keys of one transaction.
CHUNK = 100

Figures = dict[str, list[dict[str, float]]]


def make_repo(folder: Path, entities: int, features: int) -> Applied:
    """A view of doubles; two rows for each of `entities` drivers, the second newer."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from feast import Entity, FeatureView, Field, ValueType
    from feast.types import Float64, Int64

    from testbed.repo import apply, file_source

    random = np.random.default_rng(7)
    rows = entities * ROWS_PER_ENTITY
    keys = np.concatenate([random.permutation(entities) for _ in range(ROWS_PER_ENTITY)])
    times = np.datetime64(START.replace(tzinfo=None), "us") + np.arange(rows).astype("m8[s]")
    columns: dict[str, Any] = {
        "driver_id": keys.astype("int64"),
        "event_timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
    }
    columns |= {f"f_{i}": random.random(rows) for i in range(features)}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "wide.parquet"
    pq.write_table(pa.table(columns), path)
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="wide",
        entities=[driver],
        ttl=timedelta(days=3650),
        schema=[
            Field(name="driver_id", dtype=Int64),
            *(Field(name=f"f_{i}", dtype=Float64) for i in range(features)),
        ],
        source=file_source(path),
    )
    return apply(folder / "applied", [driver, view])


@dataclass
class Twins:
    """One repo for each side, and how large they are."""

    ours: Repo
    stock: Repo
    entities: int
    features: int

    @classmethod
    def make(cls, folder: Path, server: RedisServer, entities: int, features: int) -> Twins:
        say(f"making {entities:,} entities x {features} features")
        ours, stock = make_repo(folder, entities, features).twins(folder / "twins", server)
        plug_in(ours)
        return cls(ours, stock, entities, features)

    @property
    def title(self) -> str:
        rows = self.entities * ROWS_PER_ENTITY
        return f"materialize {rows:,} rows to {self.entities:,} entities x {self.features}"

    @property
    def middle(self) -> datetime:
        """Up to here there is one row of each entity."""
        return START + timedelta(seconds=self.entities - 1)


@dataclass
class Materializations:
    """What was measured."""

    folder: Path
    server: RedisServer
    rounds: Rounds
    jobs: list[Job] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)

    def run(self) -> None:
        self.imports()
        wide = Twins.make(self.folder / "wide", self.server, self.rounds.entities, 50)
        self.into_empty(wide, target=40, limit=200)
        self.onto_rows(wide)
        if self.rounds.many_entities:
            many = Twins.make(self.folder / "many", self.server, self.rounds.many_entities, 10)
            self.many(many)

    def imports(self) -> None:
        say("imports")
        results: Figures = {"feast": [], "feastrs": []}
        for _ in range(self.rounds.imports):
            for module, found in results.items():
                found.append(child("import", module))
        for measure, name in (("seconds", "import"), ("cpu", "import, CPU")):
            stock, ours = ([1000 * one[measure] for one in results[m]] for m in results)
            target = 50 if measure == "seconds" else None
            self.jobs.append(Job(name, stock, ours, "ms", correct=True, target=target))

    def into_empty(self, twins: Twins, target: float, limit: float) -> Figures:
        found, correct = self.in_turn(twins, None, (EARLY, LATE))
        self.report(twins.title, found, correct, target=target)
        self.report("the same, CPU of the client", found, correct, "cpu", "s")
        self.report("the same, peak memory", found, correct, "peak_mb", "MB", limit=limit)
        plugged = [
            self.materialize("plugged", twins, None, (EARLY, LATE))
            for _ in range(self.rounds.our_materializations)
        ]
        correct = same_hashes(twins.ours.redis(), twins.stock.redis(), twins.entities)
        name = "the same, by `feast` with `feastrs.feast.MaterializationEngine`"
        self.report(name, found | {"feastrs": plugged}, correct)
        commands = list(_restores(twins))
        self.bound(f"{twins.title}: RESTORE", twins, commands, found, at_most=1.67)
        return found

    def onto_rows(self, twins: Twins) -> None:
        found, correct = self.in_turn(twins, twins.middle, (EARLY, LATE))
        self.report("the same, onto an older row of every entity", found, correct, target=20)
        commands = list(_replacements(twins))
        name = "the same, onto older rows: WATCH, HGETALL, MULTI, RESTORE REPLACE, EXEC"
        self.bound(name, twins, commands, found, at_most=1.25, filled=twins.middle)
        # Each once by Feast: no mark depends on them.
        self.rounds, kept = self.rounds.with_one_of_stock(), self.rounds
        found, correct = self.in_turn(twins, LATE, (EARLY, LATE))
        self.report("the same, onto equal rows", found, correct)
        found, correct = self.in_turn(twins, LATE, (EARLY, twins.middle))
        self.report("the same, all rows older than what is there", found, correct)
        self.rounds = kept

    def many(self, twins: Twins) -> None:
        self.rounds, kept = self.rounds.with_one_of_stock(), self.rounds
        found = self.into_empty(twins, target=40, limit=400)
        with self.server.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "-restore")
        try:
            ours = [self.materialize("feastrs", twins, None, (EARLY, LATE)) for _ in range(2)]
            correct = same_hashes(twins.ours.redis(), twins.stock.redis(), twins.entities)
        finally:
            with self.server.client() as client:
                client.execute_command("ACL", "SETUSER", "default", "+restore")
        without = {"feast": found["feast"], "feastrs": ours}
        self.report("the same, where RESTORE is forbidden", without, correct, target=22)
        name = f"{twins.title}: HSET, whatever is there"
        self.bound(name, twins, list(_hsets(twins)), without, at_most=1.67)
        self.rounds = kept

    def report(
        self,
        name: str,
        found: Figures,
        correct: bool,
        measure: str = "seconds",
        unit: str = "s",
        **goals: float,
    ) -> None:
        stock, ours = ([result[measure] for result in found[door]] for door in ("feast", "feastrs"))
        self.jobs.append(Job(name, stock, ours, unit, correct, **goals))

    def bound(
        self,
        name: str,
        twins: Twins,
        commands: list[tuple[bytes, int]],
        found: Figures,
        at_most: float,
        filled: datetime | None = None,
    ) -> None:
        """The same commands, ready-made: nobody can be faster."""
        bare = BareClient(self.folder, self.server.port)
        select = f"*2\r\n$6\r\nSELECT\r\n$1\r\n{twins.ours.database}\r\n".encode()
        walls = []
        for _ in range(self.rounds.our_materializations):
            self.fill("feastrs", twins, filled)
            walls.append(bare.write([(select, 1), *commands]))
        ours = [result["seconds"] for result in found["feastrs"]]
        self.bounds.append(Bound(name, walls, ours, "s", at_most))

    def in_turn(
        self, twins: Twins, filled: datetime | None, window: tuple[datetime, datetime]
    ) -> tuple[Figures, bool]:
        """Both sides' materializations, and whether they ended in equal stores."""
        left = {
            "feastrs": self.rounds.our_materializations,
            "feast": self.rounds.stock_materializations,
        }
        found: Figures = {"feast": [], "feastrs": []}
        while any(left.values()):
            for door in left:
                if left[door]:
                    left[door] -= 1
                    found[door].append(self.materialize(door, twins, filled, window))
        return found, same_hashes(twins.ours.redis(), twins.stock.redis(), twins.entities)

    def materialize(
        self, door: str, twins: Twins, filled: datetime | None, window: tuple[datetime, datetime]
    ) -> dict[str, float]:
        folder = self.fill(door, twins, filled)
        say(f"materialize with {door}")
        return child("materialize", door, folder, *(moment.isoformat() for moment in window))

    def fill(self, door: str, twins: Twins, until: datetime | None) -> str:
        """Empties the store and puts the rows up to `until` into it; gives the repo's folder."""
        repo = twins.stock if door == "feast" else twins.ours
        with repo.redis() as client:
            client.flushdb()
        if until is not None:
            window = (EARLY.isoformat(), until.isoformat())
            child("materialize", "feastrs", str(repo.folder), *window)
        return str(repo.folder)


def _chunks(twins: Twins, command: str) -> Iterator[list[tuple[bytes, Any]]]:
    """Keys of our store and what `command` says of them, so many at a time."""
    with twins.ours.redis() as client:
        client.config_set("rdbcompression", "no")
        keys = list(client.scan_iter(count=5000))
        # SCAN follows the server's table, and writing in that order would spare the server a
        # third of its time; a client knows nothing of that order.
        random.Random(7).shuffle(keys)
        for first in range(0, len(keys), CHUNK):
            some = keys[first : first + CHUNK]
            pipeline = client.pipeline(transaction=False)
            for key in some:
                pipeline.execute_command(command, key)
            yield list(zip(some, pipeline.execute(), strict=True))
        client.config_set("rdbcompression", "yes")


def _restores(twins: Twins) -> Iterator[tuple[bytes, int]]:
    pack = _packer()
    for rows in _chunks(twins, "DUMP"):
        yield b"".join(pack("RESTORE", key, 0, payload) for key, payload in rows), len(rows)


def _hsets(twins: Twins) -> Iterator[tuple[bytes, int]]:
    pack = _packer()
    for rows in _chunks(twins, "HGETALL"):
        hashes = ((key, itertools.chain.from_iterable(fields.items())) for key, fields in rows)
        yield b"".join(pack("HSET", key, *pairs) for key, pairs in hashes), len(rows)


def _replacements(twins: Twins) -> Iterator[tuple[bytes, int]]:
    pack = _packer()
    for rows in _chunks(twins, "DUMP"):
        looks = [pack("PTTL", key) + pack("HGETALL", key) for key, _ in rows]
        writes = [pack("RESTORE", key, 0, payload, "REPLACE") for key, payload in rows]
        yield b"".join([pack("WATCH", *(key for key, _ in rows)), *looks]), 1 + 2 * len(rows)
        yield b"".join([pack("MULTI"), *writes, pack("EXEC")]), 2 + len(rows)


def _packer() -> Any:
    from redis.connection import Connection

    pack = Connection().pack_command
    return lambda *arguments: b"".join(pack(*arguments))


def same_hashes(left: redis.Redis, right: redis.Redis, count: int) -> bool:
    """Whether both databases hold the same keys with the same contents and expiry.

    The server digests each hash (`DEBUG DIGEST-VALUE`), so nothing big has to travel.
    """
    keys = sorted(left.scan_iter(count=5000))
    if len(keys) != count or keys != sorted(right.scan_iter(count=5000)):
        return False
    for first in range(0, count, 2000):
        some = keys[first : first + 2000]
        digests = [
            client.execute_command("DEBUG", "DIGEST-VALUE", *some) for client in (left, right)
        ]
        if digests[0] != digests[1]:
            return False
    return True
