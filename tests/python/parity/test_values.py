"""Every value type: what stock Feast and feastrs materialize from one Parquet file is equal."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from feast.protos.feast.types.Value_pb2 import Value

from testbed.case_views import (
    AT,
    DRIVER,
    ROWS,
    entity_key,
    fields_of,
    stored_values,
    view_of,
)
from testbed.doors import ask_both, difference
from testbed.dump import assert_same_redis, assert_same_sqlite, canonical, dump_sqlite
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo, apply
from testbed.values import CASES, MENDED, PROTO_ONLY, Case, mended_values

CASE_NAMES = [case.name for case in CASES]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    folder = tmp_path_factory.mktemp("values")
    return apply(folder / "applied", [DRIVER, *(view_of(case, folder) for case in CASES)])


@pytest.fixture(scope="module")
def stock_repo(
    applied: Applied,
    any_server: RedisServer | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Repo:
    """All cases, materialized by stock Feast."""
    repo = applied.open(tmp_path_factory.mktemp("stock"), any_server)
    repo.stock().materialize(EARLY, LATE)
    return repo


@pytest.fixture(scope="module")
def our_repo(
    applied: Applied,
    any_server: RedisServer | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Repo:
    """All cases, materialized by feastrs view by view, so that one failure stays one."""
    return applied.open(tmp_path_factory.mktemp("ours"), any_server)


def ask_all(case: str) -> Any:
    rows = [{"driver_id": i} for i in range(ROWS + 1)]
    return lambda store: store.get_online_features([f"v_{case}:{case}"], rows)


@pytest.mark.parametrize("case", CASE_NAMES)
class TestCase:
    """For each type and store: bytes, and reading through both doors what either wrote."""

    def test_both_write_the_same(self, case: str, our_repo: Repo, stock_repo: Repo) -> None:
        our_repo.ours().materialize(EARLY, LATE, feature_views=[f"v_{case}"])

        if our_repo.server is None:
            left = dump_sqlite(our_repo.sqlite_path)[f"demo_v_{case}"]
            right = dump_sqlite(stock_repo.sqlite_path)[f"demo_v_{case}"]
            assert difference(left, right) is None
            return
        assert fields_of(our_repo, case) == fields_of(stock_repo, case)

    def test_we_read_what_stock_wrote(self, case: str, stock_repo: Repo) -> None:
        ask_both(stock_repo, lambda store: ask_all(case)(store).to_dict())

    def test_event_timestamps(self, case: str, stock_repo: Repo) -> None:
        ask_both(
            stock_repo,
            lambda store: ask_all(case)(store).to_dict(include_event_timestamps=True),
        )

    def test_messages_and_pickles(self, case: str, stock_repo: Repo) -> None:
        response = ask_all(case)(stock_repo.ours())
        stock = ask_all(case)(stock_repo.stock()).proto

        [ours] = [one for name, one in by_name(response.proto) if name == case]
        [theirs] = [one for name, one in by_name(stock) if name == case]
        assert list(map(as_bytes, ours.values)) == list(map(as_bytes, theirs.values))
        # Whole seconds in stock Feast's Redis store.
        seconds = [time.seconds for time in ours.event_timestamps]
        assert seconds == [time.seconds for time in theirs.event_timestamps]

        again = pickle.loads(pickle.dumps(response))
        assert difference(again.to_dict(True), response.to_dict(True)) is None
        assert again.statuses() == response.statuses()

    def test_data_frames(self, case: str, stock_repo: Repo) -> None:
        import pandas as pd

        stock = ask_all(case)(stock_repo.stock()).to_df()
        ours = ask_all(case)(stock_repo.ours()).to_df()
        pd.testing.assert_frame_equal(ours[sorted(ours)], stock[sorted(stock)])


def by_name(proto: Any) -> Any:
    return zip(proto.metadata.feature_names.val, proto.results, strict=True)


def as_bytes(value: Value) -> bytes | None:
    """A time that is none, which Feast stores as the number of NaT, is null for us."""
    if value.WhichOneof("val") == "unix_timestamp_val" and value.unix_timestamp_val == -(2**63):
        return b""
    return canonical(value.SerializeToString(deterministic=True))


def test_stock_reads_what_we_wrote(our_repo: Repo, stock_repo: Repo) -> None:
    our_repo.ours().materialize(EARLY, LATE)
    for case in CASE_NAMES:
        ours = ask_all(case)(our_repo.stock()).to_dict()
        stock = ask_all(case)(stock_repo.stock()).to_dict()
        assert difference(ours, stock) is None


def test_whole_stores_are_equal(our_repo: Repo, stock_repo: Repo) -> None:
    our_repo.ours().materialize(EARLY, LATE)
    if our_repo.server is None:
        assert_same_sqlite(our_repo.sqlite_path, stock_repo.sqlite_path)
        return
    dump = assert_same_redis(our_repo.redis(), stock_repo.redis())
    assert len(dump) == ROWS


MENDED_BY_NAME = {case.name: case for case in MENDED}


@pytest.mark.parametrize("name", MENDED_BY_NAME)
def test_mended(name: str, tmp_path: Path, either_store: RedisServer | None) -> None:
    """Columns that stock Feast can't materialize, or not rightly."""
    case = MENDED_BY_NAME[name]
    repo = apply(tmp_path / "applied", [DRIVER, view_of(case, tmp_path)]).open(
        tmp_path / "repo", either_store
    )

    repo.ours().materialize(EARLY, LATE)

    expected = mended_values(name)
    stored = stored_values(repo, case)
    for row in range(ROWS):
        assert stored[row] == expected[row % len(expected)], f"row {row}"
    ask_both(repo, lambda store: ask_all(name)(store).to_dict())


@pytest.fixture(scope="module")
def proto_repo(any_server: RedisServer | None, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Ready-made values, written by stock Feast's `online_write_batch`."""
    folder = tmp_path_factory.mktemp("proto")
    views = []
    for name, (dtype, values) in PROTO_ONLY.items():
        case = Case(name, dtype, pa.int64(), [0])
        views.append((view_of(case, folder), values))
    applied = apply(folder / "applied", [DRIVER, *(view for view, _ in views)])
    repo = applied.open(folder / "repo", any_server)
    store = repo.stock()
    for view, values in views:
        rows = [
            (entity_key(i), {view.name.removeprefix("v_"): value}, AT, None)
            for i, value in enumerate(values)
        ]
        store._get_provider().online_write_batch(  # type: ignore[attr-defined]
            store.config, store.get_feature_view(view.name), rows, None
        )
    return repo


@pytest.mark.parametrize("name", PROTO_ONLY)
def test_ready_made_values(name: str, proto_repo: Repo) -> None:
    count = len(PROTO_ONLY[name][1])
    rows = [{"driver_id": i} for i in range(count + 1)]
    ask_both(
        proto_repo, lambda store: store.get_online_features([f"v_{name}:{name}"], rows).to_dict()
    )
