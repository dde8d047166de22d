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
from dataclasses import dataclass  # noqa: E402
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


def measure(case: Case, folder: Path, server: RedisServer, rounds: int) -> dict[str, Any]:
    say(f"making {case.rows:,} rows of {case.entities:,} entities")
    newest = write_source(folder / "source", case.rows, case.entities, max(case.rows // 20, 1))
    repo = make_repo(folder / "repo", folder / "source", case, server)
    # A process of its own may do without pandas and all that making the source needs.
    found = []
    for _ in range(rounds):
        with repo.redis() as client:
            client.flushdb()
        say(f"materializing {case.rows:,} rows in {case.max_memory_mb} MB")
        found.append(
            child("materialize", "feastrs", str(repo.folder), START.isoformat(), END.isoformat())
        )
    correct = is_correct(repo, newest)
    with repo.redis() as client:
        client.flushdb()
    medians = {name: statistics.median(one[name] for one in found) for name in found[0]}
    return {**medians, "correct": correct}


def report(results: list[tuple[Case, dict[str, Any]]], server: RedisServer) -> str:
    import feastrs

    with server.client() as client:
        redis_version = client.info("server")["redis_version"]
    lines = [
        "# How a materialization grows",
        "",
        f"Generated by `benches/growth.py`; not to be edited. {FEATURES} features of doubles, 20",
        f"Parquet files, into an empty Redis {redis_version} on the same machine; medians of",
        f"{ROUNDS} runs, each in a process of its own. {datetime.now(timezone.utc):%Y-%m-%d}, "
        f"{len(os.sched_getaffinity(0))} cores,",
        f"load average at the end {os.getloadavg()[1]:.1f}; Python {platform.python_version()}, "
        f"feastrs {feastrs.__version__}.",
        "",
        "| rows | entities | `max_memory_mb` | time | rows/s | CPU of the client | peak memory "
        "| correct |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, found in results:
        lines.append(
            f"| {case.rows:,} | {case.entities:,} | {case.max_memory_mb} "
            f"| {found['seconds']:.2f} s | {case.rows / found['seconds']:,.0f} "
            f"| {found['cpu']:.2f} s | {found['peak_mb']:,.0f} MB "
            f"| {'yes' if found['correct'] else '**NO**'} |"
        )
    return "\n".join([*lines, "", *planned(results), ""])


def planned(results: list[tuple[Case, dict[str, Any]]]) -> list[str]:
    """What the first lines, which differ in their rows only, promise for more."""
    first = results[0][0]
    alike = [
        (case.rows, found["seconds"])
        for case, found in results
        if (case.entities, case.max_memory_mb) == (first.entities, first.max_memory_mb)
    ]
    line = statistics.linear_regression([x for x, _ in alike], [y for _, y in alike])
    farthest = max(
        abs(line.slope * rows + line.intercept - seconds) / seconds for rows, seconds in alike
    )
    seconds = line.slope * PLANNED_ROWS + line.intercept
    return [
        f"Of {first.entities:,} entities in {first.max_memory_mb} MB, a row takes "
        f"{line.slope * 1e6:.2f} us, and all else {line.intercept:.2f} s; no line of",
        f"the table is farther than {farthest:.0%} from that. {PLANNED_ROWS:,} rows would take "
        f"{seconds / 60:.1f} minutes,",
        f"and {PLANNED_ROWS // 8 >> 20} MB more, a bit for each row.",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, once")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS-growth.md")
    options = parser.parse_args()

    import warnings

    warnings.simplefilter("ignore")
    from testbed.redis_server import RedisServer

    part = 10 if options.quick else 1
    server = RedisServer("7.0")
    results = []
    try:
        for case in CASES:
            small = Case(case.rows // part, case.entities // part, case.max_memory_mb)
            with tempfile.TemporaryDirectory(prefix="feastrs-growth-") as folder:
                rounds = 1 if options.quick else ROUNDS
                results.append((small, measure(small, Path(folder), server, rounds)))
        text = report(results, server)
    finally:
        server.close()
    if not options.quick:
        options.output.write_text(text)
    print(text)
    return 0 if all(found["correct"] for _, found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
