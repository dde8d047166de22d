"""Online reads, feastrs beside stock Feast with each of its clients, and beside the limit."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bare_client import BareClient
from measure import Bound, Job, Rounds, Timing, in_turn, millis, pinned, say, timed

if TYPE_CHECKING:
    from testbed.redis_server import RedisServer
    from testbed.repo import Applied, Repo

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
WINDOW = (START - timedelta(days=1), START + timedelta(days=30))
ENTITIES = 20_000
WIDE = 50
# 90 features over four views.
WIDTHS = (23, 23, 22, 22)


@dataclass(frozen=True)
class Question:
    """What is asked: so many entities, these features."""

    title: str
    rows: int
    features: tuple[str, ...]
    join_key: str

    @property
    def entity_rows(self) -> list[dict[str, Any]]:
        step = ENTITIES // self.rows
        return [{self.join_key: i * step} for i in range(self.rows)]

    @property
    def values(self) -> int:
        return self.rows * len(self.features)

    def of(self, store: Any) -> Callable[[], Any]:
        features, entity_rows = list(self.features), self.entity_rows
        return lambda: store.get_online_features(features, entity_rows)

    def to_dict(self, store: Any) -> Callable[[], Any]:
        ask = self.of(store)
        return lambda: ask().to_dict()

    def to_numpy(self, store: Any) -> Callable[[], Any]:
        ask = self.of(store)
        return lambda: ask().to_numpy()


def wide(rows: int, width: int) -> Question:
    return Question(
        f"{rows} x {width}", rows, tuple(f"wide:f_{i}" for i in range(width)), "driver_id"
    )


FOUR_VIEWS = Question(
    "500 x 90 over 4 views",
    500,
    tuple(f"v{k}:v{k}_{i}" for k, width in enumerate(WIDTHS) for i in range(width)),
    "rider_id",
)


def apply_views(folder: Path, *, is_precomputed: bool = False) -> Applied:
    """A view of 50 doubles for drivers, four of 90 in all for riders; and, if it is to be
    precomputed, a service of the first (whose views only Feast materializes)."""
    from feast import Entity, FeatureService, ValueType

    from testbed.repo import apply

    folder.mkdir(parents=True)
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    rider = Entity(name="rider", join_keys=["rider_id"], value_type=ValueType.INT64)
    one = _view(folder, "wide", driver, [f"f_{i}" for i in range(WIDE)])
    four = [
        _view(folder, f"v{k}", rider, [f"v{k}_{i}" for i in range(width)])
        for k, width in enumerate(WIDTHS)
    ]
    services = [FeatureService(name="wide_service", features=[one], precompute_online=True)]
    objects = [driver, rider, one, *four, *(services if is_precomputed else [])]
    return apply(folder / "applied", objects)


def _view(folder: Path, name: str, entity: Any, features: list[str]) -> Any:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from feast import FeatureView, Field
    from feast.types import Float64, Int64

    from testbed.repo import file_source

    random = np.random.default_rng(7)
    key = entity.join_key
    times = np.datetime64(START.replace(tzinfo=None), "us") + np.arange(ENTITIES).astype("m8[s]")
    columns: dict[str, Any] = {
        key: np.arange(ENTITIES, dtype="int64"),
        "event_timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
    }
    columns |= {feature: random.random(ENTITIES) for feature in features}
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table(columns), path)
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(days=3650),
        schema=[Field(name=key, dtype=Int64), *(Field(name=f, dtype=Float64) for f in features)],
        source=file_source(path),
    )


class Reads:
    """A filled store, read through every door."""

    def __init__(self, folder: Path, server: RedisServer, rounds: Rounds) -> None:
        self.folder, self.server, self.rounds = folder, server, rounds
        self.applied = apply_views(folder / "definitions")
        self.repo = self.applied.open(folder / "repo", server)
        # The bare client knows no other database.
        self.repo.config["online_store"]["connection_string"] = server.connection_string(0)
        self.repo.write_config()
        self.repo.ours().materialize(*WINDOW)
        self.jobs: list[Job] = []
        self.bounds: list[Bound] = []

    def run(self) -> None:
        self.against_feast()
        self.against_the_limit()
        self.beside_other_threads()

    @cached_property
    def stock(self) -> dict[str, Any]:
        """Feast's stores over the same data, one for each client that it knows."""
        import feast
        import yaml

        stores = {"redis-py": self.repo.stock()}
        glide = self.folder / "glide"
        glide.mkdir()
        config = self.repo.config | {
            "registry": str(self.repo.registry_path),
            "online_store": self.repo.config["online_store"] | {"client": "glide"},
        }
        (glide / "feature_store.yaml").write_text(yaml.safe_dump(config))
        stores["glide"] = feast.FeatureStore(repo_path=str(glide))
        return stores

    # -- against Feast ------------------------------------------------------------------------

    def against_feast(self) -> None:
        for question, target in ((wide(100, 50), 25), (wide(1000, 50), 30), (FOUR_VIEWS, 40)):
            self.read(question, target)
        self.to_numpy(FOUR_VIEWS, 45)
        for question, target in ((wide(1, 10), 10), (wide(1, 50), 15)):
            self.read(question, None, cpu_target=10)
            with pinned(self.server.pid):
                self.read(question, target, where=", client and server on one core")

    def read(
        self,
        question: Question,
        target: float | None,
        where: str = "",
        cpu_target: float | None = None,
    ) -> None:
        say(f"read {question.title}{where}")
        calls = {name: question.to_dict(store) for name, store in self.stock.items()}
        calls["feastrs"] = question.to_dict(self.repo.ours())
        correct = self._is_correct(question)
        found = in_turn(calls, self.rounds)
        mark = self._mark(found)
        title = f"`to_dict()`, {question.title}{where}"
        self.jobs.append(_job(title, found[mark].wall, found["feastrs"].wall, correct, target))
        if cpu_target is not None:
            self.jobs.append(
                _job("the same, CPU", found[mark].cpu, found["feastrs"].cpu, correct, cpu_target)
            )

    def to_numpy(self, question: Question, target: float) -> None:
        """Feast has no such method: its `to_dict()` is the mark."""
        say(f"read {question.title} to NumPy")
        calls = {name: question.to_dict(store) for name, store in self.stock.items()}
        calls["feastrs"] = question.to_numpy(self.repo.ours())
        stock = question.to_dict(self.stock["redis-py"])()
        matrix = calls["feastrs"]()
        names = [reference.split(":")[1] for reference in question.features]
        correct = all((matrix[:, i] == stock[name]).all() for i, name in enumerate(names))
        found = in_turn(calls, self.rounds)
        title = f"`to_numpy()`, {question.title} (Feast: `to_dict()`)"
        stock_times = found[self._mark(found)].wall
        self.jobs.append(_job(title, stock_times, found["feastrs"].wall, correct, target))

    def _is_correct(self, question: Question) -> bool:
        ours = question.to_dict(self.repo.ours())()
        is_there = None not in ours[question.features[0].split(":")[1]]
        return is_there and all(question.to_dict(s)() == ours for s in self.stock.values())

    def _mark(self, found: dict[str, Timing]) -> str:
        """The faster of Feast's clients."""
        return min(self.stock, key=lambda name: statistics.median(found[name].wall))

    # -- against the limit --------------------------------------------------------------------

    def against_the_limit(self) -> None:
        for question in (wide(100, 50), wide(1000, 50), FOUR_VIEWS):
            self.bound(question, question.to_numpy(self.repo.ours()), "`to_numpy()`", 1.25)
        with pinned(self.server.pid):
            small = wide(1, 10)
            reader = self.repo.ours().online_reader(list(small.features))
            rows = small.entity_rows
            self.bound(small, small.to_dict(self.repo.ours()), "`to_dict()`, one core", 1.5)
            self.bound(small, lambda: reader.read(rows).to_dict(), "`reader.read`, one core", 1.5)
        self.cpu_bound(small, small.to_dict(self.repo.ours()), 1.5)
        for question in (wide(1000, 50), FOUR_VIEWS):
            self.cpu_for_each_value(question)

    def bound(self, question: Question, call: Callable[[], Any], what: str, at_most: float) -> None:
        say(f"{what} {question.title} beside a bare client")
        limit, ours = self._beside_a_bare_client(question, call)
        micros = [[value * 1e6 for value in values] for values in (limit.wall, ours.wall)]
        self.bounds.append(Bound(f"{what}, {question.title}", *micros, "us", at_most))

    def cpu_bound(self, question: Question, call: Callable[[], Any], at_most: float) -> None:
        """Where client and server are on cores of their own, which idle between calls, most of the
        CPU of a small read is the system's for falling asleep and being woken."""
        say(f"CPU of {question.title} beside a bare client")
        limit, ours = self._beside_a_bare_client(question, call)
        micros = [[value * 1e6 for value in values] for values in (limit.cpu, ours.cpu)]
        title = f"`to_dict()`, {question.title}: CPU of the client"
        self.bounds.append(Bound(title, *micros, "us", at_most))

    def _beside_a_bare_client(
        self, question: Question, call: Callable[[], Any]
    ) -> tuple[Timing, Timing]:
        bare = BareClient(self.folder, self.server.port)
        commands = min(
            _commands(self.repo, question),
            key=lambda prepared: statistics.median(
                [bare.measure(prepared, question.rows, 0.1)[0] for _ in range(3)]
            ),
        )
        limit, ours = Timing([], []), Timing([], [])
        call()
        for _ in range(self.rounds.read_rounds):
            for timing, (wall, cpu) in (
                (limit, bare.measure(commands, question.rows, self.rounds.seconds_per_round)),
                (ours, timed(call, 0.3)),
            ):
                timing.wall.append(wall)
                timing.cpu.append(cpu)
        return limit, ours

    def cpu_for_each_value(self, question: Question) -> None:
        """CPU of the client for one value. The 'limit' is the allowance."""
        store = self.repo.ours()
        for what, call, allowed in (
            ("NumPy", question.to_numpy(store), 40.0),
            ("a dict", question.to_dict(store), 70.0),
        ):
            found = in_turn({"ours": call}, self.rounds)["ours"]
            nanos = [cpu / question.values * 1e9 for cpu in found.cpu]
            title = f"CPU of the client for a value, {question.title} to {what} (limit: allowance)"
            self.bounds.append(Bound(title, [allowed], nanos, "ns", 1.0))

    # -- beside other threads -----------------------------------------------------------------

    def beside_other_threads(self) -> None:
        self.two_threads()
        self.a_python_thread()

    def two_threads(self) -> None:
        """Where the client is all there is, as with SQLite, and from a server that has its
        replies ready, whose threads take of the same cores."""
        sqlite = self.applied.open(self.folder / "threads")
        sqlite.ours().materialize(*WINDOW, feature_views=["wide"])
        small = wide(100, 50)
        self.threads(f"{small.title} from SQLite", small.to_numpy(sqlite.ours()), 1.7)
        ask = FOUR_VIEWS.to_numpy(self.repo.ours())
        bare = BareClient(self.folder, self.server.port)
        commands = _commands(self.repo, FOUR_VIEWS)[0]
        with bare.replaying(self.repo, commands, FOUR_VIEWS.rows) as replayed:
            call = FOUR_VIEWS.to_numpy(replayed)
            assert (call() == ask()).all()
            self.threads(f"{FOUR_VIEWS.title} from a server of prepared replies", call, None)

    def threads(self, what: str, call: Callable[[], Any], target: float | None) -> None:
        say(f"two threads, {what}")
        call()
        rates: list[list[float]] = [[], []]
        for _ in range(self.rounds.read_rounds):
            for found, threads in zip(rates, (1, 2), strict=True):
                found.append(_reads_a_second(call, threads, 2 * self.rounds.seconds_per_round))
        self.jobs.append(
            Job(
                f"feastrs alone, `to_numpy()`, {what}: reads with 1 thread (left) and 2 (right)",
                *rates,
                "/s",
                correct=True,
                target=target,
                more_is_better=True,
            )
        )

    def a_python_thread(self) -> None:
        """How fast a pure-Python thread goes beside a loop of reads, as a share of its speed
        when the loop runs in another process. Left Feast's loop, right ours."""
        say("a Python thread beside reads")
        shares: dict[str, list[float]] = {"stock": [], "ours": []}
        # Each round starts six processes, most of which import Feast.
        for _ in range(min(self.rounds.read_rounds, 4)):
            for door, found in shares.items():
                found.append(_share_left(str(self.repo.folder), door))
        self.jobs.append(
            Job(
                "speed of a Python thread beside a loop of 500 x 90 reads, of its speed beside "
                "the same loop in another process",
                [100 * share for share in shares["stock"]],
                [100 * share for share in shares["ours"]],
                "%",
                correct=True,
                more_is_better=True,
            )
        )


