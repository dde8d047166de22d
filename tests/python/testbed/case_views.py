"""A view for each value type of `testbed.values`, and what stores have of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Int64

from testbed.dump import canonical
from testbed.repo import Repo, file_source
from testbed.values import Case

ROWS = 30
AT = datetime(2024, 5, 1, 8, 30, 0, 250_000, tzinfo=timezone.utc)
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)


def rows_of(case: Case) -> pa.Table:
    """A row for each of some drivers, a second after the other."""
    times = [AT + timedelta(seconds=i) for i in range(ROWS)]
    return pa.table(
        {
            "driver_id": pa.array(range(ROWS), pa.int64()),
            "event_timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
            case.name: case.column(ROWS),
        }
    )


def view_of(case: Case, folder: Path) -> FeatureView:
    """A view with one feature, its Parquet file written."""
    path = folder / f"{case.name}.parquet"
    # More than one row group, more than one Arrow chunk.
    pq.write_table(rows_of(case), path, row_group_size=11)
    return FeatureView(
        name=f"v_{case.name}",
        entities=[DRIVER],
        ttl=timedelta(days=3650),
        schema=[Field(name="driver_id", dtype=Int64), Field(name=case.name, dtype=case.dtype)],
        source=file_source(path),
    )


def fields_of(repo: Repo, case: str) -> dict[bytes, list[bytes | None]]:
    """Value and timestamp of that view for each key of the repo's Redis database."""
    import mmh3

    fields = [
        mmh3.hash(f"v_{case}:{case}", signed=False).to_bytes(4, "little"),
        f"_ts:v_{case}".encode(),
    ]
    with repo.redis() as client:
        found = {}
        for key in sorted(client.scan_iter(count=1000)):
            value, timestamp = client.hmget(key, fields)
            found[key] = [None if value is None else canonical(value), timestamp]
        return found


def stored_values(repo: Repo, case: Case) -> list[Value]:
    """The values of the rows 0, 1, … as they are stored, read by stock Feast."""
    store = repo.stock()
    view = store.get_feature_view(f"v_{case.name}")
    keys = [entity_key(row) for row in range(ROWS)]
    rows = store._get_provider().online_read(  # type: ignore[attr-defined]
        store.config, view, keys, [case.name]
    )
    return [values[case.name] for _, values in rows]


def entity_key(driver_id: int) -> EntityKey:
    return EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=driver_id)])
