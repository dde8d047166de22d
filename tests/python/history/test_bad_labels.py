"""Mistakes in label rows, references and sources: errors that name them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feastrs import errors
from testbed.demo import NOON, make_demo
from testbed.plain import AT, plain
from testbed.refusals import fails
from testbed.repo import Repo

MICROS = pa.timestamp("us", tz="UTC")
LATER = NOON + timedelta(hours=1)
STATS = ["driver_stats:trips", "driver_stats:conv_rate"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("demo")
    return make_demo(folder / "demo").open(folder / "ours")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """The view `v` of the file `v.parquet`."""
    return plain(tmp_path).open(tmp_path / "ours")


def labels(**columns: Any) -> pa.Table:
    at = pa.array([NOON + timedelta(hours=1)] * 2, MICROS)
    return pa.table(
        {"driver_id": pa.array([1000, 1001], pa.int64()), "event_timestamp": at} | columns
    )


def joined(repo: Repo, rows: Any, features: Any = STATS, **options: Any) -> pa.Table:
    return pa.table(repo.ours().get_historical_features(rows, features, **options).to_arrow())


class TestTimes:
    def test_no_timestamp_column(self, demo: Repo) -> None:
        rows = labels().drop_columns(["event_timestamp"])
        fails(ValueError, lambda: joined(demo, rows), "event_timestamp")
        rows = rows.append_column("at", pa.array(["2024-03-01", "2024-03-02"]))
        fails(ValueError, lambda: joined(demo, rows), "event_timestamp")

    def test_the_only_timestamp_column_is_taken(self, demo: Repo) -> None:
        rows = labels().rename_columns(["driver_id", "asked_at"])
        expected = joined(demo, labels())
        found = joined(demo, rows)
        assert found.column_names == ["driver_id", "asked_at", "trips", "conv_rate"]
        assert found["conv_rate"].equals(expected["conv_rate"])

    def test_two_timestamp_columns(self, demo: Repo) -> None:
        rows = labels(seen_at=labels()["event_timestamp"])
        rows = rows.rename_columns(["driver_id", "asked_at", "seen_at"])
        fails(ValueError, lambda: joined(demo, rows), "event_timestamp", "asked_at", "seen_at")
        # By its name it is known among any number.
        rows = rows.rename_columns(["driver_id", "event_timestamp", "seen_at"])
        assert joined(demo, rows)["conv_rate"].null_count == 0

    @pytest.mark.parametrize(
        "times",
        [
            pa.array([1, 2], pa.int64()),
            pa.array([True, False]),
            pa.array([b"2024-03-01", b"2024-03-02"]),
            pa.array(["yesterday", "2024-03-02"]),
            pa.array([[1], [2]]),
        ],
        ids=lambda times: str(times.type),
    )
    def test_times_that_are_none(self, times: pa.Array, demo: Repo) -> None:
        rows = labels().set_column(1, "event_timestamp", times)
        fails((TypeError, ValueError), lambda: joined(demo, rows), "event_timestamp")

    def test_dates_and_a_label_frame(self, demo: Repo) -> None:
        """Both would be ambiguous."""
        now = datetime(2024, 4, 1, tzinfo=timezone.utc)
        fails(ValueError, lambda: joined(demo, labels(), end_date=now), "end_date")
        fails(ValueError, lambda: joined(demo, labels(), start_date=now), "start_date")

    def test_dates_in_the_wrong_order(self, demo: Repo) -> None:
        dates = {"start_date": NOON, "end_date": NOON - timedelta(days=1)}
        fails(ValueError, lambda: joined(demo, None, **dates), "start_date", "end_date")


class TestKeys:
    def test_a_missing_join_key(self, demo: Repo) -> None:
        rows = labels().drop_columns(["driver_id"])
        fails((KeyError, ValueError), lambda: joined(demo, rows), "driver_id")

    def test_a_missing_part_of_a_composite_key(self, demo: Repo) -> None:
        action = lambda: joined(demo, labels(), ["order_stats:total"])  # noqa: E731
        fails((KeyError, ValueError), action, "customer_id")

    @pytest.mark.parametrize(
        "keys",
        [
            pa.array(["1000", "1001"]),
            pa.array([b"1000", b"1001"]),
            pa.array([[1000], [1001]]),
            pa.array([NOON, NOON], MICROS),
        ],
        ids=lambda keys: str(keys.type),
    )
    def test_keys_of_the_wrong_type(self, keys: pa.Array, demo: Repo) -> None:
        rows = labels().set_column(0, "driver_id", keys)
        fails((TypeError, ValueError), lambda: joined(demo, rows), "driver_id", "Int64")

    @pytest.mark.parametrize(
        "keys",
        [
            pa.array([1000, 1001], pa.int16()),
            pa.array([1000, 1001], pa.uint64()),
            pa.array([1000, 1001], pa.int32()),
            pa.array([1000.0, 1001.0]),
            pa.array([1000, 1001], pa.int64()).dictionary_encode(),
        ],
        ids=lambda keys: str(keys.type),
    )
    def test_numbers_of_other_widths_are_the_same_keys(self, keys: pa.Array, demo: Repo) -> None:
        rows = labels().set_column(0, "driver_id", keys)
        found = joined(demo, rows)
        assert found["conv_rate"].equals(joined(demo, labels())["conv_rate"])
        assert found["driver_id"].equals(pa.chunked_array([keys]))

    def test_integers_that_pandas_made_floats(self, demo: Repo) -> None:
        """What a missing key makes of the whole column."""
        rows = pd.DataFrame(
            {
                "driver_id": [1000.0, np.nan, 1000.5],
                "event_timestamp": [NOON + timedelta(hours=1)] * 3,
            }
        )
        found = joined(demo, rows)["conv_rate"].to_pylist()
        assert found == [joined(demo, labels())["conv_rate"][0].as_py(), None, None]

    def test_numbers_past_the_sources_are_no_keys(self, demo: Repo) -> None:
        keys = pa.array([2**64 - 1, 1001], pa.uint64())
        rows = labels().set_column(0, "driver_id", keys)
        assert joined(demo, rows)["conv_rate"].null_count == 1


class TestEmptySides:
    def test_no_labels(self, demo: Repo) -> None:
        expected = joined(demo, labels())
        found = joined(demo, labels().slice(0, 0))
        assert found.num_rows == 0
        assert found.schema.equals(expected.schema)

    def test_no_rows_in_the_source(self, repo: Repo) -> None:
        path = repo.folder.parent / "v.parquet"
        schema = pq.read_schema(path)
        pq.write_table(schema.empty_table(), path)
        found = joined(repo, labels(), ["v:x"])
        assert found["x"].to_pylist() == [None, None]
        assert found.schema.field("x").type == schema.field("x").type

    def test_no_columns(self, demo: Repo) -> None:
        fails(ValueError, lambda: joined(demo, pa.table({})), "event_timestamp")

    def test_no_features(self, demo: Repo) -> None:
        fails(ValueError, lambda: joined(demo, labels(), []), "features")


class TestFeatures:
    def test_an_unknown_view(self, demo: Repo) -> None:
        kind = errors.FeatureViewNotFoundException
        fails(kind, lambda: joined(demo, labels(), ["nowhere:x"]), "nowhere")

    def test_an_unknown_feature(self, demo: Repo) -> None:
        action = lambda: joined(demo, labels(), ["driver_stats:tirps"])  # noqa: E731
        fails(errors.FeastrsError, action, "tirps", "driver_stats")

    def test_a_reference_without_a_view(self, demo: Repo) -> None:
        fails(ValueError, lambda: joined(demo, labels(), ["trips"]), "trips")

    def test_names_that_clash(self, demo: Repo) -> None:
        both = ["driver_profile:age", "pushed_stats:age"]
        text = fails(errors.FeatureNameCollisionError, lambda: joined(demo, labels(), both), "age")
        assert "full_feature_names" in text
        names = joined(demo, labels(), both, full_feature_names=True).column_names
        assert names[2:] == ["driver_profile__age", "pushed_stats__age"]

    def test_a_name_that_the_labels_have(self, demo: Repo) -> None:
        """Feast's file store gives the labels' own values under the feature's name."""
        rows = labels(trips=pa.array([1, 2], pa.int64()))
        feasts = demo.stock().get_historical_features(rows.to_pandas(), STATS).to_df()
        assert set(feasts["trips"]) <= {1, 2}
        text = fails(ValueError, lambda: joined(demo, rows), "trips")
        assert "full_feature_names" in text
        found = joined(demo, rows, full_feature_names=True)
        assert found["trips"].to_pylist() == [1, 2]

    def test_a_statement_instead_of_labels(self, demo: Repo) -> None:
        """It is Feast's offline store that is asked, which for files has no SQL."""
        fails(ValueError, lambda: joined(demo, "SELECT * FROM labels"), "entity_df")

    def test_something_that_is_no_frame(self, demo: Repo) -> None:
        for rows in (7, object(), [1, 2]):
            fails(
                (TypeError, ValueError), lambda rows=rows: joined(demo, rows), type(rows).__name__
            )


