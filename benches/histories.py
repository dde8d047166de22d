"""Training data: point-in-time joins by feastrs, by Feast's stores, and written by hand.

Every side joins in processes of its own (`history_sides.py`), in turn, and leaves its table, so
that the answers can be compared: row by row, by the number that each label row has.
"""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import history_sides
from measure import Job, Rounds, say
from own_process import child

if TYPE_CHECKING:
    import pyarrow as pa

BEGIN = datetime(2024, 1, 1, tzinfo=timezone.utc)
DAYS = 30
TTL = timedelta(days=10)

NAMES = {
    "feast-file": "Feast's file store",
    "feast-duckdb": "Feast's duckdb store",
    "polars": "by hand in Polars",
    "duckdb": "by hand in DuckDB",
}
BY_HAND = ("polars", "duckdb")


@dataclass(frozen=True)
class Shape:
    """How much is joined with how much."""

    labels: int
    rows: int
    features: int
    entities: int
    views: int = 1

    @property
    def title(self) -> str:
        views = f"{self.views} views of " if self.views > 1 else ""
        return (
            f"history, {self.labels:,} label rows x {views}{self.rows:,} feature rows "
            f"x {self.features} features, {self.entities:,} entities"
        )


TALL = Shape(1_000_000, 2_000_000, 10, 200_000)
WIDE = Shape(17_000, 10_000, 1000, 500)
VIEWS = Shape(500_000, 400_000, 10, 100_000, views=5)
GROWTH = (1_000_000, 4_000_000, 16_000_000)


