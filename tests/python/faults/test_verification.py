"""`verify_online` finds every row that is not as it should be, and nothing else."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import feastrs
from feastrs import errors
from testbed.corruption import (
    AT,
    CORRUPTIONS,
    REDIS_CORRUPTIONS,
    TIME,
    VIEW,
    Corruption,
    drivers,
    online_rows,
    source_rows,
)
from testbed.interpreter import Interpreter, assert_prompt
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Applied, Repo

COUNT = 3000


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    return drivers(tmp_path_factory.mktemp("drivers"), COUNT)


@pytest.fixture
def repo(applied: Applied, any_server: RedisServer | None, tmp_path: Path) -> Repo:
    """Materialized, on each store in turn."""
    repo = applied.open(tmp_path, any_server)
    repo.ours().materialize(EARLY, LATE)
    return repo


def the_view(report: feastrs.VerificationReport) -> feastrs.ViewVerification:
    (view,) = report.views
    return view


def frame(ids: list[int], at: Any) -> pa.Table:
    return pa.table(
        {
            "driver_id": pa.array(ids, pa.int64()),
            "event_timestamp": pa.array([at] * len(ids), TIME),
            "x": pa.array([7.5] * len(ids)),
            "n": pa.array([7] * len(ids), pa.int64()),
            "name": pa.array(["pushed"] * len(ids)),
        }
    )


@pytest.mark.parametrize("sample", [None, COUNT, 500])
def test_a_clean_store_is_clean(repo: Repo, sample: int | None) -> None:
    view = the_view(repo.ours().verify_online(sample=sample))

    assert view.is_clean
    assert view.examples == []
    assert view.compared == view.matching == (sample or COUNT)
    assert view.rows_read == 2 * COUNT
    assert view.entities_estimated == (sample == 500)
    assert abs(view.entities - COUNT) < (600 if view.entities_estimated else 1)
    assert all(one.different == 0 and one.compared == view.compared for one in view.features)


def test_every_corrupted_row_is_found(repo: Repo) -> None:
    corruptions = CORRUPTIONS + (REDIS_CORRUPTIONS if repo.server else [])
    wrong: dict[int, Corruption] = {}
    with online_rows(repo) as rows:
        for index in range(20 * len(corruptions)):
            driver, corruption = 1 + 7 * index, corruptions[index % len(corruptions)]
            corruption.spoil(rows, driver)
            wrong[driver] = corruption

    view = the_view(repo.ours().verify_online(sample=None, examples=COUNT))

    found = {example.entity["driver_id"]: example for example in view.examples}
    assert found.keys() == wrong.keys()
    for driver, example in found.items():
        corruption = wrong[driver]
        assert example.status == corruption.status, corruption.name
        assert example.source_time == AT + timedelta(seconds=driver)
        problems = [(one.feature, one.problem) for one in example.differences]
        assert problems == ([corruption.problem] if corruption.problem else []), corruption.name
        assert bool(example.reason) == (corruption.status == "unreadable")
    assert view.findings == len(wrong)
    assert view.matching == COUNT - len(wrong)
    for status in ("missing", "stale", "different", "unreadable"):
        expected = sum(one.status == status for one in wrong.values())
        assert getattr(view, status) == expected > 0
    differing = {one.feature: (one.different, one.absent) for one in view.features}
    assert differing == {"x": (60, 20), "n": (40, 0), "name": (40, 0)}


def test_both_values_are_shown(repo: Repo) -> None:
    with online_rows(repo) as rows:
        by_name = {one.name: one for one in CORRUPTIONS}
        for driver, name in enumerate(["another value", "garbage", "no value", "null"]):
            by_name[name].spoil(rows, driver)

    view = the_view(repo.ours().verify_online(sample=None))

    shown = {
        example.entity["driver_id"]: (one.feature, one.source, one.online)
        for example in view.examples
        for one in example.differences
    }
    assert shown == {
        0: ("x", 0.0, 1e9),
        1: ("name", "driver 1", b"\xff\xfe no value"),
        2: ("x", 1.0, None),
        3: ("name", "driver 3", None),
    }
    assert "driver_id=0 of 2024-05-01T08:00:00+00:00 is different: x: 0.0 in the source" in str(
        view.examples[0]
    )


def test_a_sample_finds_its_share(repo: Repo) -> None:
    with online_rows(repo) as rows:
        for driver in range(0, COUNT, 2):
            rows.drop_row(driver)

    first, again, other = (
        the_view(repo.ours().verify_online(sample=1000, seed=seed)) for seed in (1, 1, 2)
    )

    assert first.compared == 1000
    assert 0.4 < first.share("missing") < 0.6
    assert first.examples == again.examples != other.examples
    assert len(first.examples) == 10


def test_what_was_pushed_since_is_newer(repo: Repo) -> None:
    repo.ours().write_to_online_store(VIEW, frame([1, 2, 3], AT + timedelta(days=1)))

    view = the_view(repo.ours().verify_online(sample=None))

    assert (view.newer, view.matching, view.is_clean) == (3, COUNT - 3, True)


def test_a_push_of_the_same_time_differs(repo: Repo) -> None:
    repo.ours().write_to_online_store(VIEW, frame([5], AT + timedelta(seconds=5)))

    view = the_view(repo.ours().verify_online(sample=None))

    (example,) = view.examples
    assert [one.feature for one in example.differences] == ["x", "n", "name"]


def test_drift(repo: Repo) -> None:
    """What was pushed since is no finding, and still may be distributed otherwise."""
    features = {
        one.feature: one for one in the_view(repo.ours().verify_online(sample=None)).features
    }
    assert all(one.psi == 0 and one.source == one.online for one in features.values())
    x, name = features["x"], features["name"]
    halves = [i / 2 for i in range(COUNT)]
    assert x.source.mean == pytest.approx(statistics.mean(halves))
    assert x.source.std == pytest.approx(statistics.stdev(halves))
    assert (x.source.min, x.source.p50, x.source.max) == (0, statistics.median(halves), halves[-1])
    assert name.source.mean is None
    assert len(name.categories) == 10

    pushed = frame(list(range(1000)), AT + timedelta(days=1))
    nulls = pushed.set_column(3, "n", pa.nulls(1000, pa.int64()))
    repo.ours().write_to_online_store(VIEW, nulls)
    view = the_view(repo.ours().verify_online(sample=None))
    features = {one.feature: one for one in view.features}

    assert view.is_clean
    assert view.newer == 1000
    assert all(one.compared == 2000 and one.rows == COUNT for one in features.values())
    assert all(one.psi is not None and one.psi > 0.25 for one in features.values())
    assert (features["n"].source.nulls, features["n"].online.nulls) == (0, 1000)
    assert features["x"].online.p5 == 7.5
    report = repo.ours().verify_online(sample=None)
    assert report.excesses() == []
    assert len(report.excesses(max_psi=0.25)) == 3


def test_rows_after_the_last_interval_do_not_count(
    applied: Applied, either_store: RedisServer | None, tmp_path: Path
) -> None:
    repo = applied.open(tmp_path, either_store)
    repo.ours().materialize(EARLY, AT)
    view = the_view(repo.ours().verify_online(sample=None))
    # Driver 0's newest row is of that moment; of the others the older ones are.
    assert view.is_clean
    assert view.compared == COUNT
    assert view.end == AT

    repo.ours().materialize_incremental(AT + timedelta(seconds=9))
    view = the_view(repo.ours().verify_online(sample=None))
    assert view.is_clean
    assert view.compared == COUNT


def test_rows_in_gaps_between_intervals_do_not_count(
    applied: Applied, either_store: RedisServer | None, tmp_path: Path
) -> None:
    repo = applied.open(tmp_path, either_store)
    repo.ours().materialize(EARLY, AT - timedelta(hours=12))
    repo.ours().materialize(AT + timedelta(seconds=1000), LATE)
    view = the_view(repo.ours().verify_online(sample=None))
    assert view.is_clean
    assert view.matching == COUNT


def test_a_late_row_is_missing_online(
    applied: Applied, either_store: RedisServer | None, tmp_path: Path
) -> None:
    """One that reached the source after the run that should have taken it."""
    applied = drivers(tmp_path / "own", 10)
    repo = applied.open(tmp_path / "repo", either_store)
    repo.ours().materialize(EARLY, LATE)
    late = frame([3, 99], AT + timedelta(minutes=1))
    path = tmp_path / "own" / "drivers.parquet"
    pq.write_table(pa.concat_tables([source_rows(10), late]), path)

    view = the_view(repo.ours().verify_online())

    assert {one.entity["driver_id"]: one.status for one in view.examples} == {
        3: "stale",
        99: "missing",
    }


def test_the_time_range_can_be_narrowed(repo: Repo) -> None:
    with online_rows(repo) as rows:
        rows.drop_row(10)
        rows.drop_row(20)
    limits = {"start_date": AT + timedelta(seconds=15), "end_date": AT + timedelta(seconds=24)}

    view = the_view(repo.ours().verify_online(**limits))

    assert (view.compared, view.missing) == (10, 1)
    assert (view.start, view.end) == tuple(limits.values())


def test_views_that_were_never_materialized_are_said_to_be_so(
    applied: Applied, either_store: RedisServer | None, tmp_path: Path
) -> None:
    report = applied.open(tmp_path, either_store).ours().verify_online()

    view = the_view(report)
    assert not view.is_materialized
    assert view.compared == 0
    assert view.start is None
    assert report.is_clean
    assert "nothing is materialized" in str(report)


def test_null_keys_are_counted(either_store: RedisServer | None, tmp_path: Path) -> None:
    table = source_rows(20)
    without = frame([1, 2], AT).set_column(0, "driver_id", pa.array([None, None], pa.int64()))
    applied = drivers(tmp_path / "own", 20, pa.concat_tables([table, without]))
    skip = {"materialization": {"on_null_key": "skip"}}
    repo = applied.open(tmp_path / "repo", either_store, settings=skip)
    repo.ours().materialize(EARLY, LATE)

    view = the_view(repo.ours().verify_online())

    assert (view.null_keys, view.matching, view.is_clean) == (2, 20, True)


def test_entity_keys_of_version_2(redis7: RedisServer, tmp_path: Path) -> None:
    applied = drivers(tmp_path / "own", 20)
    repo = applied.open(tmp_path / "repo", redis7, key_version=2)
    store = repo.ours()
    store.materialize(EARLY, LATE)
    with repo.redis() as client:
        client.delete(client.randomkey())  # type: ignore[arg-type]

    (example,) = the_view(store.verify_online()).examples

    assert example.status == "missing"
    assert example.entity["driver_id"] in range(20)


def test_rows_that_a_key_ttl_explains_are_expired(
    applied: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    """The registry tells when a run was, at the latest: what it wrote lived so long from then."""
    repo = applied.open(tmp_path, redis7, online_store={"key_ttl_seconds": 3600})
    repo.ours().materialize(EARLY, AT + timedelta(seconds=99))
    with online_rows(repo) as rows:
        rows.drop_row(1)
    view = the_view(repo.ours().verify_online(sample=None))
    assert (view.expired, view.missing, view.is_clean) == (1, 0, True)

    repo.ours().materialize(EARLY, LATE)
    with online_rows(repo) as rows:
        rows.drop_row(2)
    view = the_view(repo.ours().verify_online(sample=None))
    assert (view.expired, view.missing) == (0, 1), "this run was within the hour"


@pytest.fixture
def writing(repo: Repo) -> Iterator[Repo]:
    """Pushes, and a materialization again and again, all the while."""
    ended = threading.Event()
    raised: list[BaseException] = []

    def work(write: Any) -> None:
        store = feastrs.FeatureStore(str(repo.folder))
        number = 0
        try:
            while not ended.is_set():
                write(store, number)
                number += 1
        except BaseException as error:
            raised.append(error)

    def push(store: Any, number: int) -> None:
        at = AT + timedelta(days=1, seconds=number)
        store.write_to_online_store(VIEW, frame(list(range(300)), at))

    def materialize(store: Any, number: int) -> None:
        store.materialize(EARLY, LATE)

    threads = [threading.Thread(target=work, args=(write,)) for write in (push, materialize)]
    for thread in threads:
        thread.start()
    yield repo
    ended.set()
    for thread in threads:
        thread.join()
    assert raised == []


def test_writers_at_work_raise_no_alarm(writing: Repo) -> None:
    store = feastrs.FeatureStore(str(writing.folder))
    for _ in range(10):
        view = the_view(store.verify_online(sample=None))
        assert view.is_clean, view
        assert view.compared == COUNT


def test_a_store_that_is_not_there_fails(
    applied: Applied, redis7: RedisServer, tmp_path: Path
) -> None:
    repo = applied.open(tmp_path, redis7)
    repo.ours().materialize(EARLY, LATE)
    repo.config["online_store"]["connection_string"] = "127.0.0.1:1,db=0"
    repo.write_config()

    with pytest.raises(feastrs.VerificationError, match="view 'drivers'") as raised:
        feastrs.FeatureStore(str(repo.folder)).verify_online()

    report = raised.value.report
    assert isinstance(report.failures[VIEW], ConnectionError)
    assert not report.is_clean


def test_a_source_that_is_gone_fails(either_store: RedisServer | None, tmp_path: Path) -> None:
    repo = drivers(tmp_path / "own", 5).open(tmp_path / "repo", either_store)
    repo.ours().materialize(EARLY, LATE)
    (tmp_path / "own" / "drivers.parquet").unlink()

    with pytest.raises(feastrs.VerificationError) as raised:
        repo.ours().verify_online()

    assert isinstance(raised.value.__cause__, FileNotFoundError)


def test_bad_arguments(repo: Repo) -> None:
    store = repo.ours()
    with pytest.raises(TypeError, match="list of names"):
        store.verify_online(VIEW)
    with pytest.raises(ValueError, match="sample"):
        store.verify_online(sample=0)
    with pytest.raises(ValueError, match="examples"):
        store.verify_online(examples=-1)
    with pytest.raises(ValueError, match="after end_date"):
        store.verify_online(start_date=LATE, end_date=EARLY)
    with pytest.raises(errors.FeatureViewNotFoundException, match="no_such"):
        store.verify_online(["no_such"])


def test_ctrl_c_is_prompt(applied: Applied, tmp_path: Path) -> None:
    server = RedisServer("7.0")
    try:
        # Nothing ends by itself while the test looks.
        patient = f"{server.connection_string(1)},socket_timeout=60,socket_connect_timeout=60"
        online_store = {"type": "redis", "connection_string": patient}
        repo = applied.open(tmp_path, server, online_store=online_store)
        repo.ours().materialize(EARLY, LATE)
        server.stall()
        with Interpreter(repo.folder) as python:
            assert_prompt(lambda: python.interrupted("store.verify_online()"))
    finally:
        server.resume()
        server.close()
