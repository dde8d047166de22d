"""How time and memory of a materialization grow with its source.

    python benches/growth.py            # up to 20 million rows; writes benches/RESULTS-growth.md
    python benches/growth.py --quick    # a tenth of each; prints, and writes nothing

Each materialization happens in a process of its own, into an empty Redis on the same machine. A
line is `correct` where the store has as many entities as the source, and a sample of them have
the values of their newest rows.
"""

from __future__ import annotations

import os
import time

os.environ["TZ"] = "UTC"
time.tzset()

import argparse  # noqa: E402
import platform  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from datetime import datetime, timedelta, timezone  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "python"))

from measure import say  # noqa: E402
from own_process import child, open_store  # noqa: E402

if TYPE_CHECKING:
    from testbed.redis_server import RedisServer
    from testbed.repo import Repo

MILLION = 1_000_000
FEATURES = 10
ROUNDS = 3
SAMPLE = 1000
START = datetime(2024, 1, 1, tzinfo=timezone.utc)
END = START + timedelta(days=365)
PLANNED_ROWS = 200 * MILLION


@dataclass(frozen=True)
class Case:
    """A source and the memory that it is materialized in."""

    rows: int
    entities: int
    max_memory_mb: int


CASES = (
    Case(5 * MILLION, MILLION, 256),
    Case(10 * MILLION, MILLION, 256),
    Case(20 * MILLION, MILLION, 256),
    # More entities than the budget is for: they are decided on disk.
    Case(5 * MILLION, MILLION, 32),
    Case(10 * MILLION, MILLION, 32),
    Case(20 * MILLION, MILLION, 32),
    Case(5 * MILLION, 5 * MILLION, 64),
)


