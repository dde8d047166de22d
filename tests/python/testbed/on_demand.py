"""A repo with on-demand views of every mode, on the views of `demo`.

| view | mode | what for |
|---|---|---|
| `plus` | python | stored inputs and request data |
| `shown` | pandas | types of data frames, strings, nulls |
| `single` | python, singleton | one row at a time, scalars and lists |
| `merged` | python | two source views with a feature of one name |
| `asked_only` | python | request data alone |
| `of_schema` | python | an input schema instead of sources |
| `kept` | pandas, `write_to_online_store` | read as stored |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from feast import FeatureService, Field, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Float32, Float64, Int64, String

from testbed.demo import definitions, write_parquet
from testbed.repo import Applied, apply


def on_demand_definitions(folder: Path) -> list[Any]:
    """The demo's definitions and the views of this file; `folder` holds the Parquet files."""
    demo = definitions(folder)
    by_name = {definition.name: definition for definition in demo}
    driver, stats, profile, pushed = (
        by_name[name] for name in ("driver", "driver_stats", "driver_profile", "pushed_stats")
    )
    request = RequestSource(name="bonus_request", schema=[Field(name="bonus", dtype=Float64)])

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[stats[["trips", "conv_rate"]], request],
        schema=[Field(name="trips_plus", dtype=Float64), Field(name="rate", dtype=Float64)],
        mode="python",
    )
    def plus(inputs: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(inputs["trips"], inputs["bonus"], strict=True)
        return {
            "trips_plus": [None if trips is None else trips + bonus for trips, bonus in pairs],
            "rate": [0.0 if rate is None else rate * 1.1 for rate in inputs["conv_rate"]],
        }

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[stats[["trips", "conv_rate"]]],
        schema=[
            Field(name="rate32", dtype=Float32),
            Field(name="trips_doubled", dtype=Int64),
            Field(name="text", dtype=String),
        ],
        mode="pandas",
    )
    def shown(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "rate32": (inputs["conv_rate"] * 1.1).astype("float32"),
                "trips_doubled": inputs["trips"] * 2,
                "text": inputs["driver_stats__trips"].astype(str),
            }
        )

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[stats[["trips"]], profile[["age"]]],
        schema=[
            Field(name="trips_per_year", dtype=Float64),
            Field(name="pair", dtype=Array(Float64)),
        ],
        mode="python",
        singleton=True,
    )
    def single(inputs: dict[str, Any]) -> dict[str, Any]:
        trips, age = inputs["trips"] or 0, inputs["age"] or 1
        return {"trips_per_year": trips / age, "pair": [[float(trips), float(age)]]}

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[profile[["age"]], pushed[["age"]]],
        schema=[Field(name="age_gap", dtype=Int64)],
        mode="python",
    )
    def merged(inputs: dict[str, Any]) -> dict[str, Any]:
        ages = zip(inputs["driver_profile__age"], inputs["pushed_stats__age"], strict=True)
        return {"age_gap": [None if one is None else 10 * one - other for one, other in ages]}

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[request],
        schema=[Field(name="bonus_squared", dtype=Float64)],
        mode="python",
    )
    def asked_only(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"bonus_squared": [bonus**2 for bonus in inputs["bonus"]]}

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        input_schema=[Field(name="level", dtype=Int64)],
        schema=[Field(name="next_level", dtype=Int64)],
        mode="python",
    )
    def of_schema(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"next_level": [level + 1 for level in inputs["level"]]}

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        entities=[driver],
        sources=[profile[["age"]]],
        schema=[Field(name="age_tripled", dtype=Int64)],
        mode="pandas",
        write_to_online_store=True,
    )
    def kept(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"age_tripled": inputs["age"] * 3})

    service = FeatureService(
        name="computed_service",
        features=[profile[["age"]], plus.with_name("extra")[["trips_plus"]], shown],
    )
    return [*demo, plus, shown, single, merged, asked_only, of_schema, kept, service]


def make_on_demand(folder: Path) -> Applied:
    """Parquet files and an applied registry in `folder`."""
    write_parquet(folder / "data")
    return apply(folder / "applied", on_demand_definitions(folder / "data"))
