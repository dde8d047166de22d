"""An Airflow DAG: write yesterday's features to the online store, then read some back.

Feast's repository, `feature_store.yaml` with its registry, lies where the environment variable
FEATURE_REPO_DIR_ENV_VAR says. For Airflow 2.x, import `DAG` from `airflow` and `PythonOperator`
from `airflow.operators.python`.
"""

import os
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from feastrs import FeatureStore

REPO = os.environ.get("FEATURE_REPO_DIR_ENV_VAR", "/opt/airflow/feature_repo")
SOME_DRIVERS = [{"driver_id": driver_id} for driver_id in (1001, 1742, 3000)]


def check(data_interval_start: datetime) -> dict[str, list[object]]:
    """Fails where drivers that drive every day have no features of the day."""
    response = FeatureStore(repo_path=REPO).get_online_features(
        features=["driver_stats:conv_rate", "driver_stats:avg_daily_trips"],
        entity_rows=SOME_DRIVERS,
    )
    columns = response.to_dict(include_event_timestamps=True)
    for driver_id, trips, written in zip(
        columns["driver_id"],
        columns["avg_daily_trips"],
        columns["avg_daily_trips__ts"],
        strict=True,
    ):
        if trips is None or written < data_interval_start.timestamp():
            raise ValueError(f"driver {driver_id} has no features of {data_interval_start}")
    return columns


def materialize(data_interval_start: datetime, data_interval_end: datetime) -> str:
    report = FeatureStore(repo_path=REPO).materialize(
        start_date=data_interval_start, end_date=data_interval_end
    )
    return str(report)


with DAG(
    dag_id="materialize_driver_stats",
    # Each run has the day before it as its data interval; a plain "@daily" has an empty one
    # in Airflow 3.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # A run that is done again, late or twice ends in the same store: the newest rows stay.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
):
    materialized = PythonOperator(task_id="materialize", python_callable=materialize)
    materialized >> PythonOperator(task_id="check", python_callable=check)