class TestSources:
    def test_a_source_that_is_gone(self, repo: Repo) -> None:
        (repo.folder.parent / "v.parquet").unlink()
        fails(FileNotFoundError, lambda: joined(repo, labels(), ["v:x"]), "v.parquet")

    def test_no_parquet(self, repo: Repo) -> None:
        (repo.folder.parent / "v.parquet").write_bytes(b"driver_id,x\n1,2\n" * 10)
        fails(errors.FeastrsError, lambda: joined(repo, labels(), ["v:x"]), "v.parquet")

    def test_half_a_file(self, repo: Repo) -> None:
        path = repo.folder.parent / "v.parquet"
        path.write_bytes(path.read_bytes()[:-100])
        fails(errors.FeastrsError, lambda: joined(repo, labels(), ["v:x"]), "v.parquet")

    def test_a_broken_page(self, repo: Repo) -> None:
        path = repo.folder.parent / "v.parquet"
        content = bytearray(path.read_bytes())
        content[4:60] = b"\xff" * 56
        path.write_bytes(content)
        rows = pa.table(
            {
                "driver_id": pa.array([0, 1], pa.int64()),
                "event_timestamp": pa.array([AT] * 2, MICROS),
            }
        )
        fails(errors.FeastrsError, lambda: joined(repo, rows, ["v:x"]), "v.parquet")

    def test_a_column_that_the_source_lacks(self, repo: Repo) -> None:
        path = repo.folder.parent / "v.parquet"
        for name in ("x", "driver_id", "event_timestamp"):
            whole = pq.read_table(path)
            pq.write_table(whole.drop_columns([name]), path)
            fails(errors.FeastrsError, lambda: joined(repo, labels(), ["v:x"]), name, "v.parquet")
            pq.write_table(whole, path)

    def test_times_of_the_source_that_are_none(self, repo: Repo) -> None:
        path = repo.folder.parent / "v.parquet"
        whole = pq.read_table(path)
        index = whole.schema.get_field_index("event_timestamp")
        text = pa.array(["2024-03-01"] * whole.num_rows)
        pq.write_table(whole.set_column(index, "event_timestamp", text), path)
        fails(errors.FeastrsError, lambda: joined(repo, labels(), ["v:x"]), "event_timestamp")

    def test_a_source_that_changes_between_plan_and_read(self, repo: Repo) -> None:
        """A job that was made is over what is there when it is asked for its rows, whole."""
        path = repo.folder.parent / "v.parquet"
        rows = labels().set_column(0, "driver_id", pa.array([0, 1], pa.int64()))
        late = pa.array([datetime(2024, 5, 2, tzinfo=timezone.utc)] * 2, MICROS)
        rows = rows.set_column(1, "event_timestamp", late)
        job = repo.ours().get_historical_features(rows, ["v:x"])
        new = pq.read_table(path)
        pq.write_table(new.set_column(2, "x", pa.array([7.0] * new.num_rows)), path)
        assert pa.table(job.to_arrow())["x"].to_pylist() == [7.0, 7.0]


