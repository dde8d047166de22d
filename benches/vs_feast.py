"""feastrs against stock Feast: the same jobs in the same run, and the answers compared.

    python benches/vs_feast.py                # everything, several rounds
    python benches/vs_feast.py --quick        # fewer rounds
    python benches/vs_feast.py --only reads   # one part; prints, and writes nothing

Writes `benches/RESULTS.md`. A row counts only if both sides gave the same answer; where they
did not, the run fails. Materializations and imports happen in processes of their own, so that
their peak memory can be told; reads happen in turn in one process (`reads.py`).
"""

from __future__ import annotations

import os
import time

os.environ["TZ"] = "UTC"
time.tzset()

import argparse  # noqa: E402
import contextlib  # noqa: E402
import importlib.metadata  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import resource  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from datetime import datetime, timedelta, timezone  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "python"))

from concurrency import concurrent_reads  # noqa: E402
from measure import QUICK, Bound, Job, Rounds, say  # noqa: E402
from reads import Reads  # noqa: E402
from servers import Servers  # noqa: E402

if TYPE_CHECKING:
    import redis

    from testbed.redis_server import RedisServer
    from testbed.repo import Applied, Repo

FEATURES = 50
ROWS_PER_ENTITY = 2
START = datetime(2024, 1, 1, tzinfo=timezone.utc)
WINDOW = (START - timedelta(days=1), START + timedelta(days=30))
MAX_MEMORY_MB = 400
PARTS = ("materializations", "reads", "servers")


# -- inputs ---------------------------------------------------------------------------------


def make_repo(folder: Path, entities: int) -> Applied:
    """A view of `FEATURES` doubles; two rows for each of `entities` drivers."""
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
    columns |= {f"f_{i}": random.random(rows) for i in range(FEATURES)}
    path = folder / "wide.parquet"
    pq.write_table(pa.table(columns), path)
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="wide",
        entities=[driver],
        ttl=timedelta(days=3650),
        schema=[
            Field(name="driver_id", dtype=Int64),
            *(Field(name=f"f_{i}", dtype=Float64) for i in range(FEATURES)),
        ],
        source=file_source(path),
    )
    return apply(folder / "applied", [driver, view])


# -- work in processes of its own -----------------------------------------------------------


def child(*arguments: str) -> dict[str, float]:
    """Runs this file with `arguments` in a new process; its last line is the result."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def child_materialize(door: str, folder: str, end: str) -> dict[str, float]:
    store = open_store(door, folder)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        store.materialize(WINDOW[0], datetime.fromisoformat(end))
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "cpu": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime,
        "peak_mb": peak_bytes() / 1e6,
    }


def peak_bytes() -> int:
    """The most memory that this program has held. `ru_maxrss` would count its parent's too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def child_import(module: str) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    __import__(module)
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def open_store(door: str, folder: str) -> Any:
    if door == "feast":
        import feast

        return feast.FeatureStore(repo_path=folder)
    import feastrs

    return feastrs.FeatureStore(repo_path=folder)


# -- jobs -----------------------------------------------------------------------------------


