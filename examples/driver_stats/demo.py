"""Materialize the example into SQLite, then read features for some drivers.

Runs on a copy of this folder in build/, because a materialization is noted in the registry
and this folder's registry is under version control.
"""

import shutil
import time
from datetime import datetime, timezone
from pathlib import Path

from feastrs import FeatureStore

HERE = Path(__file__).parent
COPY = HERE.parents[1] / "build" / "driver_stats"


def fresh_copy() -> Path:
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(HERE, COPY, ignore=shutil.ignore_patterns("*.py", "online.db*", "__pycache__"))
    return COPY


def print_table(columns: dict[str, list[object]]) -> None:
    """One line for each entity, columns as wide as their widest value."""
    texts = {
        name: [f"{v:.3f}" if isinstance(v, float) else "-" if v is None else str(v) for v in values]
        for name, values in columns.items()
    }
    widths = {name: max(map(len, [name, *column])) for name, column in texts.items()}
    print("  ".join(name.ljust(widths[name]) for name in texts))
    print("  ".join("-" * width for width in widths.values()))
    for row in zip(*texts.values(), strict=True):
        cells = zip(row, widths.values(), strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def main() -> None:
    store = FeatureStore(repo_path=str(fresh_copy()))

    print("1. Materialize: the newest row of each driver goes to the online store.\n")
    report = store.materialize(
        start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
        end_date=datetime(2026, 2, 1, tzinfo=timezone.utc),
    )
    for view in report.views:
        print(
            f"   {view.view}: {view.rows_read:,} rows read, "
            f"{view.entities_written:,} drivers written in {view.seconds:.2f} s"
        )

    print("\n2. Read the features of the service `trip_pricing` (driver 9 does not exist).\n")
    drivers = [{"driver_id": driver_id} for driver_id in (1001, 1002, 1742, 3000, 9)]
    started = time.perf_counter()
    response = store.get_online_features(
        features=store.get_feature_service("trip_pricing"),
        entity_rows=drivers,
    )
    milliseconds = (time.perf_counter() - started) * 1000
    print_table(response.to_dict())
    print(f"\n   {len(drivers)} drivers in {milliseconds:.2f} ms, from {COPY / 'data/online.db'}")


if __name__ == "__main__":
    main()
