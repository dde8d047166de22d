"""Memory does not grow, however often features are read, and a materialization keeps to what it
was given."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.types import Float64, Int64

from testbed.plain import TIME, plain, plain_table, wide
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, apply, file_source

# In a process of its own, so that nobody else's garbage counts. It prints how many reads it has
# done and how much memory is its own then; the first line is after the warm-up, in which the
# allocator finds its size.
READ = """
import asyncio, gc, sys
import feastrs

folder, door, warm_up, reads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = feastrs.FeatureStore(repo_path=folder)
view = store.list_feature_views()[0]
names = [f"{view.name}:{field.name}" for field in view.features]
reader = store.online_reader(names)
single = [[{"driver_id": i}] for i in range(97)]
hundred = [{"driver_id": i} for i in range(100)]

async def many(count):
    for start in range(0, count, 50):
        await asyncio.gather(*(reader.read_async(single[i]) for i in range(50)))

def read(count):
    if door == "asynchronous":
        asyncio.run(many(count))
    for i in range(count):
        if door == "prepared":
            reader.read(single[i % 97]).to_dict()
        elif door == "store":
            answer = store.get_online_features(names, single[i % 97])
            answer.to_numpy() if i % 3 else answer.to_dict()
        elif door == "wide":
            answer = reader.read(hundred)
            answer.to_numpy() if i % 3 else answer.to_dict()

def own_bytes():
    gc.collect()
    with open("/proc/self/smaps_rollup") as rollup:
        kilobytes = [int(line.split()[1]) for line in rollup if line.startswith("Private_")]
    return sum(kilobytes) * 1024

read(warm_up)
for step in range(11):
    if step:
        read(reads // 10)
    print(step * reads // 10, own_bytes(), flush=True)
"""

MOST_GROWTH = 0.02


@pytest.mark.parametrize(
    ("door", "reads"),
    [("prepared", 1_000_000), ("store", 200_000), ("asynchronous", 200_000), ("wide", 10_000)],
)
def test_memory_does_not_grow_with_the_reads(
    redis7: RedisServer, tmp_path: Path, door: str, reads: int
) -> None:
    applied = wide(tmp_path, 100) if door == "wide" else plain(tmp_path, plain_table(97))
    repo = applied.open(tmp_path / "repo", redis7)
    repo.ours().materialize(EARLY, LATE)

    done = subprocess.run(
        [sys.executable, "-c", READ, str(repo.folder), door, str(reads // 5), str(reads)],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    sizes = [int(line.split()[1]) for line in done.stdout.splitlines()]
    print(door, [f"{size / sizes[0] - 1:+.2%}" for size in sizes], f"of {sizes[0] >> 20} MB")
    assert len(sizes) == 11
    assert sizes[-1] <= sizes[0] * (1 + MOST_GROWTH), sizes


# Prints how much memory a materialization has taken beyond what was there before it, in MB.
MATERIALIZE = """
import sys
from datetime import datetime
import feastrs

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

store = feastrs.FeatureStore(repo_path=sys.argv[1])
before = peak()
report = store.materialize(datetime(2000, 1, 1), datetime(2040, 1, 1))
assert report.views[0].entities_written == int(sys.argv[2]), report
print((peak() - before) / 1024)
"""
FILES, FILE_ROWS, FEATURES = 6, 150_000, 10


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    """More entities than a small budget is for; files that are each newer than the one before."""
    folder = tmp_path_factory.mktemp("many")
    random = np.random.default_rng(3)
    (folder / "source").mkdir()
    for number in range(FILES):
        first = number * FILE_ROWS
        columns = {
            "driver_id": pa.array(random.permutation(FILE_ROWS) + first),
            "event_timestamp": pa.array(np.arange(first, first + FILE_ROWS) + 10**15, TIME),
        }
        columns |= {f"f{i}": pa.array(random.random(FILE_ROWS)) for i in range(FEATURES)}
        pq.write_table(pa.table(columns), folder / "source" / f"{number}.parquet")
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="v",
        entities=[driver],
        ttl=timedelta(0),
        schema=[
            Field(name="driver_id", dtype=Int64),
            *(Field(name=f"f{i}", dtype=Float64) for i in range(FEATURES)),
        ],
        source=file_source(folder / "source"),
    )
    return apply(folder / "applied", [driver, view])


@pytest.mark.parametrize("budget", [32, 64, 128, 256])
def test_a_materialization_keeps_to_its_budget(
    many: Applied, redis7: RedisServer, tmp_path: Path, budget: int
) -> None:
    settings = {"materialization": {"max_memory_mb": budget}}
    repo = many.open(tmp_path / "repo", redis7, settings=settings)
    arguments = [sys.executable, "-c", MATERIALIZE, str(repo.folder), str(FILES * FILE_ROWS)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=170, check=False)

    assert done.returncode == 0, done.stderr
    grown = float(done.stdout)
    print(f"{grown:.0f} MB of {budget}")
    assert grown <= budget * 1.1
