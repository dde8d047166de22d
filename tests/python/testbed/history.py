"""Views whose sources are written anew for every case of the point-in-time join.

They are applied once; a case writes their Parquet files and asks for the columns that it wants.
The features of every source are `value`, the number of the row, so that a wrong row shows, and
`note`, a text that is sometimes null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, ValueType
from feast.types import Int64, String

from testbed.point_in_time import Source
from testbed.repo import Applied, Repo, apply, file_source

SHORT = timedelta(seconds=3)
LONG = timedelta(days=3650)
FEATURES = ("value", "note")


@dataclass(frozen=True)
class View:
    """What one of the views is: its file, its keys, its limits."""

    file: str
    keys: tuple[str, ...]
    ttl: timedelta | None
    created: str | None = None


VIEWS = {
    "unlimited": View("driver", ("driver_id",), None),
    "zero": View("driver", ("driver_id",), timedelta(0)),
    "short": View("driver", ("driver_id",), SHORT),
    "long": View("driver", ("driver_id",), LONG),
    "created": View("created", ("driver_id",), None, "made"),
    "created_short": View("created", ("driver_id",), SHORT, "made"),
    "customers": View("customer", ("customer_id",), SHORT, "made"),
    "pairs": View("pair", ("driver_id", "customer_id"), None, "made"),
    "world": View("world", (), SHORT, "made"),
}
FILES = {view.file: view for view in VIEWS.values()}


def apply_views(folder: Path) -> Applied:
    """The views applied; the folder of their files is `folder / "data"`."""
    data = folder / "data"
    data.mkdir(parents=True)
    for file, view in FILES.items():
        pq.write_table(source_rows(view, []), data / f"{file}.parquet")
    entities = {
        "driver_id": Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64),
        "customer_id": Entity(
            name="customer", join_keys=["customer_id"], value_type=ValueType.STRING
        ),
    }
    types = {"driver_id": Int64, "customer_id": String}
    views = [
        FeatureView(
            name=name,
            entities=[entities[key] for key in view.keys],
            ttl=view.ttl,
            schema=[
                *(Field(name=key, dtype=types[key]) for key in view.keys),
                Field(name="value", dtype=Int64),
                Field(name="note", dtype=String),
            ],
            source=file_source(
                data / f"{view.file}.parquet",
                name=f"source_of_{name}",
                created_timestamp_column=view.created or "",
            ),
        )
        for name, view in VIEWS.items()
    ]
    return apply(folder / "applied", [*entities.values(), *views])


@dataclass(frozen=True)
class Row:
    """Of a source or of the labels; times in nanoseconds."""

    driver_id: int | None
    customer_id: str | None
    time: int | None
    made: int | None = None


UTC_MICROS = pa.timestamp("us", tz="UTC")


def source_rows(view: View, rows: Sequence[Row], kind: pa.TimestampType = UTC_MICROS) -> pa.Table:
    """A source with `rows`, its times of the type `kind`."""
    columns: dict[str, Any] = _keys(view.keys, rows)
    columns["event_timestamp"] = times([row.time for row in rows], kind)
    if view.created:
        columns[view.created] = times([row.made for row in rows], kind)
    columns["value"] = pa.array(range(len(rows)), pa.int64())
    notes = [None if i % 4 == 3 else f"{view.file} {i}" for i in range(len(rows))]
    columns["note"] = pa.array(notes, pa.string())
    return pa.table(columns)


def label_rows(rows: Sequence[Row], kind: pa.TimestampType = UTC_MICROS) -> pa.Table:
    """Labels for `rows`: keys, times, and the number of the row."""
    columns: dict[str, Any] = _keys(("driver_id", "customer_id"), rows)
    columns["event_timestamp"] = times([row.time for row in rows], kind)
    columns["label"] = pa.array(range(len(rows)), pa.int64())
    return pa.table(columns)


def _keys(keys: Sequence[str], rows: Sequence[Row]) -> dict[str, pa.Array]:
    types = {"driver_id": pa.int64(), "customer_id": pa.string()}
    return {key: pa.array([getattr(row, key) for row in rows], types[key]) for key in keys}


def times(nanos: Sequence[int | None], kind: pa.TimestampType) -> pa.Array:
    """Nanoseconds as a column of the type `kind`, cut to its unit."""
    factor = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[kind.unit]
    return pa.array([None if n is None else n // factor for n in nanos], pa.int64()).cast(kind)


@dataclass
class Asked:
    """Stores of the applied views: ours, and Feast's with its duckdb offline store."""

    data: Path
    repo: Repo
    duckdb: Repo

    @classmethod
    def make(cls, folder: Path) -> Asked:
        applied = apply_views(folder)
        settings = {"offline_store": {"type": "duckdb"}}
        return cls(
            folder / "data",
            applied.open(folder / "ours"),
            applied.open(folder / "duckdb", settings=settings),
        )

    def write(self, files: Mapping[str, pa.Table], row_group_size: int = 5) -> None:
        """Writes sources, by the names of their files."""
        for file, table in files.items():
            path = self.data / f"{file}.parquet"
            pq.write_table(table, path, row_group_size=row_group_size)

    def ours(
        self, labels: Any, views: Sequence[str], piece: int | None = None, **options: Any
    ) -> pa.Table:
        """What feastrs gives for the two features of each view; in pieces of so many rows."""
        job = self.repo.ours().get_historical_features(
            labels, features(views), full_feature_names=True, **options
        )
        if piece is None:
            return pa.table(job.to_arrow())
        batches = list(job.to_record_batches(piece))
        assert all(batch.num_rows <= piece for batch in batches)
        return pa.Table.from_batches(batches)

    def feasts(self, labels: pa.Table, views: Sequence[str], **options: Any) -> pa.Table:
        """What Feast's duckdb store gives, in the order of the labels."""
        job = self.duckdb.stock().get_historical_features(
            labels.to_pandas(), features(views), full_feature_names=True, **options
        )
        return job.to_arrow().sort_by("label")


def features(views: Sequence[str]) -> list[str]:
    """References of all that the views have."""
    return [f"{view}:{feature}" for view in views for feature in FEATURES]


def reference(views: Sequence[str], files: Mapping[str, pa.Table], **options: Any) -> list[Source]:
    """The views as the reference takes them."""
    return [
        Source(
            rows=files[VIEWS[name].file],
            keys={key: key for key in VIEWS[name].keys},
            features={f"{name}__{feature}": feature for feature in FEATURES},
            ttl=VIEWS[name].ttl,
            created=VIEWS[name].created,
            **options,
        )
        for name in views
    ]
