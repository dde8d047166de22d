"""Makes the golden registries of this folder with stock Feast.

Run from the repository's root, with an interpreter that has Feast:

    python tests/golden/make_registry.py

- ``registry.db``: two projects with entities, sources, and views and services of every kind.
- ``registry.json``: what Feast itself reads back from it, by project.
- ``registry_materialized.db``: the same registry after Feast recorded a materialization of a
  feature view and of a stream feature view; ``registry.json`` has the intervals.
"""

import json
import pathlib
import shutil
import tempfile
import warnings
from datetime import datetime, timedelta, timezone
from typing import Any

import feast
import pandas as pd
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    KafkaSource,
    OnDemandFeatureView,
    Project,
    PushSource,
    RepoConfig,
    RequestSource,
    StreamFeatureView,
    ValueType,
)
from feast.aggregation import Aggregation
from feast.data_format import DeltaFormat, JsonFormat, ParquetFormat
from feast.types import (
    Array,
    Bool,
    Decimal,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Map,
    ScalarMap,
    Set,
    String,
    Struct,
    UnixTimestamp,
    Uuid,
    ZonedTimestamp,
)

FEAST_VERSION = "0.67.0"
FOLDER = pathlib.Path(__file__).parent

INTERVALS = {
    "driver_stats": (
        datetime(2026, 1, 1, tzinfo=timezone.utc),
        datetime(2026, 2, 1, 12, 30, 15, 123456, tzinfo=timezone.utc),
    ),
    "driver_events": (
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=timezone.utc),
        datetime(1970, 1, 1, tzinfo=timezone.utc),
    ),
}

DTYPES: dict[str, FeastType] = {
    "flag": Bool,
    "small": Int32,
    "ratio": Float32,
    "at": UnixTimestamp,
    "local_at": ZonedTimestamp,
    "id": Uuid,
    "price": Decimal,
    "document": Json,
    "labels": Map,
    "by_number": ScalarMap,
    "documents": Array(Json),
    "prices": Array(Decimal),
    "names": Set(String),
    "matrix": Array(Array(Float64)),
    "groups": Array(Set(Int64)),
    "sets": Set(Array(String)),
    "deep": Array(Array(Array(Int32))),
    "address": Struct({"zip": Int64, "city": String, "tags": Array(String)}),
    "route": Struct({"start": Struct({"x": Float64, "a": Float32}), "end": Json}),
    "addresses": Array(Struct({"zip": Int64, "city": String})),
}


def ride_cost(inputs: pd.DataFrame) -> pd.DataFrame:
    """The on-demand view's transformation; never called here."""
    return pd.DataFrame({"cost": inputs["rate"] * inputs["km"]})