# Writes over the file, again and again, until it is told to stop: always the same two forms, in
# which all of `x` are 1.0 or all of them are 2.0.
CHANGES = """
import sys, time
from pathlib import Path
path, forms = Path(sys.argv[1]), [Path(name).read_bytes() for name in sys.argv[2:]]
print("ready", flush=True)
while True:
    for form in forms:
        path.write_bytes(form)
        time.sleep(0.01)  # longer than the tick of a file's time
"""


def test_a_source_that_changes_while_it_is_read(repo: Repo) -> None:
    """Never a mixture, never a crash: the rows of one form, or an error that names the file."""
    path = repo.folder.parent / "v.parquet"
    count = 20_000
    at = pa.array([NOON] * count, MICROS)
    forms = []
    for value in (1.0, 2.0):
        table = pa.table(
            {
                "driver_id": pa.array(range(count), pa.int64()),
                "event_timestamp": at,
                "x": pa.array([value] * count),
            }
        )
        forms.append(repo.folder / f"form-{value}.parquet")
        # Of different sizes, so that footers stand elsewhere.
        pq.write_table(table, forms[-1], row_group_size=int(1000 * value), compression=None)
    path.write_bytes(forms[0].read_bytes())
    rows = pa.table(
        {
            "driver_id": pa.array(range(0, count, 7), pa.int64()),
            "event_timestamp": pa.array([NOON] * len(range(0, count, 7)), MICROS),
        }
    )
    arguments = [sys.executable, "-c", textwrap.dedent(CHANGES), str(path), *map(str, forms)]
    seen, refused = set(), []
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == "ready"
        try:
            for _ in range(100):
                values, error = values_or_error(repo, rows)
                seen.add(tuple(values))
                refused += [error] if error else []
        finally:
            writer.kill()
    assert seen <= {(), (1.0,), (2.0,)}
    assert all("v.parquet" in error for error in refused), refused


def values_or_error(repo: Repo, rows: pa.Table) -> tuple[list[float], str]:
    try:
        return sorted(set(joined(repo, rows, ["v:x"])["x"].to_pylist())), ""
    except errors.FeastrsError as error:
        return [], str(error)
