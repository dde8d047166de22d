"""A repo whose views have features and join keys of many types, for what both servers answer."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import (
    Array,
    Bool,
    Bytes,
    Float32,
    Float64,
    Int32,
    Int64,
    Map,
    String,
    UnixTimestamp,
)

from testbed.redis_server import RedisServer
from testbed.repo import Repo, apply, file_source

AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone.utc)
TIMES = [AT, AT.replace(microsecond=0), AT.replace(microsecond=120_000)]


def definitions(folder: Path) -> list[Any]:
    """What is applied."""
    source = file_source(folder / "none.parquet")
    kinds = [
        ("driver", "driver_id", ValueType.INT64, Int64),
        ("user", "user_id", ValueType.STRING, String),
        ("small", "small_id", ValueType.INT32, Int32),
        ("raw", "raw_id", ValueType.BYTES, Bytes),
        ("moment", "moment_id", ValueType.UNIX_TIMESTAMP, UnixTimestamp),
    ]
    entities = {n: Entity(name=n, join_keys=[k], value_type=v) for n, k, v, _ in kinds}
    keys = {name: Field(name=key, dtype=dtype) for name, key, _, dtype in kinds}

    def view(name: str, of: list[str], *fields: tuple[str, Any], **options: Any) -> FeatureView:
        return FeatureView(
            name=name,
            entities=[entities[one] for one in of],
            ttl=timedelta(days=36500),
            schema=[*(keys[one] for one in of), *(Field(name=n, dtype=t) for n, t in fields)],
            source=source,
            **options,
        )

    stats = view(
        *("stats", ["driver"], ("rate", Float32), ("acc", Float64), ("trips", Int64)),
        *(("label", String), ("vip", Bool), ("raw", Bytes), ("seen", UnixTimestamp)),
        *(("floats", Array(Float32)), ("names", Array(String)), ("facts", Map), ("n", Int32)),
    )
    views = [
        stats,
        view("other", ["driver"], ("trips", Int64)),
        view("by_user", ["user"], ("x", Int64)),
        view("by_both", ["driver", "user"], ("both", Float64)),
        view("by_small", ["small"], ("x", Int64)),
        view("by_raw", ["raw"], ("x", Int64)),
        view("by_moment", ["moment"], ("x", Int64)),
        view("off", ["driver"], ("x", Int64), enabled=False),
    ]
    given = RequestSource(name="given", schema=[Field(name="val", dtype=Int64)])

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[stats[["trips"]], given], schema=[Field(name="sum", dtype=Int64)], mode="python"
    )
    def computed(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"sum": [(a or 0) + b for a, b in zip(inputs["trips"], inputs["val"], strict=True)]}

    services = [
        FeatureService(name="svc", features=[stats[["trips", "rate"]], views[2]]),
        FeatureService(name="renamed", features=[stats.with_name("again")]),
        FeatureService(
            name="mapped",
            features=[stats.with_name("mapped").with_join_key_map({"driver_id": "origin_id"})],
        ),
        FeatureService(name="computing", features=[computed]),
    ]
    return [*entities.values(), *views, given, computed, *services]


def fill(store: Any) -> None:
    """Writes a few rows of each view with stock Feast."""
    base = {"event_timestamp": TIMES, "created": TIMES}
    stats = {
        "driver_id": [1001, 1002, 1003],
        "rate": [0.5, 0.2, float("nan")],
        "acc": [0.1, 1e22, -0.0],
        "trips": [1, 2, 2**53 + 1],
        "label": ["a", 'ü\u2028"\\', "\x01😀"],
        "vip": [True, False, True],
        "raw": [b"\xff\xfe", b"a", b"abc"],
        "seen": TIMES,
        "floats": [[0.1, 1.0], [float("inf"), -0.0], [1e-5]],
        "names": [["a", ""], ["ü"], []],
        "facts": ['{"b": 1, "a": {"c": 1.5}}', "{}", '{"t": "x"}'],
        "n": [1, -5, 2**31 - 1],
    }
    store.write_to_online_store("stats", df=pd.DataFrame({**stats, **base}))
    two = {name: column[:2] for name, column in base.items()}
    rows = [
        ("other", {"driver_id": [1001, 1002], "trips": [7, 8]}),
        ("by_user", {"user_id": ["u1", "1.0"], "x": [7, 8]}),
        ("by_both", {"driver_id": [1001, 1002], "user_id": ["u1", "u2"], "both": [1e-7, 5e15]}),
        ("by_small", {"small_id": [1, 2], "x": [3, 4]}),
        ("by_raw", {"raw_id": [b"ab", b"\xff"], "x": [5, 6]}),
        ("by_moment", {"moment_id": [TIMES[1], TIMES[1] + timedelta(days=1)], "x": [5, 6]}),
    ]
    for name, columns in rows:
        store.write_to_online_store(name, df=pd.DataFrame({**columns, **two}))


def over_one_store(folder: Path, server: RedisServer | None) -> tuple[Repo, Repo]:
    """A repo of ours and one of stock Feast over the same online store, which is filled. Ours
    answers as Feast does of what is not there."""
    applied = apply(folder / "applied", definitions(folder))
    stock = applied.open(folder / "stock", server)
    fill(stock.stock())
    same = {**stock.config["online_store"], "online_statuses": "feast"}
    if server is None:
        same["path"] = str(stock.sqlite_path)
    return applied.open(folder / "ours", server, online_store=same), stock