def definitions() -> list[Any]:
    """Objects of the first project."""
    driver = Entity(
        name="driver",
        join_keys=["driver_id"],
        value_type=ValueType.INT64,
        description="who drives",
        tags={"team": "core", "ä": "ö"},
        owner="a@b.c",
    )
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    stats_source = FileSource(
        name="stats_source",
        path="data/stats.parquet",
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
        field_mapping={"conv": "conv_rate"},
        description="hourly",
        tags={"tier": "1"},
        owner="d@e.f",
        s3_endpoint_override="http://localhost:9000",
    )
    plain_source = FileSource(path="data/plain.parquet", timestamp_field="ts")
    delta_source = FileSource(
        name="delta_source", path="data/delta", file_format=DeltaFormat(), timestamp_field="ts"
    )
    push_source = PushSource(name="push_source", batch_source=stats_source, tags={"p": "q"})
    kafka_source = KafkaSource(
        name="kafka_source",
        kafka_bootstrap_servers="localhost:9092",
        topic="rides",
        message_format=JsonFormat(schema_json="ride_id string"),
        batch_source=plain_source,
        timestamp_field="ts",
    )
    trip_source = RequestSource(name="trip_source", schema=[Field(name="km", dtype=Float64)])

    driver_stats = FeatureView(
        name="driver_stats",
        entities=[driver],
        ttl=timedelta(days=1, microseconds=5),
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="conv_rate", dtype=Float32, description="of 1", tags={"unit": "1"}),
            Field(name="trips", dtype=Int64),
        ],
        source=stats_source,
        tags={"a": "b"},
        description="drivers, hourly",
        owner="g@h.i",
    )
    pairs = FeatureView(
        name="pairs",
        entities=[driver, customer],
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="customer_id", dtype=String),
            Field(name="rate", dtype=Float64),
        ],
        source=plain_source,
        online=False,
    )
    everything = FeatureView(
        name="everything",
        entities=[],
        schema=[Field(name=name, dtype=dtype) for name, dtype in DTYPES.items()],
        source=delta_source,
        offline=True,
        enable_validation=True,
    )
    pushed = FeatureView(
        name="pushed",
        entities=[driver],
        ttl=timedelta(hours=2),
        schema=[Field(name="driver_id", dtype=Int64), Field(name="trips", dtype=Int64)],
        source=push_source,
    )
    driver_events = StreamFeatureView(
        name="driver_events",
        entities=[driver],
        ttl=timedelta(minutes=5),
        schema=[Field(name="driver_id", dtype=Int64), Field(name="rides", dtype=Int64)],
        source=kafka_source,
        timestamp_field="ts",
        tags={"s": "t"},
    )
    driver_windows = StreamFeatureView(
        name="driver_windows",
        entities=[driver],
        ttl=timedelta(0),
        schema=[Field(name="driver_id", dtype=Int64), Field(name="rides", dtype=Int64)],
        source=kafka_source,
        timestamp_field="ts",
        aggregations=[Aggregation(column="rides", function="sum", time_window=timedelta(hours=1))],
    )
    cost = OnDemandFeatureView(
        name="cost",
        entities=[driver, customer],
        sources=[pairs, trip_source],
        schema=[Field(name="cost", dtype=Float64)],
        mode="pandas",
        udf=ride_cost,
        udf_string="ride_cost",
        tags={"o": "d"},
    )
    all_of_it = FeatureService(
        name="all_of_it",
        features=[driver_stats, pairs, cost],
        tags={"model": "m1"},
        description="everything a model needs",
        owner="j@k.l",
    )
    chosen = FeatureService(
        name="chosen",
        features=[
            driver_stats[["trips"]],
            pairs.with_name("outbound").with_join_key_map({"customer_id": "rider_id"}),
        ],
    )
    return [
        driver,
        customer,
        stats_source,
        plain_source,
        delta_source,
        push_source,
        kafka_source,
        trip_source,
        driver_stats,
        pairs,
        everything,
        pushed,
        driver_events,
        driver_windows,
        cost,
        all_of_it,
        chosen,
    ]


def other_definitions() -> list[Any]:
    """Objects of the second project: the same names, another shape."""
    driver = Entity(name="driver", join_keys=["id"], value_type=ValueType.STRING)
    source = FileSource(name="stats_source", path="other.parquet", timestamp_field="ts")
    view = FeatureView(
        name="driver_stats",
        entities=[driver],
        schema=[Field(name="id", dtype=String), Field(name="trips", dtype=Int32)],
        source=source,
    )
    return [driver, source, view]


def shown_field(field: Field) -> dict[str, Any]:
    """A field as the Rust test looks at it."""
    return {
        "name": field.name,
        "dtype": str(field.dtype),
        "description": field.description,
        "tags": field.tags,
    }


def shown_source(source: Any) -> dict[str, Any] | None:
    """A data source, with what is inside it."""
    if source is None:
        return None
    return {
        "class": type(source).__name__,
        "name": source.name,
        "path": getattr(source, "path", ""),
        "s3_endpoint_override": getattr(source, "s3_endpoint_override", "") or "",
        "timestamp_field": source.timestamp_field,
        "created_timestamp_column": source.created_timestamp_column,
        "field_mapping": source.field_mapping,
        "description": source.description,
        "tags": source.tags,
        "owner": source.owner,
        "schema": [shown_field(field) for field in getattr(source, "schema", [])],
        "batch_source": shown_source(getattr(source, "batch_source", None)),
    }


