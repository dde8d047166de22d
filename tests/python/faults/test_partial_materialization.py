"""A materialization of which a part fails, finds nothing, or comes late; and one without room."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.types import Float64, Int64

import feastrs
from feastrs.errors import NullKeyError
from testbed.plain import AT, TIME, plain, plain_table
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo, apply, file_source

VIEWS = ("a", "b", "c")
HOUR = timedelta(hours=1)


def three_views(folder: Path) -> Applied:
    """Views `a`, `b` and `c` of drivers, each on a Parquet file of its own."""
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    objects: list[Any] = [driver]
    folder.mkdir(parents=True, exist_ok=True)
    for name in VIEWS:
        pq.write_table(plain_table(), folder / f"{name}.parquet")
        objects.append(
            FeatureView(
                name=name,
                entities=[driver],
                ttl=timedelta(days=1),
                schema=[Field(name="driver_id", dtype=Int64), Field(name="x", dtype=Float64)],
                source=file_source(folder / f"{name}.parquet"),
            )
        )
    return apply(folder / "applied", objects)


def recorded(repo: Repo, view: str) -> list[Any]:
    intervals: list[Any] = repo.stock().get_feature_view(view).materialization_intervals
    return intervals


def driver_ids(ids: list[int | None]) -> pa.Table:
    table = plain_table(len(ids))
    return table.set_column(0, "driver_id", pa.array(ids, pa.int64()))


class TestAFailingView:
    def test_does_not_keep_others_from_being_done(
        self, tmp_path: Path, redis7: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        repo = three_views(tmp_path).open(tmp_path / "repo", redis7)
        (tmp_path / "b.parquet").unlink()

        with pytest.raises(feastrs.MaterializationError, match=r"view 'b': .*b\.parquet") as caught:
            repo.ours().materialize(EARLY, LATE)

        assert isinstance(caught.value, FileNotFoundError)
        report = caught.value.report
        assert [(done.view, done.entities_written) for done in report] == [("a", 3), ("c", 3)]
        assert list(report.failures) == ["b"]
        assert caught.value.__cause__ is report.failures["b"]
        assert "b: FAILED" in str(report)
        assert "materializing b failed after 0 rows" in caplog.text
        repo.stock().refresh_registry()
        assert [len(recorded(repo, view)) for view in VIEWS] == [1, 0, 1]

    def test_all_that_fail_are_named(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = three_views(tmp_path).open(tmp_path / "repo", redis7)
        (tmp_path / "b.parquet").unlink()
        pq.write_table(driver_ids([1, None]), tmp_path / "c.parquet")

        with pytest.raises(feastrs.MaterializationError, match="2 of 3 views failed") as caught:
            repo.ours().materialize(EARLY, LATE)

        error = caught.value
        assert "view 'b': " in str(error)
        assert "view 'c': " in str(error)
        assert isinstance(error.report.failures["c"], NullKeyError)
        assert not isinstance(error, FileNotFoundError)

        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert again.report.views == error.report.views

    def test_the_command_line_prints_what_was_done(self, tmp_path: Path) -> None:
        repo = three_views(tmp_path).open(tmp_path / "repo")
        (tmp_path / "b.parquet").unlink()
        command = [sys.executable, "-m", "feastrs", "-c", str(repo.folder), "materialize"]
        command += ["2000-01-01T00:00:00", "2040-01-01T00:00:00"]

        text = subprocess.run(command, capture_output=True, text=True, check=False)
        as_json = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)

        assert text.returncode == as_json.returncode == 1
        assert "b: failed" in text.stdout
        assert "b.parquet" in text.stderr.splitlines()[-1]
        found = json.loads(as_json.stdout)
        assert [view["view"] for view in found["views"]] == ["a", "c"]
        assert "b.parquet" in found["failures"]["b"]


def test_a_source_that_is_empty_in_the_window_is_recorded_and_told(
    tmp_path: Path, redis7: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    repo = plain(tmp_path).open(tmp_path / "repo", redis7)

    with caplog.at_level(logging.WARNING, "feastrs"):
        [line] = repo.ours().materialize(AT + HOUR, AT + 2 * HOUR)

    assert line.is_empty
    assert "none within the window" in str(line)
    assert "v: its source has no rows between" in caplog.text
    assert recorded(repo, "v") == [(AT + HOUR, AT + 2 * HOUR)]


def test_what_was_left_out_is_logged(
    tmp_path: Path, redis7: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"materialization": {"on_null_key": "skip"}}
    repo = plain(tmp_path).open(tmp_path / "repo", redis7, settings=settings)
    store = repo.ours()
    store.materialize(EARLY, LATE)
    older = driver_ids([0, None, 7])
    times = pa.array([AT - HOUR] * older.num_rows, TIME)
    pq.write_table(older.set_column(1, "event_timestamp", times), tmp_path / "v.parquet")

    with caplog.at_level(logging.INFO, "feastrs.materialization"):
        [line] = store.materialize(EARLY, LATE)

    assert (line.entities_written, line.rows_older, line.null_keys) == (1, 1, 1)
    said = ": 3 rows read, 1 entities written, 1 older than the store, 1 null keys, "
    assert said in caplog.text


def test_late_rows_come_with_an_overlap(tmp_path: Path, redis7: RedisServer) -> None:
    repo = plain(tmp_path).open(tmp_path / "repo", redis7)
    store = repo.ours()
    store.materialize(EARLY, AT + HOUR)
    late = plain_table(5).slice(3)
    pq.write_table(pa.concat_tables([plain_table(), late]), tmp_path / "v.parquet")

    [without] = store.materialize_incremental(AT + 2 * HOUR)
    [with_it] = store.materialize_incremental(AT + 3 * HOUR, overlap=timedelta(hours=2))

    assert without.is_empty
    assert with_it.start == AT
    assert with_it.entities_written == 5
    with pytest.raises(ValueError, match="overlap"):
        store.materialize_incremental(LATE, overlap=-HOUR)


SPILLED_ROWS = 150_000


def spilling(folder: Path, redis7: RedisServer) -> Repo:
    """A repo that needs some megabytes on disk to decide its rows."""
    table = pa.table(
        {
            "driver_id": pa.array(range(SPILLED_ROWS), pa.int64()),
            "event_timestamp": pa.array([AT] * SPILLED_ROWS, TIME),
            "x": pa.array([0.5] * SPILLED_ROWS),
        }
    )
    settings = {"materialization": {"max_memory_mb": 1}}
    return plain(folder, table).open(folder / "repo", redis7, settings=settings)


def test_no_room_on_disk_for_more_entities_than_memory_is_for(
    tmp_path: Path, redis7: RedisServer
) -> None:
    """The limit on the size of files stands for a disk that is full."""
    repo = spilling(tmp_path, redis7)
    script = textwrap.dedent(
        """
        import os, resource, sys
        from datetime import datetime
        import feastrs
        store = feastrs.FeatureStore(repo_path=sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        window = (datetime(2000, 1, 1), datetime(2040, 1, 1))
        try:
            store.materialize(*window)
        except OSError as error:
            assert "TMPDIR" in str(error) and "max_memory_mb" in str(error), error
        else:
            sys.exit("there was room")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(store.materialize(*window).entities_written)
        """
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(repo.folder)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, str(SPILLED_ROWS)), done.stderr
    assert len(recorded(repo, "v")) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system, and not everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(
    small_disk: Path, tmp_path: Path, redis7: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = spilling(tmp_path / "data", redis7)
    monkeypatch.setenv("TMPDIR", str(small_disk))

    with pytest.raises(OSError, match="max_memory_mb") as caught:
        repo.ours().materialize(EARLY, LATE)

    assert str(small_disk) in str(caught.value)
    assert list(small_disk.iterdir()) == []
    assert recorded(repo, "v") == []
    with repo.redis() as client:
        assert client.dbsize() == 0
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert repo.ours().materialize(EARLY, LATE).entities_written == SPILLED_ROWS
