"""A small repo with one of each thing that retrieval and the registry know.

| view | entities | what for |
|---|---|---|
| `driver_stats` | driver | scalars, an embedding, several rows for each driver |
| `driver_profile` | driver | shares the hash of `driver_stats`; ttl 0 |
| `order_stats` | driver, customer | a composite key of INT64 and STRING |
| `place_facts` | place | used twice by a service, with join-key maps |
| `world` | none | entity-less |
| `pushed_stats` | driver | a push source with a batch source |
| `doubled` | (on demand) | what only Feast can do |
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureView, Field, PushSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

from testbed.repo import Applied, apply, file_source

NOON = datetime(2024, 3, 1, 12, tzinfo=timezone.utc)
DRIVERS = 20


def _times(count: int, step: timedelta) -> pa.Array:
    return pa.array([NOON + i * step for i in range(count)], pa.timestamp("us", tz="UTC"))


def write_parquet(folder: Path) -> None:
    """The sources of all views."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = DRIVERS * 3
    pq.write_table(
        pa.table(
            {
                "driver_id": pa.array([1000 + i % DRIVERS for i in range(rows)], pa.int64()),
                "event_timestamp": _times(rows, timedelta(minutes=7)),
                "created": _times(rows, timedelta(minutes=8)),
                "conv_rate": pa.array([i / 8 for i in range(rows)], pa.float32()),
                "acc_rate": pa.array([None if i % 7 == 0 else i / 3 for i in range(rows)]),
                "trips": pa.array([None if i % 5 == 0 else i for i in range(rows)], pa.int64()),
                "label": pa.array([f"dř-{i}" for i in range(rows)]),
                "embedding": pa.array([[i, 0.5, -i] for i in range(rows)], pa.list_(pa.float32())),
            }
        ),
        folder / "driver_stats.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "driver_id": pa.array(range(1000, 1000 + DRIVERS), pa.int64()),
                "event_timestamp": _times(DRIVERS, timedelta(seconds=1)),
                "age": pa.array([20 + i for i in range(DRIVERS)], pa.int32()),
                "vip": pa.array([i % 3 == 0 for i in range(DRIVERS)]),
                "joined": _times(DRIVERS, timedelta(days=1)),
                "tags": pa.array([["a"] * (i % 3) for i in range(DRIVERS)]),
            }
        ),
        folder / "driver_profile.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "driver_id": pa.array([1000 + i // 3 for i in range(30)], pa.int64()),
                "customer_id": pa.array([f"c{i % 3}" for i in range(30)]),
                "event_timestamp": _times(30, timedelta(hours=1)),
                "total": pa.array([i * 1.5 for i in range(30)]),
                "orders": pa.array(range(30), pa.int64()),
            }
        ),
        folder / "order_stats.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "place_id": pa.array([1, 2, 3], pa.int64()),
                "event_timestamp": _times(3, timedelta(hours=1)),
                "heat": pa.array([1.5, 2.5, None]),
            }
        ),
        folder / "place_facts.parquet",
    )
    pq.write_table(
        pa.table({"event_timestamp": _times(3, timedelta(hours=1)), "mood": pa.array([1, 2, 3])}),
        folder / "world.parquet",
    )


def definitions(folder: Path) -> list[Any]:
    """Everything that is applied; `folder` holds the Parquet files."""
    driver = Entity(
        name="driver",
        join_keys=["driver_id"],
        value_type=ValueType.INT64,
        description="who drives",
        tags={"team": "rides"},
        owner="rides@example.com",
    )
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    place = Entity(name="place", join_keys=["place_id"], value_type=ValueType.INT64)

    stats_source = file_source(
        folder / "driver_stats.parquet",
        name="driver_stats_source",
        created_timestamp_column="created",
        description="rides by driver",
        tags={"tier": "1"},
        owner="data@example.com",
    )
    driver_stats = FeatureView(
        name="driver_stats",
        entities=[driver],
        ttl=timedelta(days=365),
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="conv_rate", dtype=Float32, description="share", tags={"unit": "1"}),
            Field(name="acc_rate", dtype=Float64),
            Field(name="trips", dtype=Int64),
            Field(name="label", dtype=String),
            Field(name="embedding", dtype=Array(Float32)),
        ],
        source=stats_source,
        description="how a driver does",
        tags={"team": "rides"},
        owner="rides@example.com",
    )
    driver_profile = FeatureView(
        name="driver_profile",
        entities=[driver],
        ttl=timedelta(0),
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="age", dtype=Int32),
            Field(name="vip", dtype=Bool),
            Field(name="joined", dtype=UnixTimestamp),
            Field(name="tags", dtype=Array(String)),
        ],
        source=file_source(folder / "driver_profile.parquet", name="driver_profile_source"),
    )
    order_stats = FeatureView(
        name="order_stats",
        entities=[driver, customer],
        ttl=timedelta(days=30),
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="customer_id", dtype=String),
            Field(name="total", dtype=Float64),
            Field(name="orders", dtype=Int64),
        ],
        source=file_source(folder / "order_stats.parquet", name="order_stats_source"),
    )
    place_facts = FeatureView(
        name="place_facts",
        entities=[place],
        ttl=None,
        schema=[Field(name="place_id", dtype=Int64), Field(name="heat", dtype=Float64)],
        source=file_source(folder / "place_facts.parquet", name="place_facts_source"),
    )
    world = FeatureView(
        name="world",
        entities=[],
        ttl=timedelta(days=1),
        schema=[Field(name="mood", dtype=Int64)],
        source=file_source(folder / "world.parquet", name="world_source"),
    )
    pushed_stats = FeatureView(
        name="pushed_stats",
        entities=[driver],
        ttl=timedelta(days=1),
        schema=[Field(name="driver_id", dtype=Int64), Field(name="age", dtype=Int32)],
        source=PushSource(
            name="driver_push",
            batch_source=file_source(folder / "driver_profile.parquet", name="push_batch"),
        ),
    )
    request = RequestSource(name="request", schema=[Field(name="factor", dtype=Int64)])

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[driver_profile, request],
        schema=[Field(name="age_doubled", dtype=Int64)],
        mode="pandas",
    )
    def doubled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"age_doubled": inputs["age"] * 2})

    driver_service = FeatureService(
        name="driver_service",
        features=[driver_stats[["trips", "conv_rate"]], driver_profile],
        description="for the model",
        tags={"release": "1"},
        owner="ml@example.com",
    )
    route_service = FeatureService(
        name="route_service",
        features=[
            place_facts.with_name("origin").with_join_key_map({"place_id": "origin_id"}),
            place_facts.with_name("target").with_join_key_map({"place_id": "target_id"}),
        ],
    )
    return [
        *(driver, customer, place),
        *(driver_stats, driver_profile, order_stats, place_facts, world, pushed_stats, doubled),
        *(driver_service, route_service),
    ]


NATIVE_VIEWS = [
    "driver_stats",
    "driver_profile",
    "order_stats",
    "place_facts",
    "world",
    "pushed_stats",
]


def make_demo(folder: Path) -> Applied:
    """Parquet files and an applied registry in `folder`."""
    write_parquet(folder / "data")
    return apply(folder / "applied", definitions(folder / "data"))