def shown_projection(projection: Any) -> dict[str, Any]:
    """A projection of a service or an on-demand view."""
    return {
        "view": projection.name,
        "name_to_use": projection.name_to_use(),
        "features": [shown_field(field) for field in projection.features],
        "join_key_map": projection.join_key_map,
    }


def shown_view(view: Any) -> dict[str, Any]:
    """A view of any kind."""
    ttl = getattr(view, "ttl", None)
    projections = getattr(view, "source_feature_view_projections", {})
    requests = getattr(view, "source_request_sources", {})
    return {
        "class": type(view).__name__,
        "name": view.name,
        "entities": view.entities,
        "entity_columns": [shown_field(field) for field in view.entity_columns],
        "features": [shown_field(field) for field in view.features],
        "ttl": None if ttl is None else ttl // timedelta(microseconds=1),
        "online": view.online if ttl is not None else view.write_to_online_store,
        "offline": getattr(view, "offline", False),
        "batch_source": shown_source(getattr(view, "batch_source", None)),
        "stream_source": shown_source(getattr(view, "stream_source", None)),
        "inputs": {key: shown_projection(one) for key, one in projections.items()},
        "request_inputs": {key: shown_source(one) for key, one in requests.items()},
        "description": view.description,
        "tags": view.tags,
        "owner": view.owner,
    }


def shown_project(store: FeatureStore) -> dict[str, Any]:
    """What Feast reads of one project."""
    registry, project = store.registry, store.project
    return {
        "entities": [
            {
                "name": entity.name,
                "join_key": entity.join_key,
                "value_type": entity.value_type.name,
                "description": entity.description,
                "tags": entity.tags,
                "owner": entity.owner,
            }
            for entity in registry.list_entities(project)
        ],
        "data_sources": [shown_source(one) for one in registry.list_data_sources(project)],
        "views": [shown_view(view) for view in registry.list_all_feature_views(project)],
        "services": [
            {
                "name": service.name,
                "projections": [shown_projection(p) for p in service.feature_view_projections],
                "description": service.description,
                "tags": service.tags,
                "owner": service.owner,
            }
            for service in registry.list_feature_services(project)
        ],
    }


def open_store(folder: pathlib.Path, project: str, registry: str) -> FeatureStore:
    """A store of `project` on the registry file of that name in `folder`."""
    config = RepoConfig(
        project=project,
        registry=str(folder / registry),
        provider="local",
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    return FeatureStore(config=config)


def record_materializations(folder: pathlib.Path) -> None:
    """Lets stock Feast record the intervals in a copy of the registry."""
    shutil.copy(folder / "registry.db", folder / "materialized.db")
    store = open_store(folder, "golden", "materialized.db")
    views = {view.name: view for view in store.registry.list_all_feature_views("golden")}
    for name, (start, end) in INTERVALS.items():
        store.registry.apply_materialization(views[name], "golden", start, end)


def main() -> None:
    """Writes the three files."""
    assert feast.__version__ == FEAST_VERSION, f"golden files are made by Feast {FEAST_VERSION}"
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        first = open_store(folder, "golden", "registry.db")
        first.apply(Project(name="golden", description="the first", tags={"x": "y"}))
        first.apply(definitions())
        second = open_store(folder, "other", "registry.db")
        second.apply(other_definitions())
        record_materializations(folder)
        shown = {
            "projects": {
                project: shown_project(open_store(folder, project, "registry.db"))
                for project in ("golden", "other")
            },
            "intervals": {
                name: [round(at.timestamp() * 1_000_000) for at in interval]
                for name, interval in INTERVALS.items()
            },
        }
        shutil.copy(folder / "registry.db", FOLDER / "registry.db")
        shutil.copy(folder / "materialized.db", FOLDER / "registry_materialized.db")
    text = json.dumps(shown, indent=1, sort_keys=True, ensure_ascii=False)
    (FOLDER / "registry.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