@dataclass
class Bench:
    """The server, the repos, and what was found."""

    folder: Path
    server: RedisServer
    rounds: Rounds
    jobs: list[Job] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)

    def run(self, parts: tuple[str, ...]) -> None:
        if "materializations" in parts:
            self.run_materializations()
            with self.server.client() as client:
                client.flushall()
        if parts == ("materializations",):
            return
        reads = Reads(self.folder / "reads", self.server, self.rounds)
        if "reads" in parts:
            reads.run()
            self.jobs += reads.jobs
            self.bounds += reads.bounds
            self.jobs += concurrent_reads(reads.repo, self.rounds)
        if "servers" in parts:
            servers = Servers(self.folder / "reads", reads.applied, reads.repo, self.rounds)
            servers.run()
            self.jobs += servers.jobs

    def run_materializations(self) -> None:
        say(f"making {self.rounds.entities:,} entities x {FEATURES} features")
        ours, stock = make_repo(self.folder, self.rounds.entities).twins(
            self.folder / "twins", self.server
        )
        self.imports()
        self.materializations(ours, stock)

    def imports(self) -> None:
        say("imports")
        results: dict[str, list[dict[str, float]]] = {"feast": [], "feastrs": []}
        for _ in range(self.rounds.imports):
            for module, found in results.items():
                found.append(child("import", module))
        for measure, name in (("seconds", "import"), ("cpu", "import, CPU")):
            self.jobs.append(
                Job(
                    name,
                    [1000 * result[measure] for result in results["feast"]],
                    [1000 * result[measure] for result in results["feastrs"]],
                    "ms",
                    correct=True,
                    target=50 if measure == "seconds" else None,
                )
            )

    def materializations(self, ours: Repo, stock: Repo) -> None:
        rows = self.rounds.entities * ROWS_PER_ENTITY
        title = f"materialize {rows:,} rows to {self.rounds.entities:,} entities x {FEATURES}"
        found, correct = self.in_turn(ours, stock, is_filled=False)
        for measure, name, unit, goals in (
            ("seconds", title, "s", {"target": 12.0}),
            ("cpu", "the same, CPU of the client", "s", {}),
            ("peak_mb", "the same, peak memory", "MB", {"limit": float(MAX_MEMORY_MB)}),
        ):
            self.jobs.append(materialization(name, found, measure, unit, correct, **goals))
        found, correct = self.in_turn(ours, stock, is_filled=True)
        name = "the same, onto an older row of every entity"
        self.jobs.append(materialization(name, found, "seconds", "s", correct))

    def in_turn(
        self, ours: Repo, stock: Repo, *, is_filled: bool
    ) -> tuple[dict[str, list[dict[str, float]]], bool]:
        """Both sides' materializations, and whether they ended in equal stores."""
        left = {
            "feastrs": self.rounds.our_materializations,
            "feast": self.rounds.stock_materializations,
        }
        found: dict[str, list[dict[str, float]]] = {"feast": [], "feastrs": []}
        while any(left.values()):
            for door, repo in (("feastrs", ours), ("feast", stock)):
                if left[door]:
                    left[door] -= 1
                    found[door].append(self.materialize(door, repo, is_filled=is_filled))
        return found, same_hashes(ours.redis(), stock.redis(), self.rounds.entities)

    def materialize(self, door: str, repo: Repo, *, is_filled: bool) -> dict[str, float]:
        with repo.redis() as client:
            client.flushdb()
        if is_filled:
            # The first half of the rows has one of each entity, the second a newer one.
            middle = START + timedelta(seconds=self.rounds.entities - 1)
            child("materialize", "feastrs", str(repo.folder), middle.isoformat())
        say(f"materialize with {door}")
        return child("materialize", door, str(repo.folder), WINDOW[1].isoformat())


def materialization(
    name: str,
    found: dict[str, list[dict[str, float]]],
    measure: str,
    unit: str,
    correct: bool,
    **goals: float,
) -> Job:
    """The line of the table for one measure of materializations."""
    stock, ours = ([result[measure] for result in found[door]] for door in ("feast", "feastrs"))
    return Job(name, stock, ours, unit, correct, **goals)


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


# -- the report -----------------------------------------------------------------------------


def report(bench: Bench, mode: str) -> str:
    head = "| job | Feast | feastrs | ratio | spread | target | met | correct |"
    rule = "|---|---|---|---|---|---|---|---|"
    limits = "| what | limit | feastrs | of the limit | spread | target | met |"
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("feast", "feastrs", "pandas", "pyarrow", "redis")
    )
    with bench.server.client() as client:
        redis_version = client.info("server")["redis_version"]
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[1]
    return "\n".join(
        [
            "# feastrs and Feast, measured",
            "",
            "Generated by `make bench` (`benches/vs_feast.py`); not to be edited.",
            "Both sides did the same jobs in the same run, in turn; a row is `correct` where both",
            "gave the same answer. Figures are medians of rounds; the spread is half the distance",
            "from the least to the most, Feast's and then ours.",
            "",
            f"{datetime.now(timezone.utc):%Y-%m-%d}, {mode} run; {processor()}, {cores} cores,",
            f"shared by client and server; load average at the end {load:.1f};",
            f"{platform.system()} {platform.release()}; Python {platform.python_version()};",
            f"Redis {redis_version} on the same machine; {versions}.",
            "",
            head,
            rule,
            *(job.line() for job in bench.jobs),
            "",
            "## Against the limit",
            "",
            "The limit of a read is a bare client (`benches/bare_client.rs`): it sends the",
            "cheapest commands that answer the question and reads every frame without decoding.",
            "",
            limits,
            "|---|---|---|---|---|---|---|",
            *(bound.line() for bound in bench.bounds),
            "",
        ]
    )


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or "unknown processor"


def main() -> int:
    if sys.argv[1:2] == ["import"]:
        print(json.dumps(child_import(sys.argv[2])))
        return 0
    if sys.argv[1:2] == ["materialize"]:
        print(json.dumps(child_materialize(*sys.argv[2:5])))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()

    import warnings

    warnings.simplefilter("ignore")
    from testbed.redis_server import RedisServer

    rounds = QUICK if options.quick else Rounds()
    rounds.entities = options.entities
    server = RedisServer("7.0", {"enable-debug-command": "yes"})
    try:
        with tempfile.TemporaryDirectory(prefix="feastrs-bench-") as folder:
            bench = Bench(Path(folder), server, rounds)
            bench.run((options.only,) if options.only else PARTS)
            text = report(bench, "quick" if options.quick else "full")
    finally:
        server.close()
    if options.only is None:
        options.output.write_text(text)
    print(text)
    wrong = [job.name for job in bench.jobs if not job.correct]
    if wrong:
        print(f"answers differ: {'; '.join(wrong)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
