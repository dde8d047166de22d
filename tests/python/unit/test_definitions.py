"""What the registry holds, as objects: the attributes that Feast's have, with their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import feastrs
from testbed.repo import Applied, Repo


@pytest.fixture(scope="module")
def repo(demo: Applied, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    return demo.open(tmp_path_factory.mktemp("repo"))


def by_name(items: list[Any]) -> dict[str, Any]:
    return {item.name: item for item in items}


def pairs(repo: Repo, method: str) -> list[tuple[Any, Any]]:
    """Ours and stock's objects of one listing, matched by name."""
    ours = by_name(getattr(repo.ours(), method)())
    stock = by_name(getattr(repo.stock(), method)())
    assert ours.keys() == stock.keys()
    return [(ours[name], stock[name]) for name in ours]


def assert_equal_attributes(ours: Any, stock: Any, names: str) -> None:
    for name in names.split():
        assert getattr(ours, name) == getattr(stock, name), f"{stock.name}.{name}"


def fields(items: list[Any]) -> list[tuple[Any, ...]]:
    return [(item.name, str(item.dtype), item.description, dict(item.tags)) for item in items]


def test_project(repo: Repo) -> None:
    assert repo.ours().project == repo.stock().project == "demo"
    assert [p.name for p in repo.ours().list_projects()] == [
        p.name for p in repo.stock().list_projects()
    ]


def test_entities(repo: Repo) -> None:
    for ours, stock in pairs(repo, "list_entities"):
        assert_equal_attributes(ours, stock, "name join_key description tags owner")
        assert str(ours.value_type).rsplit(".", 1)[-1] == stock.value_type.name
        assert_equal_attributes(ours, stock, "created_timestamp last_updated_timestamp")


def test_feature_views(repo: Repo) -> None:
    for ours, stock in pairs(repo, "list_feature_views"):
        assert_equal_attributes(
            ours, stock, "name entities join_keys ttl online description tags owner"
        )
        assert fields(ours.features) == fields(stock.features)
        assert fields(ours.entity_columns) == fields(stock.entity_columns)
        # Feast's comes from a set: its order is of this process only.
        assert sorted(fields(ours.schema), key=str) == sorted(fields(stock.schema), key=str)
        assert_equal_attributes(ours, stock, "created_timestamp last_updated_timestamp")
        assert ours.materialization_intervals == stock.materialization_intervals
        assert ours.batch_source.name == stock.batch_source.name
        assert ours.source.name == stock.source.name


def test_all_feature_views(repo: Repo) -> None:
    pairs(repo, "list_all_feature_views")
    pairs(repo, "list_on_demand_feature_views")
    pairs(repo, "list_stream_feature_views")


def test_data_sources(repo: Repo) -> None:
    for ours, stock in pairs(repo, "list_data_sources"):
        assert_equal_attributes(ours, stock, "name description tags owner")
        if type(stock).__name__ == "FileSource":
            assert_equal_attributes(
                ours, stock, "path timestamp_field created_timestamp_column field_mapping"
            )


def test_feature_services(repo: Repo) -> None:
    for ours, stock in pairs(repo, "list_feature_services"):
        assert_equal_attributes(ours, stock, "name description tags owner")
        assert len(ours.feature_view_projections) == len(stock.feature_view_projections)
        for left, right in zip(
            ours.feature_view_projections, stock.feature_view_projections, strict=True
        ):
            assert left.name == right.name
            assert left.name_to_use() == right.name_to_use()
            assert fields(left.features) == fields(right.features)
            assert dict(left.join_key_map) == dict(right.join_key_map)


def test_get_is_what_list_has(repo: Repo) -> None:
    store = repo.ours()
    assert store.get_entity("driver").join_key == "driver_id"
    assert store.get_feature_view("driver_stats").name == "driver_stats"
    assert store.get_feature_service("route_service").name == "route_service"
    assert store.get_data_source("driver_push").name == "driver_push"
    assert store.get_on_demand_feature_view("doubled").name == "doubled"
    assert store.get_project("demo").name == "demo"


def test_tags_filter(repo: Repo) -> None:
    for tags in ({"team": "rides"}, {"team": "nobody"}, {}):
        for method in ("list_entities", "list_feature_views", "list_data_sources"):
            ours = [item.name for item in getattr(repo.ours(), method)(tags=tags)]
            stock = [item.name for item in getattr(repo.stock(), method)(tags=tags)]
            assert sorted(ours) == sorted(stock), (method, tags)


def test_objects_show_what_they_are(repo: Repo) -> None:
    store = repo.ours()
    for item in (
        store.get_entity("driver"),
        store.get_feature_view("driver_stats"),
        store.get_feature_service("driver_service"),
        store.get_data_source("driver_stats_source"),
    ):
        assert item.name in repr(item)
    assert "demo" in repr(store)


def test_config(repo: Repo) -> None:
    config = repo.ours().config
    assert config.project == "demo"
    assert config.entity_key_serialization_version == 3
    assert config.online_store.type == "sqlite"
    assert Path(config.repo_path) == repo.folder


class TestConstructors:
    def test_repo_path(self, repo: Repo) -> None:
        for path in (repo.folder, str(repo.folder)):
            assert feastrs.FeatureStore(repo_path=path).project == "demo"
            assert feastrs.FeatureStore(path).project == "demo"

    def test_current_folder(self, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(repo.folder)
        assert len(feastrs.FeatureStore().list_entities()) > 0
        assert len(feastrs.FeatureStore(".").list_entities()) > 0

    def test_yaml_file_of_another_name(self, repo: Repo, tmp_path: Path) -> None:
        other = tmp_path / "production.yaml"
        text = (repo.folder / "feature_store.yaml").read_text()
        other.write_text(text.replace("registry: registry.db", f"registry: {repo.registry_path}"))
        for path in (other, str(other)):
            assert feastrs.FeatureStore(fs_yaml_file=path).get_entity("driver").name == "driver"

    def test_feast_repo_config(self, repo: Repo) -> None:
        config = repo.stock().config
        store = feastrs.FeatureStore(config=config)
        assert store.project == "demo"
        assert store.get_entity("driver").name == "driver"

    def test_mapping(self, repo: Repo) -> None:
        store = feastrs.FeatureStore(
            config={
                "project": "demo",
                "provider": "local",
                "registry": {"path": str(repo.registry_path), "cache_ttl_seconds": 60},
                "online_store": {"type": "sqlite", "path": str(repo.sqlite_path)},
                "entity_key_serialization_version": 3,
            }
        )
        assert store.get_entity("driver").name == "driver"

    def test_registry_as_mapping(self, demo: Applied, tmp_path: Path) -> None:
        registry = {"path": "registry.db", "registry_type": "file", "cache_ttl_seconds": 5}
        other = demo.open(tmp_path, settings={"registry": registry})
        assert other.ours().get_entity("driver").name == "driver"

    def test_defaults_of_feast(self, demo: Applied, tmp_path: Path) -> None:
        """Nothing but the project and the registry: SQLite at Feast's default path."""
        other = demo.open(tmp_path)
        other.config = {"project": "demo", "registry": "registry.db", "provider": "local"}
        other.config["entity_key_serialization_version"] = 3
        (tmp_path / "data").mkdir()
        other.write_config()
        stock = __import__("feast").FeatureStore(repo_path=str(tmp_path))
        ours = other.ours()
        assert ours.config.online_store.type == stock.config.online_store.type == "sqlite"
