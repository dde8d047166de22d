"""The same point-in-time join by five programs, each in a process of its own.

    python benches/history_sides.py feastrs FOLDER [RESULT]

`FOLDER` is what `histories.py` made: a Feast repository, the Parquet files of its views, the label
rows. The join is timed from the label rows in memory to an Arrow table, reading the views' files
included and imports excluded. Prints what was measured as JSON, and writes the table to `RESULT`.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ["TZ"] = "UTC"
time.tzset()

from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from own_process import open_store, peak_bytes  # noqa: E402

THREADS = 2


@dataclass(frozen=True)
class Task:
    """What is joined: written by `histories.py` as `task.json` in its folder."""

    folder: Path
    views: dict[str, list[str]]
    ttl_seconds: int

    @classmethod
    def read(cls, folder: Path) -> Task:
        return cls(folder, **json.loads((folder / "task.json").read_text()))

    @property
    def references(self) -> list[str]:
        return [f"{view}:{name}" for view, names in self.views.items() for name in names]

    def path(self, view: str) -> str:
        return str(self.folder / f"{view}.parquet")

    def labels(self) -> Any:
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / "labels.parquet")


def feastrs(task: Task) -> Callable[[], Any]:
    import pyarrow as pa

    labels, store = task.labels(), open_store("feastrs", str(task.folder / "repo"))
    references = task.references
    return lambda: pa.table(store.get_historical_features(labels, references).to_arrow())


def feastrs_pandas(task: Task) -> Callable[[], Any]:
    labels, store = task.labels().to_pandas(), open_store("feastrs", str(task.folder / "repo"))
    references = task.references
    return lambda: store.get_historical_features(labels, references).to_df()


def feast_file(task: Task, repo: str = "repo") -> Callable[[], Any]:
    labels, store = task.labels().to_pandas(), open_store("feast", str(task.folder / repo))
    references = task.references
    return lambda: store.get_historical_features(labels, references).to_arrow()


def feast_duckdb(task: Task) -> Callable[[], Any]:
    return feast_file(task, "repo-duckdb")


def polars(task: Task) -> Callable[[], Any]:
    """`join_asof` wants both sides sorted by time; the labels' order is not restored."""
    os.environ["POLARS_MAX_THREADS"] = str(THREADS)
    import polars as pl

    labels = pl.from_arrow(task.labels())
    assert isinstance(labels, pl.DataFrame)

    def join() -> Any:
        joined = labels.lazy().sort("event_timestamp")
        for view, names in task.views.items():
            columns = ["driver_id", "event_timestamp", *names]
            rows = pl.scan_parquet(task.path(view)).select(columns).sort("event_timestamp")
            joined = joined.join_asof(
                rows,
                on="event_timestamp",
                by="driver_id",
                tolerance=f"{task.ttl_seconds}s",
                check_sortedness=False,
            )
        return joined.collect().to_arrow()

    return join


def duckdb(task: Task) -> Callable[[], Any]:
    import duckdb

    connection = duckdb.connect(config={"threads": THREADS, "preserve_insertion_order": False})
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("labels", task.labels())
    columns, joins = ["labels.*"], []
    for view, names in task.views.items():
        oldest = f"labels.event_timestamp - INTERVAL {task.ttl_seconds} SECOND"
        columns += [
            f"CASE WHEN {view}.event_timestamp >= {oldest} THEN {view}.{name} END AS {name}"
            for name in names
        ]
        joins.append(
            f"ASOF LEFT JOIN read_parquet('{task.path(view)}') AS {view} "
            f"ON labels.driver_id = {view}.driver_id "
            f"AND labels.event_timestamp >= {view}.event_timestamp"
        )
    query = f"SELECT {', '.join(columns)} FROM labels {' '.join(joins)}"
    return lambda: connection.execute(query).to_arrow_table()


SIDES: dict[str, Callable[[Task], Callable[[], Any]]] = {
    "feastrs": feastrs,
    "feastrs-pandas": feastrs_pandas,
    "feast-file": feast_file,
    "feast-duckdb": feast_duckdb,
    "polars": polars,
    "duckdb": duckdb,
}


def main() -> int:
    side, folder, *result = sys.argv[1:]
    join = SIDES[side](Task.read(Path(folder)))
    cpu, wall = time.process_time(), time.perf_counter()
    table = join()
    measured = {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak_mb": peak_bytes() / 1e6,
    }
    if result:
        import pyarrow as pa
        from pyarrow import feather

        whole = table if isinstance(table, pa.Table) else pa.Table.from_pandas(table)
        feather.write_feather(whole, result[0], compression="uncompressed")
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