def make(folder: Path, shape: Shape) -> Path:
    """Files of the views, label rows, and two repositories: Feast's file and duckdb stores."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from feast import Entity, FeatureView, Field, ValueType
    from feast.types import Float64, Int64

    from testbed.repo import apply, file_source

    say(f"making {shape.title}")
    random = np.random.default_rng(11)
    folder.mkdir(parents=True)
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    # No two rows have a time in common, so that every side has to take the same one.
    micros = DAYS * 86_400_000_000
    views, task = [], {}
    for number in range(shape.views):
        name = f"view_{number}"
        columns: dict[str, Any] = {
            "driver_id": random.integers(0, shape.entities, shape.rows),
            # In the order of time, as rows are appended day by day.
            "event_timestamp": _times(np.arange(shape.rows) * (micros // shape.rows)),
        }
        names = [f"v{number}_f{i}" for i in range(shape.features)]
        columns |= {feature: random.random(shape.rows) for feature in names}
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
        task[name] = names
        views.append(
            FeatureView(
                name=name,
                entities=[driver],
                ttl=TTL,
                schema=[
                    Field(name="driver_id", dtype=Int64),
                    *(Field(name=feature, dtype=Float64) for feature in names),
                ],
                source=file_source(folder / f"{name}.parquet"),
            )
        )
    pq.write_table(label_rows(shape.labels, shape.entities), folder / "labels.parquet")
    applied = apply(folder / "applied", [driver, *views])
    applied.open(folder / "repo")
    applied.open(folder / "repo-duckdb", settings={"offline_store": {"type": "duckdb"}})
    description = {"views": task, "ttl_seconds": int(TTL.total_seconds())}
    (folder / "task.json").write_text(json.dumps(description))
    return folder


def label_rows(count: int, entities: int) -> pa.Table:
    """Labels of random drivers at random times, some of drivers that nobody knows."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(12)
    micros = DAYS * 86_400_000_000
    return pa.table(
        {
            "driver_id": random.integers(0, entities + entities // 50, count),
            "event_timestamp": _times(random.integers(0, micros, count)),
            "label": np.arange(count),
        }
    )


def _times(offsets: Any) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    begin = np.datetime64(BEGIN.replace(tzinfo=None), "us")
    return pa.array(begin + offsets.astype("m8[us]"), pa.timestamp("us", tz="UTC"))


@dataclass
class History:
    """What was measured."""

    folder: Path
    rounds: Rounds
    jobs: list[Job] = field(default_factory=list)
    growth: list[str] = field(default_factory=list)

    def run(self) -> None:
        by_hand = dict.fromkeys(BY_HAND, 1.5)
        self.compare("tall", TALL, {"feast-file": 20, "feast-duckdb": 6, **by_hand})
        self.compare("wide", WIDE, {"feast-file": 40, "feast-duckdb": 15, **by_hand})
        self.compare("views", VIEWS, {"feast-file": 20, "feast-duckdb": 6, **by_hand})
        if self.rounds.many_entities:
            self.grow()

    def compare(self, name: str, shape: Shape, targets: dict[str, float]) -> None:
        """A line for each side's time and one for its memory."""
        folder = make(self.folder / name, shape)
        found = self.in_turn(folder, ["feastrs", *targets])
        verdicts = {side: same_answers(folder, side) for side in targets}
        title = shape.title
        for measure, unit in (("seconds", "s"), ("peak_mb", "MB")):
            ours = [one[measure] for one in found["feastrs"]]
            for side, target in targets.items():
                stock = [one[measure] for one in found[side]]
                what = NAMES[side] if unit == "s" else f"{NAMES[side]}, peak memory"
                goal = target if unit == "s" else 1.0
                job = Job(f"{title}: {what}", stock, ours, unit, verdicts[side], target=goal)
                self.jobs.append(job)
                title = "the same"

    def in_turn(self, folder: Path, sides: list[str]) -> dict[str, list[dict[str, float]]]:
        """Every side's joins, one after the other; the first of each leaves its table."""
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for number in range(self.rounds.our_materializations):
            for side in sides:
                # Feast takes its time.
                of_side = 1 if side.startswith("feast-") else self.rounds.our_materializations
                if number < of_side:
                    found[side].append(join(folder, side, is_kept=number == 0))
        return found

    def grow(self) -> None:
        """Time and memory as the labels grow, beside the joins written by hand."""
        import pyarrow.parquet as pq

        folder = self.folder / "tall"
        sides = ["feastrs", *BY_HAND]
        for count in GROWTH:
            pq.write_table(label_rows(count, TALL.entities), folder / "labels.parquet")
            cells = [f"{count:,}"]
            for side in sides:
                one = join(folder, side, is_kept=False)
                cells.append(f"{one['seconds']:.2f} s, {one['peak_mb']:,.0f} MB")
            self.growth.append(f"| {' | '.join(cells)} |")


def join(folder: Path, side: str, *, is_kept: bool) -> dict[str, float]:
    say(f"join with {side}")
    result = [str(folder / f"{side}.arrow")] if is_kept else []
    return child(side, str(folder), *result, script=history_sides.__file__)


def same_answers(folder: Path, side: str) -> bool:
    """Whether each row of `side` is ours, and ours are all labels in their order.

    Feast's file store does not give all of them back: what it gives has to be right.
    """
    import numpy as np
    from pyarrow import feather

    ours = feather.read_table(folder / "feastrs.arrow")
    theirs = feather.read_table(folder / f"{side}.arrow")
    count = ours.num_rows
    if not np.array_equal(ours["label"].to_numpy(), np.arange(count)):
        return False
    lost = count - theirs.num_rows
    if lost:
        say(f"{NAMES[side]} lost {lost:,} of {count:,} label rows")
    if lost < 0 or (lost and side != "feast-file"):
        return False
    labels = theirs["label"].to_numpy()
    if len(np.unique(labels)) != len(labels):
        return False
    for name in ours.column_names:
        left = ours[name].to_numpy()[labels]
        # A null is NaN on both sides here; no feature is one.
        if not np.array_equal(left, theirs[name].to_numpy(), equal_nan=left.dtype.kind == "f"):
            say(f"{NAMES[side]}: {name} differs")
            return False
    del ours, theirs
    gc.collect()
    return True


def growth_table(lines: list[str]) -> list[str]:
    """The section of the report, empty where it was not measured."""
    if not lines:
        return []
    return [
        "## Training data as the label rows grow",
        "",
        f"{TALL.rows:,} feature rows x {TALL.features} features; time and peak memory.",
        "",
        "| label rows | feastrs | by hand in Polars | by hand in DuckDB |",
        "|---|---|---|---|",
        *lines,
        "",
    ]
