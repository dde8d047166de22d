"""Memory does not grow, however often features are read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.plain import plain, plain_table
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE

READ = """
import asyncio, gc, sys
import feastrs

folder, door, reads = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = feastrs.FeatureStore(repo_path=folder)
reader = store.online_reader(["v:x"])
ask = lambda i: store.get_online_features(["v:x"], [{"driver_id": i}])

async def many(count):
    for start in range(0, count, 50):
        await asyncio.gather(*(reader.read_async([{"driver_id": i % 97}]) for i in range(50)))

def read(count):
    if door == "asynchronous":
        return asyncio.run(many(count))
    for i in range(count):
        if door == "prepared":
            reader.read([{"driver_id": i % 97}]).to_dict()
        else:
            ask(i % 97).to_numpy() if i % 3 else ask(i % 97).to_dict()

def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

read(reads // 5)
before = resident()
read(reads)
after = resident()
print(f"{door}: {before} bytes before {reads} reads, {after} after: {after / before - 1:+.2%}")
sys.exit(0 if after <= before * 1.02 else 1)
"""


@pytest.mark.parametrize(
    ("door", "reads"), [("plain", 100_000), ("prepared", 100_000), ("asynchronous", 50_000)]
)
def test_memory_does_not_grow_with_the_reads(
    redis7: RedisServer, tmp_path: Path, door: str, reads: int
) -> None:
    repo = plain(tmp_path / "plain", plain_table(97)).open(tmp_path / "repo", redis7)
    repo.ours().materialize(EARLY, LATE)

    done = subprocess.run(
        [sys.executable, "-c", READ, str(repo.folder), door, str(reads)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
