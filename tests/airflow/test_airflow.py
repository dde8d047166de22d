"""The example DAG in a real Airflow, with what an operator reads in its logs."""

from __future__ import annotations

import re

from conftest import Airflow
from testbed.redis_server import RedisServer

LOGGER = "feastrs.materialization"
DAY = r"2026-01-20 00:00:00\+00:00 to 2026-01-21 00:00:00\+00:00"

# What a run of the example for one day tells, line by line.
TOLD = [
    ("info", r"materializing driver_stats: 42,400 rows in its source"),
    (
        "info",
        rf"materialized driver_stats, {DAY}: [\d,]+ rows read, 2,000 entities written, "
        r"0 older than the store, 0 null keys, \d+\.\d s",
    ),
    ("info", r"materializing driver_profile: 2,500 rows in its source"),
    ("info", rf"materialized driver_profile, {DAY}: .*"),
]


def test_dags_test(airflow: Airflow, redis: RedisServer) -> None:
    done = airflow.test_dag()

    assert done.returncode == 0
    for level, pattern in TOLD:
        line = rf"\[{level} +\] {pattern} +\[{re.escape(LOGGER)}\]"
        assert re.search(line, done.stdout), line
    # Its first task wrote every driver, and its second found what it asked for.
    with redis.client() as client:
        assert client.dbsize() == 2_000
    assert "'avg_daily_trips': [" in done.stdout


def test_tasks_in_forked_processes(airflow: Airflow, redis: RedisServer) -> None:
    """As an executor runs them, with a parent that has used feastrs before it forks."""
    source = airflow.dag_file.read_text()
    used = "FeatureStore(repo_path=REPO).get_online_features("
    airflow.dag_file.write_text(
        f"{source}\n\n{used}['driver_stats:conv_rate'], SOME_DRIVERS).to_dict()\n"
    )

    with airflow.api_server():
        done = airflow.test_dag("--use-executor")

    assert done.returncode == 0
    told = [line for line in airflow.task_log("materialize") if line[1] == LOGGER]
    for level, pattern in TOLD:
        assert any(line[0] == level and re.fullmatch(pattern, line[2]) for line in told), told
    with redis.client() as client:
        assert client.dbsize() == 2_000
    assert any("'avg_daily_trips': [" in event for _, _, event in airflow.task_log("check"))


def test_a_store_that_is_gone_fails_the_task(airflow: Airflow, redis: RedisServer) -> None:
    redis.close()

    done = airflow.test_dag()

    assert done.returncode == 1
    failed = rf"\[error +\] materializing driver_stats failed .*127\.0\.0\.1:{redis.port}"
    assert re.search(failed, done.stdout)
    assert "materialized driver_stats" not in done.stdout