def write_source(folder: Path, rows: int, entities: int, rows_of_file: int) -> Any:
    """Files of rows whose times increase; the newest row of each entity. `f_0` is its number."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    random = np.random.default_rng(7)
    newest = np.full(entities, -1, dtype="int64")
    for first in range(0, rows, rows_of_file):
        numbers = np.arange(first, min(first + rows_of_file, rows))
        keys = random.permutation(np.arange(len(numbers)) + first) % entities
        newest[keys] = numbers
        times = np.datetime64(START.replace(tzinfo=None), "us") + numbers.astype("m8[s]")
        columns: dict[str, Any] = {
            "driver_id": keys,
            "event_timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
            "f_0": numbers.astype("float64"),
        }
        columns |= {f"f_{i}": random.random(len(numbers)) for i in range(1, FEATURES)}
        pq.write_table(pa.table(columns), folder / f"part-{first}.parquet", use_dictionary=False)
    return newest


def make_repo(folder: Path, source: Path, case: Case, server: RedisServer) -> Repo:
    from feast import Entity, FeatureView, Field, ValueType
    from feast.types import Float64, Int64

    from testbed.repo import apply, file_source

    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="wide",
        entities=[driver],
        ttl=timedelta(days=3650),
        schema=[
            Field(name="driver_id", dtype=Int64),
            *(Field(name=f"f_{i}", dtype=Float64) for i in range(FEATURES)),
        ],
        source=file_source(source),
    )
    settings = {"materialization": {"max_memory_mb": case.max_memory_mb}}
    return apply(folder / "applied", [driver, view]).open(folder, server, settings=settings)


def is_correct(repo: Repo, newest: Any) -> bool:
    """Whether the store has the newest row of each entity, as far as a sample tells."""
    with repo.redis() as client:
        if client.dbsize() != len(newest):
            return False
    step = max(len(newest) // SAMPLE, 1)
    ids = list(range(0, len(newest), step))
    response = open_store("feastrs", str(repo.folder)).get_online_features(
        ["wide:f_0"], [{"driver_id": one} for one in ids]
    )
    found: list[float] = response.to_dict()["f_0"]
    return found == [float(newest[one]) for one in ids]


@dataclass
class Series:
    """A case and its runs."""

    case: Case
    repo: Repo
    newest: Any
    runs: list[dict[str, float]] = field(default_factory=list)
    correct: bool = True

    def run(self) -> None:
        with self.repo.redis() as client:
            client.flushdb()
        say(f"materializing {self.case.rows:,} rows in {self.case.max_memory_mb} MB")
        window = START.isoformat(), END.isoformat()
        self.runs.append(child("materialize", "feastrs", str(self.repo.folder), *window))
        self.correct &= is_correct(self.repo, self.newest)
        with self.repo.redis() as client:
            client.flushdb()

    def figure(self, name: str) -> float:
        """The least of the runs: what else the machine does only adds to it."""
        return min(run[name] for run in self.runs)


def prepare(cases: list[Case], folder: Path, server: RedisServer) -> list[Series]:
    """A repo for each case; cases of equal rows share their files."""
    sources: dict[tuple[int, int], Any] = {}
    series = []
    for at, case in enumerate(cases):
        source = folder / f"{case.rows}-{case.entities}"
        if (case.rows, case.entities) not in sources:
            say(f"making {case.rows:,} rows of {case.entities:,} entities")
            newest = write_source(source, case.rows, case.entities, case.rows // 20)
            sources[case.rows, case.entities] = newest
        repo = make_repo(folder / str(at), source, case, server)
        series.append(Series(case, repo, sources[case.rows, case.entities]))
    return series


def report(results: list[Series], server: RedisServer) -> str:
    import feastrs

    with server.client() as client:
        redis_version = client.info("server")["redis_version"]
    lines = [
        "# How a materialization grows",
        "",
        "Generated by `make bench-growth` (`benches/growth.py`); not to be edited.",
        f"{FEATURES} features of doubles, 20 Parquet files, into an empty Redis {redis_version} "
        "on the same machine;",
        f"the least of {len(results[0].runs)} runs, each in a process of its own.",
        "",
        f"{datetime.now(timezone.utc):%Y-%m-%d}, {len(os.sched_getaffinity(0))} cores, load "
        f"average at the end {os.getloadavg()[1]:.1f}; Python {platform.python_version()}, "
        f"feastrs {feastrs.__version__}.",
        "",
        "| rows | entities | `max_memory_mb` | time | CPU of the client | peak memory | correct |",
        "|---|---|---|---|---|---|---|",
    ]
    for series in results:
        case = series.case
        lines.append(
            f"| {case.rows:,} | {case.entities:,} | {case.max_memory_mb} "
            f"| {series.figure('seconds'):.2f} s | {series.figure('cpu'):.2f} s "
            f"| {series.figure('peak_mb'):,.0f} MB | {'yes' if series.correct else '**NO**'} |"
        )
    return "\n".join([*lines, "", *planned(results), ""])


def planned(results: list[Series]) -> list[str]:
    """What the first lines, which differ in their rows only, promise for more."""
    first = results[0].case
    alike = [
        series
        for series in results
        if (series.case.entities, series.case.max_memory_mb)
        == (first.entities, first.max_memory_mb)
    ]
    rows = [series.case.rows for series in alike]
    lines = [f"Of {first.entities:,} entities in {first.max_memory_mb} MB:", ""]
    for name, what in (("seconds", "time"), ("cpu", "CPU of the client")):
        found = [series.figure(name) for series in alike]
        line = statistics.linear_regression(rows, found)
        farthest = max(
            abs(line.slope * count + line.intercept - seconds) / seconds
            for count, seconds in zip(rows, found, strict=True)
        )
        minutes = (line.slope * PLANNED_ROWS + line.intercept) / 60
        lines.append(
            f"- {what}: {line.slope * 1e6:.2f} us a row, {line.intercept:.2f} s for all else; no "
            f"line is farther than {farthest:.0%} from that; {minutes:.1f} minutes for "
            f"{PLANNED_ROWS:,} rows."
        )
    return [*lines, f"- memory: a bit for each row, {PLANNED_ROWS // 8 >> 20} MB of them."]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, once")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS-growth.md")
    options = parser.parse_args()

    import warnings

    warnings.simplefilter("ignore")
    from testbed.redis_server import RedisServer

    part = 10 if options.quick else 1
    cases = [Case(one.rows // part, one.entities // part, one.max_memory_mb) for one in CASES]
    server = RedisServer("7.0")
    try:
        with tempfile.TemporaryDirectory(prefix="feastrs-growth-") as folder:
            results = prepare(cases, Path(folder), server)
            for _ in range(1 if options.quick else ROUNDS):
                for series in results:
                    series.run()
            text = report(results, server)
    finally:
        server.close()
    if not options.quick:
        options.output.write_text(text)
    print(text)
    return 0 if all(series.correct for series in results) else 1


if __name__ == "__main__":
    sys.exit(main())