def _job(
    title: str, stock: list[float], ours: list[float], correct: bool, target: float | None
) -> Job:
    return Job(title, millis(stock), millis(ours), "ms", correct=correct, target=target)


def _reads_a_second(call: Callable[[], Any], threads: int, seconds: float) -> float:
    counts = [0] * threads
    until = time.perf_counter() + seconds

    def work(index: int) -> None:
        while time.perf_counter() < until:
            call()
            counts[index] += 1

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started)


# A loop of reads, and a thread that counts, in one process or in two.
_BESIDE = """
import sys, threading, time, warnings
warnings.simplefilter("ignore")
sys.path[:0] = {path!r}
from reads import FOUR_VIEWS
def loop(stop):
    if {door!r} == "ours":
        import feastrs
        ask = FOUR_VIEWS.to_numpy(feastrs.FeatureStore({folder!r}))
    else:
        import feast
        ask = FOUR_VIEWS.to_dict(feast.FeatureStore({folder!r}))
    ask()
    yield
    while not stop():
        ask()
def count(seconds):
    counted, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        for _ in range(1000):
            counted += 1
    return counted
if {role!r} == "loop":
    work = loop(lambda: False)
    next(work)
    print("ready", flush=True)
    next(work, None)
elif {role!r} == "count":
    print(count(0.7))
else:
    done = []
    work = loop(lambda: bool(done))
    next(work)
    reader = threading.Thread(target=lambda: next(work, None))
    reader.start()
    print(count(0.7))
    done.append(True)
    reader.join()
"""


