"""One view `v` of drivers with a feature `x`, for tests about something else."""

from __future__ import annotations

import textwrap
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, ValueType
from feast.types import Float64, Int64

from testbed.repo import Applied, apply, file_source

AT = datetime(2024, 5, 1, 8, tzinfo=timezone.utc)
TIME = pa.timestamp("us", tz="UTC")
WIDE_FEATURES = 20


def plain_table(count: int = 3) -> pa.Table:
    """Drivers 0, 1, …, each with `x` half its number."""
    return pa.table(
        {
            "driver_id": pa.array(range(count), pa.int64()),
            "event_timestamp": pa.array([AT] * count, TIME),
            "x": pa.array([i / 2 for i in range(count)]),
        }
    )


def plain_definitions(path: Path, **source: Any) -> list[Any]:
    """An entity and the view on the Parquet file at `path`."""
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="v",
        entities=[driver],
        ttl=timedelta(days=1),
        schema=[Field(name="driver_id", dtype=Int64), Field(name="x", dtype=Float64)],
        source=file_source(path, **source),
    )
    return [driver, view]


def plain(folder: Path, table: pa.Table | None = None) -> Applied:
    """The view applied, its Parquet file at `folder / "v.parquet"`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "v.parquet"
    pq.write_table(plain_table(), path)
    applied = apply(folder / "applied", plain_definitions(path))
    if table is not None:
        pq.write_table(table, path)
    return applied


def wide(folder: Path, count: int, views: int = 1) -> Applied:
    """A view `wide` of `count` drivers with many features: long enough to be disturbed; and more
    of the same, `wide_1` and so on, if there are to be several.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "wide.parquet"
    base = pa.array([i / 7 for i in range(count)])
    pq.write_table(
        pa.table(
            {
                "driver_id": pa.array(range(count), pa.int64()),
                "event_timestamp": pa.array([AT] * count, TIME),
                **{f"f_{i}": base for i in range(WIDE_FEATURES)},
            }
        ),
        path,
    )
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    source = file_source(path)
    definitions = [
        FeatureView(
            name=f"wide_{number}" if number else "wide",
            entities=[driver],
            ttl=timedelta(days=1),
            schema=[
                Field(name="driver_id", dtype=Int64),
                *(Field(name=f"f_{i}", dtype=Float64) for i in range(WIDE_FEATURES)),
            ],
            source=source,
        )
        for number in range(views)
    ]
    return apply(folder / "applied", [driver, *definitions])


# Materializes everything in the repo that is its argument.
MATERIALIZE = textwrap.dedent(
    """
    import sys
    from datetime import datetime, timezone
    import feastrs
    feastrs.FeatureStore(repo_path=sys.argv[1]).materialize(
        datetime(2000, 1, 1, tzinfo=timezone.utc), datetime(2040, 1, 1, tzinfo=timezone.utc)
    )
    """
)
