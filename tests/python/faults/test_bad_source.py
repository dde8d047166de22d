"""Parquet that is not what it should be: an error that names it, nothing written or recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testbed.plain import AT, TIME, plain, plain_definitions, plain_table
from testbed.redis_server import RedisServer
from testbed.refusals import fails
from testbed.repo import EARLY, LATE, Repo, apply


def materialize(folder: Path, table: pa.Table | None, server: RedisServer) -> Repo:
    """A repo whose Parquet file is `table`."""
    return plain(folder, table).open(folder / "repo", server)


def without(name: str) -> pa.Table:
    return plain_table().drop_columns([name])


def with_column(name: str, column: pa.Array) -> pa.Table:
    table = plain_table()
    return table.set_column(table.column_names.index(name), name, column)


class TestSource:
    @pytest.fixture(autouse=True)
    def _nothing_is_recorded(self, tmp_path: Path, redis7: RedisServer) -> Iterator[None]:
        """Whatever goes wrong, no interval is recorded and no entity is written."""
        self.repo: Repo | None = None
        yield
        assert self.repo is not None
        assert self.repo.stock().get_feature_view("v").materialization_intervals == []
        with self.repo.redis() as client:
            assert client.dbsize() == 0

    def refused(self, repo: Repo, kind: type[BaseException], *names: str) -> str:
        self.repo = repo
        return fails(kind, lambda: repo.ours().materialize(EARLY, LATE), *names)

    def test_missing(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, None, redis7)
        (tmp_path / "v.parquet").unlink()
        self.refused(repo, FileNotFoundError, "v.parquet")

    def test_glob_without_a_match(self, tmp_path: Path, redis7: RedisServer) -> None:
        pq.write_table(plain_table(), tmp_path / "v.parquet")
        applied = apply(tmp_path / "applied", plain_definitions(tmp_path / "v*.parquet"))
        (tmp_path / "v.parquet").unlink()
        self.refused(applied.open(tmp_path / "repo", redis7), FileNotFoundError, "v*.parquet")

    @pytest.mark.parametrize("size", [0, 3, 100, -1])
    def test_truncated(self, size: int, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, None, redis7)
        data = (tmp_path / "v.parquet").read_bytes()
        (tmp_path / "v.parquet").write_bytes(data[:size])
        self.refused(repo, ValueError, "v.parquet")

    def test_damaged_page(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, None, redis7)
        data = bytearray((tmp_path / "v.parquet").read_bytes())
        data[4:120] = bytes(116)
        (tmp_path / "v.parquet").write_bytes(bytes(data))
        self.refused(repo, ValueError, "v.parquet")

    def test_no_key_column(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, without("driver_id"), redis7)
        self.refused(repo, Exception, "driver_id", "v.parquet")

    def test_no_timestamp_column(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, without("event_timestamp"), redis7)
        self.refused(repo, Exception, "event_timestamp", "v.parquet")

    def test_no_feature_column(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, without("x"), redis7)
        self.refused(repo, Exception, "'x'", "v.parquet")

    def test_two_feature_columns_of_one_name(self, tmp_path: Path, redis7: RedisServer) -> None:
        table = plain_table().append_column("x", pa.array([7.0, 8.0, 9.0]))
        repo = materialize(tmp_path, table, redis7)
        self.refused(repo, ValueError, "'x'", "more than one", "v.parquet")

    @pytest.mark.parametrize(
        "column",
        [
            pa.array(["a", "b", "c"]),
            pa.array([b"a", b"b", b"c"]),
            pa.array([[1.0], [2.0], []]),
            pa.array([AT] * 3, TIME),
        ],
        ids=["string", "binary", "list", "timestamp"],
    )
    def test_feature_of_another_type(
        self, column: pa.Array, tmp_path: Path, redis7: RedisServer
    ) -> None:
        repo = materialize(tmp_path, with_column("x", column), redis7)
        self.refused(repo, Exception, "'x'")

    @pytest.mark.parametrize(
        "column",
        [pa.array(["1", "x", "3"]), pa.array([[1], [2], [3]])],
        ids=["string", "list"],
    )
    def test_key_of_another_type(
        self, column: pa.Array, tmp_path: Path, redis7: RedisServer
    ) -> None:
        repo = materialize(tmp_path, with_column("driver_id", column), redis7)
        self.refused(repo, Exception, "driver_id")

    @pytest.mark.parametrize(
        "column",
        [pa.array(["a", "b", "c"]), pa.array([[1], [2], [3]]), pa.array([True, False, True])],
        ids=["string", "list", "bool"],
    )
    def test_timestamp_of_another_type(
        self, column: pa.Array, tmp_path: Path, redis7: RedisServer
    ) -> None:
        repo = materialize(tmp_path, with_column("event_timestamp", column), redis7)
        self.refused(repo, Exception, "event_timestamp")

    def test_null_keys(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(
            tmp_path, with_column("driver_id", pa.array([1, None, None], pa.int64())), redis7
        )
        self.refused(repo, ValueError, "driver_id", "2")

    def test_a_folder_without_files(self, tmp_path: Path, redis7: RedisServer) -> None:
        repo = materialize(tmp_path, None, redis7)
        (tmp_path / "v.parquet").unlink()
        (tmp_path / "v.parquet").mkdir()
        self.refused(repo, FileNotFoundError, "v.parquet")


def test_an_empty_file_is_no_error(tmp_path: Path, redis7: RedisServer) -> None:
    repo = materialize(tmp_path, plain_table(0), redis7)
    report = repo.ours().materialize(EARLY, LATE)
    assert report.views[0].entities_written == 0
