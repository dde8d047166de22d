"""`store.registry`, and definitions that not everybody can read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import feast
import pytest
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.types import Array, Float32, Int64

import feastrs
from testbed.demo import NATIVE_VIEWS, definitions, write_parquet
from testbed.doors import difference
from testbed.repo import EARLY, LATE, Applied, Repo, apply, file_source

LISTINGS = [
    *("list_entities", "list_data_sources", "list_feature_views", "list_all_feature_views"),
    *("list_stream_feature_views", "list_on_demand_feature_views", "list_feature_services"),
]
LOOKUPS = {
    "get_entity": "driver",
    "get_data_source": "driver_stats_source",
    "get_feature_view": "driver_stats",
    "get_on_demand_feature_view": "doubled",
    "get_feature_service": "driver_service",
}


@pytest.mark.parametrize("method", LISTINGS)
def test_listings_have_feasts_names_and_parameters(method: str, repo: Repo) -> None:
    ours, stock = repo.ours().registry, repo.stock().registry
    for tags in (None, {"team": "rides"}):
        found = getattr(ours, method)("demo", allow_cache=True, tags=tags)
        expected = getattr(stock, method)("demo", allow_cache=True, tags=tags)
        # Feast's registry lists its entity of views without one.
        assert [one.name for one in found] == [
            one.name for one in expected if one.name != "__dummy"
        ]


@pytest.mark.parametrize("method", LOOKUPS)
def test_lookups_have_feasts_names_and_parameters(method: str, repo: Repo) -> None:
    for registry in (repo.ours().registry, repo.stock().registry):
        assert getattr(registry, method)(LOOKUPS[method], "demo").name == LOOKUPS[method]
        with pytest.raises(feast.errors.FeastObjectNotFoundException):
            getattr(registry, method)("nope", project="demo")


def test_projects(repo: Repo) -> None:
    registry = repo.ours().registry
    assert [project.name for project in registry.list_projects()] == ["demo"]
    assert registry.get_project("demo").name == "demo"
    versions = registry.list_feature_view_versions("driver_stats", "demo")
    stock = repo.stock().registry.list_feature_view_versions("driver_stats", "demo")
    assert difference(versions, stock) is None


def test_everything_else_is_feasts(repo: Repo) -> None:
    registry = repo.ours().registry
    assert registry.list_permissions("demo") == []
    assert registry.list_entities("another project") == []
    assert registry.proto().SerializeToString() != b""
    with pytest.raises(AttributeError):
        registry.no_such_member  # noqa: B018


def test_looking_things_up_needs_no_feast(repo: Repo) -> None:
    code = f"""
import sys, feastrs
sys.modules["feast"] = None
store = feastrs.FeatureStore({str(repo.folder)!r})
assert len(store.registry.list_feature_views("demo")) == 6
assert store.registry.get_entity("driver", "demo").join_key == "driver_id"
try:
    store.registry.list_permissions("demo")
except feastrs.errors.NeedsFeastError as error:
    assert "registry.list_permissions" in str(error)
else:
    raise SystemExit("no error")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_logging_and_vectors_are_shown(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data")
    by_name = {one.name: one for one in definitions(tmp_path / "data")}
    driver = by_name["driver"]
    view = feast.FeatureView(
        name="searched",
        entities=[driver],
        schema=[
            feast.Field(name="driver_id", dtype=Int64),
            feast.Field(
                name="embedding",
                dtype=Array(Float32),
                vector_index=True,
                vector_length=3,
                vector_search_metric="L2",
            ),
        ],
        source=file_source(tmp_path / "data" / "driver_stats.parquet", name="searched_source"),
    )
    service = feast.FeatureService(
        name="logged",
        features=[view],
        logging_config=LoggingConfig(
            destination=FileLoggingDestination(path="logs", partition_by=["day"]), sample_rate=0.5
        ),
    )
    repo = apply(tmp_path / "applied", [driver, view, service]).open(tmp_path / "repo")

    config = repo.ours().get_feature_service("logged").logging_config
    stock = repo.stock().get_feature_service("logged").logging_config
    assert config.sample_rate == stock.sample_rate == 0.5
    assert config.destination.path == stock.destination.path == "logs"
    assert config.destination.partition_by == stock.destination.partition_by == ["day"]
    with pytest.raises(AttributeError, match="nope"):
        config.destination.nope  # noqa: B018
    assert repo.ours().get_feature_service("logged") == repo.ours().get_feature_service("logged")
    [ours] = repo.ours().get_feature_view("searched").features
    [theirs] = repo.stock().get_feature_view("searched").features
    for attribute in ("vector_index", "vector_length", "vector_search_metric"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)


def test_a_definition_of_a_newer_feast_hinders_only_itself(
    demo: Applied, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repo = demo.open(tmp_path / "repo")
    registry = Registry()
    registry.ParseFromString(repo.registry_path.read_bytes())
    [world] = [view for view in registry.feature_views if view.spec.name == "world"]
    # An enum keeps what it does not know.
    world.spec.features[0].MergeFromString(b"\x10\xe7\x07")
    repo.registry_path.write_bytes(registry.SerializeToString())
    store = feastrs.FeatureStore(repo_path=str(repo.folder))

    names = [view.name for view in store.list_feature_views()]
    assert names == [name for name in NATIVE_VIEWS if name != "world"]
    [told] = caplog.records
    assert (told.name, told.levelname) == ("feastrs.registry.decode", "WARNING")
    assert "'world'" in told.getMessage()
    report = store.materialize(EARLY, LATE, feature_views=["driver_stats"])
    assert [view.view for view in report] == ["driver_stats"]
    answer = store.get_online_features(["driver_stats:trips"], [{"driver_id": 1001}])
    assert answer.to_dict()["trips"] == [41]
    # That one is left to Feast, which may know more.
    with pytest.raises(ValueError, match="999"):
        store.get_online_features(["world:mood"], [{}])
    ours, obstacles = store._native.materialization_plan(None)
    assert "world" not in ours
    assert "value type number 999" in obstacles["world"]


def test_settings_have_feasts_names(repo: Repo) -> None:
    ours, stock = repo.ours().config, repo.stock().config
    for name in ("project", "provider", "entity_key_serialization_version", "repo_path"):
        assert getattr(ours, name) == getattr(stock, name)
    assert ours.online_store.type == stock.online_store.type
    assert ours.registry.cache_ttl_seconds == stock.registry.cache_ttl_seconds
    assert ours.materialization_config.online_write_batch_size is None
    # What feastrs does not interpret is Feast's.
    assert ours.coerce_tz_aware is stock.coerce_tz_aware is True
    assert ours.feature_server is stock.feature_server is None
    with pytest.raises(AttributeError, match="nope"):
        ours.nope  # noqa: B018
