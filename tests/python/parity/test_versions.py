"""Versions of views: `view@v2:feature`, services that pin one, and the names in the store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import feast
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

from testbed.doors import ask_both, difference, refuse_both
from testbed.redis_server import RedisServer
from testbed.repo import EARLY, LATE, Repo, _make_tables, apply, file_source

AT = datetime(2024, 5, 1, 8, tzinfo=timezone.utc)
DRIVER = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
ROWS = [{"driver_id": driver} for driver in (1, 2, 9)]
VERSIONED = {"enable_online_feature_view_versioning": True}


def stats(folder: Path, features: dict[str, list[float]]) -> FeatureView:
    """A view `stats` on a file that has these features of two drivers."""
    path = folder / f"{'_'.join(features)}.parquet"
    columns = {name: pa.array(values) for name, values in features.items()}
    times = pa.array([AT, AT], pa.timestamp("us", "UTC"))
    table = {"driver_id": pa.array([1, 2], pa.int64()), "event_timestamp": times, **columns}
    pq.write_table(pa.table(table), path)
    return FeatureView(
        name="stats",
        entities=[DRIVER],
        ttl=timedelta(days=3650),
        schema=[
            Field(name="driver_id", dtype=Int64),
            *(Field(name=name, dtype=Float64) for name in features),
        ],
        source=file_source(path),
    )


def doubled(column: str, view: FeatureView, times: int) -> Any:
    """A version of an on-demand view `scaled`."""
    body = {2: _doubled, 3: _tripled}[times]
    return on_demand_feature_view(
        sources=[view[[column]]], schema=[Field(name="y", dtype=Float64)], mode="python"
    )(body)


def _doubled(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"y": [None if x is None else x * 2 for x in inputs["x"]]}


def _tripled(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"y": [None if x is None else x * 3 for x in inputs["x"]]}


@pytest.fixture(scope="module")
def repo(either_store: RedisServer | None, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """`stats` in three versions, each materialized with values of its own."""
    folder = tmp_path_factory.mktemp("versions")
    settings = {"registry": {"path": "registry.db", **VERSIONED}}
    first = stats(folder, {"x": [0.5, 1.5]})
    applied = apply(folder / "applied", [DRIVER, first])
    repo = applied.open(folder / "repo", either_store, settings=settings)
    store = repo.stock()
    store.apply([first])
    store.materialize(EARLY, LATE)
    for features in ({"x": [10.5, 11.5], "z": [1.0, 2.0]}, {"x": [20.5, 21.5]}):
        view = stats(folder, features)
        store.apply([view])
        if either_store is None:
            _make_tables(store)
        store.materialize(EARLY, LATE)
    store.apply([FeatureService(name="now", features=[store.get_feature_view("stats")])])
    return repo


REQUESTS = {
    "the current one": ["stats:x"],
    "the first": ["stats@v0:x"],
    "the second, which has another feature": ["stats@v1:x", "stats@v1:z"],
    "the last": ["stats@v2:x"],
    "latest": ["stats@latest:x"],
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("full_feature_names", [False, True])
def test_versions(name: str, full_feature_names: bool, repo: Repo) -> None:
    ask_both(
        repo,
        lambda store: store.get_online_features(REQUESTS[name], ROWS, full_feature_names).to_dict(),
    )


def test_versions_hold_what_was_written_for_them(repo: Repo) -> None:
    ask = ["stats@v0:x", "stats@v1:x", "stats@v1:z", "stats@v2:x", "stats:x"]
    answer = ask_both(repo, lambda store: store.get_online_features(ask, ROWS, True).to_dict())
    first = {name: values[0] for name, values in answer.items()}
    assert first == {
        "driver_id": 1,
        "stats@v0__x": 0.5,
        "stats@v1__x": 10.5,
        "stats@v1__z": 1.0,
        "stats@v2__x": 20.5,
        "stats__x": 20.5,
    }


def test_the_version_is_told(repo: Repo) -> None:
    for ask in (["stats:x"], ["stats@v1:x"], ["stats@v0:x"]):
        told = []
        for store in (repo.ours(), repo.stock()):
            response = store.get_online_features(
                ask, ROWS, include_feature_view_version_metadata=True
            )
            metadata = response.proto.metadata.feature_view_metadata
            told.append([(one.name, one.version) for one in metadata])
        assert told[0] == told[1]


def test_a_service_may_pin_a_version(repo: Repo) -> None:
    registry = repo.stock().registry
    registry.refresh()
    for version in (0, 1):
        service = FeatureService(
            name=f"pinned_{version}", features=[repo.stock().get_feature_view("stats")[["x"]]]
        )
        service.feature_view_projections[0].version_tag = version
        registry.apply_feature_service(service, repo.stock().project)
    repo.ours().refresh_registry()
    for name in ("pinned_0", "pinned_1"):
        for full in (False, True):
            ask_both(
                repo,
                lambda store, name=name, full=full: store.get_online_features(
                    store.get_feature_service(name), ROWS, full
                ).to_dict(),
            )


def test_a_service_reads_the_current_version_of_a_view(repo: Repo) -> None:
    """Feast loses the version on the way, and reads the rows of the first one."""
    read = []
    for store in (repo.ours(), repo.stock()):
        service = store.get_feature_service("now")
        read.append(store.get_online_features(service, ROWS).to_dict()["x"][0])
    assert read == [20.5, 0.5]


def test_versions_are_listed(repo: Repo) -> None:
    ours = repo.ours().list_feature_view_versions("stats")
    assert difference(ours, repo.stock().list_feature_view_versions("stats")) is None
    assert [one["version"] for one in ours] == ["v0", "v1", "v2"]
    assert repo.ours().list_feature_view_versions("nope") == []


def test_an_unknown_version(repo: Repo) -> None:
    for ask in (["stats@v7:x"], ["nope@v1:x"]):
        ours, stock = refuse_both(
            repo, lambda store, ask=ask: store.get_online_features(ask, ROWS).to_dict()
        )
        assert isinstance(ours, type(stock))
        assert isinstance(ours, feast.errors.FeastObjectNotFoundException)
        assert str(ours).startswith(str(stock))


def test_a_feature_of_another_version(repo: Repo) -> None:
    ours, stock = refuse_both(
        repo, lambda store: store.get_online_features(["stats@v0:z"], ROWS).to_dict()
    )
    assert isinstance(ours, type(stock))


def test_two_versions_of_one_name_collide(repo: Repo) -> None:
    ours, stock = refuse_both(
        repo, lambda store: store.get_online_features(["stats@v0:x", "stats@v1:x"], ROWS).to_dict()
    )
    assert isinstance(ours, type(stock))


def test_without_the_setting_versions_are_refused(repo: Repo, tmp_path: Path) -> None:
    plain = Repo(tmp_path, {**repo.config, "registry": str(repo.registry_path)}, repo.server)
    ours, stock = refuse_both(
        plain, lambda store: store.get_online_features(["stats@v1:x"], ROWS).to_dict()
    )
    assert isinstance(ours, type(stock))
    assert "enable_online_feature_view_versioning" in str(ours)


def test_versions_of_an_on_demand_view(redis7: RedisServer, tmp_path: Path) -> None:
    """Each version runs its own function."""
    view = stats(tmp_path, {"x": [0.5, 1.5]})

    def scaled(times: int) -> Any:
        function = {2: _doubled, 3: _tripled}[times]
        computed = doubled("x", view, times)
        computed.name = computed.projection.name = "scaled"
        assert function.__name__ in computed.feature_transformation.udf_string
        return computed

    applied = apply(tmp_path / "applied", [DRIVER, view])
    settings = {"registry": {"path": "registry.db", **VERSIONED}}
    repo = applied.open(tmp_path / "repo", redis7, settings=settings)
    repo.stock().apply([view, scaled(2)])
    repo.stock().apply([scaled(3)])
    repo.stock().materialize(EARLY, LATE)
    for ask in (["scaled:y"], ["scaled@v0:y"], ["scaled@v1:y"]):
        answer = ask_both(
            repo, lambda store, ask=ask: store.get_online_features(ask, ROWS).to_dict()
        )
        assert answer["y"][0] == (1.0 if ask == ["scaled@v0:y"] else 1.5)


@pytest.mark.parametrize("full_feature_names", [False, True])
@pytest.mark.parametrize("request_name", REQUESTS)
def test_training_data_of_a_version(
    request_name: str, full_feature_names: bool, repo: Repo
) -> None:
    """By Feast's duckdb store, by our offline store in an unchanged Feast, and by feastrs."""

    def with_store(kind: str) -> feast.FeatureStore:
        file = repo.folder / "history.yaml"
        file.write_text(yaml.safe_dump(repo.config | {"offline_store": {"type": kind}}))
        return feast.FeatureStore(repo_path=str(repo.folder), fs_yaml_file=file)

    labels = pd.DataFrame(ROWS).assign(event_timestamp=AT)
    expected, plugged, ours = (
        store.get_historical_features(labels, REQUESTS[request_name], full_feature_names).to_df()
        for store in (
            with_store("duckdb"),
            with_store("feastrs.feast.FileOfflineStore"),
            repo.ours(),
        )
    )
    expected = expected.sort_values("driver_id", ignore_index=True)
    names = [name for name in expected if name not in labels]
    assert expected[names].notna().to_numpy().sum() == 2 * len(names)
    for found in (plugged, ours):
        assert set(found) == set(expected)
        pd.testing.assert_frame_equal(found[names], expected[names], check_dtype=False)
