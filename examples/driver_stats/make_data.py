"""Makes the Parquet files in data/: the same bytes each time. Needs numpy and pyarrow."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).parent / "data"
DRIVERS = 2_000
FIRST_DRIVER = 1_001
FIRST_DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAYS = 21
CORRECTIONS = 400
OFFERS = 12_000
MICROSECONDS_A_DAY = 86_400_000_000

TIMESTAMP = pa.timestamp("us", tz="UTC")
STATS = pa.schema(
    [
        ("driver_id", pa.int64()),
        ("event_timestamp", TIMESTAMP),
        ("created", TIMESTAMP),
        ("conv_rate", pa.float32()),
        ("acc_rate", pa.float32()),
        ("avg_daily_trips", pa.int64()),
        ("rating", pa.float32()),
    ]
)
PROFILES = pa.schema(
    [
        ("driver_id", pa.int64()),
        ("event_timestamp", TIMESTAMP),
        ("city", pa.string()),
        ("vehicle", pa.string()),
        ("is_licensed", pa.bool_()),
        ("languages", pa.list_(pa.string())),
    ]
)
OFFERED = pa.schema(
    [
        ("driver_id", pa.int64()),
        ("event_timestamp", TIMESTAMP),
        ("surge", pa.float32()),
        ("taken", pa.bool_()),
    ]
)
CITIES = ["Berlin", "Göteborg", "Kraków", "Lisboa", "Nairobi", "São Paulo", "Taipei", "東京"]
VEHICLES = ["bicycle", "compact", "estate", "van"]
LANGUAGES = ["de", "en", "ja", "pl", "pt", "sv", "sw", "zh"]


def rates(random: np.random.Generator, count: int) -> np.ndarray:
    """Numbers from 0 to 1 with three decimals, as a dashboard would round them."""
    return random.beta(6, 3, count).round(3).astype(np.float32)


def stats(random: np.random.Generator) -> pa.Table:
    """One row for each driver and day, then late corrections of some of them."""
    drivers = np.tile(np.arange(FIRST_DRIVER, FIRST_DRIVER + DRIVERS), DAYS)
    days = np.repeat(np.arange(DAYS), DRIVERS)
    start = int(FIRST_DAY.timestamp() * 1_000_000)
    events = start + days * MICROSECONDS_A_DAY
    created = events + 3_600_000_000  # the nightly job ends an hour later

    # A correction has the event time of the row it mends, and a later `created`.
    mended = random.choice(len(drivers), CORRECTIONS, replace=False)
    drivers = np.concatenate([drivers, drivers[mended]])
    events = np.concatenate([events, events[mended]])
    created = np.concatenate([created, created[mended] + 2 * MICROSECONDS_A_DAY])

    count = len(drivers)
    unrated = random.random(count) < 0.05
    return pa.table(
        {
            "driver_id": drivers,
            "event_timestamp": pa.array(events, TIMESTAMP),
            "created": pa.array(created, TIMESTAMP),
            "conv_rate": rates(random, count),
            "acc_rate": rates(random, count),
            "avg_daily_trips": random.poisson(24, count),
            "rating": pa.array(
                (1 + 4 * rates(random, count)).round(1).astype(np.float32), mask=unrated
            ),
        },
        schema=STATS,
    )


def profiles(random: np.random.Generator) -> pa.Table:
    """A first profile for each driver, and a second for one in four."""
    first = np.arange(FIRST_DRIVER, FIRST_DRIVER + DRIVERS)
    changed = random.choice(first, DRIVERS // 4, replace=False)
    drivers = np.concatenate([first, changed])
    joined = FIRST_DAY - timedelta(days=365)
    start = int(joined.timestamp() * 1_000_000)
    days = np.concatenate([np.zeros(len(first), int), random.integers(1, 380, len(changed))])
    return pa.table(
        {
            "driver_id": drivers,
            "event_timestamp": pa.array(start + days * MICROSECONDS_A_DAY, TIMESTAMP),
            "city": random.choice(CITIES, len(drivers)),
            "vehicle": random.choice(VEHICLES, len(drivers)),
            "is_licensed": random.random(len(drivers)) < 0.97,
            "languages": [
                sorted(random.choice(LANGUAGES, random.integers(1, 4), replace=False))
                for _ in drivers
            ],
        },
        schema=PROFILES,
    )


def offers(random: np.random.Generator, stats: pa.Table) -> pa.Table:
    """What a model is to learn from: offers of rides, and whether the driver took them.

    Who took many offers by yesterday's numbers takes this one more often, and so does everybody
    when prices surge. Some drivers are so new that nothing is known of them.
    """
    drivers = random.integers(FIRST_DRIVER, FIRST_DRIVER + DRIVERS + 20, OFFERS)
    seconds = np.sort(random.integers(0, DAYS * 86_400, OFFERS))
    row = seconds // 86_400 * DRIVERS + np.minimum(drivers - FIRST_DRIVER, DRIVERS - 1)
    conv_rate = stats["conv_rate"].to_numpy()[row]
    surge = (1 + random.gamma(1.5, 0.2, OFFERS)).round(2).astype(np.float32)
    wish = 7 * (conv_rate - 0.67) + 3 * (surge - 1.3)
    return pa.table(
        {
            "driver_id": drivers,
            "event_timestamp": pa.array(
                int(FIRST_DAY.timestamp() * 1_000_000) + seconds * 1_000_000, TIMESTAMP
            ),
            "surge": surge,
            "taken": random.random(OFFERS) < 1 / (1 + np.exp(-wish)),
        },
        schema=OFFERED,
    )


def main() -> None:
    DATA.mkdir(exist_ok=True)
    random = np.random.default_rng(7)
    tables = {"driver_stats": stats(random), "driver_profile": profiles(random)}
    tables["offers"] = offers(random, tables["driver_stats"])
    for name, table in tables.items():
        path = DATA / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd", row_group_size=16_384)
        print(f"{path}: {table.num_rows:,} rows, {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
