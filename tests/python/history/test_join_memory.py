"""A join's memory follows the labels and the features asked for, not the source."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, ValueType
from feast.types import Float64, Int64

from testbed.repo import apply, file_source

MICROS = pa.timestamp("us", tz="UTC")
BEGIN = datetime(2024, 1, 1, tzinfo=timezone.utc)
ROWS, GROUP, FEATURES = 4_000_000, 100_000, 4

# The most memory that a join has taken beyond what was there before it, in MB.
JOIN = """
import sys
import pyarrow as pa, pyarrow.parquet as pq
import feastrs

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

folder, labels, feature = sys.argv[1:]
store = feastrs.FeatureStore(repo_path=folder)
labels = pq.read_table(labels)
before = peak()
joined = pa.table(store.get_historical_features(labels, [feature]).to_arrow())
assert joined.num_rows == labels.num_rows and joined["f0"].null_count < labels.num_rows / 2
print((peak() - before) / 1024)
"""


def test_memory_follows_the_labels(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("event_timestamp", MICROS),
            *((f"f{i}", pa.float64()) for i in range(FEATURES)),
        ]
    )
    path = tmp_path / "v.parquet"
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, ROWS, GROUP):
            times = np.datetime64(BEGIN.replace(tzinfo=None), "us") + np.arange(
                first, first + GROUP
            ).astype("m8[s]").astype("m8[us]")
            columns = [pa.array(random.integers(0, 5_000, GROUP)), pa.array(times, MICROS)]
            columns += [pa.array(random.random(GROUP)) for _ in range(FEATURES)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    entity = Entity(name="thing", join_keys=["id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="v",
        entities=[entity],
        ttl=timedelta(days=1),
        schema=[
            Field(name="id", dtype=Int64),
            *(Field(name=f"f{i}", dtype=Float64) for i in range(FEATURES)),
        ],
        source=file_source(path),
    )
    repo = apply(tmp_path / "applied", [entity, view]).open(tmp_path / "ours")
    count = 20_000
    ends = [BEGIN + timedelta(seconds=int(s)) for s in random.integers(0, ROWS, count)]
    labels = tmp_path / "labels.parquet"
    keys = pa.array(random.integers(0, 5_000, count))
    pq.write_table(pa.table({"id": keys, "event_timestamp": pa.array(ends, MICROS)}), labels)

    arguments = [sys.executable, "-c", JOIN, str(repo.folder), str(labels), "v:f0"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    grown = float(done.stdout)
    # Keys, times and the feature are 24 bytes a row, all columns 48.
    print(f"{grown:.0f} MB beside a source of {ROWS * 48 / 2**20:.0f} MB")
    assert grown < ROWS * 24 / 2**20 / 2
