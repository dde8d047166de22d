"""Memory does not grow, however often features are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.plain import plain, plain_table, wide
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE

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