def _share_left(folder: str, door: str) -> float:
    def command(role: str) -> list[str]:
        code = _BESIDE.format(path=sys.path, door=door, folder=folder, role=role)
        return [sys.executable, "-c", code]

    def counted(role: str) -> int:
        done = subprocess.run(command(role), capture_output=True, text=True, check=True)
        return int(done.stdout)

    together = counted("both")
    loop = subprocess.Popen(command("loop"), stdout=subprocess.PIPE)
    try:
        assert loop.stdout is not None
        loop.stdout.readline()
        apart = counted("count")
    finally:
        loop.kill()
        loop.wait()
        if loop.stdout is not None:
            loop.stdout.close()
    return together / apart


# -- the bare client ------------------------------------------------------------------------


def _commands(repo: Repo, question: Question) -> list[bytes]:
    """The commands that answer the question, in each form that is correct."""
    from redis.connection import Connection

    from feastrs._native import encode_entity_keys, field_name

    ids = [row[question.join_key] for row in question.entity_rows]
    project = repo.config["project"].encode()
    keys = [key + project for key in encode_entity_keys([(question.join_key, "INT64", ids)], 3)]
    views = sorted({reference.split(":")[0] for reference in question.features})
    fields = [f"_ts:{view}".encode() for view in views]
    fields += [field_name(*reference.split(":")) for reference in question.features]
    pack = Connection().pack_command
    return [
        b"".join(b"".join(pack("HGETALL", key)) for key in keys),
        b"".join(b"".join(pack("HMGET", key, *fields)) for key in keys),
    ]
