"""Driver statistics, defined for stock Feast: `feast apply` reads this, feastrs its result."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Bool, Float32, Int64, String

driver = Entity(
    name="driver",
    join_keys=["driver_id"],
    value_type=ValueType.INT64,
    description="A driver, by the number on the licence",
)

daily_trips = FileSource(
    name="daily_trips",
    path="data/driver_stats.parquet",
    timestamp_field="event_timestamp",
    created_timestamp_column="created",
    description="One row for each driver and day, corrections included",
)

driver_profiles = FileSource(
    name="driver_profiles",
    path="data/driver_profile.parquet",
    timestamp_field="event_timestamp",
    description="One row whenever a driver's profile changes",
)

driver_stats = FeatureView(
    name="driver_stats",
    entities=[driver],
    ttl=timedelta(days=30),
    schema=[
        Field(name="conv_rate", dtype=Float32, description="Offers taken, 0 to 1"),
        Field(name="acc_rate", dtype=Float32, description="Offers accepted, 0 to 1"),
        Field(name="avg_daily_trips", dtype=Int64),
        Field(name="rating", dtype=Float32, description="Null until someone rates the driver"),
    ],
    source=daily_trips,
    tags={"team": "dispatch"},
)

driver_profile = FeatureView(
    name="driver_profile",
    entities=[driver],
    ttl=timedelta(days=0),  # 0: a profile holds until the next one
    schema=[
        Field(name="city", dtype=String),
        Field(name="vehicle", dtype=String),
        Field(name="is_licensed", dtype=Bool),
        Field(name="languages", dtype=Array(String)),
    ],
    source=driver_profiles,
    tags={"team": "onboarding"},
)

# What one model needs, chosen from both views: the model asks for it by this name.
trip_pricing = FeatureService(
    name="trip_pricing",
    features=[
        driver_stats[["conv_rate", "avg_daily_trips"]],
        driver_profile[["city", "vehicle"]],
    ],
    description="What the pricing model is served",
)
